"""The parameters of an attention LSTM: containers, initialisation, pretrained and frozen parts."""

import dataclasses
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ..base import Array
from ..errors import UsageError
from .draws import uniform


@struct.dataclass
class Recurrent:
    """A layer without its input matrix. G, the width of the gates, is 4H for an LSTM."""

    recurrent: Array  # [H, G]
    bias: Array  # [G]
    cell: Any  # further parameters of the cell, a pytree


@struct.dataclass
class Layer(Recurrent):
    """A layer with the matrix for its input x [E]."""

    inputs: Array  # [E, G]


def init_layer(key: Array, width: int, hidden: int, scale: float, cell: Any = ()) -> Layer:
    """Draws a layer with four gates and inputs of width ``width`` from U(-scale, scale)."""
    keys = jax.random.split(key, 3)
    return Layer(
        inputs=uniform(keys[0], (width, 4 * hidden), scale),
        recurrent=uniform(keys[1], (hidden, 4 * hidden), scale),
        bias=uniform(keys[2], (4 * hidden,), scale),
        cell=cell,
    )


@struct.dataclass
class Encoder:
    """The encoder: embeddings and one stack of layers per column."""

    embedding: Any  # parameters of the ``Embedding``: [source vocabulary, E] for word vectors
    forward: tuple[Layer, ...]
    backward: tuple[Layer, ...]  # empty if unidirectional

    @property
    def columns(self) -> tuple[tuple[Layer, ...], ...]:
        """The non-empty columns."""
        return tuple(column for column in (self.forward, self.backward) if column)


@struct.dataclass
class Decoder:
    """The decoder: embeddings, a stack of layers, and how it reads the source."""

    embedding: Any  # [V, E] for word vectors
    feed: tuple[Array, ...]  # [R, 4H] for each vector that layer 1 reads besides the word
    layers: tuple[Layer, ...]
    attention: Any  # parameters of the ``Reader``
    bridge: Any  # parameters of the ``Bridge``


@struct.dataclass
class Generator:
    """The projection of hidden vectors to logits."""

    kernel: Array  # [H, V]
    bias: Array  # [V]


@struct.dataclass
class AttentionLSTMParams:
    """All parameters of one attention LSTM."""

    encoder: Encoder
    decoder: Decoder
    generator: Generator


def cast_params(params: Any, dtype: Any) -> Any:
    """Returns parameters with matrices in the type of products, except for tables of words.

    Their rows are cast when they have been looked up (``words``): no step casts a whole table, and
    its gradient, a sum over all occurrences of a word, is float32.
    """
    cast = cast_matrices(params, dtype)

    def keep(side: Any, original: Any) -> Any:
        table = getattr(original, "embedding", None)
        is_table = isinstance(table, jax.Array | np.ndarray)
        return dataclasses.replace(side, embedding=table) if is_table else side

    sides = {n: keep(getattr(cast, n), getattr(params, n)) for n in ("encoder", "decoder")}
    return dataclasses.replace(cast, **sides)


def cast_matrices(params: Any, dtype: Any) -> Any:
    """Returns parameters with matrices in the type of products; biases and vectors stay."""
    return jax.tree.map(lambda p: jnp.asarray(p, dtype) if jnp.ndim(p) > 1 else p, params)


def with_vectors(
    params: AttentionLSTMParams, side: str, ids: Array | np.ndarray, vectors: Array | np.ndarray
) -> AttentionLSTMParams:
    """Replaces the word vectors of the words ``ids`` [N] of one side by ``vectors`` [N, E].

        params = with_vectors(model.init(key), "encoder", *read_vectors("vectors.txt", src_vocab))
        parts = {"trained": clipped_adam(1e-3), "frozen": optax.set_to_zero()}
        tx = optax.partition(parts, freeze_labels(params, ["encoder"]))     # not trained

    Args:
      params: parameters of an attention LSTM.
      side: "encoder" or "decoder".
      ids: the words to replace.
      vectors: their new vectors, of the same width as the model's.

    Raises:
      UsageError: the widths differ, or the side has no word vectors.
    """
    part = getattr(params, side)
    composite = hasattr(part.embedding, "words")  # beside vectors of features, say
    words = part.embedding.words if composite else part.embedding
    if not isinstance(words, jax.Array | np.ndarray):
        raise UsageError(f"The {side} reads characters and has no word vectors to replace.")
    if vectors.shape[1] != words.shape[1]:
        raise UsageError(
            f"The vectors have width {vectors.shape[1]}, but the embeddings have "
            f"{words.shape[1]}: train with embed={vectors.shape[1]} (--embed)."
        )
    words = jnp.asarray(words).at[ids].set(vectors)
    embedding = dataclasses.replace(part.embedding, words=words) if composite else words
    return dataclasses.replace(params, **{side: dataclasses.replace(part, embedding=embedding)})


def freeze_labels(params: AttentionLSTMParams, frozen: Sequence[str]) -> AttentionLSTMParams:
    """Returns labels for ``optax.partition``: "frozen" for the embeddings of the sides named.

    All other arrays are labelled "trained". ``frozen`` lists "encoder", "decoder" or both. The
    columns of an encoder share one embedding, so freezing it affects them all.
    """

    def label(path: tuple, _: Array) -> str:
        side, part = (getattr(key, "name", None) for key in path[:2])
        return "frozen" if part == "embedding" and side in frozen else "trained"

    return jax.tree_util.tree_map_with_path(label, params)
