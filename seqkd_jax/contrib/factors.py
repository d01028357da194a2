"""Source words with factors: features such as part of speech, and the word's characters.

    haus-|-NOUN-|-sing  ist-|-VERB-|-sing

    src_vocab = build_factored(lines, characters=500)
    model = attention_lstm(config, src_embedding=factored(src_vocab, embed=500))

A token becomes a row of ids: the word, its features, and its characters between ``{`` and ``}``.
The characters are those of the text, so unknown words are spelt as well. The vectors of the word
(or of its characters) and of its features are concatenated.

Source: Sennrich and Haddow 2016, "Linguistic Input Features Improve Neural Machine Translation";
seq2seq-attn's form of text and defaults.
"""

import functools
import hashlib
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ..addresses import PathLike
from ..base import UNK, Array
from ..data.text import words_of
from ..data.vocab import FORMAT, WordVocabulary, build_words
from ..data.vocabulary_files import texts_in, words_in
from ..errors import UsageError
from ..models.blocks import Embedding, cached
from ..models.draws import uniform
from ..models.layers import word_vectors
from ..sealed import write_record
from .characters import MAX_WORD, SPECIAL_CHARACTERS, character_cnn, character_vocabulary, spell

SEPARATOR = "-|-"
MAX_WORD_CHARACTERS = 1000  # largest ``max_word`` that is accepted
FEATURE_EXPONENT = 0.7  # the vectors of a feature of N values are N ** 0.7 wide, as in seq2seq-attn


@dataclass(frozen=True)
class FactoredVocabulary:
    """Words, the values of each feature, and characters; see ``build_factored``."""

    words: WordVocabulary
    features: tuple[WordVocabulary, ...] = ()
    characters: tuple[str, ...] = ()  # by id; empty if words are not spelt
    max_word: int = MAX_WORD  # characters of a word, START and END counted; longer words are cut
    kind = "factored"

    @property
    def size(self) -> int:
        """The number of words, special ones included."""
        return self.words.size

    @property
    def lower(self) -> bool:
        """Whether words are lower-cased."""
        return self.words.lower

    @property
    def columns(self) -> int:
        """The number of ids of a token."""
        return 1 + len(self.features) + (self.max_word if self.characters else 0)

    @property
    def digest(self) -> str:
        """The sha256 of everything that decides the ids of a text."""
        parts = [self.words.digest, *(f.digest for f in self.features)]
        content = json.dumps([self.kind, parts, self.characters, self.max_word])
        return hashlib.sha256(content.encode()).hexdigest()

    def encode(self, text: str) -> list[tuple[int, ...]]:
        """Returns the row of ids of each token of a text, without BOS and EOS.

        Raises UsageError if a token has another number of features.
        """
        return [self._row(token) for token in words_of(text)]

    def _row(self, token: str) -> tuple[int, ...]:
        word, *values = token.split(SEPARATOR)
        if len(values) != len(self.features):
            raise UsageError(
                f"the token {token!r} has {len(values)} features, but {len(self.features)} are "
                f"expected: write word{SEPARATOR}value for each of them."
            )
        row = [self.words.encode(word)[0] if word else UNK]
        row += [f.encode(v)[0] if v else UNK for f, v in zip(self.features, values, strict=True)]
        if self.characters:
            row += spell(word, self._character_ids, self.max_word)
        return tuple(row)

    @functools.cached_property
    def _character_ids(self) -> dict[str, int]:
        return {c: n for n, c in enumerate(self.characters)}

    def decode(self, ids: Iterable[Any]) -> str:
        """Returns the text of the words of rows of ids."""
        return self.words.decode(int(np.ravel(row)[0]) for row in ids)

    def tokens(self, ids: Iterable[Any]) -> list[str]:
        """Returns the word of each row."""
        return self.words.tokens(int(np.ravel(row)[0]) for row in ids)

    def save(self, path: PathLike) -> None:
        """Writes the vocabulary to one JSON file."""
        record = {
            "kind": self.kind,
            "lower": self.lower,
            "words": self.words.words,
            "features": [f.words for f in self.features],
            "characters": self.characters,
            "max_word": self.max_word,
        }
        write_record(path, FORMAT, record)

    @classmethod
    def of_record(cls, record: dict[str, Any], lower: bool) -> "FactoredVocabulary":
        """Returns the vocabulary that ``save`` wrote; UsageError says what is wrong with it."""
        features, max_word = record.get("features"), record.get("max_word")
        if not isinstance(features, list):
            raise UsageError("it has no list of features")
        if type(max_word) is not int or not 3 <= max_word <= MAX_WORD_CHARACTERS:
            raise UsageError(f"max_word is not a number from 3 to {MAX_WORD_CHARACTERS}")
        characters = texts_in(record.get("characters"))
        if characters and characters[: len(SPECIAL_CHARACTERS)] != SPECIAL_CHARACTERS:
            raise UsageError(f"its first characters must be {' '.join(SPECIAL_CHARACTERS)}")
        return cls(
            WordVocabulary(words_in(record.get("words")), lower),
            tuple(WordVocabulary(words_in(words)) for words in features),
            characters,
            max_word,
        )


