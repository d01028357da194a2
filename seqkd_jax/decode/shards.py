"""Work in shards that any number of workers share; each shard is made once, written atomically."""

import itertools
import pickle
import re
import time
from collections.abc import Callable, Collection, Iterable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

import filelock

from ..addresses import is_local
from ..errors import UsageError, quoted
from ..files import clear_temporary, lock_folder
from ..progress import Bar
from ..sealed import differences


def shard_name(shard: int, count: int, ending: str) -> str:
    """Returns the file name of one of ``count`` shards."""
    return f"shard-{shard:05d}-of-{count:05d}{ending}"


def shard_numbers(path: Path, ending: str) -> tuple[int, int]:
    """Returns the number of a shard and the number of all shards, from its file name.

    Raises:
      UsageError: the file does not have the name of a shard.
    """
    match = re.fullmatch(rf"shard-(\d+)-of-(\d+){re.escape(ending)}", path.name)
    if match is None:
        raise UsageError(f"{path}: not the name of a shard.")
    return int(match[1]), int(match[2])


def require_same_header(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    """Refuses a shard that was made in another way; compares headers without per-shard fields.

    Raises:
      UsageError: the headers differ; the message says where.
    """
    # Sorted by name: for other text the message then names its digest and not its size.
    for name, before, now in sorted(differences(old, new), key=lambda change: change[0]):
        what = "number of sentences" if name == "sentences" else name.removesuffix("_digest")
        raise UsageError(
            f"{path}: made with another {what}: {quoted(before)} there, {quoted(now)} now. "
            "Choose another folder, or delete the old shards."
        )


def complete_shards(
    paths: Iterable[Path],
    ending: str,
    read_header: Callable[[Path], dict[str, Any]],
    header: dict[str, Any],
    verified: set[int] | None = None,
) -> set[int]:
    """Returns the numbers of the shards that exist, after checking each of them once.

    Args:
      paths: of the existing shards.
      ending: of their names.
      read_header: reads and checks a shard; returns the header fields that all shards share.
      header: the same fields of the current job.
      verified: shards that need no check; those that pass it are added.

    Raises:
      UsageError: a shard is damaged, or was made with another header.
    """
    verified, existing = set() if verified is None else verified, set()
    for path in paths:
        number = shard_numbers(path, ending)[0]
        existing.add(number)
        if number not in verified:
            require_same_header(path, read_header(path), header)
            verified.add(number)
    return existing


def missing_shards(existing: Collection[int], count: int) -> list[int]:
    """Returns the first few numbers below ``count`` that do not exist."""
    return list(itertools.islice((n for n in range(count) if n not in existing), 10))


def process_shards(
    folder: Path,
    shards: int,
    path: Callable[[int], Path],
    done: Callable[[], Collection[int]],
    make: Callable[[int], None],
    bar: Bar,
    size: int,
) -> None:
    """Makes all shards that no other worker is making, and returns when every shard exists.

    Temporary files of killed workers are removed first. At an address there are no locks, so one
    worker makes them all.

    Args:
      folder: of the shards and their locks.
      shards: number of shards.
      path: of a shard, by its number.
      done: returns the numbers of the complete shards.
      make: writes a shard, by its number.
      bar: progress bar; items that are complete before a round count for no rate.
      size: items of a shard.
    """

    def alone(number: int) -> AbstractContextManager[Any]:
        lock = folder / f".shard-{number:05d}.lock"
        return filelock.FileLock(lock, timeout=0) if is_local(folder) else nullcontext()

    def try_make(number: int) -> bool:
        try:
            with alone(number):
                if path(number).exists():
                    return False
                make(number)
                return True
        except filelock.Timeout:
            return False

    clear_temporary(folder)
    while len(complete := done()) < shards:
        bar.begin(min(bar.total, len(complete) * size))
        if not any([try_make(number) for number in range(shards) if number not in complete]):
            time.sleep(1)  # other workers are making the missing shards


def map_shards(
    folder: Path,
    shards: int,
    done: Callable[[], Collection[int]],
    results: Callable[[Iterable[int]], Iterable[tuple[int, bytes]]],
    keep: Callable[[int, bytes], None],
) -> None:
    """Keeps the missing shards as the workers of an engine return them.

    Args:
      folder: of the shards; this process is its only writer.
      shards: number of shards.
      done: returns the numbers of the complete shards.
      results: makes shards, by their numbers, in any order.
      keep: writes a shard, by its number.

    Raises:
      UsageError: the work cannot be sent to the workers.
    """
    with lock_folder(folder):
        complete = done()
        try:
            for number, data in results(n for n in range(shards) if n not in complete):
                keep(number, data)
        except (pickle.PicklingError, AttributeError, TypeError) as error:
            if "pickle" not in str(error):
                raise
            raise UsageError(
                "The teacher cannot be sent to another process: give a function that loads it "
                'there, such as functools.partial(load_model, "/shared/teacher").'
            ) from error
