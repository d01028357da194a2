"""Is a version of this library as fast as another one? Two checkouts, in turns.

    git worktree add ../old 70b3527
    python docs/versions.py ../old . --out versions.json
    python docs/versions.py ../old ../old --rows train-big --out equal.json  # what chance does
    python docs/versions.py . . --rows train-big --new-env MALLOC_MMAP_MAX_=0 --out malloc.json
    python docs/versions.py --tables --out versions.json

Two processes of the same program differ by several per cent, and so do the first and the second of
two that take turns. So each row is measured by several pairs of new processes, every other pair the
other way round, and within a pair every other turn. The ratio is the median over all neighbouring
turns of all pairs, new over old; ``pairs`` are the medians of each pair. Let nothing else run
meanwhile. The same command resumes with the rows that are missing.

``common`` is the share of the operations in the compiled programs that both versions have, on the
same shapes. If it is 1, another ratio is due to how a process uses memory, or to chance.
"""

import argparse
import os
import re
import shlex
import statistics
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path

import numpy as np

from seqkd_jax.bench import FIXED, Row, chosen
from seqkd_jax.bench.peer import turns_of
from seqkd_jax.progress import Bar
from seqkd_jax.report.speed import keep_speed, read_speed, speed_tables

PEER = Path(__file__).parent / "peers" / "other_version.py"
KIND = "versions"
OPERATION = re.compile(r"= ([a-z]\w*\[\S*) ([\w-]+)\(")  # as in "%x = f32[64,512]{1,0} dot("


def command(checkout: Path, row: Row, seconds: float, env: Sequence[str] = ()) -> str:
    """Returns the command of a process that measures a row of a checkout."""
    words = [
        "env",
        *env,
        sys.executable,
        PEER,
        "--checkout",
        checkout.resolve(),
        "--mode",
        row.work,
    ]
    words += ["--model", row.model, "--batch", row.batch, "--beam", row.beam or 1]
    return shlex.join(map(str, [*words, "--seconds", seconds]))


def operations(checkout: Path, row: Row, env: Sequence[str] = ()) -> Counter[tuple[str, str]]:
    """Returns how often each operation on each shape is in what XLA compiles for a row."""
    given = os.environ | dict(one.split("=", 1) for one in env)
    with tempfile.TemporaryDirectory() as folder:
        flags = f"{given.get('XLA_FLAGS', '')} --xla_dump_to={folder} --xla_dump_hlo_as_text"
        changed = [*env, f"XLA_FLAGS={flags}", "JAX_ENABLE_COMPILATION_CACHE=false"]
        with closing(turns_of(command(checkout, row, 0.01, changed))) as running:
            next(running)  # by then, all is compiled
        programs = Path(folder).glob("*_after_optimizations.txt")
        return Counter(one for path in programs for one in OPERATION.findall(path.read_text()))


def pair(commands: dict[str, str], turns: int, swap: bool) -> list[float]:
    """Runs two new processes, old and new; returns new over old in each turn."""
    places = list(commands.items())
    ratios = []
    with (
        closing(turns_of(places[swap][1])) as first,
        closing(turns_of(places[not swap][1])) as second,
    ):
        running = {places[swap][0]: first, places[not swap][0]: second}
        for turn in range(turns + 1):
            order = sorted(running, reverse=bool(turn % 2) != swap)
            value = {name: float(next(running[name])["value"]) for name in order}
            ratios.append(value["new"] / value["old"])
    return ratios[1:]  # the first turn only warms up


def measured(row: Row, given: argparse.Namespace) -> dict:
    """Returns a row's record."""
    old, new = given.checkouts
    commands = {
        "old": command(old, row, given.seconds),
        "new": command(new, row, given.seconds, given.new_env),
    }
    before, after = operations(old, row), operations(new, row, given.new_env)
    common = (before & after).total() / max(before.total(), after.total())
    each = [
        pair(commands, given.turns, bool(n % 2))
        for n in Bar(range(given.pairs), desc=str(row), unit="pair")
    ]
    ratios = [ratio for one in each for ratio in one]
    lower, upper = np.quantile(ratios, [0.25, 0.75])
    return {
        "row": str(row),
        "peer": described(old),
        "ratio": statistics.median(ratios),
        "lower_quartile": float(lower),
        "upper_quartile": float(upper),
        "of": " ".join([described(new), *given.new_env]),
        "turns": len(ratios),
        "common": common,
        "pairs": [statistics.median(one) for one in each],
    }


def described(checkout: Path) -> str:
    """Returns the commit of a checkout."""
    words = ["git", "-C", str(checkout), "describe", "--always", "--exclude=*", "--dirty=+"]
    return subprocess.run(words, capture_output=True, text=True, check=True).stdout.strip()


def main() -> None:
    """Measures the rows that are missing, or prints the table."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("checkouts", type=Path, nargs="*", help="OLD NEW")
    options.add_argument("--rows", nargs="+", default=["student", "teacher", "train-big"])
    options.add_argument("--pairs", type=int, default=6, help="of processes, for each row")
    options.add_argument("--turns", type=int, default=4, help="of each pair")
    options.add_argument("--seconds", type=float, default=0.8, help="of a turn, about")
    options.add_argument("--new-env", nargs="+", default=[], help="NAME=VALUE, for NEW alone")
    options.add_argument("--out", type=Path, required=True)
    options.add_argument("--tables", action="store_true", help="only print what is in --out")
    given = options.parse_args()
    if not given.tables:
        if len(given.checkouts) != 2:
            options.error("give two checkouts: OLD NEW")
        old = described(given.checkouts[0])
        kept = read_speed(given.out).get(KIND, []) if given.out.exists() else []
        done = {record["row"] for record in kept if record["peer"] == old}
        for row in chosen(FIXED, given.rows):
            if str(row) not in done:
                keep_speed(given.out, KIND, [measured(row, given)])
    print(speed_tables(given.out))


if __name__ == "__main__":
    main()