def build_factored(
    lines: Sequence[str],
    size: int | None = None,
    *,
    characters: int = 0,
    max_word: int = MAX_WORD,
    lower: bool = False,
) -> FactoredVocabulary:
    """Builds the vocabularies of words, of each feature, and of characters.

    The first token decides the number of features. Vocabularies of features hold every value.

    Args:
      lines: text; its tokens are ``word-|-value``, or words alone.
      size: of the word vocabulary; see ``build_words``.
      characters: size of the character vocabulary, special ones counted; 0 if words are not spelt.
      max_word: characters of a word, its START and END counted.
      lower: whether words are lower-cased.

    Raises:
      UsageError: there is no text, or two tokens have different numbers of features.
    """
    tokens = [token.split(SEPARATOR) for line in lines for token in words_of(line)]
    if not tokens:
        raise UsageError("lines: no words to build a vocabulary from.")
    count = len(tokens[0])
    for number, line in enumerate(lines, 1):
        for token in words_of(line):
            if len(token.split(SEPARATOR)) != count:
                raise UsageError(
                    f"line {number}: {token!r} has {len(token.split(SEPARATOR)) - 1} features, "
                    f"but the first token of the text has {count - 1}; all tokens need the same "
                    "number."
                )
    words = build_words((token[0] for token in tokens), size, lower=lower)
    features = tuple(build_words(token[n] for token in tokens) for n in range(1, count))
    alphabet: tuple[str, ...] = ()
    if characters:
        alphabet = character_vocabulary((token[0] for token in tokens), characters)
    return FactoredVocabulary(words, features, alphabet, max_word)


@struct.dataclass
class Factors:
    """Parameters of the vectors of words, or of their characters, and of features."""

    words: Any  # [vocabulary, E], or a ``CharacterCNN``
    features: tuple[Array, ...]  # [values, width] of each feature


def factored(
    vocab: FactoredVocabulary, embed: int, characters: Embedding | None = None
) -> Embedding:
    """Returns the embedding of the rows of ids [..., C] of a vocabulary.

    Args:
      vocab: of the source.
      embed: E, width of a word's vector; words that are spelt have none.
      characters: the embedding of a word's characters (``character_cnn``), if not seq2seq-attn's.
    """
    if vocab.characters:
        words = characters or character_cnn(len(vocab.characters))
    else:
        words = word_vectors(vocab.size, embed)
    return _factored(words, bool(vocab.characters), tuple(f.size for f in vocab.features))


@cached
def _factored(words: Embedding, spelt: bool, sizes: tuple[int, ...]) -> Embedding:
    widths = [int(size**FEATURE_EXPONENT) for size in sizes]

    def init(key: Array, scale: float) -> Factors:
        word_key, *keys = jax.random.split(key, 1 + len(sizes))
        shapes = zip(keys, zip(sizes, widths, strict=True), strict=True)
        return Factors(words.init(word_key, scale), tuple(uniform(k, n, scale) for k, n in shapes))

    def vectors(factors: Factors, tokens: Array) -> Array:
        word = tokens[..., 1 + len(sizes) :] if spelt else tokens[..., 0]
        values = [table[tokens[..., n]] for n, table in enumerate(factors.features, 1)]
        return jnp.concatenate([words.vectors(factors.words, word), *values], axis=-1)

    return Embedding(init, vectors, words.width + sum(widths))
