"""What a token is read as: a word's vector, its features beside it, or what its characters give.

A source token is an id, or a row of ids: word, features, characters (``data.inputs``). Of a target
token only the word is known while searching; its characters are looked up.
"""

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ..base import PAD, Array
from ..ops.dense import dense
from .config import Config
from .draws import uniform


@struct.dataclass
class CharacterCNN:
    """A convolution over a word's characters, the largest of each kernel, and highway layers.

    Source: Kim et al. 2016, section 2; seq2seq-attn's settings. Widths of kernels come from their
    shapes.
    """

    table: Array  # [characters, D]
    kernels: tuple[Array, ...]  # [width * D, N] each
    biases: tuple[Array, ...]  # [N] each
    highway: tuple[dict[str, Array], ...]  # "transform", "carry" [N, N] and their biases


@struct.dataclass
class CompositeEmbedding:
    """Embeddings of tokens that are more than a word."""

    words: Array | CharacterCNN  # [vocabulary, E], or what reads their characters
    features: tuple[Array, ...]  # [values of the feature, width] each


def init_embedding(
    config: Config, key: Array, words: int, characters: int, features: tuple[int, ...]
) -> Array | CompositeEmbedding:
    """Draws the embedding of one side; the row of PAD is 0 in words and characters.

    Args:
      config: the model's shape.
      key: of the draw.
      words: entries of the vocabulary.
      characters: entries of the vocabulary of characters; 0 for word vectors.
      features: entries of each feature's vocabulary.
    """
    scale = config.init_scale if config.embed_scale is None else config.embed_scale
    if not characters and not features:
        return uniform(key, (words, config.embed), scale).at[PAD].set(0)
    keys = jax.random.split(key, 2 + len(features))
    return CompositeEmbedding(
        words=_init_characters(config, keys[1], characters)
        if characters
        else uniform(keys[0], (words, config.embed), scale).at[PAD].set(0),
        features=tuple(
            uniform(k, (n, config.inputs.feature_width(n)), scale)
            for k, n in zip(keys[2:], features, strict=True)
        ),
    )


def _init_characters(config: Config, key: Array, characters: int) -> CharacterCNN:
    scale, inputs = config.init_scale, config.inputs
    depth, total = inputs.char_embed, sum(count for _, count in inputs.kernels)
    keys = iter(jax.random.split(key, 1 + 2 * len(inputs.kernels) + 4 * inputs.highway))
    return CharacterCNN(
        table=uniform(next(keys), (characters, depth), scale).at[PAD].set(0),
        kernels=tuple(
            uniform(next(keys), (width * depth, count), scale) for width, count in inputs.kernels
        ),
        biases=tuple(uniform(next(keys), (count,), scale) for _, count in inputs.kernels),
        highway=tuple(
            {
                "transform": uniform(next(keys), (total, total), scale),
                "transform_bias": uniform(next(keys), (total,), scale),
                "carry": uniform(next(keys), (total, total), scale),
                "carry_bias": uniform(next(keys), (total,), scale),
            }
            for _ in range(inputs.highway)
        ),
    )


def embed(
    embedding: Array | CompositeEmbedding, tokens: Array, spelling: np.ndarray | None = None
) -> Array:
    """Returns the vectors [..., E] of tokens.

    Args:
      embedding: of one side.
      tokens: ids [...], or rows of ids [..., 1 + features + characters] for features or a source
        side of characters.
      spelling: characters of each id, [V, W]; for a target side of characters.
    """
    if not isinstance(embedding, CompositeEmbedding):
        return embedding[tokens]
    words, count = embedding.words, len(embedding.features)
    if isinstance(words, CharacterCNN):
        if spelling is not None:
            return spell(words, jnp.asarray(spelling)[tokens])
        vectors = [spell(words, tokens[..., 1 + count :])]
    else:
        vectors = [words[tokens[..., 0]]]
    vectors += [table[tokens[..., 1 + n]] for n, table in enumerate(embedding.features)]
    return jnp.concatenate(vectors, axis=-1)


def spell(cnn: CharacterCNN, characters: Array) -> Array:
    """Returns what the characters [..., W] of words give, [..., N]; filled with PAD to W.

    As in seq2seq-attn every window counts, those of padding too, so W is the same for all words.

        y = max over windows of tanh(window K + b),   then for each highway layer
        y = t * relu(y W_H + b_H) + (1 - t) * y,      t = sigmoid(y W_T + b_T - 2)
    """
    depth, length = cnn.table.shape[1], characters.shape[-1]
    vectors = cnn.table[characters]
    found = []
    for kernel, bias in zip(cnn.kernels, cnn.biases, strict=True):
        width = kernel.shape[0] // depth
        shifted = [vectors[..., n : length - width + 1 + n, :] for n in range(width)]
        windows = jnp.concatenate(shifted, axis=-1)
        products = dense(windows, kernel)
        found.append(jnp.tanh(products + _like(bias, products)).max(-2))
    y = jnp.concatenate(found, axis=-1)
    for layer in cnn.highway:
        gate = dense(y, layer["carry"])
        gate = jax.nn.sigmoid(gate + _like(layer["carry_bias"], gate) - 2)
        changed = dense(y, layer["transform"])
        y = gate * jax.nn.relu(changed + _like(layer["transform_bias"], y)) + (1 - gate) * y
    return y


def _like(bias: Array, x: Array) -> Array:
    return bias.reshape((1,) * (x.ndim - 1) + (-1,))
