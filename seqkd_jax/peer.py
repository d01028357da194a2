"""Another system's command, measured by a turn at a time (``seqkd bench --against``)."""

import json
import shlex
from collections.abc import Generator
from contextlib import suppress
from subprocess import PIPE, Popen
from typing import Any

from .errors import UsageError

LINE = ("mode", "model", "batch", "beam", "value")  # what a peer's JSON line has at least


def turns_of(command: str) -> Generator[dict[str, Any], None, None]:
    """Yields a peer's JSON lines, each from the turn that asking for it begins.

    A peer that stays reads a line from its standard input before each turn, the first as well, and
    prints one after it. One that ends after its line is started again for the next. Close the
    generator to end it. What it says on standard error is shown.

    Raises:
      UsageError: it ended without such a line.
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
    with suppress(BrokenPipeError):  # it has ended; its last line may be left to read
        process.stdin.write(b"\n")
    for text in process.stdout:
        if text.startswith(b"{") and all(f'"{name}"'.encode() in text for name in LINE):
            return json.loads(text)
    return None
