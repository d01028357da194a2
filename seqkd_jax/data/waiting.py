"""Lines of text as they come, in bounded memory: from a pipe, a terminal, or a large file."""

import gzip
import os
import select
import sys
import zlib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO, cast

from ..errors import UsageError
from ..files import GZIP, PathLike
from .text import columns, decode_lines

CHUNK = 1 << 16  # bytes read at a time
GATHERED = 1 << 22  # bytes that wait together, at most
LONGEST = 1 << 20  # bytes of a line, at most


@contextmanager
def open_text(path: PathLike | None) -> Iterator[tuple[BinaryIO, str]]:
    """Opens a text file for ``waiting_lines``, and gives its name for errors.

    Args:
      path: of the file, unpacked if it is a gzip file; None for standard input.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: it is a folder.
    """
    if path is None:
        yield sys.stdin.buffer, "standard input"
        return
    name = os.fspath(path)
    try:
        plain = open(path, "rb")  # noqa: SIM115
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{name}: no such file.") from None
    except IsADirectoryError:
        raise UsageError(f"{name}: a folder, where a file is expected.") from None
    with plain:
        if plain.peek(len(GZIP)).startswith(GZIP) or name.lower().endswith(".gz"):
            yield cast(BinaryIO, gzip.GzipFile(fileobj=plain)), name
        else:
            yield plain, name


def waiting_lines(file: BinaryIO, name: str, most: int) -> Iterator[list[str]]:
    r"""Gives the lines of a text in UTF-8, several at once where they are there.

    The next line is waited for, and what is there behind it comes along. Lines end as those of
    ``read_lines`` do.

    Args:
      file: buffered, nothing read from it before.
      name: what it is called in an error.
      most: lines given at once.

    Yields:
      Between 1 and ``most`` lines. All lines before one that cannot be read are given.

    Raises:
      UsageError: a line is not UTF-8, holds a NUL byte or is longer than 1 MB (the message names
        it), or a gzip file is damaged.
    """
    rest, first, ended = b"", 1, False
    failed: UsageError | None = None
    while True:
        parts, size, count = [rest], len(rest), rest.count(b"\n")
        while not ended and count < most and size < GATHERED and not (count and not _ready(file)):
            try:
                data = _read(file, name)
            except UsageError as error:  # what is whole is given first
                data, failed = b"", error
            ended = not data
            parts.append(data)
            size += len(data)
            count += data.count(b"\n")
            if not count and size > LONGEST:
                _refuse(name, first)
        *lines, rest = b"".join(parts).split(b"\n", most)
        end = b"\n" if lines or first > 1 else b""  # in all of the text there is none
        if ended and rest and not failed and len(lines) < most:
            lines, rest = [*lines, rest], b""
        if not lines:
            if failed:
                raise failed
            return
        yield from _decoded(lines, name, first, end)
        first += len(lines)


def first_columns(batches: Iterable[list[str]], name: str) -> Iterator[list[str]]:
    """The sources of a ``.tsv`` file whose lines come in batches.

    Raises:
      UsageError: a line has not exactly two columns; those before it have been given.
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
    """The lines; where one cannot be decoded, those before it and then the error."""
    try:
        if max(map(len, lines)) > LONGEST:
            _refuse(name, first + next(n for n, line in enumerate(lines) if len(line) > LONGEST))
        decoded = decode_lines(b"\n".join(lines) + end, name, first)
    except UsageError:
        if len(lines) == 1:
            raise
        # Halves, for few lines are bad: first what comes before, then the line alone.
        half = len(lines) // 2
        yield from _decoded(lines[:half], name, first)
        yield from _decoded(lines[half:], name, first + half)
        return
    yield decoded


def _refuse(name: str, line: int) -> None:
    raise UsageError(f"{name}:{line}: longer than {LONGEST:,} bytes; give one sentence a line.")


def _read(file: Any, name: str) -> bytes:
    """What is there, at most a chunk; waits for the first byte, and is empty at the end."""
    try:
        return file.read1(CHUNK)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise UsageError(f"{name}: damaged gzip file ({error}); fetch or pack it again.") from None


def _ready(file: Any) -> bool:
    """Whether there is more to read without waiting, the end of the file counted."""
    try:
        return bool(select.select([file], [], [], 0)[0])
    except ValueError:  # no file of the system's: all of it is in memory
        return True
    except OSError:  # Windows asks sockets only
        return False
