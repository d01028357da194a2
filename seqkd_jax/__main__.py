"""The ``seqkd`` program: parses arguments and runs a command. Floor 10."""

import importlib
import sys
from typing import Any

from . import console, program, stopping
from .arguments import RESUMED
from .parsing import parse


def entry() -> None:
    """Runs the ``seqkd`` program and ends this process with the status of ``main``."""
    program.end(main)


def main(arguments: list[str] | None = None) -> int:
    """Runs a command and returns its exit status (``program.run``)."""
    command: Any = None

    def run() -> None:
        nonlocal command
        command = parse(sys.argv[1:] if arguments is None else arguments)
        console.speak(command.messages)
        with stopping.deferred():  # C modules print what is raised while they import others
            commands = importlib.import_module(".commands", __package__)
        getattr(commands, type(command).__name__.lower())(command)

    return program.run(
        run, lambda: "to resume" if isinstance(command, RESUMED) else "to start over"
    )


if __name__ == "__main__":
    entry()
