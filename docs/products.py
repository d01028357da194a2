"""What decides how the vocabulary side is computed: its products by themselves, on this machine.

Milliseconds for B words at once, H = 500, V = 50,004 (the students of the paper's Table 2): number
formats, the projection lying as [H, V] or [V, H], forwards and backwards, and what XLA joins to a
product. Medians and least of repeats in turns. "sum of W" only reads the matrix.

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


def _product(of_x: int, of_w: int):
    """A product that sums over these axes."""
    return lambda x, w: lax.dot_general(x, w, (((of_x,), (of_w,)), ((), ())))


def products(hidden: int, words: int) -> dict:
    """Returns (function of x [B, H] and W; W) of each way."""
    draws = np.random.default_rng(0)
    w = jnp.asarray(draws.standard_normal((hidden, words)), jnp.float32)
    w8 = jnp.asarray(draws.integers(-127, 128, (hidden, words)), jnp.int8)
    turned = lambda w: jnp.array(np.asarray(w).T)  # noqa: E731
    rows = (((1,), (1,)), ((), ()))  # of both factors

    def integers(x):
        return jnp.round(x * 20).astype(jnp.int8)

    def looked_at(x, w):
        logits = x @ w
        largest = logits.max(1, keepdims=True)
        return jnp.exp(logits - jnp.where(jnp.isfinite(largest), largest, 0))

    return {
        "float32": (jnp.matmul, w),
        "float32, W [V, H]": (_product(1, 1), turned(w)),
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
        "float32, exp(. - max)": (lambda x, w: jnp.exp((y := x @ w) - y.max(1, keepdims=True)), w),
        "the same, max looked at": (looked_at, w),
    }


def gradients(hidden: int, words: int) -> dict:
    """Returns (function of x [B, H], g [B, V] and W; W) of each way of going back."""
    draws = np.random.default_rng(0)
    w = jnp.asarray(draws.standard_normal((hidden, words)), jnp.float32)
    turned = jnp.array(np.asarray(w).T)
    barrier = lax.optimization_barrier
    return {
        "of x": (lambda x, g, w: _product(1, 1)(g, w), w),
        "of x, W [V, H]": (lambda x, g, w: g @ w, turned),
        "of W, added": (lambda x, g, w: w + barrier(x.T) @ g, w),
        "of W [V, H], added": (lambda x, g, w: w + _product(0, 0)(g, x), turned),
        "of the bias: sum": (lambda x, g, w: g.sum(0), w),
        "of the bias: ones @ g": (lambda x, g, w: jnp.ones(len(g)) @ g, w),
    }


def main() -> None:
    """Prints a table."""
    options = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    options.add_argument("--hidden", type=int, default=500, help="H")
    options.add_argument("--words", type=int, default=50_004, help="V")
    options.add_argument("--batches", type=int, nargs="+", default=[1, 5, 64, 256], help="of words")
    options.add_argument("--repeats", type=int, default=9)
    given = options.parse_args()
    prepare()
    forward, back = (make(given.hidden, given.words) for make in (products, gradients))
    ways = {name: (jax.jit(f), w) for name, (f, w) in (forward | back).items()}
    shown = [{"row": name} for name in ways]
    for batch in given.batches:
        x = jax.random.normal(jax.random.key(0), (batch, given.hidden))
        g = jax.random.normal(jax.random.key(1), (batch, given.words))
        seconds = {name: [] for name in ways}
        for repeat in range(1 + given.repeats):
            for name, (f, w) in ways.items():
                sides = (x, g, w) if name in back else (x, w)
                start = time.perf_counter()
                f(*sides).block_until_ready()
                if repeat:  # the first compiles
                    seconds[name].append(1e3 * (time.perf_counter() - start))
        for row, taken in zip(shown, seconds.values(), strict=True):
            row[f"B {batch}, ms"] = f"{statistics.median(taken):.1f} ({min(taken):.1f})"
    print(speed_table(shown))


if __name__ == "__main__":
    main()
