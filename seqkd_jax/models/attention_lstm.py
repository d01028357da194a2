"""Builds attention LSTMs from attentions, cells, connections and other blocks.

    model = attention_lstm(config)                                    the paper's model
    model = attention_lstm(config, attention=local_p(general(), window=10), cell=peephole())

The model itself is in ``network``.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ..base import Array, Params, Seq2Seq, with_specialize
from ..errors import UsageError
from . import inference
from .attention import above, general
from .blocks import Attention, Blocks, Bridge, Cell, Columns, Connections
from .config import Config as Config
from .connections import mapped_states, plain
from .draws import uniform
from .layers import from_states, lstm, summed, word_layers, word_vectors
from .network import Network, run_columns, seq2seq
from .params import AttentionLSTMParams as AttentionLSTMParams
from .params import Decoder, Encoder, Generator, Layer
from .reading_order import AS_WRITTEN, Order, reordered


def attention_lstm(
    config: Config,
    *,
    attention: Attention | None = None,
    order: Order = AS_WRITTEN,
    **blocks: Any,
) -> Seq2Seq:
    """Builds an attention LSTM; equal arguments return the same functions.

    Shapes: src [S] and tgt [T] are ids padded with PAD; hidden vectors are h~ [H]; logits [V].
    With ``contrib.factors`` a source token is a row of ids, src [S, C].
    Dropout is applied exactly when a key is passed (where Zaremba et al. 2014 do, and on h~).
    Parameters are ``AttentionLSTMParams``.

    Args:
      config: sizes and rates.
      attention: the attention above the decoder's stack, with input feeding (``attention.above``).
      order: the order in which the encoder reads the source.
      **blocks: any fields of ``Blocks``: ``cell``, ``connections``, ``reader``, ``columns``,
        ``bridge``, ``src_embedding``, ``tgt_embedding``; the defaults are the paper's.

    Raises:
      UsageError: the blocks do not fit together.

    Source: Luong et al. 2015, section 3; Kim & Rush 2016, section 4.

    >>> model = attention_lstm(Config(src_vocab=9, tgt_vocab=7, embed=4, hidden=6, layers=1))
    >>> params = jax.eval_shape(model.init, jax.random.key(0))  # shapes alone
    >>> src, tgt = jnp.array([5, 4]), jnp.array([6, 5, 3])  # tgt ends in EOS
    >>> jax.eval_shape(model.hidden, params, src, tgt).shape  # [T, H]
    (3, 6)
    """
    return model_of(network(config, attention=attention, order=order, **blocks))


def network(
    config: Config,
    *,
    attention: Attention | None = None,
    order: Order = AS_WRITTEN,
    **blocks: Any,
) -> Network:
    """Returns the definition of the model that ``attention_lstm`` builds from these arguments.

    Raises:
      UsageError: both an attention and a reader are given.
    """
    if attention is not None and "reader" in blocks:
        raise UsageError("Give either an attention or a reader: a reader has its own attention.")
    columns = blocks.setdefault("columns", summed())
    blocks.setdefault("cell", lstm())
    blocks.setdefault("connections", plain())
    blocks.setdefault("reader", above(attention or general()))
    blocks.setdefault("bridge", _bridge_between(config, columns))
    blocks.setdefault("src_embedding", word_vectors(config.src_vocab, config.embed))
    blocks.setdefault("tgt_embedding", word_vectors(config.tgt_vocab, config.embed))
    return _network(config, Blocks(**blocks), order)


def _bridge_between(config: Config, columns: Columns) -> Bridge:
    """Returns the bridge from encoder to decoder states, with matrices if their widths differ."""
    state = jnp.zeros(config.encoder_width)
    states = [(state, state)] * (2 if config.bidirectional else 1)
    _, h = jax.eval_shape(lambda: columns.state(states))
    return from_states() if h.shape == (config.hidden,) else mapped_states()


@functools.cache
def _network(config: Config, blocks: Blocks, order: Order) -> Network:
    words = word_layers(config, blocks.src_embedding, blocks.tgt_embedding)
    return Network(config, blocks, words, order)


def model_of(net: Network) -> Seq2Seq:
    """Returns the network as a ``Seq2Seq``; equal networks return the same one."""
    return reordered(_model(net._replace(order=AS_WRITTEN)), net.order)


@functools.cache
def _model(net: Network) -> Seq2Seq:
    def init(key: Array) -> AttentionLSTMParams:
        return init_params(net, key)

    def specialize(params: Params, num_words: int | None, multiple: int) -> tuple[Seq2Seq, Params]:
        return inference.specialize(net, model, params, num_words, multiple)

    jax.eval_shape(lambda: init(jax.random.key(0)))  # raises now if blocks do not fit together
    model = with_specialize(seq2seq(net, init), specialize)
    return model


def init_params(net: Network, key: Array) -> AttentionLSTMParams:
    """Draws parameters from U(-init_scale, init_scale), unless a block's ``init`` differs."""
    config, (cell, connections, reader, _, bridge, sources, words) = net.config, net.blocks
    hidden, scale = config.hidden, config.init_scale
    embed_scale = scale if config.embed_scale is None else config.embed_scale
    depth, encoder_width = config.encoder_depth, config.encoder_width
    keys = iter(jax.random.split(key, 2 * depth + config.layers + 6))

    def stack(layers: int, width: int, hidden: int) -> tuple:
        layer_keys = [next(keys) for _ in range(layers)]
        return init_stack(cell, connections, layer_keys, width, hidden, scale)

    encoder = Encoder(
        embedding=sources.init(next(keys), embed_scale),
        forward=stack(depth, sources.width, encoder_width),
        backward=stack(depth, sources.width, encoder_width) if config.bidirectional else (),
    )
    products = tuple(jnp.zeros((1, column[0].inputs.shape[1])) for column in encoder.columns)
    context, finals = jax.eval_shape(
        lambda: run_columns(net, encoder.columns, products, jnp.ones(1, bool), (None, None))
    )
    width = context.shape[-1]
    embedding = words.init(next(keys), embed_scale)
    feeds = [(next(keys), n) for n in reader.widths(hidden, width)]
    layers = stack(config.layers, words.width, hidden)
    decoder = Decoder(
        embedding=embedding,
        feed=tuple(uniform(k, (n, len(layers[0].bias)), scale) for k, n in feeds),
        layers=layers,
        attention=reader.init(next(keys), hidden, width, scale),
        bridge=bridge.init(jax.random.fold_in(key, 1), finals, config.layers, hidden, scale),
    )
    _require_width(bridge, decoder.bridge, finals, config)
    generator = Generator(
        kernel=uniform(next(keys), (hidden, config.tgt_vocab), scale),
        bias=uniform(next(keys), (config.tgt_vocab,), scale),
    )
    return AttentionLSTMParams(encoder, decoder, generator)


def _require_width(bridge: Bridge, params: Any, finals: Sequence[Any], config: Config) -> None:
    """Refuses a bridge that starts the decoder with states of another width than its layers'."""
    zero = jnp.zeros(config.hidden)
    start = lambda finals: bridge.start(params, finals, (zero, zero), config.layers)  # noqa: E731
    widths = {x.shape[-1] for x in jax.tree.leaves(jax.eval_shape(start, finals))}
    if widths - {config.hidden}:
        raise UsageError(
            f"The bridge starts the decoder with states of width {max(widths - {config.hidden})}, "
            f"but its layers have width {config.hidden}: use connections.mapped_states()."
        )


def init_stack(
    cell: Cell,
    connections: Connections,
    keys: Sequence[Array],
    width: int,
    hidden: int,
    scale: float,
) -> tuple[Layer, ...]:
    """Draws one layer per key; the lowest has inputs of width ``width``."""
    widths = [width] + [connections.width(hidden)] * (len(keys) - 1)
    layers = [cell.init(k, w, hidden, scale) for k, w in zip(keys, widths, strict=True)]
    return tuple(connections.init(layers))
