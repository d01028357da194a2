"""Deep-Att and Deep-ED: the parts of Zhou et al. 2016, "Deep Recurrent Models with Fast-Forward".

peephole        gates see the cell
fast_forward    x = [first half of f below ; h below], f = W x, gates = f + U h + b: a path
without nonlinearity from layer to layer (section 3.1)
interleaved     two columns whose layers alternate their directions, side by side
at_input        the attention's context is read by the decoder's first layer (section 3.3)
fixed_context   ... which in Deep-ED is the same in every step
from_zero       the decoder's layers start from 0
"""

import functools
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ..base import Array
from ..ops.dense import dense
from ..ops.recurrence import Sum
from .attention import attend, zeros_of
from .blocks import (
    FAR_BELOW,
    Attention,
    Bridge,
    Carry,
    Cell,
    Columns,
    Connections,
    LayerOutput,
    Reader,
)
from .connections import concatenated
from .draws import uniform
from .params import Layer, Recurrent, init_layer


@functools.cache
def peephole() -> Cell:
    """An LSTM whose gates also see the cell, each unit its own; ``layer.cell`` is [3, H].

    Peepholes start at 0 (section 4.2).
    """

    def init(key: Array, width: int, hidden: int, scale: float) -> Layer:
        return init_layer(key, width, hidden, scale, cell=jnp.zeros((3, hidden)))

    return Cell(init, peephole_equations)


def peephole_equations(peephole: Array, carry: Carry, gates: Array) -> Carry:
    """Advances one step with gates that see the cell (equations 5 to 7).

        c = sigmoid(f + p_f * c') * c' + sigmoid(i + p_i * c') * tanh(g)
        h = sigmoid(o + p_o * c) * tanh(c)

    Args:
      peephole: p of the input, forget and output gate, [3, H].
      carry: (c' [H], h' [H]) of the step before; h' is already in ``gates``.
      gates: x @ inputs + h' @ recurrent + bias, [4H].
    """
    i, f, o, g = jnp.split(gates, 4)
    before = carry[0]
    kept = jax.nn.sigmoid(f + peephole[1] * before) * before
    c = kept + jax.nn.sigmoid(i + peephole[0] * before) * jnp.tanh(g)
    return c, jax.nn.sigmoid(o + peephole[2] * c) * jnp.tanh(c)


@functools.cache
def fast_forward() -> Connections:
    """A layer also reads what the one below it read, as products: x = [half of f ; h].

    The half of f that goes on starts unchanged in its successor's first half: a product of random
    matrices, one a layer, would leave little of a word at the top.
    """

    def init(layers: Sequence[Layer]) -> list[Layer]:
        half = 2 * len(layers[0].recurrent)
        passed = [
            replace(layer, inputs=layer.inputs.at[:half, :half].set(jnp.eye(half)))
            for layer in layers[1:]
        ]
        return [layers[0], *passed]

    def read(below: Sequence[LayerOutput]) -> Array:
        f, h = below[-1]
        return jnp.concatenate([f[..., : f.shape[-1] // 2], h], axis=-1)

    def drop(x: Array, mask: Array) -> Array:
        """Drops h alone: the linear path stays whole."""
        kept = x.shape[-1] - mask.shape[-1]
        return jnp.concatenate([x[..., :kept], x[..., kept:] * mask], axis=-1)

    def sums(layer: Recurrent, start: Array, inputs: tuple[Array, ...]) -> tuple[Sum, Sum]:
        return Sum(start, inputs), Sum(layer.bias, (layer.recurrent,))

    def gates(sums: tuple[Sum, Sum], xs: tuple[Array, ...], h: Array) -> tuple[Array, Array]:
        of_input, of_h = sums
        f = of_input(*xs)
        return f, f + of_h(h)

    return Connections(
        read=read,
        drop=drop,
        context=lambda top: (top.h, top.products),
        width=lambda hidden: 3 * hidden,
        init=init,
        sums=sums,
        gates=gates,
    )


@functools.cache
def interleaved() -> Columns:
    """Every second layer reads right to left, in the second column the others do."""
    return concatenated()._replace(reverse=lambda column, layer: (column + layer) % 2 == 1)


def _quarter(hidden: int, width: int) -> tuple[int, ...]:
    """The width of a context as it is read (section 3.3)."""
    del hidden
    return (width // 4,)


@struct.dataclass
class AtInputParams:
    """Weights of ``at_input``."""

    scores: Any
    context: Array  # [M, M / 4]


@functools.cache
def at_input(attention: Attention) -> Reader:
    """The first layer reads a context, for its own h of the step before."""

    def init(key: Array, hidden: int, width: int, scale: float) -> AtInputParams:
        of_scores, of_context = jax.random.split(key)
        return AtInputParams(
            attention.init(of_scores, hidden, width, scale),
            uniform(of_context, (width, width // 4), scale),
        )

    def memory(params: AtInputParams, context: Array, mask: Array) -> tuple[Any, Array]:
        del mask
        return attention.memory(params.scores, context), dense(context, params.context)

    def sums(params: AtInputParams, memory: tuple[Any, Array]) -> tuple[tuple[Any, Sum], tuple]:
        keys, values = memory
        return (attention.sums(params.scores, keys), Sum(zeros_of(values), (values,))), ()

    def entry(sums: tuple[Any, Sum], mask: Array, state: Any) -> tuple[tuple[Array], Array]:
        scores, context = sums
        h = state.layers[0][1]
        weights = attend(attention, scores, mask, h, state.position)
        return (context(weights.astype(h.dtype)),), weights

    return Reader(init, _quarter, memory, sums, entry=entry, attends=True)


@struct.dataclass
class FixedContextParams:
    """Weights of ``fixed_context``."""

    context: Array  # [M, M / 4]
    feed: Array  # [M / 4, 4H]


@functools.cache
def fixed_context() -> Reader:
    """The first layer reads the same context in every step: the largest of each number."""

    def init(key: Array, hidden: int, width: int, scale: float) -> FixedContextParams:
        keys, (read,) = jax.random.split(key), _quarter(hidden, width)
        shapes = (width, read), (read, 4 * hidden)
        weights = (uniform(k, shape, scale) for k, shape in zip(keys, shapes, strict=True))
        return FixedContextParams(*weights)

    def memory(params: FixedContextParams, context: Array, mask: Array) -> Array:
        largest = jnp.where(mask[:, None], context, FAR_BELOW).max(0)
        return dense(dense(largest, params.context), params.feed)

    def start(share: Array, word: Array) -> Array:
        return word + share.reshape((1,) * (word.ndim - 1) + (-1,))

    return Reader(init, memory=memory, start=start)


@functools.cache
def from_zero() -> Bridge:
    """The decoder's layers start from 0."""
    return Bridge(
        lambda key, finals, layers, hidden, scale: (),
        lambda params, finals, zero, layers: (zero,) * layers,
    )
