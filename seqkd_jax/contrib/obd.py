"""Optimal Brain Damage: the cost of removing each weight, from the curvature of the loss.

    h = fisher_diagonal(model, params, batches, key=key)
    mask = class_blind(params, 0.8, saliency=saliencies(params, h))

At a minimum, removing weight u_k increases the loss by about h_kk u_k^2 / 2, where h_kk is the
second derivative. It is approximated by the diagonal of the Fisher matrix, which is never negative
and needs first derivatives only.

Source: LeCun, Denker & Solla 1990; the Gauss-Newton form of its section 3.
"""

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ..base import Array, Example, Params, Seq2Seq, step_fn
from ..errors import UsageError
from ..search import sample
from ..train.steps import log_prob

CHUNK_SIZE = 8  # sentences whose gradients, each as large as the model, are in memory together


def saliencies(params: Params, curvature: Params) -> Params:
    """Returns the increase of the loss if a weight is set to 0: h_kk u_k^2 / 2, for diagonal h."""
    return jax.tree.map(lambda u, h: h * jnp.square(u) / 2, params, curvature)


def fisher_diagonal(
    model: Seq2Seq, params: Params, batches: Iterable[Example], *, key: Array | None = None
) -> Params:
    """Returns the mean over sentences of the squared gradient of their log-probability, float32.

    With a key, targets are drawn from the model itself: an estimate of the Fisher matrix, which is
    the Gauss-Newton form of the Hessian of the loss per sentence, as training divides it. Drawn
    sentences have at most twice the tokens of the batch's targets; there EOS is forced. Without a
    key, targets are those of the data (the "empirical" Fisher).

    Args:
      model: any ``Seq2Seq``.
      params: its parameters.
      batches: ``Example`` with leading axis B; rows of weight 0 are ignored.
      key: for drawing targets; None for the targets of the data.

    Raises:
      UsageError: ``batches`` contains no sentence.
    """
    sums = jax.tree.map(lambda w: jnp.zeros(jnp.shape(w), jnp.float32), params)
    add, count = _adder(model, key is not None), 0.0
    for batch in batches:
        sums = add(sums, params, batch, key)
        count += float(batch.weight.sum())
    if not count:
        raise UsageError("batches contains no sentence to compute gradients from.")
    return jax.tree.map(lambda s: s / count, sums)


@functools.lru_cache(maxsize=8)
def _adder(model: Seq2Seq, drawn: bool) -> Callable[..., Params]:
    def drawn_target(params: Params, src: Array, tgt: Array, key: Array) -> Array:
        memory, state = model.encode(params, src)
        step = step_fn(model, params, memory)
        return sample(step, state, key, max_len=2 * tgt.shape[0]).tokens[0]

    def squared_gradient(params: Params, row: Example, key: Any) -> Params:
        tgt = row.tgt
        if drawn:
            tgt = drawn_target(params, row.src, tgt, jax.random.fold_in(key, row.index))
        gradient = jax.grad(log_prob, 1)(model, params, row.src, tgt)
        return jax.tree.map(lambda g: row.weight * jnp.square(g.astype(jnp.float32)), gradient)

    @functools.partial(jax.jit, donate_argnums=0)
    def add(sums: Params, params: Params, batch: Example, key: Array | None) -> Params:
        rows = math.gcd(CHUNK_SIZE, len(batch.weight))
        chunks = jax.tree.map(lambda x: x.reshape(-1, rows, *x.shape[1:]), batch)

        def add_chunk(sums: Params, chunk: Example) -> tuple[Params, None]:
            squares = jax.vmap(squared_gradient, (None, 0, None))(params, chunk, key)
            return jax.tree.map(lambda s, g: s + g.sum(0), sums, squares), None

        return lax.scan(add_chunk, sums, chunks)[0]

    return add
