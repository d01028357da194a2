"""Lines of text as they arrive, in bounded memory: from a pipe, a terminal, or a large file."""

import gzip
import select
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, cast

from ..addresses import PathLike
from ..errors import UsageError
from ..files import GZIP, open_reading
from .text import columns, decode_lines

CHUNK = 1 << 16  # bytes read at a time
MAX_BUFFER_BYTES = 1 << 22  # bytes that are read before lines are yielded
MAX_LINE_BYTES = 1 << 20


@contextmanager
def open_text(path: PathLike | None) -> Iterator[tuple[BinaryIO, str]]:
    """Opens a text file for ``waiting_lines``; yields it with its name for errors.

    Args:
      path: the file, packed with gzip or not; None for standard input.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the path is a folder.
    """
    if path is None:
        yield sys.stdin.buffer, "standard input"
        return
    name = str(path)
    try:
        plain = open_reading(path)
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{name}: no such file.") from None
    except IsADirectoryError:
        raise UsageError(f"{name}: a folder, where a file is expected.") from None
    with plain:
        if plain.peek(len(GZIP)).startswith(GZIP) or name.lower().endswith(".gz"):
            yield cast(BinaryIO, gzip.GzipFile(fileobj=plain)), name
        else:
            yield plain, name


def waiting_lines(file: BinaryIO, name: str, max_lines: int) -> Iterator[list[str]]:
    r"""Yields the lines of UTF-8 text in groups: the next line, and those that arrived with it.

    It waits for one line, and never for more. Lines end as in ``read_lines``.

    Args:
      file: buffered; nothing has been read from it.
      name: of the text, for errors.
      max_lines: largest number of lines in a group.

    Yields:
      Between 1 and ``max_lines`` lines. All lines before an unreadable one are yielded.

    Raises:
      UsageError: a line is not UTF-8, holds a NUL byte or is longer than 1 MB (the message names
        it), or a gzip file is damaged.
    """
    rest, first, ended = b"", 1, False
    failed: UsageError | None = None
    while True:
        parts, size, count = [rest], len(rest), rest.count(b"\n")
        while (
            not ended
            and count < max_lines
            and size < MAX_BUFFER_BYTES
            and not (count and not _ready(file))
        ):
            try:
                data = _read(file, name)
            except UsageError as error:  # raised after the complete lines have been yielded
                data, failed = b"", error
            ended = not data
            parts.append(data)
            size += len(data)
            count += data.count(b"\n")
            if not count and size > MAX_LINE_BYTES:
                _refuse(name, first)
        *lines, rest = b"".join(parts).split(b"\n", max_lines)
        end = b"\n" if lines or first > 1 else b""  # none if the whole text has no line break
        if ended and rest and not failed and len(lines) < max_lines:
            lines, rest = [*lines, rest], b""
        if not lines:
            if failed:
                raise failed
            return
        yield from _decoded(lines, name, first, end)
        first += len(lines)


def count_lines(path: PathLike) -> int | None:
    """Returns the number of lines of a file on this machine; None if it is packed or not a file."""
    file = Path(str(path))
    if not file.is_file():
        return None
    with file.open("rb") as opened:
        if opened.peek(len(GZIP)).startswith(GZIP):
            return None
        chunks = iter(lambda: opened.read(1 << 20), b"")
        return sum(chunk.count(b"\n") for chunk in chunks)


def first_columns(batches: Iterable[list[str]], name: str) -> Iterator[list[str]]:
    """Yields the first column of the lines of a ``.tsv`` file, which come in batches.

    Raises:
      UsageError: a line has not exactly two columns; the lines before it have been yielded.
    """
    number = 0
    for lines in batches:
        sources = []
        for number, line in enumerate(lines, number + 1):  # noqa: B020
            try:
                sources.append(columns(line, name, number)[0])
            except UsageError:
                if sources:
                    yield sources
                raise
        yield sources


def _decoded(lines: list[bytes], name: str, first: int, end: bytes = b"\n") -> Iterator[list[str]]:
    """Yields the decoded lines; if one cannot be decoded, those before it, and then raises."""
    try:
        if max(map(len, lines)) > MAX_LINE_BYTES:
            _refuse(
                name, first + next(n for n, line in enumerate(lines) if len(line) > MAX_LINE_BYTES)
            )
        decoded = decode_lines(b"\n".join(lines) + end, name, first)
    except UsageError:
        if len(lines) == 1:
            raise
        # Bisects, because few lines are bad, until the bad line is alone.
        half = len(lines) // 2
        yield from _decoded(lines[:half], name, first)
        yield from _decoded(lines[half:], name, first + half)
        return
    yield decoded


def _refuse(name: str, line: int) -> None:
    raise UsageError(
        f"{name}:{line}: longer than {MAX_LINE_BYTES:,} bytes; give one sentence a line."
    )


def _read(file: Any, name: str) -> bytes:
    """Reads what has arrived, at most a chunk; waits for the first byte; empty at the end."""
    try:
        return file.read1(CHUNK)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UsageError(f"{name}: damaged gzip file ({error}); fetch or pack it again.") from None


def _ready(file: Any) -> bool:
    """Returns whether reading would not wait, which includes the end of the file."""
    try:
        return bool(select.select([file], [], [], 0)[0])
    except ValueError:  # no file descriptor: everything is in memory
        return True
    except OSError:  # on Windows, select accepts sockets only
        return False
