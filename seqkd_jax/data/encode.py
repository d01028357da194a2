"""Sentence pairs as ids, and a report of the pairs that were left out.

Small corpora are encoded in memory at every start. Large ones are encoded once, by several
processes, into files that are mapped into memory (``store``).
"""

import collections
import concurrent.futures
import functools
import itertools
import multiprocessing
import os
import signal
import threading
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..addresses import PathLike, as_path, is_local
from ..base import BOS, EOS, UNK
from ..errors import UsageError, counted
from ..progress import Bar
from .lines import pairs_digest
from .sentences import Flat, Sentences, join, lengths_in_parts, pack
from .store import kept
from .vocab import Vocabulary

EXAMPLES = 5  # line numbers that a report names
IN_MEMORY = 100_000  # pairs; larger corpora are worth a store, and processes to make it
PART = 10_000  # pairs that a process encodes at a time
Vocabularies = tuple[Vocabulary, Vocabulary]


@dataclass(frozen=True)
class Report:
    """How many pairs of a corpus were kept, and which were left out. Lines count from 1."""

    kept: int
    empty: int  # left out: no token on one side
    overlong: int  # left out: more than ``max_len`` tokens on one side
    max_len: int | None
    empty_lines: tuple[int, ...]  # the first ``EXAMPLES`` of them
    overlong_lines: tuple[int, ...]  # the same
    shortest: int | None = None  # tokens of the shortest overlong pair

    def __str__(self) -> str:
        parts = [f"{counted(self.kept, 'pair')} kept"]
        if self.empty:
            where = lines_at(self.empty_lines, self.empty)
            parts.append(f"{self.empty:,} with an empty side left out {where}")
        if self.overlong:
            where = lines_at(self.overlong_lines, self.overlong)
            limit = counted(self.max_len or 0, "token")
            parts.append(f"{self.overlong:,} longer than {limit} left out {where}")
        return "; ".join(parts)


@dataclass(frozen=True)
class Encoded:
    """Sentence pairs as ids, int32 arrays: ``src`` [S], and ``tgt`` [T] ending in EOS."""

    src: Sentences  # lists of arrays are accepted, and packed
    tgt: Sentences
    index: np.ndarray  # [pairs] int32, index of each pair in the corpus
    report: Report
    weight: np.ndarray | None = None  # [pairs] float32, weights in training; None for 1

    def __post_init__(self) -> None:
        for name in ("src", "tgt"):
            object.__setattr__(self, name, pack(getattr(self, name)))


def encode_pairs(
    pairs: Sequence[tuple[str, str]],
    src_vocab: Vocabulary,
    tgt_vocab: Vocabulary,
    max_len: int | None = None,
    weights: Sequence[float] | np.ndarray | None = None,
    *,
    folder: PathLike | None = None,
) -> Encoded:
    """Encodes sentence pairs; empty and overlong pairs are left out and reported.

    Args:
      pairs: (source, target) lines.
      src_vocab: of the source side.
      tgt_vocab: of the target side.
      max_len: largest number of tokens on either side, EOS of the target counted; None for no
        limit.
      weights: of each pair in training; None for 1.
      folder: for files that are made once and mapped into memory, whatever ``max_len`` and
        ``weights`` are; None to encode in memory. See ``folder_for``.

    Raises:
      UsageError: a vocabulary returns ids that are special or out of range, or ``weights`` does
        not hold one finite number above 0 for each pair.

    >>> from seqkd_jax.data import build_words
    >>> pairs = [("a dog", "ein Hund"), ("", "nichts")]
    >>> src, tgt = (build_words(side) for side in zip(*pairs, strict=True))
    >>> encoded = encode_pairs(pairs, src, tgt)
    >>> encoded.src[0].tolist(), encoded.tgt[0].tolist(), encoded.index.tolist()
    ([4, 5], [5, 4, 3], [0])
    """
    checked = None if weights is None else _weights(weights, len(pairs))
    vocabularies = src_vocab, tgt_vocab
    if folder is None:
        parts = list(_encoded_parts(pairs, vocabularies, 1))
        src, tgt = (join([part[side] for part in parts]) for side in (0, 1))
    else:
        made_of = {"pairs": pairs_digest(pairs), "src": src_vocab.digest, "tgt": tgt_vocab.digest}
        make = functools.partial(_encoded_parts, pairs, vocabularies, os.cpu_count() or 1)
        src, tgt = kept(folder, made_of, make)
    return _without_unusable(src, tgt, max_len, checked)


