r"""Files that this library writes and later believes: whole or not at all, checked when read.

A record is one JSON object; a sealed file is a header, one line of JSON, and a body of any bytes.
Both name their format and carry the sha256 of all they say, under ``sha256``:

    {"format": "seqkd-model-1", "model": {...}, ..., "sha256": "9f86d0..."}
    {"format": "seqkd-topk-1", "k": 16, ..., "sha256": "60303a..."}\n<arrays>

An edited, truncated or foreign file is refused with its name and what to do. Nothing here runs
code from a file, and every read has a bound on memory. Floor 0.
"""

import contextlib
import gzip
import hashlib
import json
import os
import re
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import filelock

from .errors import UsageError, quoted

PathLike = str | os.PathLike[str]

RECORD_BYTES = 1 << 28  # of a file that is read as one JSON object, at most
HEADER_BYTES = 1 << 20  # of the first line of a sealed file, at most
UNPACKED_BYTES = 1 << 26  # a gzip file may unpack to this much whatever its size,
UNPACKED_RATIO = 100  # and beyond that to this many times its size
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp$")  # names of files that are being written
GZIP = b"\x1f\x8b"  # how every gzip file begins
CHUNK = 1 << 13  # bytes of a gzip file that are unpacked at once
RESTORE = (
    "Restore the file from a copy; or, if a seqkd command wrote it, delete it and run that "
    "command again."
)


# Reading.


