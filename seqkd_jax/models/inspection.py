"""What an attention LSTM looks at and holds while it predicts a target that is known."""

import functools
from typing import Any

import jax
import jax.numpy as jnp

from ..base import Array, Hinted, Seq2Seq, shift_right
from ..errors import UsageError
from .attention_lstm import attention_lstm, network
from .config import Config, Spelling
from .network import DecoderState, Network, read_source, teacher_forced
from .params import AttentionLSTMParams
from .reading_order import Order


def _attended(
    config: Config, net: Network, params: Any, src: Array, tgt: Array, key: Array | None = None
) -> tuple[Array, Array]:
    """Hidden vectors [T, H] and attention weights [T, S], of the words as they stand in ``src``."""
    _require_attention(net)
    order = Order(config.parts.reverse_source, config.parts.start_symbols)
    hidden, weights = teacher_forced(net, params, order.arrange(src), tgt, key)
    return hidden, weights[:, order.positions(src)]


def alignments(
    config: Config,
    params: AttentionLSTMParams,
    src: Array,
    tgt: Array,
    spelling: Spelling | None = None,
    **parts: Any,
) -> Array:
    """Returns the attention weights [T, S] while ``tgt`` is predicted from ``src`` (float32).

    ``spelling`` and ``parts`` are the model's (``attention_lstm``). Columns are the words as they
    stand in ``src``. Raises UsageError without an attention.
    """
    return _attended(config, network(config, spelling, **parts), params, src, tgt)[1]


@functools.lru_cache(maxsize=64)
def with_attention_output(
    config: Config, spelling: Spelling | None = None, **parts: Any
) -> Seq2Seq:
    """Returns the model, its parameters unchanged, with ``project`` giving ``Hinted``.

    Beside the logits [V] stand the attention weights [S], for losses that guide them
    (``losses.alignment``). To search, use the model without them. Raises UsageError without an
    attention.

    Source: Chen et al. 2016 (guided alignment training), section 3.
    """
    model, net = attention_lstm(config, spelling, **parts), network(config, spelling, **parts)

    def hidden(params: AttentionLSTMParams, src: Array, tgt: Array, key: Array | None = None):
        cast = jax.tree.map(lambda p: p.astype(config.dtype), params)
        return _attended(config, net, cast, src, tgt, key)

    def project(params: AttentionLSTMParams, hidden: tuple[Array, Array]) -> Any:
        return Hinted(model.project(params, hidden[0]), hidden[1])

    return model._replace(hidden=hidden, project=project)


def states(
    config: Config,
    params: AttentionLSTMParams,
    src: Array,
    tgt: Array,
    spelling: Spelling | None = None,
    **parts: Any,
) -> dict[str, Array]:
    """Returns what the model holds while it reads ``src`` and predicts ``tgt``, float32.

    Returns:
      ``encoder`` [S, M], its outputs at the words as they stand in ``src``; ``decoder_c`` and
      ``decoder_h`` [T, layers, H]; ``hidden`` [T, H]; ``attention`` [T, S] if there is one.

    Source: seq2seq-attn's ``extract_states``.
    """
    model, net = attention_lstm(config, spelling, **parts), network(config, spelling, **parts)
    order = Order(config.parts.reverse_source, config.parts.start_symbols)
    params = jax.tree.map(jnp.asarray, params)  # those of a loaded model are numpy arrays

    def step(state: DecoderState, word: Array):
        hidden, state = model.step(params, memory, state, word)
        return state, (hidden, *map(jnp.stack, zip(*state.layers, strict=True)))

    memory, state = model.encode(params, src)
    _, (hidden, c, h) = jax.lax.scan(step, state, shift_right(tgt))
    context = read_source(net, params.encoder, order.arrange(src))[0][order.positions(src)]
    found = {"encoder": context, "decoder_c": c, "decoder_h": h, "hidden": hidden}
    if net.blocks.reader.attends:
        found["attention"] = _attended(config, net, params, src, tgt)[1]
    return {name: x.astype(jnp.float32) for name, x in found.items()}


def _require_attention(net: Network) -> None:
    if not net.blocks.reader.attends:
        raise UsageError('This model has attention="none", so there are no attention weights.')
