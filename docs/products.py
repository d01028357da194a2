"""The vocabulary's matrix products by themselves, in several forms, on this machine.

    python docs/products.py

These measurements decide how the library computes the vocabulary side. The table shows milliseconds
for B words at once, with H = 500 and V = 50,004 (the students of the paper's Table 2): number
formats; the projection stored as [H, V] or [V, H], forwards and backwards; operations that XLA
fuses with a product; and what a search needs of logits (``search.candidates``), the maximum and the
sum over each block of 64. Then it shows the products of 16 steps of an LSTM: two or one in each,
with W stored as [H, 4H] or [4H, H]. The numbers are medians, and minima in brackets, of repeats in
turns. "sum of W" only reads the matrix.
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
from seqkd_jax.search.candidates import BLOCK_SIZE

STEPS = 16


def _product(of_x: int, of_w: int):
    """Returns a product that sums over these axes."""
    return lambda x, w: lax.dot_general(x, w, (((of_x,), (of_w,)), ((), ())))


def products(hidden: int, words: int) -> dict:
    """Returns, for each form of the product, a function of x [B, H] and W, and its W."""
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

    def in_blocks(logits):
        whole = logits[:, : logits.shape[1] // BLOCK_SIZE * BLOCK_SIZE].reshape(
            len(logits), -1, BLOCK_SIZE
        )
        largest = whole.max(-1, keepdims=True)
        return largest, jnp.exp(whole - jnp.where(jnp.isfinite(largest), largest, 0)).sum(-1)

    bias = jnp.asarray(draws.standard_normal(words), jnp.float32)
    wide = jnp.pad(jnp.concatenate([w, bias[None]]), ((0, 0), (0, -words % BLOCK_SIZE)))

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
        "float32 + bias, in blocks": (lambda x, w: in_blocks(x @ w + bias), w),
        "bias a row of W, V whole blocks": (
            lambda x, w: in_blocks(jnp.pad(x, ((0, 0), (0, 1)), constant_values=1) @ w),
            wide,
        ),
    }


def gradients(hidden: int, words: int) -> dict:
    """Returns, for each form of the gradient, a function of x [B, H], g [B, V] and W, and its W."""
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


def recurrences(hidden: int) -> dict:
    """Returns, for each form of 16 steps, a function of x [B, H] and matrices, and the matrices."""
    draws = np.random.default_rng(0).standard_normal((2, hidden, 4 * hidden)) / 50
    of_x, of_h = (jnp.asarray(w, jnp.float32) for w in draws)
    both = jnp.concatenate([of_x, of_h])

    def cell(c, gates):
        i, f, o, g = jnp.split(gates, 4, axis=1)
        c = jax.nn.sigmoid(f) * c + jax.nn.sigmoid(i) * jnp.tanh(g)
        return c, jax.nn.sigmoid(o) * jnp.tanh(c)

    def forwards(product):
        """Computes the next input from h, so that no product can leave the loop."""

        def run(x, w):
            def step(carry, _):
                x, c, h = carry
                c, h = cell(c, product(x, h, w))
                return (h * h, c, h), None

            return lax.scan(step, (x, x, x), length=STEPS)[0]

        return run

    def backwards(product):
        """Goes from the gradient of the gates to those of x and h, and on to the previous gates."""

        def run(x, w):
            def step(gates, _):
                of_x, of_h = product(gates, w)
                return jnp.tanh(jnp.concatenate([of_x, of_h, of_x * of_h, of_h], axis=1)), None

            return lax.scan(step, jnp.tile(x, (1, 4)), length=STEPS)[0]

        return run

    def other_way(h, w):
        """Computes one product that reads W as it is stored, [4H, H], and transposes the result."""
        return lax.optimization_barrier(_product(1, 1)(w, h)).T

    return {
        "16 steps, two products": (
            forwards(lambda x, h, w: x @ w[0] + h @ w[1]),
            (of_x, of_h),
        ),
        "16 steps, one": (forwards(lambda x, h, w: jnp.concatenate([x, h], axis=1) @ w), both),
        "16 steps, two, W [4H, H]": (
            forwards(lambda x, h, w: other_way(x, w[0]) + other_way(h, w[1])),
            (of_x.T, of_h.T),
        ),
        "16 steps back, two products": (
            backwards(lambda g, w: (_product(1, 1)(g, w[0]), _product(1, 1)(g, w[1]))),
            (of_x, of_h),
        ),
        "16 steps back, one": (
            backwards(lambda g, w: jnp.split(_product(1, 1)(g, w), 2, axis=1)),
            both,
        ),
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
    every = forward | back | recurrences(given.hidden)
    ways = {name: (jax.jit(f), w) for name, (f, w) in every.items()}
    shown = [{"row": name} for name in ways]
    for batch in given.batches:
        x = jax.random.normal(jax.random.key(0), (batch, given.hidden))
        g = jax.random.normal(jax.random.key(1), (batch, given.words))
        seconds = {name: [] for name in ways}
        for repeat in range(1 + given.repeats):
            for name, (f, w) in ways.items():
                sides = (x, g, w) if name in back else (x, w)
                start = time.perf_counter()
                jax.block_until_ready(f(*sides))
                if repeat:  # the first compiles
                    seconds[name].append(1e3 * (time.perf_counter() - start))
        for row, taken in zip(shown, seconds.values(), strict=True):
            row[f"B {batch}, ms"] = f"{statistics.median(taken):.1f} ({min(taken):.1f})"
    print(speed_table(shown))


if __name__ == "__main__":
    main()
