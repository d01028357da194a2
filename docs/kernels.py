"""Where the time of a row of ``seqkd bench`` goes, kernel by kernel, on this machine.

    python docs/kernels.py kd-student-b64

Prints milliseconds of one step, the longest first. A kernel is what XLA made of one or several
operations; the table shows its result, the last of its operations, and for matrix products
[rows, inner] x [inner, out] and their rate. Kernels that run at the same time share the cores: each
of them then takes longer than it would alone, and their sum is longer than the step.
"""

import argparse
import re
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax

from seqkd_jax.bench import FIXED, step_of
from seqkd_jax.commands import prepare
from seqkd_jax.report.speed import speed_table

OUTER = ("while", "call", "conditional")  # these last as long as the kernels inside them


def traced(step: Callable[[], Any], steps: int) -> list[tuple[str, float, float]]:
    """Runs steps and returns their kernels: name, and start and duration in nanoseconds.

    Those of a GPU are read from its streams. On a CPU, kernels are the events of an operation.
    """
    with tempfile.TemporaryDirectory() as folder:
        with jax.profiler.trace(folder):
            for _ in range(steps):
                jax.block_until_ready(step())
        trace = next(Path(folder).rglob("*.xplane.pb"))
        planes = list(jax.profiler.ProfileData.from_file(str(trace)).planes)
        lines = [line for plane in planes for line in plane.lines]
        streams = [
            line
            for plane in planes
            if plane.name.startswith("/device:")
            for line in plane.lines
            if line.name.startswith("Stream")
        ]
        return [
            (event.name, event.start_ns, event.duration_ns)
            for line in streams or lines
            for event in line.events
            if streams or ("hlo_op" in dict(event.stats) and not event.name.startswith(OUTER))
        ]


def summed(events: list[tuple[str, float, float]], steps: int) -> tuple[Counter, Counter]:
    """Returns milliseconds and calls of each kernel in one step."""
    spent: Counter = Counter()
    calls: Counter = Counter()
    for name, _, duration in events:
        spent[name] += duration / 1e6 / steps
        calls[name] += 1 / steps
    return spent, calls


def kernels(hlo: str) -> dict[str, dict]:
    """Returns the result and the product's sizes of each instruction of a compiled program."""
    bodies = {}
    for text in hlo.split("\n\n"):
        if found := re.match(r"\s*(?:ENTRY )?%?([\w.-]+) \(", text):
            bodies[found[1]] = text
    known = {}
    for body in bodies.values():
        for name, shape, rest in re.findall(r"%([\w.-]+) = (\w+\[[\d,]*\])\S* (.*)", body):
            called = re.search(r"calls=%([\w.-]+)", rest)
            operation = re.search(r'op_name="[^"]*?([^/"]+)"', rest)
            inside = bodies.get(called[1], "") if called else ""
            known[name] = {
                "result": shape,
                "last operation": operation[1] if operation else "",
                "product": _product(inside),
            }
    return known


def _product(body: str) -> tuple[int, int, int] | None:
    """Returns rows, inner and out of the matrix product in a kernel, if there is one."""
    dot = re.search(r"(\w+\[(\d+),(\d+)\])\S* dot\(%([\w.-]+), ", body)
    if not dot:
        return None
    left = re.search(rf"%{re.escape(dot[4])} = \w+\[(\d+),(\d+)\]", body)
    inner = re.search(r"lhs_contracting_dims={(\d)}", body[dot.start() :])
    if not left or not inner:
        return None
    return int(dot[2]), int(left[int(inner[1]) + 1]), int(dot[3])


def main() -> None:
    """Prints a table."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("row", choices=[str(row) for row in FIXED], metavar="ROW")
    options.add_argument("--steps", type=int, default=10)
    options.add_argument("--kernels", type=int, default=25, help="number of kernels to show")
    given = options.parse_args()
    prepare()
    client = jax.local_devices()[0].client
    step = step_of(next(row for row in FIXED if str(row) == given.row))
    before = {id(program) for program in client.live_executables()}
    jax.block_until_ready([step(), step()])
    known = {}
    for program in client.live_executables():
        if id(program) not in before:
            for module in program.hlo_modules():
                known |= kernels(module.to_string())
    spent, calls = summed(traced(step, given.steps), given.steps)
    total, shown = sum(spent.values()), []
    for name, ms in spent.most_common(given.kernels):
        record = {"row": name, "calls": f"{calls[name]:g}", "ms": f"{ms:.1f}"}
        record["share"] = f"{ms / total:.1%}"
        what = dict(known.get(name, {"product": None}))
        if product := what.pop("product"):
            rows, inner, out = product
            what["product"] = f"[{rows}, {inner}] x [{inner}, {out}]"
            what["GFLOP/s"] = f"{2 * rows * inner * out * calls[name] / ms / 1e6:.0f}"
        shown.append(record | what)
    shown.append({"row": "all kernels", "ms": f"{total:.1f}", "share": "100%"})
    print(speed_table(shown))


if __name__ == "__main__":
    main()