def read_file(path: PathLike, most: int | None = None) -> bytes:
    """Reads a whole file.

    Args:
      path: of the file.
      most: bytes it may have; None for no limit.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: it is a folder, or larger than ``most``.
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        if path.is_dir():
            raise UsageError(f"{path}: a folder, where a file is expected.")
        if most is not None and size > most:
            raise UsageError(
                f"{path}: the file has {size:,} bytes, and at most {most:,} are allowed here."
            )
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{path}: no such file.") from None


def unpack_gzip(path: PathLike, data: bytes, most: int | None = None) -> bytes:
    """Unpacks the bytes of a gzip file.

    Args:
      path: of the file, for messages.
      data: what it holds.
      most: bytes it may unpack to. None for 64 MB, or 100 times its size if that is more: text
        seldom packs better than that, and a file made to fill the memory does.

    Raises:
      UsageError: the file is damaged, cut off, or unpacks to more than it may.
    """
    limit = max(UNPACKED_BYTES, UNPACKED_RATIO * len(data)) if most is None else most
    parts, size, at, view = [], 0, 0, memoryview(data)
    try:
        if not data:
            raise EOFError("it is empty")
        if not data.startswith(GZIP[: len(data)]):
            raise UsageError(
                f"{path}: not a gzip file, though its name ends in .gz; rename the file, or "
                "fetch it again."
            )
        while at < len(data):  # a file may have several members, and some have thousands
            member = zlib.decompressobj(wbits=31)
            while not member.eof:
                chunk = view[at : at + CHUNK]
                if not chunk:
                    raise EOFError("it ends too early")
                parts.append(member.decompress(chunk, limit - size + 1))
                size += len(parts[-1])
                if size > limit:
                    raise UsageError(
                        f"{path}: unpacks to more than {limit:,} bytes, from {len(data):,}. If "
                        "the file is meant to be so large, unpack it and give the unpacked "
                        "file."
                    )
                at += len(chunk) - len(member.unused_data)
            while at < len(data) and not data[at]:  # zeros fill a block of a tape
                chunk = data[at : at + CHUNK]
                at += len(chunk) - len(chunk.lstrip(b"\0"))
    except (EOFError, zlib.error) as error:
        raise UsageError(f"{path}: damaged gzip file ({error}); fetch or pack it again.") from None
    return b"".join(parts)


def pack_gzip(data: bytes) -> bytes:
    """Packs bytes so that ``unpack_gzip`` takes them; equal bytes give equal bytes.

    No time is noted. What would pack so well that a reader must doubt it is not made smaller.
    """
    packed = gzip.compress(data, 6, mtime=0)
    if len(data) > max(UNPACKED_BYTES, UNPACKED_RATIO * len(packed)):
        packed = gzip.compress(data, 0, mtime=0)
    return packed


def parse_json(text: str | bytes) -> Any:
    """Parses JSON as its standard has it: NaN and infinities are no numbers.

    Raises:
      UsageError: it is no JSON, is nested too deeply, or holds a number that is not finite.
    """

    def refuse(constant: str) -> Any:
        raise ValueError(f"{constant} is not a JSON number")

    def number(digits: str) -> float:
        value = float(digits)
        return value if abs(value) < float("inf") else refuse(digits)

    try:
        return json.loads(text, parse_constant=refuse, parse_float=number)
    except RecursionError:
        raise ValueError("nested too deeply") from None


# Records and sealed files.


def write_record(path: PathLike, format: str, record: dict[str, Any]) -> None:
    """Writes a record, whole or not at all.

    Args:
      path: of the file.
      format: name and version of what it is.
      record: JSON; ``format`` and ``sha256`` are added.
    """
    sealed = _sealed({"format": format, **record})
    atomic_write(path, (json.dumps(sealed, ensure_ascii=False, indent=1) + "\n").encode())


def read_record(path: PathLike, format: str, remedy: str = RESTORE) -> dict[str, Any]:
    """Reads what ``write_record`` wrote, without ``format`` and ``sha256``.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: it is damaged, was edited, or is of another format; the message ends in
        ``remedy``.
    """
    try:
        try:
            record = parse_json(read_file(path, RECORD_BYTES))
        except UsageError:
            raise
        except ValueError as error:
            raise ValueError(f"damaged ({error})") from None
        _check_seal(record, format)
    except UsageError:
        raise
    except ValueError as error:
        raise UsageError(f"{path}: {error}. {remedy}") from None
    return {name: value for name, value in record.items() if name not in ("format", "sha256")}


def seal(format: str, header: dict[str, Any], body: bytes, align: int = 1) -> bytes:
    """The bytes of a sealed file.

    Args:
      format: name and version of what it is.
      header: JSON; ``format`` and ``sha256`` are added.
      body: what follows.
      align: the body begins at a multiple of so many bytes.
    """
    line = json.dumps(_sealed({"format": format, **header}, body)).encode()
    return line.ljust(-(-(len(line) + 1) // align) * align - 1) + b"\n" + body


def unseal(
    path: PathLike, data: bytes | memoryview, format: str, remedy: str = RESTORE
) -> tuple[dict[str, Any], memoryview]:
    """Header and body of a sealed file's bytes.

    Raises:
      UsageError: the file is damaged, was edited, or is of another format.
    """
    view = memoryview(data)
    line = bytes(view[:HEADER_BYTES]).partition(b"\n")[0]
    body = view[len(line) + 1 :]
    try:
        header = parse_json(line)
        _check_seal(header, format, body)
    except ValueError as error:
        raise UsageError(f"{path}: {error}. {remedy}") from None
    return header, body


def _sealed(record: dict[str, Any], body: bytes = b"") -> dict[str, Any]:
    record = json.loads(json.dumps(record))  # as a reader will see it: keys are strings
    return record | {"sha256": _digest(record, body)}


def _check_seal(record: Any, format: str, body: bytes | memoryview = b"") -> None:
    if not isinstance(record, dict) or not isinstance(record.get("format"), str):
        raise ValueError(f"not a file of this library ({format} expected)")
    if record["format"] != format:
        raise ValueError(f"its format is {quoted(record['format'], 60)}, but {format} is expected")
    if record.get("sha256") != _digest(record, body):
        raise ValueError("damaged or edited: its content does not match its digest")


def _digest(record: dict[str, Any], body: bytes | memoryview) -> str:
    content = {name: value for name, value in record.items() if name != "sha256"}
    sha = hashlib.sha256(json.dumps(content, sort_keys=True).encode() + b"\n")
    sha.update(body)
    return sha.hexdigest()


def sha256(path: PathLike) -> str:
    """The sha256 of a file's bytes, in hexadecimal."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Writing.


