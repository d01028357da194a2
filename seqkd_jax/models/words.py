"""The layers of an attention LSTM at its vocabularies: words to gates, h~ to logits."""

import jax.numpy as jnp

from ..base import Array
from ..ops.dense import biased, dense
from .blocks import Embedding, WordLayers
from .config import Config
from .draws import drop
from .params import Decoder, Encoder, Generator


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
