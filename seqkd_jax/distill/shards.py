"""Work in shards that any number of workers share, each shard done once and written whole."""

import time
from collections.abc import Callable, Collection
from pathlib import Path

import filelock
from tqdm import tqdm

from ..files import clear_temporary


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
