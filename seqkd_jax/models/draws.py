"""Random draws: initial weights and dropout masks."""

import jax
import jax.numpy as jnp

from ..base import Array


def uniform(key: Array, shape: tuple[int, ...], scale: float) -> Array:
    """Draws float32 weights from U(-scale, scale)."""
    return jax.random.uniform(key, shape, jnp.float32, -scale, scale)


def dropout_mask(key: Array, rate: float, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """Draws an inverted dropout mask: 0 with probability ``rate``, else 1 / (1 - rate).

    Each entry is decided by 16 random bits, at half the cost of a uniform float; the rate is exact
    to 2^-16.
    """
    keep = jax.random.bits(key, shape, jnp.uint16) >= jnp.uint16(round(rate * 65536))
    return jnp.where(keep, 1 / (1 - rate), 0.0).astype(dtype)


def drop(key: Array, rate: float, x: Array) -> Array:
    """Applies dropout to ``x``."""
    return x * dropout_mask(key, rate, x.shape, x.dtype) if rate else x
