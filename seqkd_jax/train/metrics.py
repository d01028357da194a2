"""What is logged of a training: sums of metrics, and a file."""

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from .. import console
from ..addresses import is_local
from ..files import atomic_write
from ..processes import is_first
from ..sealed import parse_json

OnRecord = Callable[[dict[str, Any]], None]


class Window:
    """The metrics of a few steps, as sums and counts: means of means would be wrong."""

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Resets the sums."""
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

    def __init__(self, path: Path, step: int, epochs: int, also: OnRecord | None = None):
        self.path, self.also = path, also
        if not is_first():
            return
        lines = path.read_bytes().split(b"\n") if path.exists() else []
        kept = [line + b"\n" for line in lines if _is_until(line, step, epochs)]
        self.written = b"".join(kept)
        atomic_write(path, self.written)

    def write(self, step: int, **record: Any) -> None:
        """Appends a line, in process 0, and gives the record to ``also``."""
        if is_first():
            line = (json.dumps({"step": step, **record}) + "\n").encode()
            if is_local(self.path):
                with self.path.open("ab") as file:
                    file.write(line)
            else:  # object stores cannot append
                self.written += line
                atomic_write(self.path, self.written)
            console.record("metrics", run=str(self.path.parent), step=step, **record)
            if self.also:
                self.also({"step": step, **record})


def _is_until(line: bytes, step: int, epochs: int) -> bool:
    """Returns whether a line of the log is complete, and not later than a state."""
    try:
        record = parse_json(line)
        return record["step"] <= step and record.get("epoch", 0) <= epochs
    except (ValueError, TypeError, KeyError, AttributeError):
        return False  # truncated when the run was killed, or edited
