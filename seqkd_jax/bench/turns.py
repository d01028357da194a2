"""Rows measured in turns, so that all of them run under the same load."""

import statistics
from collections.abc import Sequence

import jax

from ..progress import Bar
from ..settings import Timing
from .products import flops, gemm_seconds
from .rows import MODELS, Models, Row, chosen, fixed_rows
from .steps import step_of
from .timing import Record, first_calls, seconds_of, speed


class Measured:
    """A row, compiled and warm, and the measurements of its repeats."""

    def __init__(self, row: Row, timing: Timing):
        self.row, self.step = row, step_of(row)
        self.facts, one = first_calls(self.step)
        self.steps = timing.steps or max(2, round(timing.seconds / one))
        self.values: list[float] = []  # amount per second in each repeat
        self.gemms: list[float] = []  # seconds of a step's products alone, in each repeat
        # Elsewhere the time of a product by itself is mostly that of its call.
        self.on_cpu = jax.default_backend() == "cpu"
        if self.on_cpu:
            gemm_seconds(row)  # compiles the products

    def turn(self) -> None:
        """Measures one repeat."""
        jax.block_until_ready([self.step(), self.step()])  # other rows have left the caches cold
        taken = seconds_of(lambda: [self.step() for _ in range(self.steps)])
        self.values.append(self.steps * self.row.amount / taken)
        if self.on_cpu:
            self.gemms.append(gemm_seconds(self.row))

    def record(self) -> Record:
        """Returns the speed, and the facts that explain it.

        ``gemm_share`` is the time that the matrix products of a step take by themselves, measured
        for each shape in the same run, divided by the time of the step; on CPUs only.
        """
        seconds = self.row.amount / statistics.median(self.values)
        unit = "sentences/s" if self.row.beam else "target tokens/s"
        work = {"gflops": flops(self.row) / seconds / 1e9}
        if self.gemms:
            work["gemm_share"] = statistics.median(self.gemms) / seconds
        return speed(str(self.row), unit, self.values) | work | self.facts


def in_turns(rows: Sequence[Row], timing: Timing) -> list[Measured]:
    """Measures rows in turns: sets all of them up, then runs repeat after repeat of every row."""
    ready = [Measured(row, timing) for row in Bar(rows, desc="compiling rows", unit="row")]
    for measured in Bar(ready * timing.repeats, desc="measuring", unit="repeat"):
        measured.turn()
    return ready


def measure_fixed(names: Sequence[str], timing: Timing, models: Models = MODELS) -> list[Record]:
    """Measures rows of the fixed work.

    Args:
      names: of the rows, in full or in part; none for all rows.
      timing: how to measure.
      models: sizes of the models.

    Raises:
      UsageError: there is no such row.
    """
    rows = chosen(fixed_rows(models), names)
    return [measured.record() for measured in in_turns(rows, timing)]
