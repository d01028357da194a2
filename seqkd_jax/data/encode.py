"""Sentence pairs as ids, with a report of every pair that was left out."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..base import BOS, EOS, UNK
from ..errors import UsageError
from .vocab import Vocabulary

EXAMPLES = 5  # line numbers named in a report


@dataclass(frozen=True)
class Report:
    """What became of the pairs of a corpus. Lines count from 1."""

    kept: int
    empty: int  # left out: no token on one side
    overlong: int  # left out: more tokens than allowed on one side
    max_len: int | None
    empty_lines: tuple[int, ...]  # the first few
    overlong_lines: tuple[int, ...]
    shortest: int | None = None  # tokens of the shortest of the overlong

    def __str__(self) -> str:
        parts = [f"{self.kept:,} pairs kept"]
        if self.empty:
            where = lines_at(self.empty_lines, self.empty)
            parts.append(f"{self.empty:,} with an empty side left out {where}")
        if self.overlong:
            where = lines_at(self.overlong_lines, self.overlong)
            parts.append(f"{self.overlong:,} longer than {self.max_len} tokens left out {where}")
        return "; ".join(parts)


@dataclass(frozen=True)
class Encoded:
    """Sentence pairs in ids, each an int32 array: ``src`` [S], ``tgt`` [T] ending in EOS."""

    src: list[np.ndarray]
    tgt: list[np.ndarray]
    index: np.ndarray  # [pairs] int32, places in the corpus
    report: Report
    weight: np.ndarray | None = None  # [pairs] float32, in training; None for 1


def encode_pairs(
    pairs: Sequence[tuple[str, str]],
    src_vocab: Vocabulary,
    tgt_vocab: Vocabulary,
    max_len: int | None = None,
    weights: Sequence[float] | np.ndarray | None = None,
) -> Encoded:
    """Encodes sentence pairs; those that are empty or too long are left out and reported.

    Args:
      pairs: (source, target) lines.
      src_vocab: of the source side.
      tgt_vocab: of the target side.
      max_len: most tokens on either side, EOS of the target counted; None for no limit.
      weights: of each pair in training; None for 1.

    Raises:
      UsageError: a vocabulary gives ids that it does not have, or special ones; there is not one
        weight greater than 0 for each pair.
    """
    given = None if weights is None else _weights(weights, len(pairs))
    src, tgt, index = [], [], []
    empty, overlong, lengths = [], [], []
    for place, (source, target) in enumerate(pairs):
        source_ids = encode_line(src_vocab, source, place, "source")
        target_ids = encode_line(tgt_vocab, target, place, "target")
        if not source_ids or not target_ids:
            empty.append(place + 1)
        elif max_len is not None and max(len(source_ids), len(target_ids) + 1) > max_len:
            overlong.append(place + 1)
            lengths.append(max(len(source_ids), len(target_ids) + 1))
        else:
            src.append(np.array(source_ids, np.int32))
            tgt.append(np.array([*target_ids, EOS], np.int32))
            index.append(place)
    report = Report(
        kept=len(index),
        empty=len(empty),
        overlong=len(overlong),
        max_len=max_len,
        empty_lines=tuple(empty[:EXAMPLES]),
        overlong_lines=tuple(overlong[:EXAMPLES]),
        shortest=min(lengths, default=None),
    )
    places = np.array(index, np.int32)
    return Encoded(src, tgt, places, report, None if given is None else given[places])


def require_kept(encoded: Encoded, where: str) -> None:
    """Refuses a corpus of which no pair is left.

    Args:
      encoded: the corpus.
      where: what to call it: its files, see ``Corpus.where``.

    Raises:
      UsageError: all pairs were empty or too long; the message says how many, and what to do.
    """
    report = encoded.report
    if report.kept:
        return
    remedy = "give files with one sentence a line"
    if report.shortest is not None:
        remedy = f"the shortest has {report.shortest} tokens: raise --max-tokens (max_tokens)"
    raise UsageError(f"{where}: nothing is left to work on ({report}); {remedy}.")


def _weights(weights: Sequence[float] | np.ndarray, pairs: int) -> np.ndarray:
    given = np.asarray(weights, np.float32)
    if given.shape != (pairs,):
        raise UsageError(f"{given.size} weights for {pairs} pairs; each pair needs one.")
    good = np.isfinite(given) & (given > 0)
    if not good.all():
        line = int(good.argmin())
        raise UsageError(
            f"The weight of line {line + 1} is {given[line]}; weights must be finite and "
            "greater than 0. Leave pairs that should not count out of the corpus."
        )
    return given


def encode_line(vocab: Vocabulary, text: str, place: int, side: str) -> list[Any]:
    """The ids of a text, without BOS and EOS.

    Args:
      vocab: of its side.
      text: one line.
      place: of the line in its text, from 0, and
      side: what the text is, both for errors.

    Raises:
      UsageError: the text does not suit the vocabulary, or the vocabulary gives ids that it does
        not have, or special ones; the message names the line.
    """
    try:
        tokens = vocab.encode(text)
    except UsageError as error:
        raise UsageError(f"{side} of line {place + 1}: {error}") from None
    ids = [token[0] if isinstance(token, tuple) else token for token in tokens]
    # On a device an id out of range silently reads another row.
    if ids and (min(ids) < UNK or max(ids) >= vocab.size or BOS in ids or EOS in ids):
        raise UsageError(
            f"{side} of line {place + 1}: the vocabulary gives an id that is neither UNK nor "
            f"from 4 to {vocab.size - 1}; the vocabulary is broken."
        )
    return tokens


def lines_at(lines: Sequence[int], count: int) -> str:
    """Says which lines are meant: ``(line 3)``, ``(lines 3, 8, ...)`` where there are more."""
    named = ", ".join(map(str, lines)) + (", ..." if count > len(lines) else "")
    return f"(line{'s' if count > 1 else ''} {named})"
