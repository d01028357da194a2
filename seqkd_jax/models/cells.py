"""The LSTM cell and one layer of it over a sentence; dropout. One sentence, no batch axis.

Gate order is input, forget, output, candidate (as flax.linen and Kim & Rush's code have it).
"""

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from ..base import Array


@struct.dataclass
class LSTM:
    """Weights of one layer: a = x @ inputs + h @ recurrent + bias, in four blocks of H."""

    inputs: Array  # [E, 4H]
    recurrent: Array  # [H, 4H]
    bias: Array  # [4H]


Carry = tuple[Array, Array]  # (c [H], h [H])


def init_lstm(key: Array, width: int, hidden: int, scale: float) -> LSTM:
    """Draws one layer's weights, ``width`` wide at its input, from U(-scale, scale)."""
    keys = jax.random.split(key, 3)
    return LSTM(
        inputs=uniform(keys[0], (width, 4 * hidden), scale),
        recurrent=uniform(keys[1], (hidden, 4 * hidden), scale),
        bias=uniform(keys[2], (4 * hidden,), scale),
    )


def uniform(key: Array, shape: tuple[int, ...], scale: float) -> Array:
    """Draws float32 weights from U(-scale, scale)."""
    return jax.random.uniform(key, shape, jnp.float32, -scale, scale)


def zero_carry(hidden: int, dtype: jnp.dtype) -> Carry:
    """Returns the state before the first word."""
    return jnp.zeros(hidden, dtype), jnp.zeros(hidden, dtype)


def lstm_cell(carry: Carry, gates: Array) -> Carry:
    """Advances one step from the summed pre-activations.

    Args:
      carry: (c [H], h [H]) of the step before; only c is read, h is already in ``gates``.
      gates: a = x @ inputs + h @ recurrent + bias, [4H].
    """
    i, f, o, g = jnp.split(gates, 4)
    c = jax.nn.sigmoid(f) * carry[0] + jax.nn.sigmoid(i) * jnp.tanh(g)
    return c, jax.nn.sigmoid(o) * jnp.tanh(c)


def lstm_layer(
    params: LSTM, xs: Array, mask: Array, *, reverse: bool = False
) -> tuple[Array, Carry]:
    """Runs one layer over a padded sentence, from the zero state.

    The input products of the whole sentence are one matrix product before the scan. At padded
    positions the state is carried over unchanged, so the last state is that of the last word
    and a reversed layer starts at the last word.

    Args:
      params: the layer's weights.
      xs: inputs [S, E].
      mask: [S], true at words.
      reverse: read from right to left; outputs keep their places.

    Returns:
      Outputs h [S, H] and the final (c [H], h [H]).
    """
    gates = xs @ params.inputs + params.bias[None]

    def advance(carry: Carry, step: tuple[Array, Array]) -> tuple[Carry, Array]:
        gates, real = step
        new = lstm_cell(carry, gates + carry[1] @ params.recurrent)
        carry = jax.tree.map(lambda n, o: jnp.where(real, n, o), new, carry)
        return carry, carry[1]

    start = zero_carry(params.recurrent.shape[0], xs.dtype)
    carry, outputs = lax.scan(advance, start, (gates, mask), reverse=reverse)
    return outputs, carry


def dropout_mask(key: Array, rate: float, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """Draws an inverted dropout mask: 0 with probability ``rate``, else 1 / (1 - rate).

    Sixteen random bits decide each entry, half the cost of a uniform float; the rate is exact to
    2^-16.
    """
    keep = jax.random.bits(key, shape, jnp.uint16) >= jnp.uint16(round(rate * 65536))
    return jnp.where(keep, 1 / (1 - rate), 0.0).astype(dtype)
