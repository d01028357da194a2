"""Files on disk: read within bounds, written whole or not at all, with one writer. Floor 0."""

import contextlib
import gzip
import hashlib
import os
import re
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any

import filelock

from .errors import UsageError

PathLike = str | os.PathLike[str]

UNPACKED_BYTES = 1 << 26  # a gzip file may unpack to this much whatever its size,
UNPACKED_RATIO = 100  # and beyond that to this many times its size
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp$")  # names of files that are being written
GZIP = b"\x1f\x8b"  # how every gzip file begins
CHUNK = 1 << 13  # bytes of a gzip file that are unpacked at once


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
