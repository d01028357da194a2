r"""Text files in and out: lines, sentence pairs, and files that appear whole or not at all.

A line ends at ``\n`` and nowhere else. Text mode and ``str.splitlines`` also end lines at U+2028,
U+0085 or a lone ``\r``, and then two files are no longer parallel. Words are what ASCII whitespace
separates: U+00A0 and U+3000 are characters of text, and ``str.split`` would lose them.
"""

import gzip
import os
import re
import warnings
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import IO, cast

from ..errors import UsageError
from ..files import GZIP, PathLike, read_file, unpack_gzip, writing

BOM = "\ufeff"
FAR_APART = 3  # times as long as its partner: a line that looks misaligned
WORD = re.compile(r"[^ \t\n\r\v\f]+")
FOREIGN = {  # how files begin that are no text
    GZIP: "this is a gzip file: unpack it, or give it the ending .gz",
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
BZIP2 = re.compile(rb"BZh[1-9](1AY&SY|\x17rE8P\x90)")  # "BZh" alone could be text


def words_of(text: str) -> list[str]:
    """The words of a text: what spaces, tabs and other ASCII whitespace separate."""
    return WORD.findall(text)


# Reading.


def read_bytes(path: PathLike) -> bytes:
    """Reads a whole file, unpacked if it is a gzip file, whatever its name is.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the gzip file is damaged, cut off, or unpacks to more than text could; or a
        file whose name ends in ``.gz`` is none.
    """
    data = read_file(path)
    packed = data.startswith(GZIP) or _packed(path)
    return unpack_gzip(path, data) if packed else data


def read_lines(path: PathLike) -> list[str]:
    r"""Reads the lines of a UTF-8 text file, unpacked if it is a gzip file.

    Empty lines are kept. One ``\r`` before the end of a line and a byte order mark at the start
    of the file are left out.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: a line is not UTF-8 or holds a NUL byte (the message names it), the gzip file is
        damaged, or the file is of another kind: UTF-16, an archive.
    """
    return decode_lines(read_bytes(path), os.fspath(path))


def decode_lines(data: bytes, name: str, first: int = 1) -> list[str]:
    """The lines of a text in UTF-8, as ``read_lines`` reads them.

    Args:
      data: the bytes.
      name: what they are called in an error.
      first: number of the first line in its text.

    Raises:
      UsageError: a line is not UTF-8 or holds a NUL byte, or all is of another kind.
    """
    if (nul := data.find(b"\0")) >= 0:
        if first == 1:
            _refuse_foreign(data, name)
        line = first + data.count(b"\n", 0, nul)
        raise UsageError(
            f"{name}:{line}: holds a NUL byte: the file is not text, or it is in UTF-16; "
            "convert UTF-16 with iconv -f UTF-16 -t UTF-8."
        )
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        if first == 1:
            _refuse_foreign(data, name)
        line = first + data.count(b"\n", 0, error.start)
        before = data[data.rfind(b"\n", 0, error.start) + 1 : error.start].decode()
        raise UsageError(
            f"{name}:{line}: not valid UTF-8 (byte {data[error.start]:#04x} at column "
            f"{len(before) + 1}); convert the file to UTF-8, for example with iconv."
        ) from None
    lines = (text.removeprefix(BOM) if first == 1 else text).split("\n")
    if len(lines) == 1 and "\r" in text.rstrip("\r"):
        raise UsageError(
            f"{name}: its lines end in a carriage return alone; convert it with tr '\\r' '\\n'."
        )
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def is_table(path: PathLike) -> bool:
    """Whether a file's name says that a line of it is source, tab, target: .tsv or .tsv.gz."""
    return os.fspath(path).lower().endswith((".tsv", ".tsv.gz"))


def read_sources(path: PathLike) -> list[str]:
    """Reads source sentences: the lines of a file, or the first column of a ``.tsv`` file.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: a line of a ``.tsv`` file has not exactly two columns, or ``read_lines`` refuses
        the file.
    """
    return _read_side(path, 0)


def read_pairs(source_path: PathLike, target_path: PathLike | None = None) -> list[tuple[str, str]]:
    """Reads sentence pairs from two parallel files, or from one ``.tsv`` (``.tsv.gz``) file.

    Of a ``.tsv`` file the first column is the source and the second the target, wherever it is
    given: as both sides, as one beside a text file, or alone. Lines with an empty side are kept.

    Raises:
      FileNotFoundError: a file is missing.
      UsageError: the files have different numbers of lines, a line of a ``.tsv`` file has not
        exactly two columns, no line has text on both sides, the same text file is given for both,
        or ``read_lines`` refuses a file.
    """
    if target_path is None and not is_table(source_path):
        raise UsageError(
            f"{os.fspath(source_path)}: give the file of the targets as well, or one .tsv file "
            "with both sides."
        )
    if target_path is None or _same_file(source_path, target_path):
        if not is_table(source_path):
            raise UsageError(
                f"{os.fspath(source_path)}: given as source and as target; give one file for "
                "each side, or one .tsv file with both."
            )
        pairs = _read_columns(source_path)
    else:
        pairs = _read_parallel(source_path, target_path)
    require_sentences(pairs, source_path, target_path)
    if all(source == target for source, target in pairs):
        files = dict.fromkeys(os.fspath(path) for path in (source_path, target_path) if path)
        warnings.warn(f"{' and '.join(files)}: source and target are the same text.", stacklevel=2)
    return pairs


def require_sentences(
    lines: Sequence[str] | Sequence[tuple[str, str]], *paths: PathLike | None
) -> None:
    """Refuses files without one sentence, or one pair with text on both sides.

    Args:
      lines: what was read from them.
      paths: of the files.

    Raises:
      UsageError: it names the files and says how many lines they have.
    """
    if any(all(map(words_of, [line] if isinstance(line, str) else line)) for line in lines):
        return
    files = " and ".join(dict.fromkeys(os.fspath(path) for path in paths if path is not None))
    if not lines:
        raise UsageError(f"{files}: 0 lines; give files with one sentence a line.")
    what = "without text" if isinstance(lines[0], str) else "without text on one side or both"
    raise UsageError(
        f"{files}: {len(lines):,} lines, all {what}; give files with one sentence a line."
    )


def _refuse_foreign(start: bytes, name: str) -> None:
    """Says what it is that cannot be read as text, where its first bytes tell."""
    for magic, message in FOREIGN.items():
        if start.startswith(magic):
            raise UsageError(f"{name}: {message}.")
    if BZIP2.match(start):
        raise UsageError(f"{name}: this is a bzip2 file: unpack it, or pack it with gzip.")


def _read_side(path: PathLike, column: int) -> list[str]:
    if is_table(path):
        return [pair[column] for pair in _read_columns(path)]
    return read_lines(path)


def _read_columns(path: PathLike) -> list[tuple[str, str]]:
    pairs = []
    for number, line in enumerate(read_lines(path), 1):
        pairs.append(columns(line, os.fspath(path), number))
    return pairs


def columns(line: str, name: str, number: int) -> tuple[str, str]:
    """Source and target of a line of a ``.tsv`` file; raises UsageError for others than two."""
    found = line.split("\t")
    if len(found) != 2:
        raise UsageError(
            f"{name}:{number}: {len(found)} columns; each line of a .tsv file needs source, tab, "
            "target."
        )
    return found[0], found[1]


def _read_parallel(source_path: PathLike, target_path: PathLike) -> list[tuple[str, str]]:
    sources, targets = _read_side(source_path, 0), _read_side(target_path, 1)
    files = [os.fspath(source_path), os.fspath(target_path)]
    if len(sources) != len(targets):
        raise UsageError(
            f"{files[0]} has {len(sources)} lines and {files[1]} has {len(targets)}: line n of one "
            "must translate line n of the other. " + _where_misaligned(sources, targets)
        )
    return list(zip(sources, targets, strict=True))


def _same_file(a: PathLike, b: PathLike) -> bool:
    try:
        return os.path.samefile(a, b)
    except OSError:  # one is missing: reading it says so
        return os.fspath(a) == os.fspath(b)


def _where_misaligned(sources: list[str], targets: list[str]) -> str:
    common = min(len(sources), len(targets))
    if not common:
        return "One of them is empty."
    ratio = (sum(map(len, targets[:common])) + 1) / (sum(map(len, sources[:common])) + 1)
    for number, (source, target) in enumerate(zip(sources, targets, strict=False), 1):
        # Ten characters more on both sides: short lines differ by chance.
        short, long = sorted((len(source) * ratio + 10, len(target) + 10))
        if long > FAR_APART * short:
            return (
                f"Line {number} is the first whose sides differ greatly in length: look around it."
            )
    return f"No line up to {common} stands out in length: one file may simply end too early."


# Writing.


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
    if not _packed(path):
        return nullcontext(file)
    packed = gzip.GzipFile(filename="", mode="wb", compresslevel=6, fileobj=file, mtime=0)
    return cast(IO[bytes], packed)


def _packed(path: PathLike) -> bool:
    return Path(path).suffix.lower() == ".gz"
