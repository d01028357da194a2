"""What is shown and logged of a training: a bar with a forecast, sums of metrics, a file."""

import itertools
import json
import statistics
import sys
import time
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ..addresses import is_local
from ..files import atomic_write
from ..processes import is_first
from ..sealed import parse_json

FORECAST_AFTER = 40  # steps after which the duration of a training is told


class Bar(tqdm):
    """A progress bar that says after the first steps how long the whole training will take."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.times = [time.monotonic()]

    def update(self, n: float | None = 1) -> bool | None:
        """Counts a step."""
        shown = super().update(n)
        if self.disable or len(self.times) == FORECAST_AFTER:
            return shown
        self.times.append(time.monotonic())
        if len(self.times) == FORECAST_AFTER:
            # The median leaves out the steps in which a program was compiled.
            step = statistics.median(b - a for a, b in itertools.pairwise(self.times))
            minutes = step * (self.total - self.n) / 60
            self.write(
                f"{self.desc}: about {minutes:,.0f} minutes for the {self.total - self.n:,} steps "
                f"to go, {step:.2g} s each, and what validation takes",
                file=sys.stderr,
            )
        return shown


class Window:
    """The metrics of a few steps, as sums and counts: means of means would be wrong."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Begins anew."""
        self.nats = self.tokens = self.norm = 0.0
        self.steps, self.started = 0, time.monotonic()

    def add(self, metrics: dict[str, float]) -> None:
        """Adds the metrics of one step."""
        self.nats += metrics["loss"] * metrics["tokens"]
        self.tokens += metrics["tokens"]
        self.norm += metrics["gradient_norm"]
        self.steps += 1

    def summary(self) -> dict[str, float]:
        """Returns means over the tokens, or steps, that were added."""
        return {
            "loss": self.nats / self.tokens,
            "gradient_norm": self.norm / self.steps,
            "tokens_per_second": self.tokens / (time.monotonic() - self.started),
        }


class Log:
    """``metrics.jsonl``: one JSON object per line; lines after the resumed state are removed."""

    def __init__(self, path: Path, step: int, epochs: int):
        self.path = path
        if not is_first():
            return
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        kept = [line + b"\n" for line in lines if _is_until(line, step, epochs)]
        self.written = b"".join(kept)
        atomic_write(path, self.written)

    def write(self, step: int, **record: Any) -> None:
        """Appends a line, in process 0."""
        if is_first():
            line = (json.dumps({"step": step, **record}) + "\n").encode()
            if is_local(self.path):
                with self.path.open("ab") as file:
                    file.write(line)
            else:  # stores of objects know no appending
                self.written += line
                atomic_write(self.path, self.written)


def _is_until(line: bytes, step: int, epochs: int) -> bool:
    """Returns whether a line of the log is complete, and not later than a state."""
    try:
        record = parse_json(line)
        return record["step"] <= step and record.get("epoch", 0) <= epochs
    except (ValueError, TypeError, KeyError, AttributeError):
        return False  # truncated when the run was killed, or edited
