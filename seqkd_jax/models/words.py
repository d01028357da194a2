"""The layers of an attention LSTM at its vocabularies: words to vectors to gates, h~ to logits."""

import jax.numpy as jnp

from ..base import PAD, Array
from ..ops.dense import biased, dense
from .blocks import Embedding, WordLayers, cached
from .config import Config
from .draws import drop, uniform
from .params import Decoder, Encoder, Generator


@cached
def word_vectors(words: int, width: int) -> Embedding:
    """Returns the embedding of ids by the rows of a table [words, width]; the row of PAD is 0."""

    def init(key: Array, scale: float) -> Array:
        return uniform(key, (words, width), scale).at[PAD].set(0)

    def vectors(table: Array, ids: Array) -> Array:
        return jnp.asarray(table)[ids]  # one of numpy, as restored, cannot be indexed while tracing

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