def folder_for(pairs: Sequence[tuple[str, str]], folder: PathLike) -> PathLike | None:
    """Returns the folder in which a corpus is kept encoded; None to keep it in memory.

    That is for small corpora, and for folders at addresses, whose files cannot be mapped.
    """
    return folder if len(pairs) > IN_MEMORY and is_local(as_path(folder)) else None


def _without_unusable(
    src: Sentences, tgt: Sentences, max_len: int | None, weights: np.ndarray | None
) -> Encoded:
    """Leaves out pairs that are empty (a target has at least EOS) or overlong."""
    most = np.iinfo(np.int32).max if max_len is None else max_len
    empty, overlong = (np.zeros(len(src), bool) for _ in range(2))
    shortest = None  # of the overlong ones
    for part, src_lengths, tgt_lengths in lengths_in_parts(src, tgt):
        longer = np.maximum(src_lengths, tgt_lengths)
        empty[part] = (src_lengths == 0) | (tgt_lengths == 1)
        overlong[part] = ~empty[part] & (longer > most)
        if overlong[part].any():
            least = int(longer[overlong[part]].min())
            shortest = least if shortest is None else min(shortest, least)
    index = np.flatnonzero(~(empty | overlong)).astype(np.int32)
    report = Report(
        kept=len(index),
        empty=int(empty.sum()),
        overlong=int(overlong.sum()),
        max_len=max_len,
        empty_lines=_first_lines(empty),
        overlong_lines=_first_lines(overlong),
        shortest=shortest,
    )
    if len(index) < len(src):
        src, tgt = src[index], tgt[index]
    return Encoded(src, tgt, index, report, None if weights is None else weights[index])


def _first_lines(mask: np.ndarray) -> tuple[int, ...]:
    return tuple((np.flatnonzero(mask)[:EXAMPLES] + 1).tolist())


# Encoding, part by part.


def _encoded_parts(
    pairs: Sequence[tuple[str, str]], vocabularies: Vocabularies, processes: int
) -> Iterator[tuple[Flat, Flat]]:
    """Yields the ids of source and target of ``PART`` pairs at a time, in order."""
    starts = range(0, len(pairs), PART)
    parts = ((start, pairs[start : start + PART]) for start in starts)
    if min(processes, len(starts)) < 2:
        encoded = itertools.starmap(functools.partial(_encode_part, vocabularies), parts)
    else:
        encoded = _in_processes(parts, vocabularies, min(processes, len(starts)))
    with Bar(total=len(pairs), desc="encoding", unit="pair", wait=2) as bar:
        for part in encoded:
            yield part
            bar.update(len(part[0].lengths))


def _encode_part(
    vocabularies: Vocabularies, first: int, pairs: Sequence[tuple[str, str]]
) -> tuple[Flat, Flat]:
    sides: tuple[list[Any], list[Any]] = [], []
    lengths: tuple[list[int], list[int]] = [], []
    for index, pair in enumerate(pairs, first):
        for side, name in enumerate(("source", "target")):
            tokens = encode_line(vocabularies[side], pair[side], index, name)
            if side:
                tokens = [*tokens, EOS]
            sides[side].extend(tokens)
            lengths[side].append(len(tokens))
    src, tgt = (
        Flat(_smallest(ids, vocab.size), np.array(sizes, np.int32))
        for ids, vocab, sizes in zip(sides, vocabularies, lengths, strict=True)
    )
    return src, tgt


def _smallest(ids: list[Any], size: int) -> np.ndarray:
    # The other numbers in a row of ids have bounds of their own.
    rows = bool(ids) and isinstance(ids[0], tuple)
    return np.array(ids, np.int32 if rows or size > 1 << 16 else np.uint16)


