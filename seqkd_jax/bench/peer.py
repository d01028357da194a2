"""Another system's command, measured in turns with this library (``seqkd bench --against``)."""

import json
import shlex
import statistics
from collections.abc import Generator
from contextlib import closing, suppress
from subprocess import PIPE, Popen
from typing import Any

from ..errors import UsageError
from ..progress import Bar
from ..settings import Timing
from .rows import FIXED, MODELS, Models, chosen, fixed_row
from .timing import Record, ratio
from .turns import Measured

LINE = ("mode", "model", "batch", "beam", "value")  # keys that every JSON line of a peer must have


def turns_of(command: str) -> Generator[dict[str, Any], None, None]:
    """Yields a peer's JSON lines; asking for a line starts the turn that it reports.

    A peer that keeps running reads a line from its standard input before each turn, the first one
    included, and prints a line after the turn. A peer that ends after its line is started again
    for the next turn. Close the generator to end the peer. Its standard error is shown.

    Raises:
      UsageError: the peer ended without printing such a line.
    """
    process: Any = Popen(shlex.split(command), bufsize=0, stdin=PIPE, stdout=PIPE)
    answered = False
    with process:
        while line := _turn(process):
            answered = True
            yield line
    if not answered:
        raise UsageError(
            f"{command}: printed no JSON line with {', '.join(LINE)} (exit status "
            f"{process.returncode}); its output is above."
        )
    yield from turns_of(command)


def _turn(process: Any) -> dict[str, Any] | None:
    with suppress(BrokenPipeError):  # the peer has ended, but its last line may still be unread
        process.stdin.write(b"\n")
    for text in process.stdout:
        if text.startswith(b"{") and all(f'"{name}"'.encode() in text for name in LINE):
            return json.loads(text)
    return None


def measure_against(command: str, timing: Timing, models: Models = MODELS) -> list[Record]:
    """Measures this library and a peer in turns.

    The record has the ratio of the medians, and the quartiles of the ratios of neighbouring turns.
    The peer's command prints a JSON line with mode (train, kd, decode), model, batch, beam (null
    in training) and value, in the units of ``rows``. It keeps running, or is started again for
    each turn; see ``turns_of``. Its first turn only tells which row to measure.

    Args:
      command: of the peer.
      timing: how to measure.
      models: sizes of the models.

    Raises:
      UsageError: there is no such line or row.
    """
    with closing(turns_of(command)) as turns:
        line, peer = next(turns), []
        work, model, beam = line["mode"], line["model"], line["beam"] or 1
        chosen([f"{row.work}-{row.model}" for row in FIXED], [f"{work}-{model}"])
        row = fixed_row(work, model, line["batch"], beam if work == "decode" else 0, models)
        measured = Measured(row, timing)
        for _ in Bar(range(timing.repeats), desc=str(row), unit="repeat"):
            measured.turn()
            peer.append(float(next(turns)["value"]))
    record = {"row": str(row), "peer": line.get("system", command)}
    record |= ratio(measured.values, peer) | {"peer_median": statistics.median(peer)}
    return [record | measured.record() | {"peer_repeats": peer, "peer_line": line}]
