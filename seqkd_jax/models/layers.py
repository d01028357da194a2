"""Recurrent layers, stacks of them, and what a decoder starts from.

A layer's gates are one sum, a = x @ inputs + h @ recurrent + bias; its cell says what becomes of
them. Gate order is input, forget, output, candidate (as flax.linen and Kim & Rush's code have it).
"""

import functools
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..base import Array
from ..errors import UsageError
from ..ops.dense import dense
from ..ops.lstm import Carry, lstm_cell
from ..ops.recurrence import Sum, recurrence
from .blocks import Bridge, Cell, Columns, Connections, LayerOutput
from .draws import dropout_mask
from .params import Recurrent, init_layer


def lstm_equations(carry: Carry, gates: Array) -> Carry:
    """Advances an LSTM by one step: (c, h) before and gates a [4H], in which h is already."""
    i, f, o, g = jnp.split(gates, 4)
    c = jax.nn.sigmoid(f) * carry[0] + jax.nn.sigmoid(i) * jnp.tanh(g)
    return c, jax.nn.sigmoid(o) * jnp.tanh(c)


@functools.cache
def lstm() -> Cell:
    """The LSTM: ``lstm_equations``, by ``ops.lstm.lstm_cell``, which equals them."""
    return Cell(init_layer, lambda own, carry, gates: lstm_cell(carry, gates))


def run_layer(
    cell: Cell, layer: Recurrent, products: Array, mask: Array, *, reverse: bool = False
) -> tuple[Array, Carry]:
    """Runs one layer over a padded sentence: outputs h [S, H] and the final (c [H], h [H]).

    ``products`` [S, G] are those of all inputs, x @ inputs; ``mask`` [S] is true at words. Padding
    leaves the state as it is, so the last state is that of the last word, and a layer that reads in
    ``reverse`` starts at the last word. Outputs keep their positions.
    """

    def step(sums: tuple[Sum, Any], carry: Carry, real: Array) -> tuple[Carry, Array]:
        gates, own = sums
        new = cell.step(own, carry, gates(carry[1]))
        carry = jax.tree.map(lambda n, o: jnp.where(real, n, o), new, carry)
        return carry, carry[1]

    gates = Sum(products + layer.bias[None], (layer.recurrent,))
    zero = jnp.zeros(len(layer.recurrent), products.dtype)
    carry, outputs = recurrence(step, (gates, layer.cell), (zero, zero), mask, reverse=reverse)
    return outputs, carry


class Stack(NamedTuple):
    """How a stack of layers is run."""

    cell: Cell
    connections: Connections
    dropout: float  # of what each layer above the lowest reads


def run_stack(
    stack: Stack,
    layers: Sequence[Any],
    products: Array,
    mask: Array,
    key: Array | None,
    reverse: Sequence[bool],
) -> tuple[LayerOutput, list[Carry]]:
    """Runs an encoder's column: the top's output [S, ...] and the final state of each layer.

    The arguments are those of ``run_layer``, of the lowest layer or of each; dropout has a ``key``.
    """
    cell, connections, rate = stack
    outputs: list[LayerOutput] = []
    finals = []
    for number, layer in enumerate(layers):
        if number:
            x = connections.read(outputs)
            if key is not None and rate:
                h = outputs[-1].h
                drawn = dropout_mask(jax.random.fold_in(key, number), rate, h.shape, h.dtype)
                x = connections.drop(x, drawn)
            products = dense(x, layer.inputs)
        h, final = run_layer(cell, layer, products, mask, reverse=reverse[number])
        outputs.append(connections.output(outputs, products, h))
        finals.append(final)
    return outputs[-1], finals


@functools.cache
def summed() -> Columns:
    """The second column reads right to left; outputs and states are sums (seq2seq-attn)."""
    return Columns(
        lambda column, layer: column == 1,
        lambda tops: functools.reduce(jnp.add, [top[0] for top in tops]),
        lambda sides: jax.tree.map(lambda *x: functools.reduce(jnp.add, x), *sides),
    )


@functools.cache
def from_states() -> Bridge:
    """Each layer of the decoder starts from the final state of the encoder's layer beside it.

    Layers are paired from the top down; one without a partner starts from zero.
    """

    def start(params: Any, finals: Sequence[Carry], zero: Carry, layers: int) -> tuple[Carry, ...]:
        beside = tuple(finals[-layers:])
        return (zero,) * (layers - len(beside)) + beside

    def init(key: Array, finals: Sequence[Carry], layers: int, hidden: int, scale: float) -> tuple:
        if (width := len(finals[0][1])) != hidden:
            raise UsageError(
                f"Encoder states are {width} wide, decoder states {hidden}: use mapped_states()."
            )
        return ()

    return Bridge(init, start)
