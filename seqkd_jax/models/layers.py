"""The layers: words to vectors, recurrent layers and their stacks, h~ to logits.

The gates of a layer are one sum, a = x @ inputs + h @ recurrent + bias, from which its cell
computes the new state. Their order is input, forget, output, candidate, as in Kim & Rush's code.
"""

import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ..base import PAD, Array
from ..ops.dense import biased, dense
from ..ops.lstm import Carry, lstm_cell
from ..ops.recurrence import Sum, recurrence, zero_sum
from .blocks import Bridge, Cell, Columns, Connections, Embedding, LayerOutput, WordLayers, cached
from .config import Config
from .draws import drop, dropout_mask, uniform
from .params import Decoder, Encoder, Generator, Recurrent, init_layer


def lstm_equations(carry: Carry, gates: Array) -> Carry:
    """Computes one step of an LSTM from the previous (c, h) and the gates [4H], which contain h."""
    i, f, o, g = jnp.split(gates, 4)
    c = jax.nn.sigmoid(f) * carry[0] + jax.nn.sigmoid(i) * jnp.tanh(g)
    return c, jax.nn.sigmoid(o) * jnp.tanh(c)


@cached
def lstm() -> Cell:
    """Returns the LSTM cell: ``lstm_equations``, computed by the equal ``ops.lstm.lstm_cell``."""
    return Cell(init_layer, lambda params, carry, gates: lstm_cell(carry, gates))


def run_layer(
    cell: Cell, layer: Recurrent, products: Array, mask: Array, *, reverse: bool = False
) -> tuple[Array, Carry]:
    """Runs one layer over a padded sentence: outputs h [S, H] and the final (c [H], h [H]).

    ``products`` [S, G] are x @ inputs at all positions; ``mask`` [S] is True at words. Padding
    does not change the state, so the final state is that of the last word read, and a layer that
    reads in ``reverse`` starts at the sentence's last word. Outputs keep their positions.
    """

    def step(sums: tuple[Sum, Any], carry: Carry, is_word: Array) -> tuple[Carry, Array]:
        gates, cell_params = sums
        new = cell.step(cell_params, carry, gates(carry[1]))
        carry = jax.tree.map(lambda n, o: jnp.where(is_word, n, o), new, carry)
        return carry, carry[1]

    gates = Sum(products + layer.bias[None], (layer.recurrent,))
    zero = zero_sum(len(layer.recurrent), products)
    carry, outputs = recurrence(step, (gates, layer.cell), (zero, zero), mask, reverse=reverse)
    return outputs, carry


def run_stack(
    cell: Cell,
    connections: Connections,
    layers: Sequence[Any],
    products: Array,
    mask: Array,
    reverse: Sequence[bool],
    key: Array | None = None,
    rate: float = 0.0,
) -> tuple[LayerOutput, list[Carry]]:
    """Runs a column of the encoder: the top's output [S, ...] and the final state of each layer.

    ``products`` [S, G] are x @ inputs of the lowest layer; ``reverse`` tells for each layer whether
    it reads right to left; ``rate`` is that of dropout between layers.
    """
    outputs, finals = [], []
    for n, layer in enumerate(layers):
        if n:
            x = connections.read(outputs)
            if key is not None and rate:
                h, layer_key = outputs[-1].h, jax.random.fold_in(key, n)
                x = connections.drop(x, dropout_mask(layer_key, rate, h.shape, h.dtype))
            products = dense(x, layer.inputs)
        h, final = run_layer(cell, layer, products, mask, reverse=reverse[n])
        outputs.append(connections.output(outputs, products, h))
        finals.append(final)
    return outputs[-1], finals


@cached
def summed() -> Columns:
    """Returns columns that are added, as in seq2seq-attn; the second reads right to left."""
    return Columns(
        lambda column, layer: column == 1,
        lambda tops: functools.reduce(jnp.add, [top[0] for top in tops]),
        lambda states: jax.tree.map(lambda *x: functools.reduce(jnp.add, x), *states),
    )


@cached
def from_states() -> Bridge:
    """Returns the bridge from the encoder's final states; layers are paired from the top down."""

    def start(params: Any, finals: Sequence[Carry], zero: Carry, layers: int) -> tuple[Carry, ...]:
        paired = tuple(finals[-layers:])
        return (zero,) * (layers - len(paired)) + paired

    return Bridge(lambda *_: (), start)


@cached
def word_vectors(words: int, width: int) -> Embedding:
    """Returns the embedding of ids by the rows of a table [words, width]; the row of PAD is 0."""

    def init(key: Array, scale: float) -> Array:
        return uniform(key, (words, width), scale).at[PAD].set(0)

    def vectors(table: Array, ids: Array) -> Array:
        return jnp.asarray(table)[ids]  # traced ids cannot index NumPy arrays, as restored

    return Embedding(init, vectors, width, table=lambda table: table)


def word_layers(config: Config, src_embedding: Embedding, tgt_embedding: Embedding) -> WordLayers:
    """Returns the embeddings with the first layers' input products, and the projection."""
    dtype = jnp.dtype(config.dtype)

    def source(encoder: Encoder, src: Array, key: Array | None) -> tuple[Array, ...]:
        xs = src_embedding.vectors(encoder.embedding, src).astype(dtype)
        xs = xs if key is None else drop(key, config.embed_dropout, xs)
        return tuple(dense(xs, column[0].inputs) for column in encoder.columns)

    def target(decoder: Decoder, tokens: Array, key: Array | None) -> Array:
        words = tgt_embedding.vectors(decoder.embedding, tokens).astype(dtype)
        words = words if key is None else drop(key, config.embed_dropout, words)
        return dense(words, decoder.layers[0].inputs)

    def logits(generator: Generator, hidden: Array) -> Array:
        kernel = generator.kernel.astype(dtype)
        return biased(dense(hidden.astype(dtype), kernel, jnp.float32), generator.bias)

    return WordLayers(source, target, logits)
