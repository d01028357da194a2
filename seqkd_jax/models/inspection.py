"""Attention weights and internal states of an attention LSTM on a known target."""

from typing import Any

import jax
import jax.numpy as jnp

from ..base import Array, shift_right
from ..errors import UsageError
from .attention_lstm import model_of
from .network import DecoderState, Network, read_source, teacher_forced
from .params import AttentionLSTMParams


def hidden_and_weights(
    net: Network, params: Any, src: Array, tgt: Array, key: Array | None = None
) -> tuple[Array, Array]:
    """Returns hidden vectors [T, H] and attention weights [T, S], in the order of ``src``."""
    require_attention(net)
    hidden, weights = teacher_forced(net, params, net.order.arrange(src), tgt, key)
    return hidden, weights[:, net.order.positions(src)]


def alignments(net: Network, params: AttentionLSTMParams, src: Array, tgt: Array) -> Array:
    """Returns the attention weights [T, S] of predicting ``tgt`` from ``src`` (float32).

    Columns are in the order of ``src``. Raises UsageError if the model has no attention.
    """
    return hidden_and_weights(net, params, src, tgt)[1]


def states(net: Network, params: AttentionLSTMParams, src: Array, tgt: Array) -> dict[str, Array]:
    """Returns the internal states of predicting ``tgt`` from ``src``, float32.

    Returns:
      ``encoder`` [S, M], the encoder's outputs in the order of ``src``; ``decoder_c`` and
      ``decoder_h`` [T, layers, H]; ``hidden`` [T, H]; ``attention`` [T, S] if the model has one.

    Source: seq2seq-attn's ``extract_states``.
    """
    model, order = model_of(net), net.order
    params = jax.tree.map(jnp.asarray, params)  # a loaded model has numpy arrays

    def step(state: DecoderState, word: Array):
        hidden, state = model.step(params, memory, state, word)
        return state, (hidden, *map(jnp.stack, zip(*state.layers, strict=True)))

    memory, state = model.encode(params, src)
    _, (hidden, c, h) = jax.lax.scan(step, state, shift_right(tgt))
    context = read_source(net, params.encoder, order.arrange(src))[0][order.positions(src)]
    result = {"encoder": context, "decoder_c": c, "decoder_h": h, "hidden": hidden}
    if net.blocks.reader.attends:
        result["attention"] = hidden_and_weights(net, params, src, tgt)[1]
    return {name: x.astype(jnp.float32) for name, x in result.items()}


def require_attention(net: Network) -> None:
    """Raises UsageError if the network has no attention."""
    if not net.blocks.reader.attends:
        raise UsageError("This model has no attention, so there are no attention weights.")
