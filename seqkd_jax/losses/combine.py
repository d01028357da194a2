"""Combinators of losses: sums, mixtures, schedules and temperatures.

alpha = optax.linear_schedule(0.0, 0.9, 10_000)                  the teacher's weight grows
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
from .teacher import TeacherOutput, soften

Weight = float | Array | Callable[[Array], Array]


class Scheduled(NamedTuple):
    """A loss that changes with the step: ``at(step)`` returns the ``TokenLoss`` of that step."""

    at: Callable[[Array], TokenLoss]


Loss = TokenLoss | Scheduled


def with_temperature(loss: Loss, temperature: float) -> Loss:
    """Returns temperature^2 times the loss of logits divided by ``temperature``.

    The logits of student and teacher are both divided. The factor keeps the size of the gradient
    when the temperature changes (Hinton et al. 2015, section 2). A ``TopK`` must have been made at
    this temperature (``top_k(logits, k, temperature)``), otherwise the loss raises UsageError.
    Raises UsageError unless temperature > 0.
    """
    if not temperature > 0:
        raise UsageError(f"temperature is {temperature}; it must be greater than 0.")

    def soften_both(token_loss: TokenLoss) -> TokenLoss:
        def softened(logits: Array, target: Array, teacher_logits: TeacherOutput = None) -> Array:
            scaled = logits.astype(jnp.float32) / temperature
            return temperature**2 * token_loss(scaled, target, soften(teacher_logits, temperature))

        return softened

    return lift(soften_both, loss)


def mix(a: Loss, b: Loss, alpha: Weight) -> Loss:
    """Returns (1 - alpha) a + alpha b; ``mix(nll, word_kd, 0.5)`` is the paper's loss.

    ``alpha`` is a number from 0 to 1 or an optax schedule (step -> number).

    Raises:
      UsageError: the number is not from 0 to 1.

    Source: Kim & Rush 2016, section 3.1, the interpolation with mixture weight alpha.

    >>> from seqkd_jax.losses import nll, word_kd
    >>> student, teacher = jnp.log(jnp.array([[0.5, 0.5], [0.75, 0.25]]))
    >>> print(f"{mix(nll, word_kd, 0.5)(student, 0, teacher):.4f}")  # both are log 2
    0.6931
    """
    if callable(alpha):
        return weighted((lambda step: 1 - alpha(step), a), (alpha, b))
    if isinstance(alpha, int | float) and not 0 <= alpha <= 1:
        raise UsageError(f"alpha is {alpha}: give a number from 0 to 1.")
    return weighted((1 - alpha, a), (alpha, b))


def weighted(*parts: tuple[Weight, Loss]) -> Loss:
    """Returns the weighted sum of losses; weights are numbers or optax schedules.

    If any weight or loss is scheduled, the result is ``Scheduled``, which can be combined further
    like any loss.

    >>> from seqkd_jax.losses import nll
    >>> schedule = lambda step: step / 10
    >>> loss = weighted((1.0, nll), (schedule, nll))
    >>> print(f"{at(loss, step=5)(jnp.zeros(4), 0):.4f}")  # 1.5 log 4
    2.0794
    """
    if not any(callable(weight) or isinstance(loss, Scheduled) for weight, loss in parts):
        return _sum([(weight, loss) for weight, loss in parts])  # type: ignore[misc]

    def loss_at(step: Array) -> TokenLoss:
        return _sum([(w(step) if callable(w) else w, at(loss, step)) for w, loss in parts])

    return Scheduled(loss_at)


def at(loss: Loss, step: Array) -> TokenLoss:
    """Returns the loss at ``step`` []."""
    return loss.at(step) if isinstance(loss, Scheduled) else loss


def _sum(parts: list[tuple[float | Array, TokenLoss]]) -> TokenLoss:
    def loss(logits: Any, target: Array, teacher_logits: Any = None) -> Array:
        terms = [weight * term(logits, target, teacher_logits) for weight, term in parts]
        return jnp.stack(terms).sum()

    return loss


def lift(function: Callable[[TokenLoss], TokenLoss], loss: Loss) -> Loss:
    """Applies ``function`` to a loss, or to the loss of each step if it is scheduled."""
    if isinstance(loss, Scheduled):
        return Scheduled(lambda step: function(loss.at(step)))
    return function(loss)
