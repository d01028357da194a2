"""Where an attention LSTM meets its vocabularies: from words to gates, from h~ to logits."""

import jax.numpy as jnp

from ..base import Array
from ..ops.dense import biased, dense
from .blocks import Words
from .config import Config, Spelling
from .draws import drop
from .embedding import embed
from .params import Decoder, Encoder, Generator


def words_of(config: Config, spelling: Spelling | None) -> Words:
    """Embeddings and their products with the first layers' matrices, and the projection."""
    table, dtype = None if spelling is None else spelling.table, jnp.dtype(config.dtype)

    def source(encoder: Encoder, src: Array, key: Array | None) -> tuple[Array, ...]:
        xs = embed(encoder.embedding, src)
        xs = xs if key is None else drop(key, config.embed_dropout, xs)
        return tuple(dense(xs, column[0].inputs) for column in encoder.columns)

    def target(decoder: Decoder, tokens: Array, key: Array | None) -> Array:
        words = embed(decoder.embedding, tokens, table)
        words = words if key is None else drop(key, config.embed_dropout, words)
        return dense(words, decoder.layers[0].inputs)

    def logits(generator: Generator, hidden: Array) -> Array:
        kernel = generator.kernel.astype(dtype)
        return biased(dense(hidden.astype(dtype), kernel, jnp.float32), generator.bias)

    return Words(source, target, logits)
