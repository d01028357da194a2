"""Times of calls, and the records that they are kept in."""

import resource
import statistics
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import jax
import numpy as np

Record = dict[str, Any]


def seconds_of(call: Callable[[], Any]) -> float:
    """Returns the seconds of a call, until all that it computes is there."""
    started = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - started


def first_calls(call: Callable[[], Any]) -> tuple[Record, float]:
    """Calls twice; returns facts about compilation, and the seconds of the second call.

    ``compile_s`` is the time of the first call minus that of the second, so it includes tracing.
    ``temp_mb`` is the temporary memory of the largest program. ``peak_mb`` is the peak memory of
    the process so far: only a row that is measured alone shows its own.
    """
    client = jax.local_devices()[0].client
    before = {id(program): program for program in client.live_executables()}
    first, second = seconds_of(call), seconds_of(call)
    new = [x.get_compiled_memory_stats() for x in client.live_executables() if id(x) not in before]
    unit = 1 if sys.platform == "darwin" else 1024  # bytes in a unit of ru_maxrss
    return {
        "compile_s": max(0.0, first - second),
        "programs": len(new),
        "temp_mb": max((x.temp_size_in_bytes for x in new), default=0) / 2**20,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20,
    }, second


def speed(row: str, unit: str, values: Sequence[float]) -> Record:
    """Returns a row's record: median, minimum and maximum of its repeats, in a unit."""
    spread = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {"row": row, "unit": unit} | spread | {"repeats": list(values)}


def ratio(own: Sequence[float], other: Sequence[float]) -> Record:
    """Returns the ratio of medians, and quartiles of the ratios of neighbouring measurements."""
    lower, upper = np.quantile([a / b for a, b in zip(own, other, strict=True)], [0.25, 0.75])
    medians = statistics.median(own) / statistics.median(other)
    return {"ratio": medians, "lower_quartile": float(lower), "upper_quartile": float(upper)}
