"""What is made once from a corpus, kept in files and checked at every start: ids, and lines.

    encoded/9f86d081884c7d65/
        src.ids  src.offsets  tgt.ids  tgt.offsets    the arrays of ``sentences``
        record.json                                   what they were made of, and their digests

The arrays are mapped into memory. The record is written last. Arrays without it, which a killed
process leaves, are made again; so is a store that is damaged, with a warning that names the file.
"""

import contextlib
import hashlib
import mmap
import warnings
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import filelock
import numpy as np

from ..addresses import PathLike, as_local
from ..errors import UsageError
from ..files import clear_temporary, make_folder, sha256, writing
from ..sealed import digest_of, read_record, write_record
from .lines import Lines, open_lines
from .sentences import Flat, Sentences
from .text import write_lines

FORMAT = "seqkd-encoded-1"
LINES = "seqkd-lines-1"
SIDES = ("src", "tgt")
AGAIN = "It is made again."


def kept(
    folder: PathLike, made_of: dict[str, Any], make: Callable[[], Iterable[tuple[Flat, Flat]]]
) -> tuple[Sentences, Sentences]:
    """Returns both sides of encoded pairs from their files, which are made if there are none.

    One process makes them; others that ask for the same wait for it.

    Args:
      folder: of all stores.
      made_of: what decides the ids, as JSON.
      make: yields the ids of source and target, part by part.

    Raises:
      OSError: the disk is full or the folder is not writable; no store is left half written.
    """
    store = make_folder(as_local(folder)) / digest_of(made_of)[:16]
    with filelock.FileLock(f"{store}.lock"):
        if (store / "record.json").exists():
            try:
                return _opened(store, made_of)
            except (UsageError, FileNotFoundError) as error:
                warnings.warn(str(error), stacklevel=2)
        _write(make_folder(store), made_of, make())
        return _opened(store, made_of)


def kept_lines(path: PathLike, made_of: dict[str, Any], make: Callable[[], Iterable[str]]) -> Lines:
    """Returns the lines of a text file, which is made if there is none.

    A record beside the file, NAME.json, says what it was made of and what its digest is.

    Args:
      path: the file.
      made_of: what decides the lines, as JSON.
      make: yields the lines.

    Raises:
      OSError: the disk is full or the folder is not writable; nothing is left half written.
    """
    path = as_local(path)
    record = path.with_name(f"{path.name}.json")
    make_folder(path.parent)
    with filelock.FileLock(f"{path}.lock"):
        if record.exists():
            try:
                known = read_record(record, LINES, AGAIN)
                if known["made_of"] != made_of:
                    raise UsageError(f"{path}: made of other text or settings. {AGAIN}")
                if sha256(path) != known["text"]:
                    raise _damaged(path)
                return open_lines(path)
            except (UsageError, FileNotFoundError) as error:
                warnings.warn(str(error), stacklevel=2)
        clear_temporary(path.parent)
        record.unlink(missing_ok=True)
        write_lines(path, make())
        write_record(record, LINES, {"made_of": made_of, "text": sha256(path)})
        return open_lines(path)


def _damaged(path: Path) -> UsageError:
    return UsageError(f"{path}: damaged: its content does not match its digest. {AGAIN}")


def _write(store: Path, made_of: dict[str, Any], parts: Iterable[tuple[Flat, Flat]]) -> None:
    clear_temporary(store)
    (store / "record.json").unlink(missing_ok=True)
    names = [f"{side}.{kind}" for side in SIDES for kind in ("ids", "offsets")]
    with contextlib.ExitStack() as stack:
        files = [stack.enter_context(writing(store / name)) for name in names]
        hashes = [hashlib.sha256() for _ in names]
        types: dict[str, Any] = {}

        def write(number: int, array: np.ndarray) -> None:
            data = np.ascontiguousarray(array).data.cast("B") if array.size else b""
            files[number].write(data)
            hashes[number].update(data)

        tokens = [0, 0]
        for side in range(2):
            write(2 * side + 1, np.zeros(1, np.int64))
        for part in parts:
            for side, flat in enumerate(part):
                offsets = tokens[side] + np.cumsum(flat.lengths, dtype=np.int64)
                write(2 * side, flat.ids)
                write(2 * side + 1, offsets)
                tokens[side] += len(flat.ids)
                if len(flat.ids):
                    shape = list(flat.ids.shape[1:])
                    types[SIDES[side]] = {"dtype": flat.ids.dtype.str, "row": shape}
    digests = {name: sha.hexdigest() for name, sha in zip(names, hashes, strict=True)}
    write_record(
        store / "record.json", FORMAT, {"made_of": made_of, "types": types, "files": digests}
    )


def _opened(store: Path, made_of: dict[str, Any]) -> tuple[Sentences, Sentences]:
    record = read_record(store / "record.json", FORMAT, AGAIN)
    if record["made_of"] != made_of:
        raise UsageError(f"{store}: made of other text or vocabularies. {AGAIN}")
    for name, digest in record["files"].items():
        if sha256(store / name) != digest:
            raise _damaged(store / name)
    src, tgt = (_side(store, side, record["types"].get(side)) for side in SIDES)
    return src, tgt


def _side(store: Path, side: str, type: dict[str, Any] | None) -> Sentences:
    type = type or {"dtype": "<i4", "row": []}
    maps, arrays = [], []
    for kind, dtype, row in ("ids", type["dtype"], type["row"]), ("offsets", "<i8", []):
        with open(store / f"{side}.{kind}", "rb") as file:
            if not file.seek(0, 2):  # an empty file cannot be mapped
                arrays.append(np.zeros((0, *row), dtype))
                continue
            maps.append(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            arrays.append(np.frombuffer(maps[-1], dtype).reshape(-1, *row))
    return Sentences(*arrays, maps=tuple(maps))
