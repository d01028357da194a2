"""Files and folders at addresses: gs://bucket/x, s3://bucket/x, any that fsspec knows. Floor 0.

``as_path`` turns an address into a path that behaves like ``pathlib.Path``.
"""

import contextlib
import os
import re
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import IO, Any, cast
from urllib.parse import unquote, urlsplit

from .errors import UsageError

PathLike = str | os.PathLike[str]

_SPOILED = re.compile(r"([a-z][a-z0-9+.-]+):/(.*)")  # what pathlib makes of an address


def as_path(path: PathLike) -> Path:
    """Returns the path of a file or folder, on a disk or at an address of fsspec.

    An address is a string with ``://`` in it. Its path behaves like a ``pathlib.Path`` but is none
    (it is a ``upath.UPath``): see ``is_local``. ``file://`` is a local path.

    Raises:
      UsageError: no installed package handles such addresses.
    """
    if not isinstance(path, str):
        if isinstance(path, Path) and (spoiled := _SPOILED.fullmatch(str(path))):
            address = "{}://{}".format(*spoiled.groups())
            raise UsageError(f"{path}: if this is the address {address}, give it as a string.")
        return cast(Path, path) if hasattr(path, "fs") else Path(path)
    if "://" not in path:
        return Path(path)
    if path.startswith("file://"):
        return Path(unquote(urlsplit(path).path))
    try:
        from upath import UPath
    except ImportError:
        raise UsageError(
            f"{path}: addresses need the package universal_pathlib; install it with "
            "pip install universal-pathlib."
        ) from None
    with remote_errors(path):
        try:
            address = UPath(path)
            _ = address.fs  # a missing package is noticed here
        except (ImportError, ValueError) as error:
            raise UsageError(f"{path}: addresses like this cannot be used: {error}.") from None
    return cast(Path, address)


def is_local(path: Path) -> bool:
    """Returns whether a path is on a disk, where files can be locked."""
    return isinstance(path, Path)


def as_local(path: PathLike) -> Path:
    """Returns a path on a disk; refuses an address where files are mapped into memory.

    Raises:
      UsageError: the path is at an address.
    """
    path = as_path(path)
    if not is_local(path):
        raise UsageError(f"{path}: this must be on a disk: files of it are mapped into memory.")
    return path


@contextlib.contextmanager
def remote_errors(path: Any) -> Iterator[None]:
    """Makes an ``OSError`` that names the address of whatever the package of a store raises."""
    try:
        yield
    except Exception as error:
        if isinstance(path, Path) or isinstance(error, UsageError):
            raise
        kind = type(error) if isinstance(error, FileNotFoundError | PermissionError) else OSError
        raise kind(f"{path}: {str(error) or type(error).__name__}") from error


@contextlib.contextmanager
def uploading(path: Any) -> Iterator[IO[bytes]]:
    """Opens a local file that is put at an address when the block ends without an error."""
    with tempfile.NamedTemporaryFile() as file:
        yield cast(IO[bytes], file)
        file.flush()
        _put(Path(file.name), path)


def _put(local: Path, path: Any) -> None:
    with remote_errors(path):
        path.fs.put_file(str(local), path.path)


@contextlib.contextmanager
def local_folder(folder: Path, *parts: str) -> Iterator[Path]:
    """Yields a folder to read; for an address, a copy with the named folders in it."""
    if is_local(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory() as copy, remote_errors(folder):
        for path in (path for part in parts for path in cast(Any, folder / part).rglob("*")):
            if path.is_file():
                local = Path(copy, path.relative_to(folder).as_posix())
                local.parent.mkdir(parents=True, exist_ok=True)
                path.fs.get_file(path.path, str(local))
        yield Path(copy)


@contextlib.contextmanager
def writing_folder(folder: Path) -> Iterator[Path]:
    """Yields a path for a new folder, which is put at its address when the block ends."""
    if is_local(folder):
        yield folder
        return
    with tempfile.TemporaryDirectory() as above:
        new = Path(above, folder.name)
        yield new
        for path in sorted([new, *new.rglob("*")]):
            there = folder / path.relative_to(new).as_posix()
            if path.is_dir():
                with remote_errors(there):
                    there.mkdir(exist_ok=True)
            else:
                _put(path, there)


def delete_folder(folder: Path) -> None:
    """Deletes a folder and all that is in it, as far as that is possible."""
    if is_local(folder):
        shutil.rmtree(folder, ignore_errors=True)
    else:
        with contextlib.suppress(Exception):
            remote: Any = folder
            remote.fs.rm(remote.path, recursive=True)
