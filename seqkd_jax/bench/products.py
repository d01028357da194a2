"""The matrix products of a row: counted, and timed by themselves.

FLOPs count the matrix products of the model's equations, 2 * rows * inner * out each: also those
that ``for_search`` and ``for_teaching`` replace by tables of words, and twice as many backwards as
forwards.
"""

from collections import Counter
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from ..models.config import Config
from .rows import Row
from .timing import seconds_of

# (times, batch, rows, inner, out): ``times`` products of [batch, rows, inner] with
# [batch, inner, out]; batch is B if each sentence has its own right-hand side, otherwise 1.
Product = tuple[int, ...]

GEMM_FLOPS = 5e8  # FLOPs of one timing of a product: small products are repeated up to it,
GEMM_REPEATS = 256  # but not more often than this


def products(row: Row) -> list[Product]:
    """Returns all matrix products of one step."""
    forward, backward = _forward(row, row.config), []
    for times, batch, rows, inner, out in () if row.beam else forward:
        backward.append((times, batch, rows, out, inner))
        # The gradient of the weights is one product for all steps of a loop.
        backward.append((1, batch, inner, times * rows, out))
    return forward + backward + (_forward(row, row.teacher_config) if row.teacher_config else [])


def _forward(row: Row, config: Config) -> list[Product]:
    """Returns the products of a one-way encoder over B sentences and of T decoder steps.

    A decoder step has B * K rows. In training the target words are known, so that all positions
    share one product with the embeddings and one with the hidden states.
    """
    b, t, k, e, h = row.batch, row.length, row.beam or 1, config.embed, config.hidden
    step = (t, 1, b * k)
    all_steps = step if row.beam else (1, 1, b * t)
    return [
        (1, 1, b * t, e, 4 * h),
        *[(1, 1, b * t, h, 4 * h)] * (config.layers - 1),
        *[(t, 1, b, h, 4 * h)] * config.layers,  # encoder, recurrent
        *[(1, 1, b * t, h, h)] * 2,  # keys and values
        (*all_steps, e, 4 * h),
        # Layer 1 reads the last h~ and its own h; every other layer the one below and its own h.
        *[(*step, h, 4 * h)] * (2 * config.layers),
        (t, b, k, h, t),  # scores
        (t, b, k, t, h),  # weighted sum of values
        (*step, h, h),  # query
        (*all_steps, h, row.shortlist * row.length or config.tgt_vocab),
    ]


def flops(row: Row) -> int:
    """Returns the number of floating point operations in one step's matrix products."""
    return sum(2 * int(np.prod(product)) for product in products(row))


def gemm_seconds(row: Row) -> float:
    """Measures how many seconds the products of one step take by themselves."""
    total = 0.0
    for (times, batch, rows, inner, out), count in Counter(products(row)).items():
        loops = int(min(GEMM_REPEATS, max(1, GEMM_FLOPS // (2 * batch * rows * inner * out))))
        several = (batch,) if batch > 1 else ()
        left, right = jnp.ones((loops, *several, rows, inner)), jnp.ones((*several, inner, out))
        total += count * times * seconds_of(partial(_products, left, right)) / loops
    return total


@jax.jit
def _products(left: jax.Array, right: jax.Array) -> jax.Array:
    """Computes one product after another, as a model's loop does, in a single call."""
    return lax.map(lambda one: one @ right, left)
