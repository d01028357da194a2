r"""Text files in and out: lines, sentence pairs, and files that appear whole or not at all.

A line ends at ``\n`` and nowhere else. Text mode and ``str.splitlines`` also end lines at U+2028,
U+0085 or a lone ``\r``, and then two files are no longer parallel.
"""

import gzip
import hashlib
import os
import uuid
import zlib
from collections.abc import Iterable
from pathlib import Path

PathLike = str | os.PathLike[str]

BOM = "\ufeff"
FAR_APART = 3  # times as long as its partner: a line that looks misaligned


def read_bytes(path: PathLike) -> bytes:
    """Reads a whole file, unpacked if its name ends in ``.gz``.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: the gzip file is damaged or cut off.
    """
    path = Path(path)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file.") from None
    if path.suffix != ".gz":
        return data
    try:
        if not data:
            raise EOFError("it is empty")
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: damaged gzip file ({error}); fetch or pack it again.") from None


def read_lines(path: PathLike) -> list[str]:
    r"""Reads the lines of a UTF-8 text file, unpacked if its name ends in ``.gz``.

    Empty lines are kept. One ``\r`` before the end of a line and a byte order mark at the start
    of the file are left out.

    Raises:
      FileNotFoundError: there is no such file.
      ValueError: a line is not UTF-8 or holds a NUL byte (the message names it), or the gzip
        file is damaged.
    """
    return decode_lines(read_bytes(path), os.fspath(path))


def decode_lines(data: bytes, name: str) -> list[str]:
    """The lines of a text in UTF-8, as ``read_lines`` reads them.

    Args:
      data: the bytes.
      name: what they are called in an error.

    Raises:
      ValueError: a line is not UTF-8 or holds a NUL byte.
    """
    try:
        text = data.decode()
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        before = data[data.rfind(b"\n", 0, error.start) + 1 : error.start].decode()
        raise ValueError(
            f"{name}:{line}: not valid UTF-8 (byte {data[error.start]:#04x} at column "
            f"{len(before) + 1}); convert the file with iconv."
        ) from None
    if (nul := text.find("\0")) >= 0:
        raise ValueError(
            f"{name}:{text.count(chr(10), 0, nul) + 1}: a NUL byte; this is no text "
            "file, or it is in UTF-16: convert it with iconv."
        )
    lines = text.removeprefix(BOM).split("\n")
    if not lines[-1]:
        lines.pop()
    return [line.removesuffix("\r") for line in lines]


def read_pairs(source_path: PathLike, target_path: PathLike | None = None) -> list[tuple[str, str]]:
    """Reads sentence pairs from two parallel files, or from one ``.tsv`` (``.tsv.gz``) file.

    Lines with an empty side are kept.

    Raises:
      FileNotFoundError: a file is missing.
      ValueError: the files have different numbers of lines, a line of the ``.tsv`` file has not
        exactly two columns, or ``read_lines`` refuses a file.
    """
    if target_path is None:
        return _read_columns(Path(source_path))
    sources, targets = read_lines(source_path), read_lines(target_path)
    if len(sources) != len(targets):
        raise ValueError(
            f"{os.fspath(source_path)} has {len(sources)} lines and {os.fspath(target_path)} has "
            f"{len(targets)}: line n of one must translate line n of the other. "
            + _where_misaligned(sources, targets)
        )
    return list(zip(sources, targets, strict=True))


def _read_columns(path: Path) -> list[tuple[str, str]]:
    if not path.name.endswith((".tsv", ".tsv.gz")):
        raise ValueError(f"{path}: give the target's file as well, or one .tsv file with both.")
    pairs = []
    for number, line in enumerate(read_lines(path), 1):
        columns = line.split("\t")
        if len(columns) != 2:
            raise ValueError(
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

    Raises:
      ValueError: a line holds ``\n`` or NUL; nothing is written.
      OSError: the disk is full or the folder cannot be written to; the old file is left whole.
    """
    parts = []
    for number, line in enumerate(lines, 1):
        if "\n" in line or "\0" in line:
            found = "line break" if "\n" in line else "NUL"
            raise ValueError(f"{os.fspath(path)}: line {number} holds a {found}: {line[:50]!r}.")
        # A reader takes one \r off the end, and one byte order mark off the start.
        parts += [line, "\r\n" if line.endswith("\r") else "\n"]
    if parts and parts[0].startswith(BOM):
        parts.insert(0, BOM)
    data = "".join(parts).encode()
    # Without a time stamp, so that equal lines are equal bytes.
    atomic_write(path, gzip.compress(data, mtime=0) if Path(path).suffix == ".gz" else data)


def atomic_write(path: PathLike, data: bytes) -> None:
    """Writes a file that at every moment is either the old one or the new one, whole.

    Raises:
      FileNotFoundError: the folder does not exist.
      OSError: the disk is full or the folder cannot be written to; the old file is left whole.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder; create it first.")
    temporary = path.with_name(f".{uuid.uuid4().hex}.tmp")
    try:
        with open(temporary, "xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: PathLike) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
