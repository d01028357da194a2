"""Deep-Att and Deep-ED: the blocks of Zhou et al. 2016, "Deep Recurrent Models with Fast-Forward".

peephole        gates read the cell
fast_forward    x = [first half of f below ; h below], f = W x, gates = f + U h + b: a linear
                path from layer to layer (section 3.1)
interleaved     two concatenated columns whose layers alternate in direction
at_input        layer 1 of the decoder reads the attention's context (section 3.3)
fixed_context   layer 1 reads a context that is the same in every step, as in Deep-ED
from_zero       the decoder's layers start from zero
"""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ..base import Array
from ..models.attention import attention_weights
from ..models.blocks import (
    NEG_INF,
    Attention,
    Bridge,
    Carry,
    Cell,
    Columns,
    Connections,
    LayerOutput,
    Reader,
    cached,
)
from ..models.connections import concatenated
from ..models.draws import uniform
from ..models.params import Layer, Recurrent, init_layer
from ..ops.dense import dense
from ..ops.recurrence import Sum, product


@cached
def peephole() -> Cell:
    """Returns an LSTM whose gates also read the cell, unit by unit; ``layer.cell`` is [3, H].

    Peephole weights start at 0 (section 4.2).
    """

    def init(key: Array, width: int, hidden: int, scale: float) -> Layer:
        return init_layer(key, width, hidden, scale, cell=jnp.zeros((3, hidden)))

    return Cell(init, peephole_equations)


def peephole_equations(peephole: Array, carry: Carry, gates: Array) -> Carry:
    """Computes one step of an LSTM with peepholes (equations 5 to 7).

        c = sigmoid(f + p_f * c') * c' + sigmoid(i + p_i * c') * tanh(g)
        h = sigmoid(o + p_o * c) * tanh(c)

    Args:
      peephole: p of the input, forget and output gate, [3, H].
      carry: (c' [H], h' [H]) of the previous step; ``gates`` contain h' already.
      gates: x @ inputs + h' @ recurrent + bias, [4H].
    """
    i, f, o, g = jnp.split(gates, 4)
    previous_c = carry[0]
    kept = jax.nn.sigmoid(f + peephole[1] * previous_c) * previous_c
    c = kept + jax.nn.sigmoid(i + peephole[0] * previous_c) * jnp.tanh(g)
    return c, jax.nn.sigmoid(o + peephole[2] * c) * jnp.tanh(c)


@cached
def fast_forward() -> Connections:
    """Returns connections where each layer reads x = [first half of f ; h] of the layer below.

    f are the layer's input products. The matrix that maps the half of f to the first half of the
    next f starts as the identity: a product of random matrices, one per layer, would leave little
    of a word at the top.
    """

    def init(layers: Sequence[Layer]) -> list[Layer]:
        half = 2 * len(layers[0].recurrent)
        upper = [
            replace(layer, inputs=layer.inputs.at[:half, :half].set(jnp.eye(half)))
            for layer in layers[1:]
        ]
        return [layers[0], *upper]

    def read(below: Sequence[LayerOutput]) -> Array:
        f, h = below[-1]
        return jnp.concatenate([f[..., : f.shape[-1] // 2], h], axis=-1)

    def drop(x: Array, mask: Array) -> Array:
        """Applies dropout to h only, not to the linear path."""
        linear = x.shape[-1] - mask.shape[-1]
        return jnp.concatenate([x[..., :linear], x[..., linear:] * mask], axis=-1)

    def sums(layer: Recurrent, start: Array, inputs: tuple[Array, ...]) -> tuple[Sum, Sum]:
        return Sum(start, inputs), Sum(layer.bias, (layer.recurrent,))

    def gates(sums: tuple[Sum, Sum], xs: tuple[Array, ...], h: Array) -> tuple[Array, Array]:
        input_sum, recurrent_sum = sums
        f = input_sum(*xs)
        return f, f + recurrent_sum(h)

    return Connections(
        read=read,
        drop=drop,
        context=lambda top: (top.h, top.products),
        width=lambda hidden: 3 * hidden,
        init=init,
        sums=sums,
        gates=gates,
    )


@cached
def interleaved() -> Columns:
    """Returns concatenated columns whose layers alternate in direction, opposite to each other."""
    return concatenated()._replace(reverse=lambda column, layer: (column + layer) % 2 == 1)


def _quarter(hidden: int, width: int) -> tuple[int, ...]:
    """Returns the width of the context that layer 1 reads (section 3.3)."""
    del hidden
    return (width // 4,)


@struct.dataclass
class AtInputParams:
    """Parameters of ``at_input``."""

    scores: Any  # of the attention
    context: Array  # [M, M / 4]


@cached
def at_input(attention: Attention) -> Reader:
    """Returns a reader where layer 1 reads the context that its previous h attends to."""

    def init(key: Array, hidden: int, width: int, scale: float) -> AtInputParams:
        scores_key, context_key = jax.random.split(key)
        return AtInputParams(
            attention.init(scores_key, hidden, width, scale),
            uniform(context_key, (width, width // 4), scale),
        )

    def memory(params: AtInputParams, context: Array, mask: Array) -> tuple[Any, Array]:
        del mask
        return attention.memory(params.scores, context), dense(context, params.context)

    def sums(params: AtInputParams, memory: tuple[Any, Array]) -> tuple[tuple[Any, Sum], tuple]:
        keys, values = memory
        return (attention.sums(params.scores, keys), product(values)), ()

    def entry(sums: tuple[Any, Sum], mask: Array, state: Any) -> tuple[tuple[Array], Array]:
        scores, context = sums
        h = state.layers[0][1]
        weights = attention_weights(attention, scores, mask, h, state.position)
        return (context(weights),), weights

    return Reader(init, _quarter, memory, sums, entry=entry, attends=True)


@struct.dataclass
class FixedContextParams:
    """Parameters of ``fixed_context``."""

    context: Array  # [M, M / 4]
    feed: Array  # [M / 4, 4H]


@cached
def fixed_context() -> Reader:
    """Returns a reader where layer 1 reads the max-pooled encoder outputs in every step."""

    def init(key: Array, hidden: int, width: int, scale: float) -> FixedContextParams:
        keys, (context_width,) = jax.random.split(key), _quarter(hidden, width)
        shapes = (width, context_width), (context_width, 4 * hidden)
        weights = (uniform(k, shape, scale) for k, shape in zip(keys, shapes, strict=True))
        return FixedContextParams(*weights)

    def memory(params: FixedContextParams, context: Array, mask: Array) -> Array:
        pooled = jnp.where(mask[:, None], context, NEG_INF).max(0)
        return dense(dense(pooled, params.context), params.feed)

    def start(products: Array, word: Array) -> Array:
        return word + products.reshape((1,) * (word.ndim - 1) + (-1,))

    return Reader(init, memory=memory, start=start)


@cached
def from_zero() -> Bridge:
    """Returns the bridge by which all decoder layers start from zero."""
    return Bridge(
        lambda key, finals, layers, hidden, scale: (),
        lambda params, finals, zero, layers: (zero,) * layers,
    )
