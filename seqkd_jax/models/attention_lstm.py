"""Builds attention LSTMs: from a configuration, or from attentions, cells and connections.

    model = attention_lstm(config)
    model = attention_lstm(config, attention=local_p(general(), window=10), cell=peephole())

The model itself is in ``network``.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ..base import Array, Params, Seq2Seq, offering
from ..errors import UsageError
from . import inference
from .attention import above
from .blocks import Attention, Blocks, Cell, Connections
from .build import build
from .config import Config as Config
from .config import Inputs as Inputs
from .config import Spelling as Spelling
from .draws import uniform
from .embedding import init_embedding
from .network import Network, run_columns, seq2seq
from .params import AttentionLSTMParams as AttentionLSTMParams
from .params import Decoder, Encoder, Generator, Layer
from .reading_order import Order, reordered
from .words import words_of


def attention_lstm(
    config: Config,
    spelling: Spelling | None = None,
    *,
    attention: Attention | None = None,
    **blocks: Any,
) -> Seq2Seq:
    """Builds the pure functions of the attention LSTM; equal arguments give the same ones.

    Shapes: src [S] and tgt [T] are ids filled with PAD; hidden vectors are h~ [H]; logits [V].
    With features or characters a source token is a row of ids, src [S, C] (``data.inputs``).
    Dropout happens exactly when a key is passed (sites of Zaremba et al. 2014, and h~).
    Parameters are ``AttentionLSTMParams``.

    Args:
      config: sizes, and in ``parts`` the settings of what is not given here.
      spelling: the characters of target words, where those stand in for word vectors.
      attention: stands above the decoder's stack (``attention.above``).
      **blocks: any of ``Blocks``: ``cell``, ``connections``, ``reader``, ``columns``, ``bridge``.

    Raises:
      UsageError: the parts do not fit together.

    Source: Luong et al. 2015, section 3; Kim & Rush 2016, section 4.
    """
    order = Order(config.parts.reverse_source, config.parts.start_symbols)
    return reordered(_model(network(config, spelling, attention=attention, **blocks)), order)


def network(
    config: Config,
    spelling: Spelling | None = None,
    *,
    attention: Attention | None = None,
    **blocks: Any,
) -> Network:
    """Returns the network of ``attention_lstm``, whose arguments these are."""
    if (spelling is not None) != bool(config.inputs.tgt_characters):
        raise UsageError(
            "Give tgt_characters and a spelling of the target words, or neither of them."
        )
    if attention is not None:
        blocks = {"reader": above(attention, config.parts.input_feeding)} | blocks
    return _network(config, spelling, build(config)._replace(**blocks))


@functools.lru_cache(maxsize=64)
def _network(config: Config, spelling: Spelling | None, blocks: Blocks) -> Network:
    return Network(config, blocks, words_of(config, spelling))


@functools.lru_cache(maxsize=64)
def _model(net: Network) -> Seq2Seq:
    def init(key: Array) -> AttentionLSTMParams:
        return init_params(net, key)

    def specialize(params: Params, words: int | None, multiple: int) -> tuple[Seq2Seq, Params]:
        return inference.specialize(net, model, params, words, multiple)

    jax.eval_shape(lambda: init(jax.random.key(0)))  # what does not fit together says so now
    model = offering(seq2seq(net, init), specialize)
    return model


def init_params(net: Network, key: Array) -> AttentionLSTMParams:
    """Draws parameters from U(-init_scale, init_scale); see the ``init`` of each block."""
    config, (cell, connections, reader, _, bridge) = net.config, net.blocks
    hidden, scale, inputs = config.hidden, config.init_scale, config.inputs
    depth, breadth = config.encoder_layers, config.encoder_hidden
    keys = iter(jax.random.split(key, 2 * depth + config.layers + 6))

    def stack(layers: int, width: int, hidden: int) -> tuple:
        own = [next(keys) for _ in range(layers)]
        return init_stack(cell, connections, own, width, hidden, scale)

    encoder = Encoder(
        embedding=init_embedding(
            config, next(keys), config.src_vocab, inputs.src_characters, inputs.features
        ),
        forward=stack(depth, config.src_width, breadth),
        backward=stack(depth, config.src_width, breadth) if config.bidirectional else (),
    )
    products = tuple(jnp.zeros((1, column[0].inputs.shape[1])) for column in encoder.columns)
    context, finals = jax.eval_shape(
        lambda: run_columns(net, encoder.columns, products, jnp.ones(1, bool), (None, None))
    )
    width = context.shape[-1]
    embedding = init_embedding(config, next(keys), config.tgt_vocab, inputs.tgt_characters, ())
    read = [(next(keys), n) for n in reader.widths(hidden, width)]
    layers = stack(config.layers, config.tgt_width, hidden)
    decoder = Decoder(
        embedding=embedding,
        feed=tuple(uniform(k, (n, len(layers[0].bias)), scale) for k, n in read),
        layers=layers,
        attention=reader.init(next(keys), hidden, width, scale),
        bridge=bridge.init(jax.random.fold_in(key, 1), finals, config.layers, hidden, scale),
    )
    generator = Generator(
        kernel=uniform(next(keys), (hidden, config.tgt_vocab), scale),
        bias=uniform(next(keys), (config.tgt_vocab,), scale),
    )
    return AttentionLSTMParams(encoder, decoder, generator)


def init_stack(
    cell: Cell,
    connections: Connections,
    keys: Sequence[Array],
    width: int,
    hidden: int,
    scale: float,
) -> tuple[Layer, ...]:
    """Draws a layer for each key; the lowest reads ``width`` numbers."""
    widths = [width] + [connections.width(hidden)] * (len(keys) - 1)
    layers = [cell.init(k, w, hidden, scale) for k, w in zip(keys, widths, strict=True)]
    return tuple(connections.init(layers))
