"""Work in shards that any number of workers share, each shard done once and written whole."""

import itertools
import re
import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any

import filelock
from tqdm import tqdm

from ..errors import UsageError, quoted
from ..files import clear_temporary
from ..sealed import differences


def shard_name(shard: int, of: int, ending: str) -> str:
    """The name of one shard's file."""
    return f"shard-{shard:05d}-of-{of:05d}{ending}"


def shard_numbers(path: Path, ending: str) -> tuple[int, int]:
    """The number of a shard and how many there are, by its file's name.

    Raises:
      UsageError: it is not the name of a shard.
    """
    match = re.fullmatch(rf"shard-(\d+)-of-(\d+){re.escape(ending)}", path.name)
    if match is None:
        raise UsageError(f"{path}: not the name of a shard.")
    return int(match[1]), int(match[2])


def require_alike(path: Path, theirs: dict[str, Any], header: dict[str, Any]) -> None:
    """Refuses a shard that something else made; both headers without what tells shards apart.

    Raises:
      UsageError: they differ; the message says where.
    """
    # By name: of other text the digest comes before the numbers of sentences and of shards.
    for name, before, now in sorted(differences(theirs, header), key=lambda found: found[0]):
        raise UsageError(
            f"{path}: made with another {name}: {quoted(before)} there, {quoted(now)} now. "
            "Choose another folder, or delete the old shards."
        )


def complete_shards(
    paths: Iterable[Path],
    ending: str,
    made_by: Callable[[Path], dict[str, Any]],
    header: dict[str, Any],
    whole: set[int] | None = None,
) -> set[int]:
    """The numbers of the shards that are there, all whole and made as ``header`` says.

    Args:
      paths: of the shards that are there.
      ending: of their names.
      made_by: reads and checks a shard; what made it.
      header: what makes them now.
      whole: shards that need no other look; those that are found whole are added.

    Raises:
      UsageError: one is damaged, or something else made it.
    """
    whole, found = set() if whole is None else whole, set()
    for path in paths:
        number = shard_numbers(path, ending)[0]
        found.add(number)
        if number not in whole:
            require_alike(path, made_by(path), header)
            whole.add(number)
    return found


def missing_shards(there: Collection[int], of: int) -> list[int]:
    """The first few numbers below ``of`` that are not there."""
    return list(itertools.islice((n for n in range(of) if n not in there), 10))


def work_through(
    folder: Path,
    shards: int,
    path: Callable[[int], Path],
    done: Callable[[], Collection[int]],
    make: Callable[[int], None],
    bar: tqdm,
    size: int,
) -> None:
    """Makes all shards that no other worker has or had, and returns when none is missing.

    What killed workers left half written is removed first; living ones keep theirs.

    Args:
      folder: of the shards; locks lie there.
      shards: how many there are.
      path: of a shard, by its number.
      done: the numbers of those that are complete.
      make: writes one.
      bar: is set to what is done before each round.
      size: items of a shard.
    """

    def taken(number: int) -> bool:
        try:
            with filelock.FileLock(folder / f".shard-{number:05d}.lock", timeout=0):
                if path(number).exists():
                    return False
                make(number)
                return True
        except filelock.Timeout:
            return False

    clear_temporary(folder)
    while len(complete := done()) < shards:
        bar.n = min(bar.total, len(complete) * size)
        bar.refresh()
        if not any([taken(number) for number in range(shards) if number not in complete]):
            time.sleep(1)  # what is missing is in other workers' hands
