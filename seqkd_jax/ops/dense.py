"""Matrix products and biases whose gradients are fast on CPUs.

JAX's own gradient of the matrix contracts two axes, steps and sentences. XLA for CPUs transposes
one operand in memory, uses a slow product and leaves the result transposed, so the optimiser
reads it against its layout. JAX's own gradient of the bias is a sum over rows; with 50,000 columns
it takes about 60 times as long as a product with a vector of ones (docs/products.py).
"""

from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.interpreters import ad, batching, mlir
from jax.typing import DTypeLike

from ..base import Array


def dense(x: Array, w: Array, dtype: DTypeLike | None = None) -> Array:
    """Returns ``jnp.matmul(x, w, preferred_element_type=dtype)``: [..., N], [N, M] -> [..., M].

    x is cast to the type of w, which is also the default of ``dtype``.
    """
    x, dtype = x.astype(w.dtype), jnp.dtype(dtype or w.dtype)
    # Where ``shard_map`` tracks which values vary over devices, only JAX's own product supports it.
    product = _dense.bind if _varying_axes(x) == _varying_axes(w) else _product
    return product(x, w, dtype=dtype)


def _varying_axes(x: Array) -> Any:
    """Returns the mesh axes over which x varies; the attribute's name depends on jax's version."""
    aval = jax.typeof(x)
    return getattr(aval, "vma", None) or getattr(aval, "manual_axis_type", None)


def _product(x: Array, w: Array, *, dtype: jnp.dtype) -> Array:
    contracted = ((x.ndim - 1,), (0,))
    return lax.dot_general(x, w, (contracted, ((), ())), preferred_element_type=dtype)


def _gradient_of_x(gradient: Array, x: ad.UndefinedPrimal, w: Array, *, dtype) -> Array:
    del dtype
    contracted = ((gradient.ndim - 1,), (1,))
    rows, x_dtype = gradient.astype(w.dtype), x.aval.dtype
    return lax.dot_general(rows, w, (contracted, ((), ())), preferred_element_type=x_dtype)


def _gradient_of_w(gradient: Array, x: Array, w: ad.UndefinedPrimal, *, dtype) -> Array:
    del dtype
    # The barrier keeps XLA from fusing the transposition into the product.
    columns = lax.optimization_barrier(x.reshape(-1, x.shape[-1]).T)
    rows = gradient.reshape(-1, gradient.shape[-1]).astype(x.dtype)
    return jnp.matmul(columns, rows, preferred_element_type=w.aval.dtype)


def _batched(args: tuple[Array, Array], axes: tuple, *, dtype) -> tuple[Array, int]:
    (x, w), (x_axis, w_axis) = args, axes
    if w_axis is None:  # one matrix for all vectors
        x, x_axis = (jnp.moveaxis(x, x_axis, 0), 0) if x_axis == x.ndim - 1 else (x, x_axis)
        return _dense.bind(x, w, dtype=dtype), x_axis
    w = jnp.moveaxis(w, w_axis, 0)
    x = jnp.broadcast_to(x, (len(w), *x.shape)) if x_axis is None else jnp.moveaxis(x, x_axis, 0)
    dimension_numbers = (((x.ndim - 1,), (1,)), ((0,), (0,)))
    return lax.dot_general(x, w, dimension_numbers, preferred_element_type=dtype), 0


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
    add = _biased.bind if _varying_axes(x) == _varying_axes(b) else _sum
    return add(x, b)


def _sum(x: Array, b: Array) -> Array:
    return x + b.reshape((1,) * (x.ndim - 1) + (-1,))


def _gradients_of_sum(gradient: Array, x: Any, b: Any) -> tuple[Array | None, ...]:
    rows = gradient.reshape(-1, gradient.shape[-1])
    ones = jnp.ones(len(rows), rows.dtype)
    b_gradient = jnp.matmul(ones, rows, precision=lax.Precision.HIGHEST)
    return tuple(
        g if ad.is_undefined_primal(arg) else None
        for arg, g in zip((x, b), (gradient, b_gradient), strict=True)
    )


def _batched_sum(args: tuple[Array, Array], axes: tuple) -> tuple[Array, int]:
    (x, b), (x_axis, b_axis) = args, axes
    if b_axis is None:
        x, x_axis = (jnp.moveaxis(x, x_axis, 0), 0) if x_axis == x.ndim - 1 else (x, x_axis)
        return _biased.bind(x, b), x_axis
    b = jnp.moveaxis(b, b_axis, 0)
    x = x[None] if x_axis is None else jnp.moveaxis(x, x_axis, 0)
    return x + b.reshape(len(b), *(1,) * (x.ndim - 2), -1), 0


_biased = Primitive("biased")
_biased.def_impl(jax.jit(_sum))
_biased.def_abstract_eval(lambda x, b: x.update(weak_type=False))
mlir.register_lowering(_biased, mlir.lower_fun(_sum, multiple_results=False))
ad.deflinear2(_biased, _gradients_of_sum)
batching.primitive_batchers[_biased] = _batched_sum
