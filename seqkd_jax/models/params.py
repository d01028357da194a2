"""The parameters of an attention LSTM: what there is, how it starts, and what may be done to it."""

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
from .embedding import CharacterCNN, CompositeEmbedding


@struct.dataclass
class Recurrent:
    """A layer but for what multiplies its input. G, the width of the gates, is 4H for an LSTM."""

    recurrent: Array  # [H, G]
    bias: Array  # [G]
    cell: Any  # what the cell has besides, a pytree


@struct.dataclass
class Layer(Recurrent):
    """A layer with the matrix of its input x [E]."""

    inputs: Array  # [E, G]


def init_layer(key: Array, width: int, hidden: int, scale: float, cell: Any = ()) -> Layer:
    """Draws a layer of four gates, ``width`` wide at its input, from U(-scale, scale)."""
    keys = jax.random.split(key, 3)
    return Layer(
        inputs=uniform(keys[0], (width, 4 * hidden), scale),
        recurrent=uniform(keys[1], (hidden, 4 * hidden), scale),
        bias=uniform(keys[2], (4 * hidden,), scale),
        cell=cell,
    )


@struct.dataclass
class Encoder:
    """Word embeddings and one stack per column."""

    embedding: Array | CompositeEmbedding  # [source vocabulary, E]
    forward: tuple[Layer, ...]
    backward: tuple[Layer, ...]  # empty for one direction

    @property
    def columns(self) -> tuple[tuple[Layer, ...], ...]:
        """Those that there are."""
        return tuple(column for column in (self.forward, self.backward) if column)


@struct.dataclass
class Decoder:
    """Word embeddings, the stack, and how it reads the source."""

    embedding: Array | CompositeEmbedding  # [V, E]
    feed: tuple[Array, ...]  # [R, 4H] for each vector that layer 1 reads besides a word
    layers: tuple[Layer, ...]
    attention: Any  # of the ``Reader``
    bridge: Any  # of the ``Bridge``


@struct.dataclass
class Generator:
    """The projection to the vocabulary."""

    kernel: Array  # [H, V]
    bias: Array  # [V]


@struct.dataclass
class AttentionLSTMParams:
    """All parameters of one attention LSTM."""

    encoder: Encoder
    decoder: Decoder
    generator: Generator


def with_vectors(
    params: AttentionLSTMParams, side: str, ids: Array | np.ndarray, vectors: Array | np.ndarray
) -> AttentionLSTMParams:
    """Returns parameters with other word vectors [N, E] for the words ``ids`` [N] of one side.

        params = with_vectors(model.init(key), "encoder", *read_vectors("vectors.txt", src_vocab))
        parts = {"trained": clipped_adam(1e-3), "frozen": optax.set_to_zero()}
        tx = optax.partition(parts, freeze_labels(params, ["encoder"]))     # kept as they are

    Args:
      params: of an attention LSTM.
      side: "encoder" or "decoder".
      ids: of the words.
      vectors: as wide as the model's own.

    Raises:
      UsageError: the width differs, or the side has no word vectors.
    """
    part = getattr(params, side)
    composite = isinstance(part.embedding, CompositeEmbedding)
    words = part.embedding.words if composite else part.embedding
    if isinstance(words, CharacterCNN):
        raise UsageError(f"The {side} reads characters; it has no word vectors to replace.")
    if vectors.shape[1] != words.shape[1]:
        raise UsageError(
            f"The vectors have width {vectors.shape[1]}, but the embeddings have "
            f"{words.shape[1]}: train with embed={vectors.shape[1]} (--embed)."
        )
    words = jnp.asarray(words).at[ids].set(vectors)
    embedding = dataclasses.replace(part.embedding, words=words) if composite else words
    return dataclasses.replace(params, **{side: dataclasses.replace(part, embedding=embedding)})


def freeze_labels(params: AttentionLSTMParams, frozen: Sequence[str]) -> AttentionLSTMParams:
    """Returns "trained" or "frozen" for each array: frozen are the embeddings of the sides named.

    A pytree of labels for ``optax.partition``. The two columns of an encoder share its embedding,
    so that no part of it moves.
    """

    def label(path: tuple, _: Array) -> str:
        side, part = (getattr(key, "name", None) for key in path[:2])
        return "frozen" if part == "embedding" and side in frozen else "trained"

    return jax.tree_util.tree_map_with_path(label, params)
