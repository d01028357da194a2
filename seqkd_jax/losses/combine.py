"""Losses made out of losses: sums, mixtures, schedules and temperatures.

alpha = optax.linear_schedule(0.0, 0.9, 10_000)                  the teacher comes in slowly
loss = mix(nll, with_temperature(word_kd, 2.0), alpha)
loss = weighted((1.0, loss), (0.01, l2_logits))
step = make_train_step(student, tx, loss, teacher=teacher)
at(loss, step=500)(logits, target, teacher_logits)               the loss of one step
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax.numpy as jnp

from ..base import Array, TokenLoss
from ..errors import UsageError
from .teacher import Taught, soften

Weight = float | Array | Callable[[Array], Array]


class Scheduled(NamedTuple):
    """A loss that changes with the step: ``at(step)`` is the ``TokenLoss`` of that step."""

    at: Callable[[Array], TokenLoss]


Loss = TokenLoss | Scheduled


def with_temperature(loss: Loss, temperature: float) -> Loss:
    """Divides the logits of student and teacher by ``temperature``, the loss times its square.

    The factor keeps the size of the gradient when the temperature changes (Hinton et al. 2015,
    section 2). A teacher given by ``TopK`` must have been made at this temperature
    (``top_k(logits, k, temperature)``), else the loss raises ValueError. Raises UsageError unless
    temperature > 0.
    """
    if not temperature > 0:
        raise UsageError(f"temperature is {temperature}; it must be greater than 0.")

    def at_temperature(part: TokenLoss) -> TokenLoss:
        def softened(logits: Array, target: Array, teacher_logits: Taught = None) -> Array:
            cooled = logits.astype(jnp.float32) / temperature
            return temperature**2 * part(cooled, target, soften(teacher_logits, temperature))

        return softened

    return lift(at_temperature, loss)


def mix(a: Loss, b: Loss, alpha: Weight) -> Loss:
    """Returns (1 - alpha) a + alpha b; ``mix(nll, word_kd, 0.5)`` is the paper's.

    ``alpha`` is a number or an optax schedule (step -> number). Source: Kim & Rush 2016, section
    3.1, the interpolation with mixture weight alpha.
    """
    if callable(alpha):
        return weighted((lambda step: 1 - alpha(step), a), (alpha, b))
    return weighted((1 - alpha, a), (alpha, b))


def weighted(*parts: tuple[Weight, Loss]) -> Loss:
    """Sums any number of losses, each times its weight: a number or an optax schedule.

    With a schedule anywhere in it the result is ``Scheduled``, and combines on like any loss.
    """
    if not any(callable(weight) or isinstance(loss, Scheduled) for weight, loss in parts):
        return _sum([(weight, loss) for weight, loss in parts])  # type: ignore[misc]

    def now(step: Array) -> TokenLoss:
        return _sum([(w(step) if callable(w) else w, at(loss, step)) for w, loss in parts])

    return Scheduled(now)


def at(loss: Loss, step: Array) -> TokenLoss:
    """The loss as it is at ``step`` []."""
    return loss.at(step) if isinstance(loss, Scheduled) else loss


def _sum(parts: list[tuple[float | Array, TokenLoss]]) -> TokenLoss:
    def loss(logits: Any, target: Array, teacher_logits: Any = None) -> Array:
        terms = [weight * part(logits, target, teacher_logits) for weight, part in parts]
        return jnp.stack(terms).sum()

    return loss


def lift(function: Callable[[TokenLoss], TokenLoss], loss: Loss) -> Loss:
    """Applies ``function`` to a loss, or to that of each step."""
    if isinstance(loss, Scheduled):
        return Scheduled(lambda step: function(loss.at(step)))
    return function(loss)
