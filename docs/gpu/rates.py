"""What the device can do at its best, and how much of it training and search reach."""

import argparse
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

from records import HERE, Record, attempt, seconds_of


def rates(small: bool) -> dict[str, float]:
    """Measures FLOP/s of a large product in each precision, and bytes/s of reading and writing."""
    import jax
    import jax.numpy as jnp

    n, words = (512, 2**22) if small else (8192, 2**28)
    found = {}
    for name, dtype, precision in (
        ("float32", "float32", None),
        ("float32, highest", "float32", "highest"),
        ("bfloat16", "bfloat16", None),
    ):
        x = jnp.ones((n, n), dtype)
        product = jax.jit(lambda x, precision=precision: jnp.matmul(x, x, precision=precision))
        found[name] = 2 * n**3 / seconds_of(lambda f=product, x=x: f(x))
    x, add = jnp.ones(words), jax.jit(lambda x: x + 1)
    return found | {"memory": 2 * 4 * words / seconds_of(lambda: add(x))}


def machine(given: argparse.Namespace) -> Iterator[Record]:
    """Says what the machine is, and how fast it is at its best."""
    import jax

    from seqkd_jax.parallel import describe_devices

    device = describe_devices(jax.devices(), jax.local_devices())
    yield {"what": "device", "is": device, "jax": jax.__version__}
    query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.total,power.limit"]
    if shutil.which(query[0]):
        yield attempt("nvidia-smi", lambda: {"says": _output([*query, "--format=csv,noheader"])})
    for name, rate in rates(given.small).items():
        yield {
            "what": f"best rate, {name}",
            **({"GB/s": rate / 1e9} if name == "memory" else {"TFLOP/s": rate / 1e12}),
        }


def traffic(row: Any) -> float:
    """Returns the bytes of a step if every product reads its factors and writes its result.

    Adam's reads and writes are added. A cache that holds the weights saves some of them, so a share
    of the memory's rate can exceed 1.
    """
    import jax

    from seqkd_jax.bench.products import products
    from seqkd_jax.models.attention_lstm import attention_lstm

    size = 2 if row.config.dtype == "bfloat16" else 4
    moved = sum(
        times * batch * (rows * inner + inner * out + rows * out)
        for times, batch, rows, inner, out in products(row)
    )
    if row.beam:
        return float(size * moved)
    params = jax.eval_shape(attention_lstm(row.config).init, jax.random.key(0))
    return float(size * moved + 7 * 4 * sum(x.size for x in jax.tree.leaves(params)))


def shares(given: argparse.Namespace) -> Iterator[Record]:
    """Compares training and search with the best rates, at growing B."""
    from seqkd_jax import bench

    best = rates(given.small)
    short = replace(bench.MODELS["teacher"], dtype="bfloat16")
    models = dict(bench.MODELS) | {"teacher-bfloat16": short}
    rows = [
        bench.fixed_row(work, model, batch, beam)
        for batch in ((2, 4) if given.small else (64, 512, 4096))
        for work, model, beam in (
            *(() if given.small else (("train", "teacher", 0), ("decode", "teacher", 5))),
            ("train", "student", 0),
            ("decode", "student", 1),
        )
    ]
    if not given.small:
        for work, beam in (("train", 0), ("decode", 5)):
            rows.append(bench.fixed_row(work, "teacher-bfloat16", 4096, beam, models))
    for row in rows:
        yield attempt(str(row), lambda row=row: _share(row, best))


def _share(row: Any, best: dict[str, float]) -> Record:
    import jax

    from seqkd_jax import bench
    from seqkd_jax.bench.timing import first_calls

    step = bench.step_of(row)
    facts, _ = first_calls(step)
    seconds = seconds_of(step, 0.6)
    arithmetic = best[row.config.dtype]
    stats = jax.local_devices()[0].memory_stats() or {}
    return {
        "ms": 1e3 * seconds,
        "per_s": row.amount / seconds,
        "unit": "sentences" if row.beam else "target tokens",
        "TFLOP/s": bench.flops(row) / seconds / 1e12,
        "of_arithmetic": bench.flops(row) / seconds / arithmetic,
        "of_memory": traffic(row) / seconds / best["memory"],
        "compile_s": facts["compile_s"],
        "temp_mb": facts["temp_mb"],
        "peak_gib": stats.get("peak_bytes_in_use", 0) / 2**30,
    }


def profile(given: argparse.Namespace) -> Iterator[Record]:
    """Shows the kernels of a step, the longest first, and how long the device was busy."""
    sys.path.append(str(HERE.parent))
    import kernels

    from seqkd_jax import bench

    rows = [bench.fixed_row("train", "teacher", 64), bench.fixed_row("decode", "teacher", 64, 5)]
    rows += [bench.fixed_row("decode", "student", 64, 1)]
    for row in [bench.fixed_row("train", "student", 4)] if given.small else rows:
        yield attempt(str(row), lambda row=row: _kernels(kernels, bench.step_of(row)))


def _kernels(kernels: Any, step: Callable[[], Any], steps: int = 5, shown: int = 12) -> Record:
    seconds = seconds_of(step)
    events = kernels.traced(step, steps)
    if not events:
        raise RuntimeError("the profiler saw no kernels")
    busy, reached = 0.0, 0.0
    for _, start, duration in sorted(events, key=lambda event: event[1]):
        busy += max(0.0, start + duration - max(start, reached))
        reached = max(reached, start + duration)
    spent, calls = kernels.summed(events, steps)
    longest = [
        f"{name}: {calls[name]:g} x {1e3 * ms / calls[name]:.1f} us = {ms:.3f} ms"
        for name, ms in spent.most_common(shown)
    ]
    return {
        "ms": 1e3 * seconds,
        "kernels_a_step": sum(calls.values()),
        "busy": busy / 1e9 / steps / seconds,  # of the time of a step that is not traced
        "longest": longest,
    }


def _output(command: list[str]) -> str:
    return subprocess.check_output(command, text=True).strip()
