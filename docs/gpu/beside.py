"""Rows of the bench in turns with PyTorch, and the tests that once assumed a CPU."""

import argparse
import os
import subprocess
import sys
import time
from collections.abc import Iterator

from records import HERE, Record, attempt

DEVICE_TESTS = (
    "test_bench.py::test_rows_are_measured_in_all_columns",
    "test_bench.py::test_a_peer_is_measured_beside_its_own_row",
    "test_stream.py::test_a_chunk_fits_its_budget_or_has_the_fewest_tokens_that_pay",
    "test_steps.py::test_sharding_fills_with_rows_of_no_weight",
    "test_translate.py::test_two_workers_make_the_same_bytes_as_one",
    "test_teacher_cache.py::test_two_workers_make_the_same_bytes_as_one",
)


def against(given: argparse.Namespace) -> Iterator[Record]:
    """Takes turns with PyTorch, row by row, as long as there is time for another row."""
    if not given.torch:
        raise SystemExit("--torch does not name the python of an environment with PyTorch.")
    os.environ["XLA_PYTHON_CLIENT_PREALLOCATE"] = "false"  # PyTorch needs memory, too
    from seqkd_jax import bench
    from seqkd_jax.commands import prepare
    from seqkd_jax.settings import Timing

    prepare()
    rows = [bench.fixed_row("decode", "teacher", 64, 5), bench.fixed_row("train", "teacher", 64)]
    rows += [bench.fixed_row("train", "student", 64), bench.fixed_row("kd", "student", 64)]
    rows += [bench.fixed_row("decode", "student", 64, 1), bench.fixed_row("train", "big", 64)]
    rows += [row for row in bench.FIXED if row not in rows]
    timing = Timing(repeats=5, seconds=0.6)
    if given.small:
        rows, timing = [bench.fixed_row("decode", "student", 2, 1)], Timing(repeats=2, steps=2)
    started, longest = time.monotonic(), 0.0
    for row in rows:
        begun = time.monotonic()
        if begun - started + longest > given.seconds:
            yield {"what": str(row), "failed": "left out: no time"}
            continue
        script, work = "torch_ref.py", f"--mode {row.work} --model {row.model} --batch {row.batch}"
        if row.beam:
            work += f" --beam {row.beam}"
        if row.work == "kd":
            script, work = "torch_kd.py", ""
        device = "cpu" if given.small else "cuda"
        options = f"--turns --impl best --patience 60 --device {device} {work}"
        command = f"{given.torch} {HERE.parent / 'peers' / script} {options}"
        yield attempt(str(row), lambda c=command: _beside(bench.measure_against(c, timing)[0]))
        longest = max(longest, time.monotonic() - begun)


def _beside(record: Record) -> Record:
    peer = record["peer_line"]
    names = ("ratio", "lower_quartile", "upper_quartile", "median", "peer_median", "unit")
    kept = {name: record[name] for name in names}
    return kept | {"best": peer["impl"], "tried": peer["tried"], "torch": peer["version"]}


def tests(given: argparse.Namespace) -> Iterator[Record]:
    """Runs tests that once assumed a CPU, with the settings that docs/speed.md names."""
    environment = {} if given.small else {"JAX_PLATFORMS": "cuda,cpu"}
    environment |= {"JAX_DEFAULT_MATMUL_PRECISION": "highest"}
    environment |= {"XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    command = [sys.executable, "-m", "pytest", "-q", "-n", "0", "-m", "", "--tb=short"]
    done = subprocess.run(
        [*command, *(str(HERE.parents[1] / "tests" / name) for name in DEVICE_TESTS)],
        env=os.environ | environment,
        capture_output=True,
        text=True,
        cwd=HERE.parents[1],
    )
    lines = (done.stdout + done.stderr).strip().split("\n")
    yield {"what": "pytest", "ended": lines[-1]} | (
        {"failed": "\n".join(lines[-40:])} if done.returncode else {}
    )
