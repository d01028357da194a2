"""The ``Vocabulary`` protocol, which maps text to ids and back, and vocabularies of words.

Ids 0 to 3 are PAD ``<blank>``, UNK ``<unk>``, BOS ``<s>`` and EOS ``</s>`` (the spelling of
seq2seq-attn). In text the word ``<unk>`` is UNK, so that a teacher's output can be trained on; the
other three are words like any other. Words are separated by ASCII whitespace only, so U+00A0 is
part of a word.
"""

import functools
import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..addresses import PathLike
from ..base import UNK
from ..errors import UsageError, require_lines
from ..sealed import write_record
from ..tokens import SPECIAL as SPECIAL
from ..tokens import content_of, words_of

FORMAT = "seqkd-vocabulary-1"  # of the files of all kinds of vocabularies
WORD_KD_REMEDY = (
    "Word-level distillation compares distributions over the same ids: train the student with "
    "the teacher's vocabulary, or renumber it if only the order differs (data.renumbering). "
    "Sequence-level distillation from the teacher's text files (Seq-KD, Seq-Inter) is still "
    "possible."
)


class Vocabulary(Protocol):
    """Maps text to ids and back."""

    @property
    def size(self) -> int:
        """The number of ids, special ones included; V for the target side."""
        ...

    @property
    def lower(self) -> bool:
        """Whether text is lower-cased, so that models write lower case only."""
        ...

    @property
    def digest(self) -> str:
        """A sha256; vocabularies with the same digest give the same ids for every text."""
        ...

    def encode(self, text: str) -> list[Any]:
        """Returns the ids of a text, without BOS and EOS; unknown words become UNK.

        On the source side each may be a row of ids: of the word, its features, its characters.
        """
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids up to EOS; PAD and BOS are skipped, UNK becomes ``<unk>``."""
        ...

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Returns the word or piece of each id."""
        ...

    def save(self, path: PathLike) -> None:
        """Writes the vocabulary to one file (``NAME.vocab.json``)."""
        ...


@dataclass(frozen=True)
class WordVocabulary:
    """A list of words; see ``Vocabulary`` and ``build_words``."""

    words: tuple[str, ...]  # by id, the special ones included
    lower: bool = False
    kind = "words"

    @property
    def size(self) -> int:
        """The number of ids, special ones included."""
        return len(self.words)

    @property
    def digest(self) -> str:
        """The sha256 of kind, options and words in order."""
        return content_digest(self.kind, self.lower, list(self.words))

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {word: n for n, word in enumerate(self.words) if n >= len(SPECIAL)}

    def split(self, text: str) -> list[str]:
        """Returns the words of a text as they are looked up, unknown words included."""
        return words_of(text.lower() if self.lower else text)

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text's words, without BOS and EOS."""
        return [self._ids.get(word, UNK) for word in self.split(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids up to EOS; PAD and BOS are skipped."""
        return " ".join(self.tokens(content_of(ids)))

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Returns the word of each id."""
        return [self.words[n] for n in checked_ids(ids, self.size)]

    def save(self, path: PathLike) -> None:
        """Writes the vocabulary to one JSON file, one word per line."""
        write_record(path, FORMAT, {"kind": self.kind, "lower": self.lower, "words": self.words})


def build_words(
    lines: Iterable[str], size: int | None = None, *, min_count: int = 1, lower: bool = False
) -> WordVocabulary:
    """Builds a vocabulary of the most frequent words; ties are in code point order.

    Args:
      lines: text; that of both sides for a shared vocabulary.
      size: largest number of ids, the 4 special ones included; None for no limit.
      min_count: rarer words are left out.
      lower: whether text is lower-cased.

    Raises:
      UsageError: there is no text, or ``size`` leaves no room for a word.

    >>> build_words(["a dog sleeps", "a cat"], size=6).words
    ('<blank>', '<unk>', '<s>', '</s>', 'a', 'cat')
    """
    require_lines(lines)
    if size is not None and size <= len(SPECIAL):
        raise UsageError(f"size is {size}; it must be more than the {len(SPECIAL)} special words.")
    counts = Counter(w for line in lines for w in words_of(line.lower() if lower else line))
    counts.pop(SPECIAL[UNK], None)
    if not counts:
        raise UsageError("lines: no words to build a vocabulary from.")
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    words = [word for word in ranked if counts[word] >= min_count]
    return WordVocabulary((*SPECIAL, *words)[:size], lower)


def check_same(
    one: Vocabulary,
    other: Vocabulary,
    names: tuple[str, str] = ("the student", "the teacher"),
    remedy: str = WORD_KD_REMEDY,
) -> None:
    """Refuses two models whose vocabularies differ.

    Args:
      one: the vocabulary of one model.
      other: the vocabulary of another, for the same side.
      names: of the two models, for the message.
      remedy: why the vocabularies must be the same, and what to do.

    Raises:
      UsageError: the vocabularies differ; the message says where.
    """
    if one.digest == other.digest:
        return
    first, second = names
    if one.size != other.size:
        where = f"that of {first} has {one.size} entries, that of {second} {other.size}"
    else:
        where = f"both have {one.size} entries, but they split or case text differently"
        sides = [vocab.tokens(range(vocab.size)) for vocab in (one, other)]
        for n, (token, other_token) in enumerate(zip(*sides, strict=True)):
            if token != other_token:
                where = (
                    f"both have {one.size} entries, but id {n} is {token!r} for {first} and "
                    f"{other_token!r} for {second}"
                )
                break
    raise UsageError(f"{first} and {second} have different vocabularies: {where}. {remedy}")


def renumbering(student_vocab: Vocabulary, teacher_vocab: Vocabulary) -> np.ndarray:
    """Returns the teacher's id [V] of each id of the student, if both have the same pieces.

    Special ids are the same in all vocabularies. For ``models.renumber`` and
    ``distill.teacher_cache``.

    Raises:
      UsageError: the vocabularies have different pieces; the message says where.
    """
    first = len(SPECIAL)
    student_tokens, teacher_tokens = (
        v.tokens(range(first, v.size)) for v in (student_vocab, teacher_vocab)
    )
    teacher_ids = {token: n for n, token in enumerate(teacher_tokens, first)}
    if sorted(student_tokens) != sorted(teacher_tokens) or len(teacher_ids) != len(teacher_tokens):
        check_same(student_vocab, teacher_vocab)
    return np.array([*range(first), *(teacher_ids[token] for token in student_tokens)], np.int32)


def checked_ids(ids: Iterable[int], size: int) -> list[int]:
    """Returns the ids as a list; UsageError if one is not in a vocabulary of this size."""
    ids = [int(n) for n in ids]
    invalid = [n for n in ids if not 0 <= n < size]
    if invalid:
        raise UsageError(f"ids: {invalid[0]} is out of range for a vocabulary of {size} entries.")
    return ids


def content_digest(kind: str, lower: bool, content: Any) -> str:
    """Returns the sha256 that identifies a vocabulary."""
    return hashlib.sha256(json.dumps([kind, lower, content]).encode()).hexdigest()