def atomic_write(path: PathLike, data: bytes) -> None:
    """Writes a file that at every moment is either the old one or the new one, whole.

    Raises:
      FileNotFoundError: the folder does not exist.
      OSError: the disk is full or the folder cannot be written to; the old file is left whole.
    """
    with writing(path) as file:
        file.write(data)


@contextlib.contextmanager
def writing(path: PathLike) -> Iterator[IO[bytes]]:
    """Opens a file that takes the place of ``path`` once it is whole, and else is removed.

    Raises:
      FileNotFoundError: the folder does not exist.
      OSError: the disk is full or the folder cannot be written to; the old file is left whole.
    """
    path = Path(path)
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder; create it first.")
    temporary = None
    try:
        with _temporary_file(path.parent) as file:
            temporary = Path(file.name)
            yield file
            file.flush()
            os.fsync(file.fileno())
            os.replace(temporary, path)
        _sync_folder(path.parent)
    except OSError as error:
        named = error.filename
        if error.errno is None or not (named is None or _TEMPORARY.search(os.fspath(named))):
            raise  # of another file, which was being read
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def check_writable(path: PathLike) -> None:
    """Makes sure that a file can be written, before there is work that could be lost.

    Raises:
      FileNotFoundError: its folder does not exist.
      UsageError: a folder has its name.
      OSError: the folder cannot be written to.
    """
    path = Path(path)
    if path.is_dir():
        raise UsageError(f"{path}: a folder; give the name of a file to write.")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder; create it first.")
    clear_temporary(path.parent)
    try:
        with _temporary_file(path.parent) as file:
            Path(file.name).unlink()
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def check_folder(path: PathLike) -> None:
    """Makes sure that a folder is there or can be made: nothing else has its name.

    Raises:
      UsageError: a file has its name, or the name of a folder above it.
    """
    for place in (Path(path), *Path(path).parents):
        if place.is_dir():
            return
        if place.exists():
            raise UsageError(
                f"{path}: a file has this name, or that of a folder above it; give another folder."
            )


def make_folder(path: PathLike) -> Path:
    """Makes a folder and those above it, where they are missing, and checks that it takes files.

    Raises:
      UsageError: a file has its name, or the name of one above it.
      OSError: it cannot be made or written to.
    """
    path = Path(path)
    check_folder(path)
    path.mkdir(parents=True, exist_ok=True)
    check_writable(path / "file")
    return path


def clear_temporary(folder: PathLike) -> None:
    """Removes what killed processes left behind in a folder while they wrote files there.

    A file that a living process is writing is locked by it, and stays, and so do files of others.
    """
    for path in filter(lambda path: _TEMPORARY.search(path.name), Path(folder).glob(".*.tmp")):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if _lock(file):
                path.unlink(missing_ok=True)


def _temporary_file(folder: Path) -> Any:
    """A new locked file; the lock dies with the process, which tells ``clear_temporary``."""
    while True:
        file = open(folder / f".{uuid.uuid4().hex}.tmp", "xb")  # noqa: SIM115
        # It may be cleared away between the opening and the lock; then it has no name any more.
        if _lock(file) and os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def _lock(file: Any) -> bool:
    try:
        import fcntl
    except ImportError:  # not POSIX: nothing is cleared, because nothing tells who is alive
        return file.writable()
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder cannot be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def claim(folder: PathLike) -> Iterator[None]:
    """Makes this process the one writer of a folder; the claim dies with the process.

    What an earlier process left half written there is removed.

    Raises:
      UsageError: another process holds it.
    """
    folder = Path(folder)
    lock = filelock.FileLock(folder / ".lock")
    try:
        lock.acquire(timeout=0)
    except filelock.Timeout:
        raise UsageError(
            f"{folder}: another process is writing to this folder. "
            "Wait for it, stop it, or choose another folder."
        ) from None
    try:
        clear_temporary(folder)
        yield
    finally:
        lock.release()
