"""The projection of a decoding step in other number formats and layouts, on this machine.

Milliseconds for B words at once, H = 500, V = 50,004 (the students of the paper's Table 2); the
last row only reads the matrix. Medians and least of repeats in turns.

    python docs/products.py
"""

import argparse
import statistics
import time

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from seqkd_jax.commands import prepare
from seqkd_jax.report.speed import speed_table


def products(hidden: int, words: int) -> dict:
    """Returns (function of x [B, H] and W, W) of each way."""
    draws = np.random.default_rng(0)
    w = jnp.asarray(draws.standard_normal((hidden, words)), jnp.float32)
    w8 = jnp.asarray(draws.integers(-127, 128, (hidden, words)), jnp.int8)
    turned = lambda w: jnp.array(np.asarray(w).T)  # noqa: E731
    rows = (((1,), (1,)), ((), ()))  # of both factors

    def integers(x):
        return jnp.round(x * 20).astype(jnp.int8)

    return {
        "float32": (jnp.matmul, w),
        "float32, W [V, H]": (lambda x, w: lax.dot_general(x, w, rows), turned(w)),
        "bfloat16": (
            lambda x, w: jnp.dot(x.astype(w.dtype), w, preferred_element_type=jnp.float32),
            w.astype(jnp.bfloat16),
        ),
        "bfloat16, widened, W [V, H]": (
            lambda x, w: (x[:, None] * w[None].astype(jnp.float32)).sum(-1),
            turned(w).astype(jnp.bfloat16),
        ),
        "int8": (lambda x, w: jnp.dot(integers(x), w, preferred_element_type=jnp.int32), w8),
        "int8, W [V, H]": (
            lambda x, w: lax.dot_general(integers(x), w, rows, preferred_element_type=jnp.int32),
            turned(w8),
        ),
        "int8, widened": (lambda x, w: x @ w.astype(jnp.float32), w8),
        "sum of W": (lambda x, w: w.sum(), w),
    }


def main() -> None:
    """Prints a table."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--hidden", type=int, default=500, help="H")
    options.add_argument("--words", type=int, default=50_004, help="V")
    options.add_argument("--batches", type=int, nargs="+", default=[1, 5, 64], help="of words")
    options.add_argument("--repeats", type=int, default=9)
    given = options.parse_args()
    prepare()
    ways = {name: (jax.jit(f), w) for name, (f, w) in products(given.hidden, given.words).items()}
    shown = [{"row": name} for name in ways]
    for batch in given.batches:
        x = jax.random.normal(jax.random.key(0), (batch, given.hidden))
        seconds = {name: [] for name in ways}
        for repeat in range(1 + given.repeats):
            for name, (f, w) in ways.items():
                start = time.perf_counter()
                f(x, w).block_until_ready()
                if repeat:  # the first compiles
                    seconds[name].append(1e3 * (time.perf_counter() - start))
        for row, taken in zip(shown, seconds.values(), strict=True):
            row[f"B {batch}, ms"] = f"{statistics.median(taken):.1f} ({min(taken):.1f})"
    print(speed_table(shown))


if __name__ == "__main__":
    main()
