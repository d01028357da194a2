"""Optimal Brain Damage: what each weight's removal costs, by the curvature of the loss.

    h = fisher_diagonal(model, params, batches, key=key)
    mask = class_blind(params, 0.8, saliency=saliencies(params, h))

At a minimum the loss that weight u_k takes with it is about h_kk u_k^2 / 2, with h_kk the second
derivative. In its place stands the diagonal of the Fisher matrix, which is never negative and
takes first derivatives only.

Source: LeCun, Denker & Solla 1990; the Gauss-Newton form of its section 3.
"""

import functools
import math
from collections.abc import Callable, Iterable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from ..base import PAD, Array, Example, Params, Seq2Seq
from ..errors import UsageError
from ..losses import nll
from ..search import sample

ROWS = 8  # sentences whose gradients, each as large as the model, exist at once


def saliencies(params: Params, second: Params) -> Params:
    """The loss that goes up with each weight set to 0: h_kk u_k^2 / 2, for diagonal h."""
    return jax.tree.map(lambda u, h: h * jnp.square(u) / 2, params, second)


def fisher_diagonal(
    model: Seq2Seq, params: Params, batches: Iterable[Example], *, key: Array | None = None
) -> Params:
    """The mean over sentences of the squared gradient of their log-probability, float32.

    With a key, targets are drawn from the model itself: an estimate of the Fisher matrix, which is
    the Gauss-Newton form of the loss's Hessian, per sentence as training divides it. A drawn
    sentence may have twice the tokens of the batch's targets; there EOS is forced. Without a key,
    targets are those of the data (the "empirical" Fisher).

    Args:
      model: any ``Seq2Seq``.
      params: its parameters.
      batches: ``Example`` with leading axis B; rows of weight 0 do not count.
      key: to draw targets with.

    Raises:
      UsageError: there is no sentence in ``batches``.
    """
    sums = jax.tree.map(lambda w: jnp.zeros(jnp.shape(w), jnp.float32), params)
    add, count = _adder(model, key is not None), 0.0
    for batch in batches:
        sums = add(sums, params, batch, key)
        count += float(batch.weight.sum())
    if not count:
        raise UsageError("batches has no sentence to compute gradients from.")
    return jax.tree.map(lambda s: s / count, sums)


@functools.lru_cache(maxsize=8)
def _adder(model: Seq2Seq, drawn: bool) -> Callable[..., Params]:
    def log_prob(params: Params, src: Array, tgt: Array) -> Array:
        hidden = model.hidden(params, src, tgt)
        losses = jax.vmap(lambda h, t: nll(model.project(params, h), t))(hidden, tgt)
        return -jnp.where(tgt != PAD, losses, 0).sum()

    def drawn_target(params: Params, src: Array, tgt: Array, key: Array) -> Array:
        memory, state = model.encode(params, src)

        def step(state: Any, token: Array) -> tuple[Array, Any]:
            hidden, state = model.step(params, memory, state, token)
            return model.project(params, hidden), state

        return sample(step, state, key, max_len=2 * tgt.shape[0]).tokens[0]

    def squared(params: Params, row: Example, key: Any) -> Params:
        tgt = row.tgt
        if drawn:
            tgt = drawn_target(params, row.src, tgt, jax.random.fold_in(key, row.index))
        gradient = jax.grad(log_prob)(params, row.src, tgt)
        return jax.tree.map(lambda g: row.weight * jnp.square(g.astype(jnp.float32)), gradient)

    @functools.partial(jax.jit, donate_argnums=0)
    def add(sums: Params, params: Params, batch: Example, key: Array | None) -> Params:
        rows = math.gcd(ROWS, len(batch.weight))
        parts = jax.tree.map(lambda x: x.reshape(-1, rows, *x.shape[1:]), batch)

        def part(sums: Params, rows: Example) -> tuple[Params, None]:
            more = jax.vmap(squared, (None, 0, None))(params, rows, key)
            return jax.tree.map(lambda s, m: s + m.sum(0), sums, more), None

        return lax.scan(part, sums, parts)[0]

    return add
