"""Word vectors: one row of a table for each id."""

import jax.numpy as jnp

from ..base import PAD, Array
from .blocks import Embedding, cached
from .draws import uniform


@cached
def word_vectors(words: int, width: int) -> Embedding:
    """Returns the embedding of ids by the rows of a table [words, width]; the row of PAD is 0."""

    def init(key: Array, scale: float) -> Array:
        return uniform(key, (words, width), scale).at[PAD].set(0)

    def vectors(table: Array, ids: Array) -> Array:
        return jnp.asarray(table)[ids]  # one of numpy, as restored, cannot be indexed while tracing

    return Embedding(init, vectors, width, table=lambda table: table)
