"""Words read character by character (Kim et al. 2016, "Character-Aware Neural Language Models").

    letters = character_vocabulary(tgt_vocab.words[4:])
    tgt_embedding = spelt(Spelling(spelling_table(tgt_vocab, letters)), character_cnn(len(letters)))
    model = attention_lstm(config, tgt_embedding=tgt_embedding)

In a search nothing but the id of the last word is known, so ``spelt`` looks its characters up. The
characters of a source word are those of the text (``contrib.factors``).
"""

from collections import Counter
from collections.abc import Iterable

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ..base import PAD, UNK, Array
from ..data.vocab import SPECIAL, WordVocabulary
from ..errors import UsageError
from ..models.blocks import Embedding, cached
from ..models.draws import uniform
from ..ops.dense import dense

START, END = "{", "}"  # of a word; among characters they have the ids of BOS and EOS
SPECIAL_CHARACTERS = (SPECIAL[PAD], SPECIAL[UNK], START, END)  # by id
CHARACTERS = 500  # size of the character vocabulary, special ones counted, as in seq2seq-attn
MAX_WORD = 35  # characters of a word, START and END counted, as in seq2seq-attn
CHUNK = 1024  # words of a vocabulary whose vectors are computed together


@struct.dataclass
class CharacterCNN:
    """Parameters of convolutions over a word's characters, max-pooled, and of highway layers.

    The widths of the kernels follow from their shapes.
    """

    table: Array  # [characters, D]
    kernels: tuple[Array, ...]  # [width * D, N] each
    biases: tuple[Array, ...]  # [N] each
    highway: tuple[dict[str, Array], ...]  # "transform", "carry" [N, N] and their biases


@cached
def character_cnn(
    characters: int,
    embed: int = 25,
    kernels: tuple[tuple[int, int], ...] = ((6, 1000),),
    highway: int = 2,
) -> Embedding:
    """Returns the embedding of words given by their characters [..., W], padded with PAD.

    As in seq2seq-attn, windows over padding count too, so W must be the same for all words.

        y = max over windows of tanh(window K + b),   then for each highway layer
        y = t * relu(y W_H + b_H) + (1 - t) * y,      t = sigmoid(y W_T + b_T - 2)

    Args:
      characters: size of the character vocabulary.
      embed: D, width of a character's vector; the defaults are seq2seq-attn's.
      kernels: (width, number of filters) of each convolution.
      highway: number of highway layers.

    Source: Kim et al. 2016, section 2.
    """
    total = sum(count for _, count in kernels)

    def init(key: Array, scale: float) -> CharacterCNN:
        keys = iter(jax.random.split(key, 1 + 2 * len(kernels) + 4 * highway))
        return CharacterCNN(
            table=uniform(next(keys), (characters, embed), scale).at[PAD].set(0),
            kernels=tuple(uniform(next(keys), (w * embed, n), scale) for w, n in kernels),
            biases=tuple(uniform(next(keys), (n,), scale) for _, n in kernels),
            highway=tuple(
                {
                    "transform": uniform(next(keys), (total, total), scale),
                    "transform_bias": uniform(next(keys), (total,), scale),
                    "carry": uniform(next(keys), (total, total), scale),
                    "carry_bias": uniform(next(keys), (total,), scale),
                }
                for _ in range(highway)
            ),
        )

    return Embedding(init, _convolve, total)


def _convolve(cnn: CharacterCNN, characters: Array) -> Array:
    depth, length = cnn.table.shape[1], characters.shape[-1]
    vectors = cnn.table[characters]
    pooled = []
    for kernel, bias in zip(cnn.kernels, cnn.biases, strict=True):
        width = kernel.shape[0] // depth
        shifted = [vectors[..., n : length - width + 1 + n, :] for n in range(width)]
        windows = jnp.concatenate(shifted, axis=-1)
        products = dense(windows, kernel)
        pooled.append(jnp.tanh(products + _with_rank_of(products, bias)).max(-2))
    y = jnp.concatenate(pooled, axis=-1)
    for layer in cnn.highway:
        gate = dense(y, layer["carry"])
        gate = jax.nn.sigmoid(gate + _with_rank_of(gate, layer["carry_bias"]) - 2)
        transformed = dense(y, layer["transform"])
        transformed = jax.nn.relu(transformed + _with_rank_of(y, layer["transform_bias"]))
        y = gate * transformed + (1 - gate) * y
    return y


def _with_rank_of(x: Array, bias: Array) -> Array:
    """Returns the bias [N] with leading axes of size 1: no implicit rank promotion."""
    return bias.reshape((1,) * (x.ndim - 1) + (-1,))


class Spelling:
    """The character ids of each word of a vocabulary, [V, W], padded; compared by content."""

    def __init__(self, table: np.ndarray):
        self.table = table
        self._bytes = table.tobytes()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spelling) and self._bytes == other._bytes

    def __hash__(self) -> int:
        return hash(self._bytes)


@cached
def spelt(spelling: Spelling, characters: Embedding) -> Embedding:
    """Returns the embedding of ids by the ``characters`` of their words."""

    def vectors(cnn: CharacterCNN, ids: Array) -> Array:
        return characters.vectors(cnn, jnp.asarray(spelling.table)[ids])

    def table(cnn: CharacterCNN) -> Array:
        words = jnp.arange(len(spelling.table))
        return jax.lax.map(lambda word: vectors(cnn, word), words, batch_size=CHUNK)

    return Embedding(characters.init, vectors, characters.width, table)


def spelt_words(vocab: object) -> Embedding:
    """Returns the embedding of the words of a vocabulary by their characters.

    Raises UsageError if the vocabulary has pieces.
    """
    if not isinstance(vocab, WordVocabulary):
        raise UsageError(
            "Only whole words can be spelt: give the target side a vocabulary of words."
        )
    alphabet = character_vocabulary(vocab.words[len(SPECIAL) :])
    return spelt(Spelling(spelling_table(vocab, alphabet)), character_cnn(len(alphabet)))


def character_vocabulary(words: Iterable[str], size: int = CHARACTERS) -> tuple[str, ...]:
    """Returns ``SPECIAL_CHARACTERS`` and the most frequent characters, ``size`` in all."""
    counts = Counter(c for word in words for c in word)
    ranked = sorted(counts, key=lambda c: (-counts[c], c))
    return (*SPECIAL_CHARACTERS, *(c for c in ranked if c not in SPECIAL_CHARACTERS))[:size]


def spell(word: str, ids: dict[str, int], max_word: int) -> list[int]:
    """Returns the ids of START, a word's characters and END, cut and padded to ``max_word``."""
    inner = [ids.get(c, UNK) for c in word][: max_word - 2]
    row = [ids[START], *inner, ids[END]]
    return row + [PAD] * (max_word - len(row))


def spelling_table(
    words: WordVocabulary, characters: tuple[str, ...], max_word: int = MAX_WORD
) -> np.ndarray:
    """Returns the characters of each word of a vocabulary, [V, W] int32."""
    ids = {c: n for n, c in enumerate(characters)}
    return np.array([spell(word, ids, max_word) for word in words.words], np.int32)
