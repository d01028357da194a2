"""What an attention LSTM is made of: each kind of block as a tuple of pure functions.

``layers`` and ``attention`` hold those of the paper, ``attentions``, ``connections``, ``deep_att``
and ``lower_attention`` others; a user's own are given to ``attention_lstm`` in the same way. G is
the width of a layer's gates, 4H for an LSTM; M that of the encoder's outputs.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from ..base import Array
from ..ops.lstm import Carry as Carry
from ..ops.recurrence import Sum
from .params import Layer, Recurrent

FAR_BELOW = -1e30  # all scores of words


class Cell(NamedTuple):
    """A kind of recurrent cell, with the state (c [H], h [H])."""

    init: Callable[[Array, int, int, float], Layer]  # (key, E, H, scale) -> layer
    step: Callable[[Any, Carry, Array], Carry]  # (layer.cell, carry, gates [G]) -> carry


class LayerOutput(NamedTuple):
    """What a layer offers those above it."""

    products: Array  # [..., G], of its input
    h: Array  # [..., H]


def _sum_of_gates(layer: Recurrent, start: Array, inputs: tuple[Array, ...]) -> Sum:
    row = (1,) * (start.ndim - 1) + (-1,)
    return Sum(start + layer.bias.reshape(row), (*inputs, layer.recurrent))


def _gates(gates: Sum, xs: tuple[Array, ...], h: Array) -> tuple[Array, Array]:
    total = gates(*xs, h)
    return total, total


class Connections(NamedTuple):
    """How layers of a stack are connected; by default each reads the h of the one below it."""

    # (outputs of the layers below) -> x
    read: Callable[[Sequence[LayerOutput]], Array] = lambda below: below[-1].h
    # (x, dropout mask of an h) -> x
    drop: Callable[[Array, Array], Array] = lambda x, mask: x * mask
    # (outputs of the layers below, products, h) -> what this layer offers
    output: Callable[..., LayerOutput] = lambda below, products, h: LayerOutput(products, h)
    # (a column's top) -> the vectors that an encoder may hand on, h first
    context: Callable[[LayerOutput], tuple[Array, ...]] = lambda top: (top.h,)
    # (H) -> width of x
    width: Callable[[int], int] = lambda hidden: hidden
    # (layers as drawn) -> layers to start from
    init: Callable[[Sequence[Layer]], Sequence[Layer]] = lambda layers: layers
    # (layer, products that are given [..., G], matrices of the others) -> a pytree of Sum
    sums: Callable[..., Any] = _sum_of_gates
    # (those sums, a vector for each of the matrices, h [H]) -> (products, gates), [G] each
    gates: Callable[[Any, tuple[Array, ...], Array], tuple[Array, Array]] = _gates


class Columns(NamedTuple):
    """How an encoder of one column of layers, or two, reads a sentence."""

    # (column, layer) -> whether the layer reads from right to left
    reverse: Callable[[int, int], bool]
    # (vectors [S, ...] of each column's top, its h first) -> the encoder's outputs [S, M]
    context: Callable[[Sequence[tuple[Array, ...]]], Array]
    # (final states of a layer in each column) -> the state of that layer
    state: Callable[[Sequence[Carry]], Carry]


class Bridge(NamedTuple):
    """What the decoder's layers start from."""

    # (key, the encoder's final states, layers, H, scale) -> params
    init: Callable[[Array, Sequence[Carry], int, int, float], Any]
    # (params, the encoder's final states, zero state, layers) -> the decoder's states
    start: Callable[[Any, Sequence[Carry], Carry, int], tuple[Carry, ...]]


def softmax(sums: Any, scores: Array, mask: Array, h: Array, position: Array) -> Array:
    """Global attention: the softmax of the scores of all words."""
    del sums, h, position
    return jax.nn.softmax(jnp.where(mask, scores, FAR_BELOW))


