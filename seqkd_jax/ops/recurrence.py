"""Sums of products, and loops over them whose matrices learn outside the loop."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ..base import Array
from .dense import dense


class Sum(NamedTuple):
    """y = start + v_1 @ W_1 + v_2 @ W_2 + ..., a function of the vectors."""

    start: Array  # [M]; in a recurrence [T, M] where it differs from step to step
    weights: tuple[Array, ...] = ()  # [N_1, M], [N_2, M], ...

    def __call__(self, *vectors: Array) -> Array:
        """Returns y [..., M] of the vectors [..., N_1], [..., N_2], ..., one for each matrix."""
        products = (dense(v, w) for v, w in zip(vectors, self.weights, strict=True))
        return sum(products, start=self.start)


def recurrence(
    step: Callable[[Any, Any, Any], tuple[Any, Any]],
    sums: Any,
    carry: Any,
    xs: Any = None,
    *,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Returns ``lax.scan(lambda carry, x: step(sums, carry, x), carry, xs)``.

    There every ``Sum`` starts from its row of the step, where it has one. All products with
    matrices are those of ``sums``, so the gradient of each sum is that of what it starts from, and
    a matrix's gradient is one product over all steps (and, under ``vmap``, sentences) instead of
    one addition to a whole matrix in every step.

    Args:
      step: (sums, carry, x) -> (carry, out). It calls each ``Sum`` of ``sums`` exactly once. What
        it closes over gets no gradient.
      sums: a pytree of ``Sum``, of which at least one starts from [T, M], and of arrays: constants
        of any shape, whose gradients are summed in the loop.
      carry: before the first step.
      xs: more of each step, [T, ...]; no gradient flows into it.
      reverse: from the last step to the first; outputs keep their positions.

    Returns:
      The last carry and the outputs [T, ...]. Differentiable once: differentiating the gradient
      raises NotImplementedError.
    """
    leaves, tree = jax.tree.flatten(sums, is_leaf=_is_sum)
    totals: list[Sum] = [leaf for leaf in leaves if _is_sum(leaf)]
    constants = [leaf for leaf in leaves if not _is_sum(leaf)]
    steps = max(len(total.start) for total in totals if total.start.ndim > 1)
    starts = [jnp.broadcast_to(total.start, (steps, total.start.shape[-1])) for total in totals]
    weights: list[tuple[Array, ...]] = [total.weights for total in totals]

    def run(carry: Any, starts: list[Array], constants: list[Array]) -> tuple[Any, Any]:
        def advance(carry: Any, now: tuple) -> tuple[Any, Any]:
            starts, x = now
            called = [_Called(Sum(*pair)) for pair in zip(starts, _once(weights), strict=True)]
            in_order, others = iter(called), iter(constants)
            here = [next(in_order) if _is_sum(leaf) else next(others) for leaf in leaves]
            carry, out = step(jax.tree.unflatten(tree, here), carry, x)
            return carry, (out, [total.vectors for total in called])

        carry, (outputs, read) = lax.scan(advance, carry, (starts, xs), reverse=reverse)
        return (carry, outputs), read

    result, pull, read = jax.vjp(run, *_once((carry, starts, constants)), has_aux=True)
    # The sums as they came out in the loop: not for their values, but to lead the gradient to
    # matrices and starts.
    read = lax.stop_gradient(read)
    again = [Sum(s, w)(*v) for s, w, v in zip(starts, weights, read, strict=True)]
    return _pulled_back(result, pull, carry, again, constants)


def _is_sum(leaf: Any) -> bool:
    return isinstance(leaf, Sum)


class _Called:
    """A sum that keeps the vectors that it is given."""

    def __init__(self, total: Sum):
        self.total = total

    def __call__(self, *vectors: Array) -> Array:
        self.vectors = vectors
        return self.total(*vectors)


@jax.custom_vjp
def _pulled_back(result: Any, pull: Callable, carry: Any, sums: Any, constants: Any) -> Any:
    """Returns ``result``, the gradient of which ``pull`` takes to what the loop started from."""
    del pull, carry, sums, constants
    return result


_pulled_back.defvjp(
    lambda result, pull, *start: (result, pull),
    lambda pull, gradient: (None, None, *pull(gradient)),
)


def _once(tree: Any) -> Any:
    """Stops the gradient, and refuses that of the gradient: it would silently lack terms."""
    return jax.tree.map(lambda x: _stopped(x) if jnp.issubdtype(x.dtype, jnp.inexact) else x, tree)


@jax.custom_jvp
def _stopped(x: Array) -> Array:
    return x


@jax.custom_jvp
def _refused(x: Array) -> Array:
    return x


@_stopped.defjvp
def _stopped_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    del tangents
    return _refused(*primals), jnp.zeros_like(*primals)


@_refused.defjvp
def _refused_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    raise NotImplementedError("recurrence can be differentiated once; unroll it for a Hessian.")
