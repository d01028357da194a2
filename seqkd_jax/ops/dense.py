"""The product of vectors with a matrix, and a bias, made so that gradients run at full speed.

Differentiated by JAX, the gradient of a matrix is a product over two axes, steps and sentences.
XLA for CPUs transposes one side of it in memory, takes a slow product and leaves the result
transposed, so that the optimiser reads it against its layout. The gradient of a bias is a sum over
rows, for which it takes some 60 times as long as for a product with ones where there are 50,000
columns (docs/products.py).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir

from ..base import Array


def dense(x: Array, w: Array, dtype: jnp.dtype | None = None) -> Array:
    """Returns ``jnp.matmul(x, w, preferred_element_type=dtype)``: [..., N], [N, M] -> [..., M]."""
    dtype = jnp.dtype(dtype or jnp.result_type(x, w))
    # Where ``shard_map`` tracks what differs between devices, only JAX's own product follows.
    product = _dense.bind if _differs(x) == _differs(w) else _product
    return product(x, w, dtype=dtype)


def _differs(x: Array) -> Any:
    """Between which devices; the attribute's name depends on the version of jax."""
    kind = jax.typeof(x)
    return getattr(kind, "vma", None) or getattr(kind, "manual_axis_type", None)


def _product(x: Array, w: Array, *, dtype: jnp.dtype) -> Array:
    contracted = ((x.ndim - 1,), (0,))
    return lax.dot_general(x, w, (contracted, ((), ())), preferred_element_type=dtype)


def _gradient_of_x(gradient: Array, x: ad.UndefinedPrimal, w: Array, *, dtype) -> Array:
    del dtype
    contracted = ((gradient.ndim - 1,), (1,))
    out = x.aval.dtype
    return lax.dot_general(gradient, w, (contracted, ((), ())), preferred_element_type=out)


def _gradient_of_w(gradient: Array, x: Array, w: ad.UndefinedPrimal, *, dtype) -> Array:
    del dtype
    # The barrier keeps XLA from joining the transposition to the product.
    columns = lax.optimization_barrier(x.reshape(-1, x.shape[-1]).T)
    rows = gradient.reshape(-1, gradient.shape[-1])
    return jnp.matmul(columns, rows, preferred_element_type=w.aval.dtype)


def _batched(sides: tuple[Array, Array], axes: tuple, *, dtype) -> tuple[Array, int]:
    (x, w), (axis, of_w) = sides, axes
    if of_w is None:  # more vectors for the same matrix
        x, axis = (jnp.moveaxis(x, axis, 0), 0) if axis == x.ndim - 1 else (x, axis)
        return _dense.bind(x, w, dtype=dtype), axis
    w = jnp.moveaxis(w, of_w, 0)
    x = jnp.broadcast_to(x, (len(w), *x.shape)) if axis is None else jnp.moveaxis(x, axis, 0)
    sums = (((x.ndim - 1,), (1,)), ((0,), (0,)))
    return lax.dot_general(x, w, sums, preferred_element_type=dtype), 0


_dense = Primitive("dense")
_dense.def_impl(jax.jit(_product, static_argnames="dtype"))
_dense.def_abstract_eval(
    lambda x, w, *, dtype: x.update((*x.shape[:-1], w.shape[1]), dtype, weak_type=False)
)
mlir.register_lowering(_dense, mlir.lower_fun(_product, multiple_results=False))
ad.defbilinear(_dense, _gradient_of_x, _gradient_of_w)
batching.primitive_batchers[_dense] = _batched


def biased(x: Array, b: Array) -> Array:
    """Returns ``x + b``, [..., M] and [M] -> [..., M]."""
    dtype = jnp.result_type(x, b)
    x, b = x.astype(dtype), b.astype(dtype)
    add = _biased.bind if _differs(x) == _differs(b) else _sum
    return add(x, b)


def _sum(x: Array, b: Array) -> Array:
    return x + b.reshape((1,) * (x.ndim - 1) + (-1,))


def _gradients_of_sum(gradient: Array, x: Any, b: Any) -> tuple[Array | None, ...]:
    rows = gradient.reshape(-1, gradient.shape[-1])
    ones = jnp.ones(len(rows), rows.dtype)
    of_b = jnp.matmul(ones, rows, precision=lax.Precision.HIGHEST)
    return tuple(
        g if ad.is_undefined_primal(side) else None
        for side, g in zip((x, b), (gradient, of_b), strict=True)
    )


def _batched_sum(sides: tuple[Array, Array], axes: tuple) -> tuple[Array, int]:
    (x, b), (axis, of_b) = sides, axes
    if of_b is None:
        x, axis = (jnp.moveaxis(x, axis, 0), 0) if axis == x.ndim - 1 else (x, axis)
        return _biased.bind(x, b), axis
    b = jnp.moveaxis(b, of_b, 0)
    x = x[None] if axis is None else jnp.moveaxis(x, axis, 0)
    return x + b.reshape(len(b), *(1,) * (x.ndim - 2), -1), 0


_biased = Primitive("biased")
_biased.def_impl(jax.jit(_sum))
_biased.def_abstract_eval(lambda x, b: x.update(weak_type=False))
mlir.register_lowering(_biased, mlir.lower_fun(_sum, multiple_results=False))
ad.deflinear2(_biased, _gradients_of_sum)
batching.primitive_batchers[_biased] = _batched_sum
