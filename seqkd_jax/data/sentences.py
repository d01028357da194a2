"""Sentences of ids as two flat arrays, in memory or in memory-mapped files.

ids      [tokens]         of all sentences, one after the other; [tokens, C] for rows of ids
offsets  [sentences + 1]  where each of them begins, and where the last one ends
"""

import mmap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np

from ..base import PAD

CHUNK = 1 << 18  # sentences whose lengths are in memory at a time, where a corpus is gone through


class Flat(NamedTuple):
    """Some sentences: the ids of all of them, and the length of each."""

    ids: np.ndarray  # [tokens] or [tokens, C]
    lengths: np.ndarray  # [sentences] int32


@dataclass(frozen=True, eq=False)
class Sentences(Sequence[np.ndarray]):
    """Sentences [S], or [S, C] where a token is a row of ids; each is read as int32."""

    ids: np.ndarray = field(repr=False)
    offsets: np.ndarray = field(repr=False)
    rows: np.ndarray | None = None  # [sentences] int32, which ones of the arrays; None for all
    maps: tuple[mmap.mmap, ...] = field(default=(), repr=False)  # the files behind the arrays

    def __len__(self) -> int:
        return len(self.offsets) - 1 if self.rows is None else len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            index = np.arange(*index.indices(len(self)), dtype=np.int32)
        if isinstance(index, np.ndarray):  # indices from 0
            rows = index.astype(np.int32, copy=False) if self.rows is None else self.rows[index]
            return Sentences(self.ids, self.offsets, rows, self.maps)
        row = range(len(self))[index] if self.rows is None else self.rows[index]
        return self.ids[self.offsets[row] : self.offsets[row + 1]].astype(np.int32)

    @property
    def lengths(self) -> np.ndarray:
        """The number of tokens of each sentence, [sentences] int32."""
        return self.lengths_of(range(len(self)))

    def lengths_of(self, some: range) -> np.ndarray:
        """Returns the number of tokens of consecutive sentences, [some] int32."""
        lengths = np.empty(len(some), np.int32)
        if self.rows is None:
            begins, ends = self.offsets[some.start : some.stop], self.offsets[some.start + 1 :]
            ends = ends[: len(some)]
        else:
            rows = self.rows[some.start : some.stop]
            begins, ends = self.offsets[rows], self.offsets[rows + 1]
        np.subtract(ends, begins, out=lengths, casting="unsafe")
        self.release()
        return lengths

    def padded(self, indices: np.ndarray, width: int) -> np.ndarray:
        """Returns some sentences, [indices, width] or [indices, width, C] int32, filled with PAD.

        Args:
          indices: of the sentences.
          width: at least the length of the longest of them.
        """
        rows = np.asarray(indices) if self.rows is None else self.rows[indices]
        starts = np.asarray(self.offsets[rows], np.int64)[:, None]
        lengths = self.offsets[rows + 1][:, None] - starts
        position = np.arange(width)
        real = position < lengths
        found = np.full((*real.shape, *self.ids.shape[1:]), PAD, np.int32)
        found[real] = self.ids[(starts + position)[real]]
        return found

    def release(self) -> None:
        """Lets the system take back the pages of files that have been read; the text stays.

        Without this they would count as memory of the process until others need it.
        """
        for file in self.maps:
            if hasattr(mmap, "MADV_DONTNEED"):
                file.madvise(mmap.MADV_DONTNEED)


def lengths_in_parts(
    src: Sentences, tgt: Sentences
) -> Iterator[tuple[slice, np.ndarray, np.ndarray]]:
    """Yields the lengths of some pairs at a time, so that temporary arrays stay small.

    Yields:
      Which pairs these are, and the tokens of their sources and of their targets, [pairs] int32.
    """
    for start in range(0, len(src), CHUNK):
        some = range(start, min(start + CHUNK, len(src)))
        yield slice(some.start, some.stop), src.lengths_of(some), tgt.lengths_of(some)


def pack(sentences: Iterable[Any]) -> Sentences:
    """Returns sentences [S] of ids as ``Sentences`` in memory."""
    if isinstance(sentences, Sentences):
        return sentences
    arrays = [np.asarray(ids, np.int32) for ids in sentences]
    return join([Flat(joined(arrays), np.array([len(ids) for ids in arrays], np.int32))])


def join(parts: Sequence[Flat]) -> Sentences:
    """Returns the sentences of all parts, in memory."""
    lengths = np.concatenate([np.zeros(1, np.int32), *(part.lengths for part in parts)])
    return Sentences(joined([part.ids for part in parts]), np.cumsum(lengths, dtype=np.int64))


def joined(arrays: Sequence[np.ndarray]) -> np.ndarray:
    """Returns arrays one after the other; empty ones need not have their shape."""
    some = [array for array in arrays if len(array)]
    return np.concatenate(some) if some else np.zeros(0, np.int32)
