"""Losses of one token, and combinators that make losses out of losses.

A ``TokenLoss`` is a pure function of one token: its logits [V], its target id, and the teacher's
logits [V] for the same position (None without a teacher). It returns nats. It knows nothing of
padding, sentences, batches or devices: one place does (``train.stream``).

    mix(nll, word_kd, alpha=0.5)                                     the paper's
    mix(smoothed_nll(0.1), with_temperature(word_kd, 2.0), 0.7)
    weighted((1.0, nll), (optax.linear_schedule(0, 1, 1000), word_kd), (0.1, l2_logits))
"""

from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp

from .base import Array, TokenLoss

Weight = float | Array | Callable[[Array], Array]


class Scheduled(NamedTuple):
    """A loss that changes with the step: ``at(step)`` is the ``TokenLoss`` of that step."""

    at: Callable[[Array], TokenLoss]


Loss = TokenLoss | Scheduled


def nll(logits: Array, target: Array, teacher_logits: Array | None = None) -> Array:
    """Negative log-likelihood, -log p(target), in nats (Kim & Rush 2016, section 2.2).

    Args:
      logits: [V].
      target: id, [].
      teacher_logits: not read.
    """
    del teacher_logits
    logits = logits.astype(jnp.float32)
    return jax.nn.logsumexp(logits) - _pick(logits, target)


def smoothed_nll(epsilon: float) -> TokenLoss:
    """Label smoothing: cross-entropy to (1 - epsilon) one-hot + epsilon uniform over V.

    Source: Szegedy et al. 2016, section 7. Raises ValueError if epsilon is outside [0, 1].
    """
    if not 0 <= epsilon <= 1:
        raise ValueError(f"epsilon is {epsilon}; label smoothing needs a number from 0 to 1.")

    def loss(logits: Array, target: Array, teacher_logits: Array | None = None) -> Array:
        logits = logits.astype(jnp.float32)
        expected = (1 - epsilon) * _pick(logits, target) + epsilon * logits.mean()
        return jax.nn.logsumexp(logits) - expected

    return loss


def word_kd(logits: Array, target: Array, teacher_logits: Array | None = None) -> Array:
    """Cross-entropy to the teacher, -sum_k q(k) log p(k), in nats (Kim & Rush 2016, section 3.1).

    Args:
      logits: [V].
      target: not read.
      teacher_logits: [V]; no gradient flows into them.

    Raises:
      ValueError: without a teacher.
    """
    del target
    logits = logits.astype(jnp.float32)
    q = jax.nn.softmax(_teacher(teacher_logits, "word_kd"))
    return jax.nn.logsumexp(logits) - (q * logits).sum()


def l2_logits(logits: Array, target: Array, teacher_logits: Array | None = None) -> Array:
    """Half the squared distance of centred logits, summed over V (Ba & Caruana 2014, eq. 1).

    Logits are defined up to a constant, so the mean of each is taken out first. Raises ValueError
    without a teacher.
    """
    del target
    difference = logits.astype(jnp.float32) - _teacher(teacher_logits, "l2_logits")
    return 0.5 * ((difference - difference.mean()) ** 2).sum()


def with_temperature(loss: Loss, temperature: float) -> Loss:
    """Divides the logits of student and teacher by ``temperature``, the loss times its square.

    The factor keeps the size of the gradient when the temperature changes (Hinton et al. 2015,
    section 2). Raises ValueError unless temperature > 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature is {temperature}; it must be greater than 0.")

    def soften(part: TokenLoss) -> TokenLoss:
        def softened(logits: Array, target: Array, teacher_logits: Array | None = None) -> Array:
            if teacher_logits is not None:
                teacher_logits = teacher_logits.astype(jnp.float32) / temperature
            cooled = logits.astype(jnp.float32) / temperature
            return temperature**2 * part(cooled, target, teacher_logits)

        return softened

    return _lift(soften, loss)


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
    def loss(logits: Array, target: Array, teacher_logits: Array | None = None) -> Array:
        terms = [weight * part(logits, target, teacher_logits) for weight, part in parts]
        return jnp.stack(terms).sum()

    return loss


def _lift(function: Callable[[TokenLoss], TokenLoss], loss: Loss) -> Loss:
    if isinstance(loss, Scheduled):
        return Scheduled(lambda step: function(loss.at(step)))
    return function(loss)


def _pick(logits: Array, target: Array) -> Array:
    """logits[target] as a masked sum: its gradient fuses, where an index makes a scatter."""
    return jnp.where(jnp.arange(logits.shape[-1]) == target, logits, 0).sum()


def _teacher(teacher_logits: Array | None, name: str) -> Array:
    if teacher_logits is None:
        raise ValueError(
            f"{name} compares with a teacher, and there is none: "
            "pass make_train_step(..., teacher=...) and the teacher's parameters."
        )
    return jax.lax.stop_gradient(teacher_logits.astype(jnp.float32))
