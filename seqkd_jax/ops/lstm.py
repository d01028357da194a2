"""The LSTM cell with its derivative written out."""

import jax
import jax.numpy as jnp

from ..base import Array

Carry = tuple[Array, Array]  # (c [H], h [H])


@jax.custom_vjp
def lstm_cell(carry: Carry, gates: Array) -> Carry:
    """Returns ``models.layers.lstm_equations(carry, gates)``.

    What its gradient keeps of each step of a loop is six vectors, half of what differentiating the
    equations keeps.

    Args:
      carry: (c [H], h [H]) of the step before; only c is read, h is already in ``gates``.
      gates: a = x @ inputs + h @ recurrent + bias, [4H]: input, forget, output, candidate.
    """
    return _forward(carry, gates)[0]


def _forward(carry: Carry, gates: Array) -> tuple[Carry, tuple[Array, ...]]:
    i, f, o, g = jnp.split(gates, 4)
    i, f, o, g = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jax.nn.sigmoid(o), jnp.tanh(g)
    c = f * carry[0] + i * g
    squashed = jnp.tanh(c)
    return (c, o * squashed), (i, f, o, g, carry[0], squashed)


def _backward(kept: tuple[Array, ...], gradient: Carry) -> tuple[Carry, Array]:
    i, f, o, g, before, squashed = kept
    of_c, of_h = gradient
    of_c = of_c + of_h * o * (1 - squashed * squashed)
    of_gates = (
        of_c * g * i * (1 - i),
        of_c * before * f * (1 - f),
        of_h * squashed * o * (1 - o),
        of_c * i * (1 - g * g),
    )
    return (of_c * f, jnp.zeros_like(of_h)), jnp.concatenate(of_gates)


lstm_cell.defvjp(_forward, _backward)
