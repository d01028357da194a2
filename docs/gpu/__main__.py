"""What a GPU has to tell about this library, in at most 12 minutes.

    python docs/gpu --out gpu.json --torch PYTHON   # of an environment with PyTorch for CUDA
    python docs/gpu --out small.json --small        # small sizes, to try the script on a CPU

The parts, each a process of its own; --parts names some of them:

    machine   devices; rates of large matrix products and of copying memory, as measured
    shares    training and search at B = 64, 512 and 4,096: the share of these rates that they reach
    profile   where the time of three rows of ``seqkd bench`` goes, kernel by kernel
    compile   seconds for each new shape, with JAX's cache, with results of autotuning, with neither
    multi30k  teacher, baseline and Seq-KD from nothing to the table, and where the minutes go
    against   rows of ``seqkd bench`` in turns with PyTorch: eager, scripted, compiled, CUDA graphs
    tests     tests that once assumed a CPU

A part that fails or takes too long is named, and the next one begins. Every record is printed and
written to the file at once. Multi30k is read from the folder that SEQKD_DATA names.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import beside
import rates
import stages
from records import Record, child

from seqkd_jax.files import atomic_write

SHARES = {  # of the time; what a part leaves over is shared by those after it
    "machine": 20,
    "shares": 140,
    "profile": 30,
    "compile": 85,
    "multi30k": 190,
    "against": 195,
    "tests": 60,
}
PARTS: dict[str, Callable[[argparse.Namespace], Iterator[Record]]] = {
    "machine": rates.machine,
    "shares": rates.shares,
    "profile": rates.profile,
    "compile": stages.compiling,
    "multi30k": stages.multi30k,
    "against": beside.against,
    "tests": beside.tests,
    "first-calls": stages.first_calls,
}


def run_part(part: str, given: argparse.Namespace, seconds: float) -> Iterator[Record]:
    """Yields the records of a part, and one more if it failed or took too long."""
    late = threading.Event()
    started = time.monotonic()
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        process = subprocess.Popen(
            child(part, given, seconds),
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,  # so that its own children end with it
        )

        def end() -> None:
            late.set()
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)

        timer = threading.Timer(seconds, end)
        timer.start()
        try:
            for line in process.stdout or ():
                if line.startswith("{"):
                    yield json.loads(line)
            status = process.wait()
        finally:
            timer.cancel()
            if process.poll() is None:
                end()
        errors.seek(0)
        said = errors.read().strip().split("\n")
    if late.is_set():
        yield {"what": "this part", "failed": f"not finished within {seconds:.0f} s"}
    elif status:
        print("\n".join(said[-30:]), file=sys.stderr)
        yield {"what": "this part", "failed": f"status {status}: {said[-1]}"}
    yield {"what": "this part", "seconds": time.monotonic() - started}


def shown(record: Record) -> str:
    """Renders a record as a line, and lists in it as lines of their own."""
    cells, lines = [], []
    for name, value in record.items():
        if isinstance(value, list) and value and isinstance(value[0], str):
            lines += [f"\n    {line}" for line in value]
        elif isinstance(value, dict):
            lines += [f"\n    {key}: {_short(one)}" for key, one in value.items()]
        elif name != "what":
            cells.append(f"{name} {_short(value)}")
    return f"  {record['what']}: {', '.join(cells)}{''.join(lines)}"


def _short(value: Any) -> str:
    return f"{value:,.4g}" if isinstance(value, float) else str(value)


def run_parts(given: argparse.Namespace) -> dict[str, list[Record]]:
    """Runs the parts one after the other, prints their records, and returns them."""
    end = time.monotonic() + 60 * given.minutes
    kept: dict[str, list[Record]] = {}
    for index, part in enumerate(given.parts):
        left = end - time.monotonic()
        share = SHARES[part] / sum(SHARES[later] for later in given.parts[index:])
        print(f"{part}: at most {left * share:.0f} s", flush=True)
        kept[part] = []
        for record in run_part(part, given, left * share):
            kept[part].append(record)
            atomic_write(given.out, (json.dumps(kept, indent=1) + "\n").encode())
            print(shown(record), flush=True)
    return kept


def main() -> None:
    """Runs what is asked for, and says what could not be done."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--out", type=Path, default=Path("gpu.json"), help="file of all records")
    options.add_argument("--torch", default="", help="python of an environment with PyTorch")
    options.add_argument("--minutes", type=float, default=12.0, help="for all parts together")
    options.add_argument("--parts", nargs="+", choices=list(SHARES), default=list(SHARES))
    options.add_argument("--small", action="store_true", help="small sizes, on any device")
    options.add_argument("--part", choices=list(PARTS), help=argparse.SUPPRESS)
    options.add_argument("--seconds", type=float, help=argparse.SUPPRESS)
    given = options.parse_args()
    if given.part:
        for record in PARTS[given.part](given):
            print(json.dumps(record), flush=True)
        return
    with tempfile.TemporaryDirectory() as cache:  # so that a row is compiled once for all parts
        os.environ["JAX_COMPILATION_CACHE_DIR"] = cache
        kept = run_parts(given)
    failed = {part: [r for r in records if "failed" in r] for part, records in kept.items()}
    print("\nNot done:" if any(failed.values()) else "\nAll was done.")
    for part, records in failed.items():
        for record in records:
            print(f"  {part}, {record['what']}: {record['failed'].splitlines()[0]}")


if __name__ == "__main__":
    main()
