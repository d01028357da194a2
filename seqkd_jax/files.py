"""Files: bounded reads, atomic writes, and folders with a single writer. Floor 0.

A file or a folder may be at an address (``addresses``). There a file appears when it is whole, as
object stores do it, and nothing is locked.
"""

import contextlib
import gzip
import hashlib
import io
import os
import re
import uuid
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast

from .addresses import PathLike, as_path, is_local, remote_errors, uploading
from .errors import UsageError

UNPACKED_BYTES = 1 << 26  # a gzip file may unpack to this many bytes whatever its size,
UNPACKED_RATIO = 100  # or to this many times its own size if that is more
_TEMPORARY = re.compile(r"\.[0-9a-f]{32}\.tmp$")  # names of files that are being written
LOCK = ".lock"  # file that the writer of a folder has locked
GZIP = b"\x1f\x8b"  # first bytes of every gzip file
BEGINNING = 256  # bytes in which the kind of a file is seen
CHUNK = 1 << 13  # bytes of a gzip file that are unpacked at a time


# Reading.


def read_file(path: PathLike, max_bytes: int | None = None) -> bytes:
    """Reads a whole file.

    Args:
      path: the file.
      max_bytes: largest size that is read; None for no limit.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the path is a folder, or the file is larger than ``max_bytes``.
    """
    path = as_path(path)
    try:
        with remote_errors(path):
            size = path.stat().st_size
            if path.is_dir():
                raise UsageError(f"{path}: a folder, where a file is expected.")
            if max_bytes is not None and size > max_bytes:
                raise UsageError(
                    f"{path}: the file has {size:,} bytes, and at most {max_bytes:,} are allowed "
                    "here."
                )
            return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise FileNotFoundError(f"{path}: no such file.") from None


def open_reading(path: PathLike) -> io.BufferedReader:
    """Opens a file to be read from its start to its end.

    Raises:
      FileNotFoundError: there is no such file.
      OSError: it is a folder, or cannot be read.
    """
    path = as_path(path)
    with remote_errors(path):
        file = path.open("rb")
    return file if is_local(path) else io.BufferedReader(cast(io.RawIOBase, file))


def unpack_gzip(path: PathLike, data: bytes, max_bytes: int | None = None) -> bytes:
    """Unpacks the bytes of a gzip file, see ``unpack_chunks``."""
    return b"".join(unpack_chunks(path, data, max_bytes))


def unpack_chunks(path: PathLike, data: bytes, max_bytes: int | None = None) -> Iterator[bytes]:
    """Yields the unpacked bytes of a gzip file, piece by piece.

    Args:
      path: the file, for messages.
      data: its content.
      max_bytes: largest unpacked size. None for 64 MB, or 100 times the packed size if that is
        more: text seldom packs better than that, and a file made to exhaust memory does.

    Raises:
      UsageError: the file is damaged, truncated, or unpacks to more than ``max_bytes``.
    """
    limit = max(UNPACKED_BYTES, UNPACKED_RATIO * len(data)) if max_bytes is None else max_bytes
    size, offset, view = 0, 0, memoryview(data)
    try:
        if not data:
            raise EOFError("it is empty")
        if not data.startswith(GZIP[: len(data)]):
            raise UsageError(
                f"{path}: not a gzip file, though its name ends in .gz; rename the file, or "
                "fetch it again."
            )
        while offset < len(data):  # a file may have several members, and some have thousands
            member = zlib.decompressobj(wbits=31)
            while not member.eof:
                chunk = view[offset : offset + CHUNK]
                if not chunk:
                    raise EOFError("it ends too early")
                part = member.decompress(chunk, limit - size + 1)
                size += len(part)
                if size > limit:
                    raise UsageError(
                        f"{path}: unpacks to more than {limit:,} bytes, from {len(data):,}. If "
                        "the file is meant to be this large, unpack it and give the unpacked "
                        "file."
                    )
                yield part
                offset += len(chunk) - len(member.unused_data)
            while offset < len(data) and not data[offset]:  # tapes pad their blocks with zeros
                chunk = data[offset : offset + CHUNK]
                offset += len(chunk) - len(chunk.lstrip(b"\0"))
    except (EOFError, zlib.error) as error:
        raise UsageError(f"{path}: damaged gzip file ({error}); fetch or pack it again.") from None


def pack_gzip(data: bytes) -> bytes:
    """Packs bytes so that ``unpack_gzip`` accepts them; equal input gives equal output.

    The header holds no time. Data that would pack better than ``UNPACKED_RATIO``, which readers
    refuse, are stored uncompressed.
    """
    packed = gzip.compress(data, 6, mtime=0)
    if len(data) > max(UNPACKED_BYTES, UNPACKED_RATIO * len(packed)):
        packed = gzip.compress(data, 0, mtime=0)
    return packed


def sha256(path: PathLike) -> str:
    """Returns the sha256 of a file's bytes, in hexadecimal."""
    with open_reading(path) as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


# Writing.


def atomic_write(path: PathLike, data: bytes) -> None:
    """Writes a file atomically: at any moment it is either the old file or the complete new one.

    Raises:
      FileNotFoundError: the folder does not exist.
      OSError: the disk is full or the folder is not writable; the old file is left intact.
    """
    with writing(path) as file:
        file.write(data)


