r"""Text files in and out: lines, sentence pairs, and files that appear whole or not at all.

A line ends at ``\n`` and nowhere else. Text mode and ``str.splitlines`` also end lines at U+2028,
U+0085 or a lone ``\r``, and then two files are no longer parallel.
"""

import gzip
import os
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, cast

from ..errors import UsageError
from ..files import PathLike, read_file, unpack_gzip, writing

BOM = "\ufeff"
FAR_APART = 3  # times as long as its partner: a line that looks misaligned


def read_bytes(path: PathLike) -> bytes:
    """Reads a whole file, unpacked if its name ends in ``.gz``.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the gzip file is damaged, cut off, or unpacks to more than text could.
    """
    data = read_file(path)
    return unpack_gzip(path, data) if Path(path).suffix == ".gz" else data


def read_lines(path: PathLike) -> list[str]:
    r"""Reads the lines of a UTF-8 text file, unpacked if its name ends in ``.gz``.

    Empty lines are kept. One ``\r`` before the end of a line and a byte order mark at the start
    of the file are left out.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: a line is not UTF-8 or holds a NUL byte (the message names it), or the gzip
        file is damaged.
    """
    return decode_lines(read_bytes(path), os.fspath(path))


def decode_lines(data: bytes, name: str, first: int = 1) -> list[str]:
    """The lines of a text in UTF-8, as ``read_lines`` reads them.

    Args:
      data: the bytes.
      name: what they are called in an error.
      first: number of the first line in its text.

    Raises:
      UsageError: a line is not UTF-8 or holds a NUL byte.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = first + data.count(b"\n", 0, error.start)
        before = data[data.rfind(b"\n", 0, error.start) + 1 : error.start].decode()
        raise UsageError(
            f"{name}:{line}: not valid UTF-8 (byte {data[error.start]:#04x} at column "
            f"{len(before) + 1}); convert the file with iconv."
        ) from None
    if (nul := text.find("\0")) >= 0:
        raise UsageError(
            f"{name}:{first + text.count(chr(10), 0, nul)}: a NUL byte; this is no text "
            "file, or it is in UTF-16: convert it with iconv."
        )
    lines = (text.removeprefix(BOM) if first == 1 else text).split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def read_pairs(source_path: PathLike, target_path: PathLike | None = None) -> list[tuple[str, str]]:
    """Reads sentence pairs from two parallel files, or from one ``.tsv`` (``.tsv.gz``) file.

    Lines with an empty side are kept.

    Raises:
      FileNotFoundError: a file is missing.
      UsageError: the files have different numbers of lines, a line of the ``.tsv`` file has not
        exactly two columns, or ``read_lines`` refuses a file.
    """
    if target_path is None:
        return _read_columns(Path(source_path))
    sources, targets = read_lines(source_path), read_lines(target_path)
    if len(sources) != len(targets):
        raise UsageError(
            f"{os.fspath(source_path)} has {len(sources)} lines and {os.fspath(target_path)} has "
            f"{len(targets)}: line n of one must translate line n of the other. "
            + _where_misaligned(sources, targets)
        )
    return list(zip(sources, targets, strict=True))


def _read_columns(path: Path) -> list[tuple[str, str]]:
    if not path.name.endswith((".tsv", ".tsv.gz")):
        raise UsageError(f"{path}: give the target's file as well, or one .tsv file with both.")
    pairs = []
    for number, line in enumerate(read_lines(path), 1):
        columns = line.split("\t")
        if len(columns) != 2:
            raise UsageError(
                f"{path}:{number}: {len(columns)} columns; each line needs source, tab, target."
            )
        pairs.append((columns[0], columns[1]))
    return pairs


def _where_misaligned(sources: list[str], targets: list[str]) -> str:
    common = min(len(sources), len(targets))
    ratio = (sum(map(len, targets[:common])) + 1) / (sum(map(len, sources[:common])) + 1)
    for number, (source, target) in enumerate(zip(sources, targets, strict=False), 1):
        # Ten characters more on both sides: short lines differ by chance.
        short, long = sorted((len(source) * ratio + 10, len(target) + 10))
        if long > FAR_APART * short:
            return f"Line {number} is the first whose sides differ much in length: look around it."
    return f"No line up to {common} stands out in length: one file may just end too early."


def write_lines(path: PathLike, lines: Iterable[str]) -> None:
    r"""Writes lines so that ``read_lines`` gives the same ones; packed if the name ends in .gz.

    Lines are written as they come, to a file that takes the name when it is whole.

    Raises:
      UsageError: a line holds ``\n`` or NUL; nothing is written.
      OSError: the disk is full or the folder cannot be written to; the old file is left whole.
    """
    with writing(path) as file, _packing(path, file) as out:
        for number, line in enumerate(lines, 1):
            if "\n" in line or "\0" in line:
                held = "line break" if "\n" in line else "NUL"
                raise UsageError(f"{os.fspath(path)}: line {number} holds a {held}: {line[:50]!r}.")
            # A reader takes one \r off the end, and one byte order mark off the start.
            mark = BOM if number == 1 and line.startswith(BOM) else ""
            out.write((mark + line + ("\r\n" if line.endswith("\r") else "\n")).encode())


def _packing(path: PathLike, file: IO[bytes]) -> AbstractContextManager[IO[bytes]]:
    if Path(path).suffix != ".gz":
        return nullcontext(file)
    packed = gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0)
    return cast(IO[bytes], packed)
