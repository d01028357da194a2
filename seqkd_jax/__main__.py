"""The ``seqkd`` command: reads arguments, does what they say, and tells how it ended."""

import contextlib
import importlib
import os
import sys
import warnings
from typing import Any

from . import output, stopping
from .arguments import RESUMED, parse
from .errors import UsageError

REPORT = (
    "seqkd: this is a bug of seqkd_jax, not a mistake of yours. Please report it with the command "
    "and the lines above: https://github.com/seqkd-jax/seqkd_jax/issues"
)


def entry() -> None:
    """The ``seqkd`` program: ends this process with the status of ``main``.

    A stopped one ends at once: threads of XLA may still compute, and would be torn down with what
    they compute on. Files appear whole or not at all, and locks end with the process.
    """
    status = main()
    if status in (130, 143):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)
    sys.exit(status)


def main(arguments: list[str] | None = None) -> int:
    """Runs a command; returns the exit status.

    It is 2 for what a user can put right, and 130 or 143 for what SIGINT or SIGTERM has ended.
    """
    arguments = sys.argv[1:] if arguments is None else arguments
    output.speak_utf8()
    with stopping.handlers(), warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: print(f"seqkd: {message}", file=sys.stderr)
        return _run(arguments)


def _run(arguments: list[str]) -> int:
    command: Any = None
    try:
        command = parse(arguments)
        commands = importlib.import_module(".commands", __package__)
        getattr(commands, type(command).__name__.lower())(command)
        sys.stdout.flush()
    except KeyboardInterrupt as stop:
        return _stopped(command, stop.status if isinstance(stop, stopping.Stopped) else 130)
    except (UsageError, OSError) as error:
        if isinstance(error, BrokenPipeError) and output.nobody_listens():
            return 141
        print(f"seqkd: {error}", file=sys.stderr)
        return 2
    except Exception as error:
        if (number := stopping.requested()) is not None:
            return _stopped(command, 128 + number)  # what it interrupted has raised in its stead
        error.add_note(REPORT)
        raise
    return 0


def _stopped(command: Any, status: int) -> int:
    on = "to resume" if isinstance(command, RESUMED) else "to start over"
    print(f"seqkd: stopped; run the same command again {on}.", file=sys.stderr)
    return status


if __name__ == "__main__":
    entry()
