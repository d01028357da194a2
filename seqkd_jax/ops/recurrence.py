"""Sums of matrix products, and loops that compute the gradients of their matrices afterwards."""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ..base import Array
from .dense import dense


class Sum(NamedTuple):
    """The function y = start + v_1 @ W_1 + v_2 @ W_2 + ... of vectors v_1, v_2, ..."""

    start: Array  # [M]; in a recurrence also [T, M], one row per step
    weights: tuple[Array, ...] = ()  # [N_1, M], [N_2, M], ...

    def __call__(self, *vectors: Array) -> Array:
        """Returns y [..., M] for vectors [..., N_1], [..., N_2], ..., one for each matrix.

        Vectors are cast to the types of their matrices; y has the type of ``start``.
        """
        start, pairs = self.start, zip(vectors, self.weights, strict=True)
        return sum((dense(v, w, start.dtype) for v, w in pairs), start=start)


def zero_sum(width: int, operand: Array) -> Array:
    """Returns zeros [width] to which products with ``operand`` are added: at least float32."""
    return jnp.zeros(width, jnp.promote_types(operand.dtype, jnp.float32))


def product(matrix: Array) -> Sum:
    """Returns the sum of one product: v [N] @ ``matrix`` [N, M], added to ``zero_sum``."""
    return Sum(zero_sum(matrix.shape[1], matrix), (matrix,))


def recurrence(
    step: Callable[[Any, Any, Any], tuple[Any, Any]],
    sums: Any,
    carry: Any,
    xs: Any = None,
    *,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Returns ``lax.scan(lambda carry, x: step(sums, carry, x), carry, xs)``.

    In step t each ``Sum`` with a ``start`` [T, M] starts from row t. All matrix products belong to
    ``sums``, so the gradient of a sum equals that of its ``start``, and the gradient of a matrix is
    one product over all steps (and, under ``vmap``, sentences) instead of an addition to the whole
    matrix in every step.

    Args:
      step: (sums, carry, x) -> (carry, out). It must call each ``Sum`` of ``sums`` exactly once.
        Values that it closes over get no gradient.
      sums: a pytree of ``Sum``, at least one with a ``start`` [T, M], and of arrays: constants of
        any shape, whose gradients are summed in the loop.
      carry: the carry before the first step.
      xs: further inputs of the steps, [T, ...]; no gradient flows into them.
      reverse: whether to run from the last step to the first; outputs keep their positions.

    Returns:
      The last carry and the outputs [T, ...]. Differentiable once: differentiating the gradient
      raises NotImplementedError.
    """
    leaves, tree = jax.tree.flatten(sums, is_leaf=_is_sum)
    flat_sums: list[Sum] = [leaf for leaf in leaves if _is_sum(leaf)]
    constants = [leaf for leaf in leaves if not _is_sum(leaf)]
    steps = max(len(y.start) for y in flat_sums if y.start.ndim > 1)
    starts = [jnp.broadcast_to(y.start, (steps, y.start.shape[-1])) for y in flat_sums]
    weights: list[tuple[Array, ...]] = [y.weights for y in flat_sums]

    def run(carry: Any, starts: list[Array], constants: list[Array]) -> tuple[Any, Any]:
        def body(carry: Any, inputs: tuple) -> tuple[Any, Any]:
            rows, x = inputs
            fixed = _stop_gradient(weights)
            recorded = [_RecordingSum(Sum(*pair)) for pair in zip(rows, fixed, strict=True)]
            next_sum, next_constant = iter(recorded), iter(constants)
            merged = [next(next_sum) if _is_sum(leaf) else next(next_constant) for leaf in leaves]
            carry, out = step(jax.tree.unflatten(tree, merged), carry, x)
            return carry, (out, [y.vectors for y in recorded])

        carry, (outputs, vectors) = lax.scan(body, carry, (starts, xs), reverse=reverse)
        return (carry, outputs), vectors

    args = _stop_gradient((carry, starts, constants))
    result, pullback, vectors = jax.vjp(run, *args, has_aux=True)
    # The values of the sums are not needed: recomputing them routes the gradient to the matrices
    # and starts.
    vectors = lax.stop_gradient(vectors)
    recomputed = [Sum(s, w)(*v) for s, w, v in zip(starts, weights, vectors, strict=True)]
    return _attach_gradient(result, pullback, carry, recomputed, constants)


def _is_sum(leaf: Any) -> bool:
    return isinstance(leaf, Sum)


class _RecordingSum:
    """A sum that stores the vectors that it is called with."""

    def __init__(self, inner: Sum):
        self.inner = inner

    def __call__(self, *vectors: Array) -> Array:
        pairs = zip(vectors, self.inner.weights, strict=True)
        self.vectors = tuple(v.astype(w.dtype) for v, w in pairs)
        return self.inner(*vectors)


@jax.custom_vjp
def _attach_gradient(result: Any, pullback: Callable, carry: Any, sums: Any, constants: Any) -> Any:
    """Returns ``result``; its gradient reaches carry, sums and constants through ``pullback``."""
    del pullback, carry, sums, constants
    return result


_attach_gradient.defvjp(
    lambda result, pullback, *inputs: (result, pullback),
    lambda pullback, gradient: (None, None, *pullback(gradient)),
)


def _stop_gradient(tree: Any) -> Any:
    """Stops the gradient and refuses second derivatives, which would silently lack terms."""

    def stop(x: Array) -> Array:
        return _constant(x) if jnp.issubdtype(x.dtype, jnp.inexact) else x

    return jax.tree.map(stop, tree)


@jax.custom_jvp
def _constant(x: Array) -> Array:
    return x


@jax.custom_jvp
def _not_differentiable(x: Array) -> Array:
    return x


@_constant.defjvp
def _constant_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    del tangents
    return _not_differentiable(*primals), jnp.zeros_like(*primals)


@_not_differentiable.defjvp
def _not_differentiable_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    raise NotImplementedError(
        "recurrence can be differentiated once only; unroll the loop to compute a Hessian."
    )
