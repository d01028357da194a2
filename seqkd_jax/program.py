"""What makes a function a program: how it ends, and what it says when it fails. Floor 0.

if __name__ == "__main__":
    program.end(lambda: program.run(main))
"""

import contextlib
import os
import signal
import sys
import traceback
import warnings
from collections.abc import Callable
from typing import NoReturn

from . import console, output, stopping
from .errors import UsageError

REPORT = (
    "seqkd: this is a bug in seqkd_jax, not a mistake of yours. Please report it with the command "
    "and the lines above: https://github.com/seqkd-jax/seqkd_jax/issues"
)


def run(function: Callable[[], None], again: Callable[[], str] = lambda: "to resume") -> int:
    """Runs a function and returns the exit status of its program.

    The status is 2 for a mistake that the user can put right, and 130 or 143 if SIGINT or SIGTERM
    ended the function. ``again`` says what the same command would do after a signal.
    """
    output.speak_utf8()
    before = console.style()
    with stopping.handlers(), warnings.catch_warnings():
        warnings.showwarning = lambda message, *_, **__: console.warn(str(message))
        status = _run(function, again)
    console.speak(before)  # not after a bug, which ``end`` reports in the style of the command
    return status


def _run(function: Callable[[], None], again: Callable[[], str]) -> int:
    try:
        function()
        sys.stdout.flush()
    except stopping.Stopped as stop:
        return _stopped(again(), stop.status)
    except KeyboardInterrupt:  # some libraries raise their own for SIGTERM, too
        return _stopped(again(), 128 + (stopping.requested() or signal.SIGINT))
    except (UsageError, OSError) as error:
        if isinstance(error, BrokenPipeError) and output.reader_has_gone():
            return 141
        console.error(str(error))
        stopping.tell_peers(str(error))
        return 2
    except Exception as error:
        if (number := stopping.requested()) is not None:
            return _stopped(again(), 128 + number)  # the interrupted call raised its own error
        stopping.tell_peers(f"{type(error).__name__}: {error}")
        error.add_note(REPORT)
        raise
    return 0


def _stopped(again: str, status: int) -> int:
    console.error(f"stopped; run the same command again {again}.")
    return status


def end(run: Callable[[], int]) -> NoReturn:
    """Ends this process with the status that ``run`` returns.

    After a signal the process ends without any clean-up: XLA's threads may still be computing, and
    the memory that they use would be torn down under them. So does one of several processes that
    has failed, because the others will not take part in the shutdown. Nothing is lost by that:
    files appear whole or not at all, and locks end with the process.
    """
    status = 1
    try:
        status = run()
    except Exception:
        console.error(traceback.format_exc().rstrip(), prefix="")
    in_company = stopping.part(failed=status not in (0, 130, 143))
    if status in (130, 143) or (status and in_company):
        for stream in (sys.stdout, sys.stderr):
            with contextlib.suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)
    sys.exit(status)