class Attention(NamedTuple):
    """A kind of attention: how words of the source are scored and weighted.

    Products with matrices go through ``sums``, a pytree of ``Sum`` and of arrays that the scores
    read besides. Of one step ``scores`` and ``weights`` together call each ``Sum`` exactly once.
    """

    # (key, H, M, scale) -> params, a pytree
    init: Callable[[Array, int, int, float], Any]
    # (params, encoder outputs [S, M]) -> memory, a pytree: made once per sentence
    memory: Callable[[Any, Array], Any]
    # (params, memory) -> sums
    sums: Callable[[Any, Any], Any]
    # (sums, h [H]) -> scores [S], of padding too
    scores: Callable[[Any, Array], Array]
    # (sums, scores [S] float32, mask [S], h [H], position []) -> weights a [S], 0 at padding
    weights: Callable[[Any, Array, Array, Array, Array], Array] = softmax


@struct.dataclass
class Memory:
    """A source sentence, ready to be read by the decoder."""

    mask: Array  # [S], true at words
    read: Any  # of the ``Reader``


@struct.dataclass
class DecoderState:
    """What one hypothesis carries from step to step."""

    layers: tuple[Carry, ...]  # (c [H], h [H]) of each
    feed: tuple[Array, ...]  # h~ [H] of the step before, if the next one reads it
    position: Array  # [] float32, words read; local attention asks for it


class DecoderSums(NamedTuple):
    """The products of a decoder step (``ops.recurrence``)."""

    layers: tuple[tuple[Any, Any], ...]  # of each layer, and what its cell has besides
    entry: Any  # of the reader, before and between layers
    vector: Any  # of the reader, above them


class Reader(NamedTuple):
    """How the decoder reads the source: in the paper's model, ``above`` with an attention.

    ``entry`` is about what layers read before they are computed, ``vector`` about what becomes of
    the top's h: each has its own sums, because ``vector`` need not be in the decoder's loop unless
    its result is read by the next step. The defaults read nothing of the source.
    """

    # (key, H, M, scale) -> params
    init: Callable[[Array, int, int, float], Any] = lambda key, hidden, width, scale: ()
    # (H, M) -> widths of the vectors that layer 1 reads besides a word
    widths: Callable[[int, int], tuple[int, ...]] = lambda hidden, width: ()
    # (params, encoder outputs [S, M], mask [S]) -> memory
    memory: Callable[[Any, Array, Array], Any] = lambda params, context, mask: ()
    # (params, memory) -> (sums of entry and between, sums of vector)
    sums: Callable[[Any, Any], tuple[Any, Any]] = lambda params, memory: ((), ())
    # (memory, start [..., G]) -> what layer 1 starts from in every step
    start: Callable[[Any, Array], Array] = lambda memory, start: start
    # (sums, mask, state) -> (vectors that layer 1 reads besides a word, weights [S] or None)
    entry: Callable[..., tuple[tuple[Array, ...], Any]] = lambda sums, mask, state: (
        state.feed,
        None,
    )
    # (sums, mask, number, x) -> what the layer of this number reads in place of x
    between: Callable[..., Array] = lambda sums, mask, number, x: x
    # (sums, mask, h [H], position) -> (the hidden vector [H], weights [S] or None)
    vector: Callable[..., tuple[Array, Any]] = lambda sums, mask, h, position: (h, None)
    # whether layer 1 reads the hidden vector of the step before (input feeding)
    feeding: bool = False
    # whether there are weights to look at
    attends: bool = False


class Blocks(NamedTuple):
    """What an attention LSTM is made of."""

    cell: Cell
    connections: Connections
    reader: Reader
    columns: Columns
    bridge: Bridge


class Words(NamedTuple):
    """Where a network meets its vocabularies; a faster model has others (``inference``)."""

    source: Callable[..., tuple[Array, ...]]  # (encoder, src [S], key) -> [S, G] of each column
    target: Callable[..., Array]  # (decoder, tokens [T], key) -> products [T, G] of layer 1
    logits: Callable[[Any, Array], Array]  # (generator, hidden [H]) -> [V], float32
