"""Source tokens that are more than a word: features beside it, and its characters.

    haus-|-NOUN-|-sing  ist-|-VERB-|-sing

A token becomes a row of ids: the word, its features, its characters between ``{`` and ``}``. The
characters are those of the text, so an unknown word is still spelt.
"""

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from ..base import PAD, UNK
from ..errors import UsageError
from ..files import PathLike
from ..models.attention_lstm import Inputs, Spelling
from ..sealed import write_record
from .text import words_of
from .vocab import FORMAT, SPECIAL, WordVocabulary, build_words

SEPARATOR = "-|-"
START, END = "{", "}"  # of a word; they have the ids that BOS and EOS have in words
OF_WORDS = (SPECIAL[PAD], SPECIAL[UNK], START, END)  # the first characters, by id
MOST_CHARACTERS = 1000  # of a word with its two ends, at most
CHARACTERS = 500  # known ones, special ones counted, as in seq2seq-attn


@dataclass(frozen=True)
class InputVocabulary:
    """Words, the values of each feature, and characters; see ``build_inputs``."""

    words: WordVocabulary
    features: tuple[WordVocabulary, ...] = ()
    characters: tuple[str, ...] = ()  # by id; empty where words are not spelt
    max_word: int = 35  # characters of a word with its two ends; longer words are cut
    kind = "inputs"

    @property
    def size(self) -> int:
        """How many words there are, special ones included."""
        return self.words.size

    @property
    def lower(self) -> bool:
        """Whether words are put in lower case."""
        return self.words.lower

    @property
    def columns(self) -> int:
        """Ids of a token."""
        return 1 + len(self.features) + (self.max_word if self.characters else 0)

    @property
    def digest(self) -> str:
        """The sha256 of all that decides which ids a text gets."""
        parts = [self.words.digest, *(f.digest for f in self.features)]
        content = json.dumps([self.kind, parts, self.characters, self.max_word])
        return hashlib.sha256(content.encode()).hexdigest()

    def encode(self, text: str) -> list[tuple[int, ...]]:
        """The rows of ids of a text's tokens, without BOS and EOS.

        Raises UsageError for a token with another number of features.
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
            row += spelled(word, self._character_ids, self.max_word)
        return tuple(row)

    @functools.cached_property
    def _character_ids(self) -> dict[str, int]:
        return {c: n for n, c in enumerate(self.characters)}

    def decode(self, ids: Iterable[Any]) -> str:
        """The words of rows of ids."""
        return self.words.decode(int(np.ravel(row)[0]) for row in ids)

    def tokens(self, ids: Iterable[Any]) -> list[str]:
        """The word of each row."""
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


def build_inputs(
    lines: Sequence[str],
    size: int | None = None,
    *,
    characters: int = 0,
    max_word: int = 35,
    lower: bool = False,
) -> InputVocabulary:
    """Makes the vocabularies of words, of each feature, and of characters.

    The first token says how many features there are. No value of a feature is left out.

    Args:
      lines: text, tokens as ``word-|-value``, or words alone.
      size: of the words; see ``build_words``.
      characters: the most frequent so many, special ones counted; 0 for words that are not spelt.
      max_word: characters of a word with its two ends.
      lower: whether words are put in lower case.

    Raises:
      UsageError: there is no text, or a token has another number of features.
    """
    tokens = [token.split(SEPARATOR) for line in lines for token in words_of(line)]
    if not tokens:
        raise UsageError("lines: no words to build a vocabulary of.")
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
    known: tuple[str, ...] = ()
    if characters:
        known = character_vocabulary((token[0] for token in tokens), characters)
    return InputVocabulary(words, features, known, max_word)


def character_vocabulary(words: Iterable[str], size: int = CHARACTERS) -> tuple[str, ...]:
    """The most frequent characters, after PAD, UNK and the two ends of a word."""
    counts = Counter(c for word in words for c in word)
    ranked = sorted(counts, key=lambda c: (-counts[c], c))
    return (*OF_WORDS, *(c for c in ranked if c not in OF_WORDS))[:size]


def spelled(word: str, ids: dict[str, int], max_word: int) -> list[int]:
    """The ids of a word's characters and its ends, cut and filled with PAD to ``max_word``."""
    inside = [ids.get(c, UNK) for c in word][: max_word - 2]
    row = [ids[START], *inside, ids[END]]
    return row + [PAD] * (max_word - len(row))


def spelling_table(
    words: WordVocabulary, characters: tuple[str, ...], max_word: int = 35
) -> np.ndarray:
    """The characters of each word of a target vocabulary, [V, W] int32, for ``Spelling``."""
    ids = {c: n for n, c in enumerate(characters)}
    return np.array([spelled(word, ids, max_word) for word in words.words], np.int32)


def inputs_of(inputs: Inputs, src_vocab: Any, tgt_vocab: Any) -> Inputs:
    """Fills in the numbers that the vocabularies decide.

    Features and characters of the source are read where its vocabulary is an ``InputVocabulary``.
    Target words are spelt where ``inputs.tgt_characters`` is not 0; it becomes their number.

    Raises UsageError if target words are to be spelt and the vocabulary has pieces.
    """
    rich = isinstance(src_vocab, InputVocabulary)
    return replace(
        inputs,
        features=tuple(f.size for f in src_vocab.features) if rich else (),
        src_characters=len(src_vocab.characters) if rich else 0,
        tgt_characters=len(_letters(tgt_vocab)) if inputs.tgt_characters else 0,
    )


def spelling_of(inputs: Inputs, tgt_vocab: Any) -> Spelling | None:
    """The spelling of target words that a model with these inputs reads; None for word vectors."""
    if not inputs.tgt_characters:
        return None
    return Spelling(spelling_table(tgt_vocab, _letters(tgt_vocab)))


def _letters(vocab: Any) -> tuple[str, ...]:
    if not isinstance(vocab, WordVocabulary):
        raise UsageError(
            "Only whole words can be spelt: give the target side a vocabulary of words."
        )
    return character_vocabulary(vocab.words[len(SPECIAL) :])
