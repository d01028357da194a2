"""What the parts of ``docs/gpu`` share: records, times of calls, and processes of their own."""

import argparse
import statistics
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Record = dict[str, Any]
HERE = Path(__file__).resolve().parent


def attempt(what: str, work: Callable[[], Record]) -> Record:
    """Returns what was found, or why it was not: the other rows of a part go on."""
    try:
        return {"what": what} | work()
    except Exception as error:
        return {"what": what, "failed": f"{type(error).__name__}: {error}".split("\n")[0][:300]}


def seconds_of(call: Callable[[], Any], at_least: float = 0.3) -> float:
    """Returns the seconds of a call: the median of several that together take some time."""
    import jax

    jax.block_until_ready([call(), call()])
    taken: list[float] = []
    while len(taken) < 3 or sum(taken) < at_least:
        started = time.perf_counter()
        jax.block_until_ready(call())
        taken.append(time.perf_counter() - started)
    return statistics.median(taken)


def child(part: str, given: argparse.Namespace, seconds: float = 0) -> list[str]:
    """Returns the command that runs one part in a process of its own."""
    command = [sys.executable, str(HERE), "--part", part]
    command += ["--seconds", str(seconds), "--torch", given.torch]
    return command + ["--small"] * given.small
