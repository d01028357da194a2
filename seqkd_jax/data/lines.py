r"""Lines of text and sentence pairs that stay on disk, and are read where they are needed.

Where each 64th line begins is kept in memory, and nothing else, however large the text is.
"""

import functools
import hashlib
import itertools
import mmap
import os
import tempfile
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import numpy as np

from ..addresses import PathLike, as_path, is_local, remote_errors
from ..errors import UsageError
from ..files import GZIP, open_reading, read_file, same_file, unpack_chunks
from .text import BOM, check_text, columns, is_packed, is_table, split_lines, words_of

BLOCK = 64  # lines; memory holds where each block of them begins
PIECE = 1 << 22  # bytes of a file that are read at a time
MISALIGNED_RATIO = 3  # a line that is this many times as long as its partner looks misaligned


@dataclass(frozen=True, eq=False)
class Lines(Sequence[str]):
    """The lines of a text, or a column of them; they are read and decoded where they are needed."""

    name: str
    starts: np.ndarray = field(repr=False)  # bytes before each ``BLOCK``-th line, and of the text
    total: int
    read: Callable[[int, int], bytes] = field(repr=False)  # (start, end) -> these bytes
    column: int | None = None  # of a table

    def __len__(self) -> int:
        return self.total

    def __iter__(self) -> Iterator[str]:
        for first in range(0, self.total, 32 * BLOCK):
            yield from self._between(first, first + 32 * BLOCK)

    def __getitem__(self, index: Any) -> Any:
        if not isinstance(index, slice):
            index = range(self.total)[index]
            return self._between(index, index + 1)[0]
        start, stop, step = index.indices(self.total)
        if step != 1:
            return [self[n] for n in range(start, stop, step)]
        return self._between(start, stop)

    def __eq__(self, other: object) -> bool:
        return _equal(self, other)

    def _between(self, start: int, stop: int) -> list[str]:
        stop = min(stop, self.total)
        if start >= stop:
            return []
        block = start // BLOCK
        ends = int(self.starts[block]), int(self.starts[-(-stop // BLOCK)])
        first = block * BLOCK
        lines = split_lines(self.read(*ends).decode())[start - first : stop - first]
        if self.column is None:
            return lines
        return [columns(line, self.name, n)[self.column] for n, line in enumerate(lines, start + 1)]


@dataclass(frozen=True, eq=False)
class ParallelLines(Sequence[tuple[str, str]]):
    """Sentence pairs: line n of one text and line n of another."""

    sources: Sequence[str]
    targets: Sequence[str]

    def __len__(self) -> int:
        return len(self.sources)

    def __iter__(self) -> Iterator[tuple[str, str]]:
        return zip(self.sources, self.targets, strict=True)

    def __getitem__(self, index: Any) -> Any:
        found = self.sources[index], self.targets[index]
        return list(zip(*found, strict=True)) if isinstance(index, slice) else found

    def __eq__(self, other: object) -> bool:
        return _equal(self, other)

    @functools.cached_property
    def digest(self) -> str:
        """The sha256 of the pairs, see ``pairs_digest``."""
        return lines_digest(side for pair in self for side in pair)


def _equal(one: Sequence[Any], other: object) -> bool:
    if not isinstance(other, Sequence) or len(one) != len(other):
        return False
    return all(a == b for a, b in zip(one, other, strict=True))


def lines_digest(lines: Iterable[str]) -> str:
    """Returns the sha256 of lines of text, which identifies a corpus."""
    sha, rest, between = hashlib.sha256(), iter(lines), ""
    while some := list(itertools.islice(rest, 1 << 14)):
        sha.update((between + "\n".join(some)).encode())
        between = "\n"
    return sha.hexdigest()


def pairs_digest(pairs: Iterable[tuple[str, str]]) -> str:
    """Returns the sha256 of sentence pairs."""
    if isinstance(pairs, ParallelLines):
        return pairs.digest
    return lines_digest(side for pair in pairs for side in pair)


def sources_of(pairs: Sequence[tuple[str, str]]) -> Sequence[str]:
    """Returns the sources of pairs."""
    return pairs.sources if isinstance(pairs, ParallelLines) else [source for source, _ in pairs]


def targets_of(pairs: Sequence[tuple[str, str]]) -> Sequence[str]:
    """Returns the targets of pairs."""
    return pairs.targets if isinstance(pairs, ParallelLines) else [target for _, target in pairs]


def open_lines(path: PathLike, column: int | None = None) -> Lines:
    """Opens a text file, packed with gzip or not, and checks all of it.

    The lines are those of ``read_lines``, but they stay on disk: a packed file is unpacked into a
    temporary one, and a file at an address is copied to one; the system removes it when the process
    ends.

    Args:
      path: the file.
      column: of a table; None for whole lines.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: ``read_lines`` would refuse the file, or a line of a table has not exactly two
        columns. A line that is read raises it if the file has changed since it was opened.
    """
    path, name = as_path(path), str(path)
    plain = _is_plain(path)
    if plain and is_local(path):
        with open(path, "rb") as file:
            stamp = _stamp(file)
        return _scanned(name, functools.partial(_read_file, path, stamp), stamp[0], column)
    data = _spooled(_pieces(path) if plain else _unpacked(path))
    return _scanned(name, functools.partial(_read_memory, data), len(data), column)


def _scanned(name: str, read: Callable[[int, int], bytes], size: int, column: int | None) -> Lines:
    """Checks a text and finds where its lines begin, in bounded memory."""
    mark = BOM.encode()
    begin = len(mark) if read(0, min(size, len(mark))) == mark else 0
    position, count, starts = 0, 0, [np.array([begin], np.int64)]
    while position < size:
        piece = _whole_lines(read, position, size)
        text = check_text(piece, name, count + 1)
        if column is not None:
            for number, line in enumerate(split_lines(text), count + 1):
                if line.count("\t") != 1:
                    columns(line, name, number)
        ends = np.flatnonzero(np.frombuffer(piece, np.uint8) == ord("\n"))
        starts.append(position + 1 + ends[BLOCK - 1 - count % BLOCK :: BLOCK])
        count += len(ends)
        position += len(piece)
        if not piece.endswith(b"\n") and position > begin:
            count += 1  # the last line has no end
    blocks = -(-count // BLOCK)
    found = np.append(np.concatenate(starts)[:blocks], size)
    return Lines(name, found, count, read, column)


def _whole_lines(read: Callable[[int, int], bytes], start: int, size: int) -> bytes:
    """Reads about ``PIECE`` bytes, up to the end of a line or of the text."""
    length = PIECE
    while True:
        piece = read(start, min(size, start + length))
        if start + len(piece) >= size:
            return piece
        if end := piece.rfind(b"\n") + 1:
            return piece[:end]
        length *= 2


def _stamp(file: IO[bytes]) -> tuple[int, int]:
    status = os.fstat(file.fileno())
    return status.st_size, status.st_mtime_ns


def _read_file(path: Path, stamp: tuple[int, int], start: int, end: int) -> bytes:
    # Not mapped into memory: the process would die if somebody shortened the file.
    with open(path, "rb") as file:
        if _stamp(file) != stamp:
            raise UsageError(f"{path}: changed while it was in use; run the command again.")
        file.seek(start)
        return file.read(end - start)


def _read_memory(data: bytes | mmap.mmap, start: int, end: int) -> bytes:
    found = data[start:end]
    if isinstance(data, mmap.mmap) and hasattr(mmap, "MADV_DONTNEED"):
        data.madvise(mmap.MADV_DONTNEED)  # the pages that were read need not stay in memory
    return found


def _is_plain(path: Path) -> bool:
    """Returns whether a path is that of a file, and one that is not packed."""
    with remote_errors(path):
        if not path.is_file() or is_packed(path):
            return False
    with open_reading(path) as file, remote_errors(path):
        return not file.peek(len(GZIP)).startswith(GZIP)


def _pieces(path: Path) -> Iterable[bytes]:
    with open_reading(path) as file, remote_errors(path):
        yield from iter(functools.partial(file.read, PIECE), b"")


def _unpacked(path: Path) -> Iterable[bytes]:
    data = read_file(path)
    packed = data.startswith(GZIP) or is_packed(path)
    return unpack_chunks(path, data) if packed else [data]


def _spooled(chunks: Iterable[bytes]) -> bytes | mmap.mmap:
    """Writes data to a temporary file without a name, and maps it."""
    with tempfile.TemporaryFile() as file:
        for chunk in chunks:
            file.write(chunk)
        file.flush()
        if not file.tell():
            return b""
        return mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)


def read_sources(path: PathLike) -> Lines:
    """Opens source sentences: the lines of a file, or the first column of a ``.tsv`` file.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: a line of a ``.tsv`` file has not exactly two columns, or ``read_lines`` refuses
        the file.
    """
    return _open_side(path, 0)


def read_pairs(source_path: PathLike, target_path: PathLike | None = None) -> ParallelLines:
    """Opens sentence pairs in two parallel files, or from one ``.tsv`` (``.tsv.gz``) file.

    The first column of a ``.tsv`` file is the source and the second the target, whether the file
    is given alone, for both sides, or for one side beside a text file. Lines with an empty side
    are kept.

    Raises:
      FileNotFoundError: a file is missing.
      UsageError: the files have different numbers of lines, a line of a ``.tsv`` file has not
        exactly two columns, no line has text on both sides, the same text file is given for both,
        or ``read_lines`` refuses a file.
    """
    if target_path is None and not is_table(source_path):
        raise UsageError(
            f"{source_path}: give the file of the targets as well, or one .tsv file "
            "with both sides."
        )
    if target_path is None or same_file(source_path, target_path):
        if not is_table(source_path):
            raise UsageError(
                f"{source_path}: given as source and as target; give one file for "
                "each side, or one .tsv file with both."
            )
        pairs = ParallelLines(*(open_lines(source_path, column) for column in (0, 1)))
    else:
        pairs = _parallel(source_path, target_path)
    require_sentences(pairs, source_path, target_path)
    if all(source == target for source, target in pairs):
        files = dict.fromkeys(str(path) for path in (source_path, target_path) if path)
        warnings.warn(f"{' and '.join(files)}: source and target are the same text.", stacklevel=2)
    return pairs


def require_sentences(
    lines: Sequence[str] | Sequence[tuple[str, str]], *paths: PathLike | None
) -> None:
    """Refuses files without a single sentence, or without a single pair that has both sides.

    Args:
      lines: the lines or pairs that were read from the files.
      paths: the files.

    Raises:
      UsageError: there is none; the message names the files and their number of lines.
    """
    if any(all(map(words_of, [line] if isinstance(line, str) else line)) for line in lines):
        return
    files = " and ".join(dict.fromkeys(str(path) for path in paths if path is not None))
    if not lines:
        raise UsageError(f"{files}: 0 lines; give files with one sentence a line.")
    what = "without text" if isinstance(lines[0], str) else "without text on one side or both"
    raise UsageError(
        f"{files}: {len(lines):,} lines, all {what}; give files with one sentence a line."
    )


def _open_side(path: PathLike, column: int) -> Lines:
    return open_lines(path, column if is_table(path) else None)


def _parallel(source_path: PathLike, target_path: PathLike) -> ParallelLines:
    sources, targets = _open_side(source_path, 0), _open_side(target_path, 1)
    files = [str(source_path), str(target_path)]
    if len(sources) != len(targets):
        raise UsageError(
            f"{files[0]} has {len(sources)} lines and {files[1]} has {len(targets)}: line n of one "
            "must translate line n of the other. " + _where_misaligned(sources, targets)
        )
    return ParallelLines(sources, targets)


def _where_misaligned(sources: Sequence[str], targets: Sequence[str]) -> str:
    common = min(len(sources), len(targets))
    if not common:
        return "One of them is empty."
    sizes = [sum(map(len, itertools.islice(side, common))) for side in (sources, targets)]
    ratio = (sizes[1] + 1) / (sizes[0] + 1)
    for number, (source, target) in enumerate(zip(sources, targets, strict=False), 1):
        # Ten characters are added to both sides, because short lines differ by chance.
        short, long = sorted((len(source) * ratio + 10, len(target) + 10))
        if long > MISALIGNED_RATIO * short:
            return (
                f"Line {number} is the first whose sides differ greatly in length: look around it."
            )
    return f"No line up to {common} stands out in length: one file may simply end too early."
