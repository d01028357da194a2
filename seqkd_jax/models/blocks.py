"""The building blocks of an attention LSTM: each type is a tuple of pure functions.

``layers`` and ``attention`` hold the paper's blocks; ``attentions``, ``connections``,
``lower_attention`` and ``contrib.deep_att`` hold others; ``attention_lstm`` accepts a user's own in
the same way. G is the width of a layer's gates, 4H for an LSTM; M that of the encoder's outputs.
"""

import functools
import inspect
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple, ParamSpec, TypeVar

import jax
import jax.numpy as jnp
from flax import struct

from ..base import Array
from ..ops.lstm import Carry as Carry
from ..ops.recurrence import Sum
from .params import Layer, Recurrent

NEG_INF = -1e30  # the score of masked positions, below that of every word


P = ParamSpec("P")
Block = TypeVar("Block")


def cached(build: Callable[P, Block]) -> Callable[P, Block]:
    """Makes a function return the same block for the same arguments, however they are passed.

    Models built from equal blocks are then equal, and share compiled programs.
    """
    signature, remember = inspect.signature(build), functools.cache(build)

    @functools.wraps(build)
    def block(*args: P.args, **kwargs: P.kwargs) -> Block:
        bound = signature.bind(*args, **kwargs)
        bound.apply_defaults()
        return remember(*bound.args, **bound.kwargs)

    return block


class Embedding(NamedTuple):
    """The vectors of tokens. A target token is an id; a source token may be a row of ids."""

    # (key, scale) -> params; an array has a row for each id
    init: Callable[[Array, float], Any]
    # (params, tokens [...]) -> vectors [..., E]
    vectors: Callable[[Any, Array], Array]
    width: int  # E
    # (params) -> the vectors [V, E] of all ids; None if a token is a row of ids
    table: Callable[[Any], Array] | None = None


class Cell(NamedTuple):
    """A recurrent cell with state (c [H], h [H])."""

    init: Callable[[Array, int, int, float], Layer]  # (key, E, H, scale) -> layer
    step: Callable[[Any, Carry, Array], Carry]  # (layer.cell, carry, gates [G]) -> carry


class LayerOutput(NamedTuple):
    """The outputs of a layer that the layers above it can read."""

    products: Array  # [..., G], x @ inputs
    h: Array  # [..., H]


def _sum_of_gates(layer: Recurrent, start: Array, inputs: tuple[Array, ...]) -> Sum:
    row = (1,) * (start.ndim - 1) + (-1,)
    return Sum(start + layer.bias.reshape(row), (*inputs, layer.recurrent))


def _gates(gates: Sum, xs: tuple[Array, ...], h: Array) -> tuple[Array, Array]:
    total = gates(*xs, h)
    return total, total


class Connections(NamedTuple):
    """The connections within a stack; by default each layer reads h of the layer below."""

    # (outputs of the layers below) -> x
    read: Callable[[Sequence[LayerOutput]], Array] = lambda below: below[-1].h
    # (x, dropout mask [..., H]) -> x
    drop: Callable[[Array, Array], Array] = lambda x, mask: x * mask
    # (outputs of the layers below, products, h) -> output of this layer
    output: Callable[..., LayerOutput] = lambda below, products, h: LayerOutput(products, h)
    # (output of a column's top layer) -> vectors for the encoder's outputs, h first
    context: Callable[[LayerOutput], tuple[Array, ...]] = lambda top: (top.h,)
    # (H) -> width of x
    width: Callable[[int], int] = lambda hidden: hidden
    # (layers as drawn) -> initial layers
    init: Callable[[Sequence[Layer]], Sequence[Layer]] = lambda layers: layers
    # (layer, precomputed products [..., G], matrices of the other inputs) -> a pytree of Sum
    sums: Callable[..., Any] = _sum_of_gates
    # (sums, a vector for each of these matrices, h [H]) -> (products, gates), [G] each
    gates: Callable[[Any, tuple[Array, ...], Array], tuple[Array, Array]] = _gates


class Columns(NamedTuple):
    """The directions of the encoder's one or two columns of layers, and how they are joined."""

    # (column, layer) -> whether the layer reads right to left
    reverse: Callable[[int, int], bool]
    # (vectors [S, ...] of each column's top layer, h first) -> the encoder's outputs [S, M]
    context: Callable[[Sequence[tuple[Array, ...]]], Array]
    # (final states of one layer in each column) -> the final state of that layer
    state: Callable[[Sequence[Carry]], Carry]


