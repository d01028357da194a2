"""Text to ids and back: what a vocabulary is, and vocabularies of words.

Ids 0 to 3 are PAD ``<blank>``, UNK ``<unk>``, BOS ``<s>`` and EOS ``</s>`` (the spelling of
seq2seq-attn). In text the word ``<unk>`` is UNK, so that a teacher's output can be trained on; the
other three are words like any other. Words are what ASCII whitespace separates, so U+00A0 is part
of a word.
"""

import functools
import hashlib
import itertools
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from ..base import BOS, EOS, PAD, UNK
from ..errors import UsageError
from ..files import PathLike
from ..sealed import write_record
from .text import words_of

FORMAT = "seqkd-vocabulary-1"  # of the files of every kind
SPECIAL = ("<blank>", "<unk>", "<s>", "</s>")  # by id
DISTILLING = (
    "Word-level distillation compares distributions over the same ids: train the student with "
    "the teacher's vocabulary, or renumber it if only the order differs (data.renumbering). "
    "Sequence-level distillation from the teacher's text files (Seq-KD, Seq-Inter) is still "
    "possible."
)


class Vocabulary(Protocol):
    """What turns text into ids and back."""

    @property
    def size(self) -> int:
        """How many ids there are, special ones included; V for the target side."""
        ...

    @property
    def lower(self) -> bool:
        """Whether text is put in lower case, so that a model of it writes nothing else."""
        ...

    @property
    def digest(self) -> str:
        """A sha256: two vocabularies with the same one give the same ids for every text."""
        ...

    def encode(self, text: str) -> list[Any]:
        """The ids of a text, without BOS and EOS; what is not known becomes UNK.

        Of a source side also rows of ids: a word's, its features', its characters'.
        """
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids up to EOS; PAD and BOS are skipped, UNK becomes ``<unk>``."""
        ...

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The word or piece of each id."""
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
        """How many ids there are, special ones included."""
        return len(self.words)

    @property
    def digest(self) -> str:
        """The sha256 of kind, options and words in order."""
        return content_digest(self.kind, self.lower, list(self.words))

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {word: n for n, word in enumerate(self.words) if n >= len(SPECIAL)}

    def split(self, text: str) -> list[str]:
        """The words that the ids of a text stand for, those that are not known included."""
        return words_of(text.lower() if self.lower else text)

    def encode(self, text: str) -> list[int]:
        """The ids of a text's words, without BOS and EOS."""
        return [self._ids.get(word, UNK) for word in self.split(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """The words of ids up to EOS; PAD and BOS are skipped."""
        return " ".join(self.tokens(content_of(ids)))

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The word of each id."""
        return [self.words[n] for n in checked_ids(ids, self.size)]

    def save(self, path: PathLike) -> None:
        """Writes the vocabulary to one JSON file, one word a line."""
        write_record(path, FORMAT, {"kind": self.kind, "lower": self.lower, "words": self.words})


def build_words(
    lines: Iterable[str], size: int | None = None, *, min_count: int = 1, lower: bool = False
) -> WordVocabulary:
    """Makes a vocabulary of the most frequent words; equally frequent ones in code point order.

    Args:
      lines: text; of both sides for a shared vocabulary.
      size: at most so many ids, the 4 special ones included; None for no limit.
      min_count: rarer words are left out.
      lower: whether text is put in lower case.

    Raises:
      UsageError: there is no text, or no room for a word.
    """
    if size is not None and size <= len(SPECIAL):
        raise UsageError(f"size is {size}; it must be more than the {len(SPECIAL)} special words.")
    counts = Counter(w for line in lines for w in words_of(line.lower() if lower else line))
    counts.pop(SPECIAL[UNK], None)
    if not counts:
        raise UsageError("lines: no words to build a vocabulary of.")
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    words = [word for word in ranked if counts[word] >= min_count]
    return WordVocabulary((*SPECIAL, *words)[:size], lower)


def check_same(
    one: Vocabulary,
    other: Vocabulary,
    names: tuple[str, str] = ("the student", "the teacher"),
    remedy: str = DISTILLING,
) -> None:
    """Refuses two models whose vocabularies are not the same one.

    Args:
      one: a model's vocabulary.
      other: another's, of the same side.
      names: of the two models.
      remedy: why they must be the same, and what to do.

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
        for n, (mine, yours) in enumerate(zip(*sides, strict=True)):
            if mine != yours:
                where = (
                    f"both have {one.size} entries, but id {n} is {mine!r} for {first} and "
                    f"{yours!r} for {second}"
                )
                break
    raise UsageError(f"{first} and {second} have different vocabularies: {where}. {remedy}")


def renumbering(student: Vocabulary, teacher: Vocabulary) -> np.ndarray:
    """The teacher's id of each id of the student's [V], where they number the same pieces.

    The special ones have the same numbers in all vocabularies. For ``models.renumber`` and
    ``distill.teacher_cache``.

    Raises:
      UsageError: the vocabularies have different pieces; the message says where.
    """
    first = len(SPECIAL)
    mine, theirs = (v.tokens(range(first, v.size)) for v in (student, teacher))
    place = {token: n for n, token in enumerate(theirs, first)}
    if sorted(mine) != sorted(theirs) or len(place) != len(theirs):
        check_same(student, teacher)
    return np.array([*range(first), *(place[token] for token in mine)], np.int32)


def content_of(ids: Iterable[int]) -> list[int]:
    """The ids up to EOS, without PAD and BOS."""
    until_end = itertools.takewhile(lambda n: n != EOS, map(int, ids))
    return [n for n in until_end if n not in (PAD, BOS)]


def checked_ids(ids: Iterable[int], size: int) -> list[int]:
    """The ids, if all are in a vocabulary of this size; raises UsageError otherwise."""
    ids = [int(n) for n in ids]
    wrong = [n for n in ids if not 0 <= n < size]
    if wrong:
        raise UsageError(f"ids: {wrong[0]} is out of range for a vocabulary of {size} entries.")
    return ids


def content_digest(kind: str, lower: bool, content: Any) -> str:
    """The sha256 that tells vocabularies apart."""
    return hashlib.sha256(json.dumps([kind, lower, content]).encode()).hexdigest()