@contextlib.contextmanager
def writing(path: PathLike) -> Iterator[IO[bytes]]:
    """Opens a temporary file that replaces ``path`` when the block ends without an error.

    A link stays one: the file that it leads to is replaced. A pipe or a device is written to.

    Raises:
      FileNotFoundError: the folder does not exist.
      OSError: the disk is full or the folder is not writable; the old file is left intact.
    """
    path = as_path(path)
    if not is_local(path):
        with uploading(path) as file:
            yield file
        return
    if is_special(path):
        with open(path, "wb") as stream:
            yield stream
        return
    path = Path(os.path.realpath(path))
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
        name = error.filename
        if error.errno is None or not (name is None or _TEMPORARY.search(os.fspath(name))):
            raise  # about another file, which was being read
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def is_special(path: Path) -> bool:
    """Returns whether a path is, or leads to, something else than a file: a pipe or a device."""
    return path.exists() and not path.is_file() and not path.is_dir()


def same_file(a: PathLike, b: PathLike) -> bool:
    """Returns whether two paths name one file, by links as well."""
    try:
        return as_path(a).samefile(as_path(b))
    except OSError:  # one file is missing, which reading it will report
        return str(a) == str(b)


def read_beginning(path: PathLike) -> bytes:
    """Returns the bytes in which the kind of a file is seen; none of a pipe or a device."""
    path = as_path(path)
    with remote_errors(path):
        if not path.exists() or (is_local(path) and is_special(path)):
            return b""
        with open_reading(path) as file:
            return file.read(BEGINNING)


def check_writable(path: PathLike) -> None:
    """Checks that a file can be written, before work is done that could be lost.

    Raises:
      FileNotFoundError: its folder does not exist.
      UsageError: the path is a folder.
      OSError: the folder is not writable.
    """
    path = as_path(path)
    with remote_errors(path):
        if path.is_dir():
            raise UsageError(f"{path}: a folder; give the name of a file to write.")
        if is_local(path) and is_special(path):
            return
    if not is_local(path):
        probe = path.parent / f".{uuid.uuid4().hex}.tmp"
        atomic_write(cast(PathLike, probe), b"")
        with remote_errors(probe):
            probe.unlink()
        return
    path = Path(os.path.realpath(path))
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder; create it first.")
    clear_temporary(path.parent)
    try:
        with _temporary_file(path.parent) as file:
            Path(file.name).unlink()
    except OSError as error:
        raise OSError(error.errno, error.strerror, os.fspath(path)) from error


def check_folder(path: PathLike) -> None:
    """Checks that a folder exists or can be created, that is, that no file is in its way.

    Raises:
      UsageError: a file has its name, or the name of a folder above it.
    """
    path = as_path(path)
    with remote_errors(path):
        for folder in (path, *path.parents):
            if folder.is_dir():
                return
            if folder.exists():
                raise UsageError(
                    f"{path}: a file has this name, or that of a folder above it; give another "
                    "folder."
                )


def make_folder(path: PathLike) -> Path:
    """Creates a folder and its parents where they are missing, and checks that it is writable.

    Raises:
      UsageError: a file has its name, or the name of a folder above it.
      OSError: the folder cannot be created or is not writable.
    """
    path = as_path(path)
    check_folder(path)
    if is_local(path):
        path.mkdir(parents=True, exist_ok=True)
    with remote_errors(path):
        # The first may be a bucket, and a mistyped bucket is not to be created.
        for folder in () if is_local(path) else [path, *path.parents][-2::-1]:
            folder.mkdir(exist_ok=True)
    check_writable(path / "file")
    return path


def clear_temporary(folder: PathLike) -> None:
    """Removes temporary files that killed processes left in a folder.

    Files that a running process is still writing are locked and stay; so do all files that
    this library did not write.
    """
    folder = as_path(folder)
    if not is_local(folder):
        return
    for path in filter(lambda path: _TEMPORARY.search(path.name), folder.glob(".*.tmp")):
        with contextlib.suppress(OSError), open(path, "rb") as file:
            if _lock(file):
                path.unlink(missing_ok=True)


def _temporary_file(folder: Path) -> Any:
    """Opens a new locked file; ``clear_temporary`` sees by the lock whether its process lives."""
    while True:
        file = open(folder / f".{uuid.uuid4().hex}.tmp", "xb")  # noqa: SIM115
        # Another process may remove the file before it is locked; then it has no link left.
        if _lock(file) and os.fstat(file.fileno()).st_nlink:
            return file
        file.close()


def _lock(file: Any) -> bool:
    try:
        import fcntl
    except ImportError:  # not POSIX: no lock tells which processes live, so nothing is removed
        return file.writable()
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _sync_folder(folder: Path) -> None:
    if os.name != "posix":  # other systems cannot open a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


@contextlib.contextmanager
def lock_folder(folder: PathLike) -> Iterator[None]:
    """Makes this process the only writer of a local folder; the lock ends with the process.

    Temporary files of earlier, killed processes are removed. At an address there are no locks.

    Raises:
      UsageError: another process holds the lock.
    """
    folder = as_path(folder)
    if not is_local(folder):
        yield
        return
    import filelock  # here, so that reading files needs the standard library alone

    lock = filelock.FileLock(folder / LOCK)
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