class Bridge(NamedTuple):
    """The initial states of the decoder's layers."""

    # (key, the encoder's final states, layers, H, scale) -> params
    init: Callable[[Array, Sequence[Carry], int, int, float], Any]
    # (params, the encoder's final states, zero state, layers) -> the decoder's initial states
    start: Callable[[Any, Sequence[Carry], Carry, int], tuple[Carry, ...]]


def softmax(sums: Any, scores: Array, mask: Array, h: Array, position: Array) -> Array:
    """Returns the weights of global attention: the softmax of the scores of all words."""
    del sums, h, position
    return jax.nn.softmax(jnp.where(mask, scores, NEG_INF))


class Attention(NamedTuple):
    """An attention: how source words are scored and weighted.

    Matrix products go through ``sums``, a pytree of ``Sum`` and of further arrays that the scores
    need. In one step ``scores`` and ``weights`` together call each ``Sum`` exactly once.
    """

    # (key, H, M, scale) -> params, a pytree
    init: Callable[[Array, int, int, float], Any]
    # (params, encoder outputs [S, M]) -> memory, a pytree computed once per sentence
    memory: Callable[[Any, Array], Any]
    # (params, memory) -> sums
    sums: Callable[[Any, Any], Any]
    # (sums, h [H]) -> scores [S], including padding
    scores: Callable[[Any, Array], Array]
    # (sums, scores [S] float32, mask [S], h [H], position []) -> weights a [S], 0 at padding
    weights: Callable[[Any, Array, Array, Array, Array], Array] = softmax


@struct.dataclass
class Memory:
    """An encoded source sentence."""

    mask: Array  # [S], True at words
    reader: Any  # the memory of the ``Reader``


@struct.dataclass
class DecoderState:
    """The state that one hypothesis carries from step to step."""

    layers: tuple[Carry, ...]  # (c [H], h [H]) of each layer
    feed: tuple[Array, ...]  # h~ [H] of the previous step; empty without input feeding
    position: Array  # [] float32, number of words read; local attention needs it


class DecoderSums(NamedTuple):
    """The matrix products of a decoder step (``ops.recurrence``)."""

    layers: tuple[tuple[Any, Any], ...]  # (sums, cell parameters) of each layer
    entry: Any  # of the reader, before and between layers
    vector: Any  # of the reader, above the top layer


class Reader(NamedTuple):
    """How the decoder reads the source: in the paper's model, ``above`` with an attention.

    ``entry`` gives the vectors that layer 1 reads, ``vector`` the hidden vector from the top
    layer's h. They have separate sums because ``vector`` belongs to the decoder's loop only if the
    next step reads its result. The defaults do not read the source.
    """

    # (key, H, M, scale) -> params
    init: Callable[[Array, int, int, float], Any] = lambda key, hidden, width, scale: ()
    # (H, M) -> widths of the vectors that layer 1 reads besides the word
    widths: Callable[[int, int], tuple[int, ...]] = lambda hidden, width: ()
    # (params, encoder outputs [S, M], mask [S]) -> memory
    memory: Callable[[Any, Array, Array], Any] = lambda params, context, mask: ()
    # (params, memory) -> (sums for entry and between, sums for vector)
    sums: Callable[[Any, Any], tuple[Any, Any]] = lambda params, memory: ((), ())
    # (memory, start [..., G]) -> the start of layer 1's sum in every step
    start: Callable[[Any, Array], Array] = lambda memory, start: start
    # (sums, mask, state) -> (vectors that layer 1 reads besides the word, weights [S] or None)
    entry: Callable[..., tuple[tuple[Array, ...], Any]] = lambda sums, mask, state: (
        state.feed,
        None,
    )
    # (sums, mask, index of a layer, its input x) -> the input that replaces x
    between: Callable[..., Array] = lambda sums, mask, layer, x: x
    # (sums, mask, h [H], position) -> (the hidden vector [H], weights [S] or None)
    vector: Callable[..., tuple[Array, Any]] = lambda sums, mask, h, position: (h, None)
    # whether layer 1 reads the hidden vector of the previous step (input feeding)
    feeding: bool = False
    # whether the reader returns attention weights
    attends: bool = False


class Blocks(NamedTuple):
    """The blocks of an attention LSTM."""

    cell: Cell
    connections: Connections
    reader: Reader
    columns: Columns
    bridge: Bridge
    src_embedding: Embedding
    tgt_embedding: Embedding


class WordLayers(NamedTuple):
    """The layers of a network that depend on its vocabularies; ``inference`` replaces them."""

    source: Callable[..., tuple[Array, ...]]  # (encoder, src [S], key) -> [S, G] of each column
    target: Callable[..., Array]  # (decoder, tokens [T], key) -> products [T, G] of layer 1
    logits: Callable[[Any, Array], Array]  # (generator, hidden [H]) -> [V], float32