def _in_processes(
    parts: Iterable[tuple[int, Sequence[tuple[str, str]]]],
    vocabularies: Vocabularies,
    processes: int,
) -> Iterator[tuple[Flat, Flat]]:
    """Encodes parts in new processes; a fork of this one would deadlock in JAX's threads."""
    pending: collections.deque[concurrent.futures.Future[tuple[Flat, Flat]]] = collections.deque()
    try:
        with concurrent.futures.ProcessPoolExecutor(
            processes, multiprocessing.get_context("spawn"), _start, (vocabularies,)
        ) as pool:
            for first, pairs in parts:
                pending.append(pool.submit(_encode_here, first, pairs))
                if len(pending) > 2 * processes:
                    yield pending.popleft().result()
            while pending:
                yield pending.popleft().result()
    except BrokenProcessPool:
        raise UsageError(
            "An encoding process ended, perhaps because memory ran out. If this is a script of "
            'your own, put what it does under if __name__ == "__main__": because new processes '
            "import it."
        ) from None


_vocabularies: Vocabularies | None = None  # of a process that encodes


def _start(vocabularies: Vocabularies) -> None:
    global _vocabularies
    _vocabularies = vocabularies
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent stops this process
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _encode_here(first: int, pairs: Sequence[tuple[str, str]]) -> tuple[Flat, Flat]:
    assert _vocabularies is not None
    return _encode_part(_vocabularies, first, pairs)


def require_kept(encoded: Encoded, where: str) -> None:
    """Refuses a corpus of which no pair was kept.

    Args:
      encoded: the corpus.
      where: its name in the message, see ``Corpus.where``.

    Raises:
      UsageError: all pairs were empty or overlong; the message says how many, and what to do.
    """
    report = encoded.report
    if report.kept:
        return
    remedy = "give files with one sentence a line"
    if report.shortest is not None:
        remedy = f"the shortest has {report.shortest} tokens: raise --max-tokens (max_tokens)"
    raise UsageError(f"{where}: nothing is left to work on ({report}); {remedy}.")


def _weights(weights: Sequence[float] | np.ndarray, pairs: int) -> np.ndarray:
    array = np.asarray(weights, np.float32)
    if array.shape != (pairs,):
        raise UsageError(f"{array.size} weights for {pairs} pairs; each pair needs one.")
    valid = np.isfinite(array) & (array > 0)
    if not valid.all():
        index = int(valid.argmin())
        raise UsageError(
            f"The weight of line {index + 1} is {array[index]}; weights must be finite and "
            "greater than 0. Leave pairs that should not count out of the corpus."
        )
    return array


def encode_line(vocab: Vocabulary, text: str, index: int, side: str) -> list[Any]:
    """Returns the ids of a line of text, without BOS and EOS.

    Args:
      vocab: of its side.
      text: one line.
      index: of the line in its corpus, from 0; for errors.
      side: ``source`` or ``target``; for errors.

    Raises:
      UsageError: the vocabulary refuses the text, or returns ids that are special or out of
        range; the message names the line.
    """
    try:
        tokens = vocab.encode(text)
    except UsageError as error:
        raise UsageError(f"{side} of line {index + 1}: {error}") from None
    ids = [token[0] if isinstance(token, tuple) else token for token in tokens]
    # On a device an id out of range silently reads another row.
    if ids and (min(ids) < UNK or max(ids) >= vocab.size or BOS in ids or EOS in ids):
        raise UsageError(
            f"{side} of line {index + 1}: the vocabulary returns an id that is neither UNK nor "
            f"from 4 to {vocab.size - 1}; the vocabulary is broken."
        )
    return tokens


def lines_at(lines: Sequence[int], count: int) -> str:
    """Formats line numbers: ``(line 3)``, or ``(lines 3, 8, ...)`` if ``count`` is larger."""
    numbers = ", ".join(map(str, lines)) + (", ..." if count > len(lines) else "")
    return f"(line{'s' if count > 1 else ''} {numbers})"
