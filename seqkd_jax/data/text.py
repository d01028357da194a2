r"""Reading and writing text files.

A line ends at ``\n`` and nowhere else. Text mode and ``str.splitlines`` also end lines at U+2028,
U+0085 or a lone ``\r``, and then two files are no longer parallel. Words are separated by ASCII
whitespace only: U+00A0 and U+3000 are characters of text, and ``str.split`` would lose them.
"""

import gzip
import re
from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext
from typing import IO, cast

from ..addresses import PathLike
from ..errors import UsageError
from ..files import GZIP, read_file, unpack_gzip, writing
from ..tokens import words_of as words_of

BOM = "\ufeff"
NOT_TEXT = {  # the first bytes of files that are not text
    GZIP: "this is a gzip file: decompress it, or add the ending .gz",
    b"\xff\xfe\0\0": "this is UTF-32: convert it with iconv -f UTF-32 -t UTF-8",
    b"\xff\xfe": "this is UTF-16: convert it with iconv -f UTF-16 -t UTF-8",
    b"\xfe\xff": "this is UTF-16: convert it with iconv -f UTF-16 -t UTF-8",
    b"PK\x03\x04": "this is a zip archive (or an office document): unpack it, or save it as text",
    b"\xfd7zXZ\0": "this is an xz file: unpack it, or pack it with gzip",
    b"(\xb5/\xfd": "this is a zstd file: unpack it, or pack it with gzip",
    b"\x04\x22\x4d\x18": "this is an lz4 file: unpack it, or pack it with gzip",
    b"7z\xbc\xaf'\x1c": "this is a 7z archive: unpack it",
    b"%PDF-": "this is a PDF document: save its text as a text file",
}
BZIP2 = re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)")  # text could begin with "BZh" alone


# Reading.


def read_bytes(path: PathLike) -> bytes:
    """Reads a whole file, and unpacks it if it is a gzip file, whatever its name.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: a gzip file is damaged, truncated, or unpacks to more than text could; or a
        file whose name ends in ``.gz`` is not a gzip file.
    """
    data = read_file(path)
    packed = data.startswith(GZIP) or is_packed(path)
    return unpack_gzip(path, data) if packed else data


def read_lines(path: PathLike) -> list[str]:
    r"""Reads the lines of a UTF-8 text file, packed with gzip or not.

    Empty lines are kept. One ``\r`` at the end of a line and a byte order mark at the start of
    the file are removed.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: a line is not UTF-8 or holds a NUL byte (the message names it), the gzip file is
        damaged, or the file is of another kind: UTF-16, an archive.
    """
    return decode_lines(read_bytes(path), str(path))


def decode_lines(data: bytes, name: str, first: int = 1) -> list[str]:
    """Returns the lines of UTF-8 text, as ``read_lines`` does.

    Args:
      data: the bytes.
      name: of the text, for errors.
      first: number of the first line in its text.

    Raises:
      UsageError: a line is not UTF-8 or holds a NUL byte, or the data are of another kind.
    """
    text = check_text(data, name, first)
    return split_lines(text.removeprefix(BOM) if first == 1 else text)


def check_text(data: bytes, name: str, first: int) -> str:
    """Returns text as a string; the arguments and errors are those of ``decode_lines``."""
    if (nul := data.find(b"\0")) >= 0:
        if first == 1:
            _refuse_not_text(data, name)
        line = first + data.count(b"\n", 0, nul)
        raise UsageError(
            f"{name}:{line}: holds a NUL byte: the file is not text, or it is in UTF-16; "
            "convert UTF-16 with iconv -f UTF-16 -t UTF-8."
        )
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if first == 1:
            _refuse_not_text(data, name)
        line = first + data.count(b"\n", 0, error.start)
        before = data[data.rfind(b"\n", 0, error.start) + 1 : error.start].decode()
        raise UsageError(
            f"{name}:{line}: not valid UTF-8 (byte {data[error.start]:#04x} at column "
            f"{len(before) + 1}); convert the file to UTF-8, for example with iconv."
        ) from None
    if first == 1 and "\n" not in text and "\r" in text.rstrip("\r"):
        raise UsageError(
            f"{name}: its lines end in a carriage return alone; convert it with tr '\\r' '\\n'."
        )
    return text


def split_lines(text: str) -> list[str]:
    """Returns the lines of a text, without their ends."""
    lines = text.split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines] if "\r" in text else lines


def is_table(path: PathLike) -> bool:
    """Returns whether a file has lines of source, tab, target: its name ends in .tsv(.gz)."""
    return str(path).lower().endswith((".tsv", ".tsv.gz"))


def _refuse_not_text(start: bytes, name: str) -> None:
    """Raises UsageError if the first bytes show that a file is of a known kind and not text."""
    for magic, message in NOT_TEXT.items():
        if start.startswith(magic):
            raise UsageError(f"{name}: {message}.")
    if BZIP2.match(start):
        raise UsageError(f"{name}: this is a bzip2 file: unpack it, or pack it with gzip.")


def columns(line: str, name: str, number: int) -> tuple[str, str]:
    """Returns source and target of a line of a ``.tsv`` file; UsageError if it is not two columns.

    ``name`` and ``number`` are the file and the line, for the error.
    """
    fields = line.split("\t")
    if len(fields) != 2:
        raise UsageError(
            f"{name}:{number}: {len(fields)} columns; each line of a .tsv file needs source, tab, "
            "target."
        )
    return fields[0], fields[1]


# Writing.


def write_lines(path: PathLike, lines: Iterable[str]) -> None:
    r"""Writes lines so that ``read_lines`` returns the same; packed if the name ends in .gz.

    Lines are written as they come, to a temporary file that replaces ``path`` at the end.

    Raises:
      UsageError: a line holds ``\n`` or NUL; nothing is written.
      OSError: the disk is full or the folder is not writable; the old file is left intact.
    """
    with writing(path) as file, _packing(path, file) as out:
        for number, line in enumerate(lines, 1):
            out.write(_encoded(path, number, line))


def write_pairs(
    source_path: PathLike, target_path: PathLike, pairs: Iterable[tuple[str, str]]
) -> None:
    """Writes two parallel files as ``write_lines`` writes one; neither if there is an error."""
    paths = source_path, target_path
    with writing(paths[0]) as source_file, writing(paths[1]) as target_file:
        with _packing(paths[0], source_file) as sources, _packing(paths[1], target_file) as targets:
            for number, (source, target) in enumerate(pairs, 1):
                sources.write(_encoded(source_path, number, source))
                targets.write(_encoded(target_path, number, target))


def _encoded(path: PathLike, number: int, line: str) -> bytes:
    if "\n" in line or "\0" in line:
        what = "line break" if "\n" in line else "NUL"
        raise UsageError(f"{path}: line {number} holds a {what}: {line[:50]!r}.")
    # ``read_lines`` removes one \r at the end, and one byte order mark at the start.
    mark = BOM if number == 1 and line.startswith(BOM) else ""
    return (mark + line + ("\r\n" if line.endswith("\r") else "\n")).encode()


def _packing(path: PathLike, file: IO[bytes]) -> AbstractContextManager[IO[bytes]]:
    if not is_packed(path):
        return nullcontext(file)
    packed = gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0)
    return cast(IO[bytes], packed)


def is_packed(path: PathLike) -> bool:
    """Returns whether the name of a file ends in .gz."""
    return str(path).lower().endswith(".gz")
