"""Losses of the data alone; they ignore a teacher.

loss = smoothed_nll(0.1)
step = make_train_step(student, clipped_adam(1e-3), loss)
state = init_state(student, tx, jax.random.key(0))
state, metrics = step(state, batch, jax.random.key(1))
print(metrics["loss"])                                           nats per token
"""

import jax
import jax.numpy as jnp

from ..base import Array, TokenLoss
from ..errors import UsageError


def nll(logits: Array, target: Array, teacher_logits: Array | None = None) -> Array:
    """Returns the negative log-likelihood -log p(target) in nats (Kim & Rush 2016, section 2.2).

    Args:
      logits: [V].
      target: id, [].
      teacher_logits: ignored.

    >>> print(f"{nll(jnp.log(jnp.array([0.25, 0.75])), 0):.4f}")  # -log 0.25
    1.3863
    """
    del teacher_logits
    logits = logits.astype(jnp.float32)
    return jax.nn.logsumexp(logits) - _pick(logits, target)


def smoothed_nll(epsilon: float) -> TokenLoss:
    """Returns label smoothing: cross-entropy to (1 - epsilon) one-hot + epsilon uniform over V.

    Source: Szegedy et al. 2016, section 7. Raises UsageError if epsilon is outside [0, 1].
    """
    if not 0 <= epsilon <= 1:
        raise UsageError(f"epsilon is {epsilon}; label smoothing needs a number from 0 to 1.")

    def loss(logits: Array, target: Array, teacher_logits: Array | None = None) -> Array:
        logits = logits.astype(jnp.float32)
        expected = (1 - epsilon) * _pick(logits, target) + epsilon * logits.mean()
        return jax.nn.logsumexp(logits) - expected

    return loss


@jax.custom_jvp
def _pick(logits: Array, target: Array) -> Array:
    """Returns logits[target]; the gradient is a mask, which fuses, instead of a scatter."""
    return logits[target]


@_pick.defjvp
def _pick_jvp(primals, tangents):
    (logits, target), (tangent, _) = primals, tangents
    is_target = jnp.arange(logits.shape[-1]) == target
    return _pick(logits, target), jnp.where(is_target, tangent, 0).sum()
