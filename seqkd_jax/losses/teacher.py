"""Losses that compare the student's next-token distribution p with the teacher's, q.

    teacher = ensemble([model_a, model_b], join=mean_of_logits)
    loss = mix(nll, with_temperature(jensen_shannon(0.5), 2.0), alpha=0.5)
    step = make_train_step(student, clipped_adam(1e-3), loss, teacher=teacher)
    state = init_state(student, tx, jax.random.key(0))
    state, metrics = step(state, batch, jax.random.key(1), teacher_params)

The teacher's output is its logits [V] or a ``TopK``. For a ``TopK`` both are compared over k + 1
events: each listed token, and "any other token". Merging events never increases a divergence; with
k = V nothing is merged and the loss equals that of logits. No gradient flows into the teacher.
"""

import math
from dataclasses import replace

import jax
import jax.numpy as jnp
from jax import lax

from ..base import Array, TokenLoss, TopK
from ..errors import UsageError

TeacherOutput = Array | TopK | None

# Stands for log 0: its exponential is 0, and 0 * LOG_ZERO is 0, where -inf would give nan.
LOG_ZERO = -1e30


def word_kd(logits: Array, target: Array, teacher_logits: TeacherOutput = None) -> Array:
    """Returns the cross-entropy to the teacher, -sum_k q(k) log p(k), in nats.

    Args:
      logits: [V].
      target: ignored.
      teacher_logits: [V], or a ``TopK``; no gradient flows into them.

    Raises:
      UsageError: there is no teacher, or a ``TopK`` has another temperature.

    Source: Kim & Rush 2016, section 3.1.

    >>> p = q = jnp.log(jnp.array([0.5, 0.5]))
    >>> print(f"{word_kd(p, 0, q):.4f}")  # the entropy of q
    0.6931
    """
    del target
    if isinstance(teacher_logits, TopK):
        log_p, log_q = _events(logits, teacher_logits, "word_kd")
        return -(jnp.exp(log_q) * log_p).sum()
    logits = logits.astype(jnp.float32)
    q = _dense(teacher_logits, "word_kd")
    # The test of the maximum makes it a separate computation. Otherwise XLA for CPUs fuses the
    # exponential into the product that computes the logits, which is slower than both one after
    # the other (docs/products.py).
    largest = q.max()
    q = jnp.exp(q - jnp.where(jnp.isfinite(largest), largest, 0))  # unnormalised
    return jax.nn.logsumexp(logits) - (q * logits).sum() / q.sum()


def word_kl(logits: Array, target: Array, teacher_logits: TeacherOutput = None) -> Array:
    """Returns KL(q || p): ``word_kd`` minus the teacher's entropy, so at least 0; same gradient."""
    del target
    log_p, log_q = _events(logits, teacher_logits, "word_kl")
    return _kl(log_q, log_p)


def reverse_kl(logits: Array, target: Array, teacher_logits: TeacherOutput = None) -> Array:
    """Returns KL(p || q), which penalises tokens that only the student finds probable.

    Source: Gu et al. 2024 (MiniLLM), section 2; here for one token, after the data's prefix.
    """
    del target
    log_p, log_q = _events(logits, teacher_logits, "reverse_kl")
    return _kl(log_p, log_q)


def jensen_shannon(beta: float = 0.5) -> TokenLoss:
    """Returns beta KL(q || m) + (1 - beta) KL(p || m), m = beta q + (1 - beta) p.

    The loss is at most log 2. Divided by beta it tends to KL(q || p) as beta goes to 0, divided by
    1 - beta to KL(p || q) as beta goes to 1. Raises UsageError unless 0 < beta < 1.

    Source: Agarwal et al. 2024 (GKD), equation 1.
    """
    if not 0 < beta < 1:
        raise UsageError(
            f"beta is {beta}; it must be greater than 0 and less than 1: at 0 and 1 the loss is "
            "always 0. For the limits use word_kl and reverse_kl."
        )

    def loss(logits: Array, target: Array, teacher_logits: TeacherOutput = None) -> Array:
        del target
        log_p, log_q = _events(logits, teacher_logits, "jensen_shannon")
        log_m = _mixture(log_q, log_p, beta)
        return beta * _kl(log_q, log_m) + (1 - beta) * _kl(log_p, log_m)

    return loss


def skew_kl(alpha: float = 0.1) -> TokenLoss:
    """Returns KL(q || alpha q + (1 - alpha) p): at most -log alpha; ``word_kl`` for alpha = 0.

    Source: Ko et al. 2024 (DistiLLM), equation 4. Raises UsageError unless 0 <= alpha < 1.
    """
    _check_skew(alpha)

    def loss(logits: Array, target: Array, teacher_logits: TeacherOutput = None) -> Array:
        del target
        log_p, log_q = _events(logits, teacher_logits, "skew_kl")
        return _kl(log_q, _mixture(log_q, log_p, alpha))

    return loss


def skew_reverse_kl(alpha: float = 0.1) -> TokenLoss:
    """Returns KL(p || alpha p + (1 - alpha) q): at most -log alpha; ``reverse_kl`` for alpha = 0.

    Source: Ko et al. 2024 (DistiLLM), section 3.1. Raises UsageError unless 0 <= alpha < 1.
    """
    _check_skew(alpha)

    def loss(logits: Array, target: Array, teacher_logits: TeacherOutput = None) -> Array:
        del target
        log_p, log_q = _events(logits, teacher_logits, "skew_reverse_kl")
        return _kl(log_p, _mixture(log_p, log_q, alpha))

    return loss


def total_variation(logits: Array, target: Array, teacher_logits: TeacherOutput = None) -> Array:
    """Returns half of sum_k |q(k) - p(k)|, in [0, 1] (Wen et al. 2023, section 3.2)."""
    del target
    log_p, log_q = _events(logits, teacher_logits, "total_variation")
    return 0.5 * jnp.abs(jnp.exp(log_q) - jnp.exp(log_p)).sum()


def l2_logits(logits: Array, target: Array, teacher_logits: TeacherOutput = None) -> Array:
    """Returns half the squared distance of centred logits, summed over V.

    Logits are defined up to a constant, so their mean is subtracted first. Raises UsageError
    without a teacher, or with a ``TopK``: all logits are needed.

    Source: Ba & Caruana 2014, equation 1.
    """
    del target
    difference = logits.astype(jnp.float32) - _dense(teacher_logits, "l2_logits")
    return 0.5 * ((difference - difference.mean()) ** 2).sum()


def soften(teacher_output: TeacherOutput, temperature: float) -> TeacherOutput:
    """Returns the teacher's output at a temperature.

    Logits are divided by it. A ``TopK`` must have been made at it: raises UsageError otherwise.
    """
    if isinstance(teacher_output, TopK):
        _check_temperature(teacher_output, temperature)
        return replace(teacher_output, temperature=1.0)  # its logits were divided already
    return None if teacher_output is None else teacher_output.astype(jnp.float32) / temperature


def _events(logits: Array, teacher_output: TeacherOutput, name: str) -> tuple[Array, Array]:
    """Returns the log-probabilities of events, student's and teacher's: [V] each, or [k + 1]."""
    if not isinstance(teacher_output, TopK):
        log_q = jax.nn.log_softmax(_dense(teacher_output, name))
        return jax.nn.log_softmax(logits.astype(jnp.float32)), jnp.maximum(log_q, LOG_ZERO)
    _check_temperature(teacher_output, 1.0)
    teacher_output = lax.stop_gradient(teacher_output)
    log_q = jnp.append(teacher_output.log_probs, teacher_output.rest).astype(jnp.float32)
    log_p = jax.nn.log_softmax(logits.astype(jnp.float32))
    # Summed over the other tokens, as in ``top_k``.
    rest = jax.nn.logsumexp(log_p.at[teacher_output.ids].set(LOG_ZERO))
    return jnp.append(log_p[teacher_output.ids], rest), jnp.maximum(log_q, LOG_ZERO)


def _kl(log_a: Array, log_b: Array) -> Array:
    """Returns KL(a || b)."""
    return (jnp.exp(log_a) * (log_a - log_b)).sum()


def _mixture(log_a: Array, log_b: Array, share: float) -> Array:
    """Returns log(share a + (1 - share) b)."""
    if share == 0:
        return log_b
    return jnp.logaddexp(log_a + math.log(share), log_b + math.log1p(-share))


def _check_skew(alpha: float) -> None:
    if not 0 <= alpha < 1:
        raise UsageError(
            f"alpha is {alpha}; it must be at least 0 and less than 1: at 1 the loss is always 0."
        )


def _check_temperature(teacher_output: TopK, temperature: float) -> None:
    if teacher_output.temperature != temperature:
        raise UsageError(
            "The teacher's top-k distributions were made at temperature "
            f"{teacher_output.temperature:g}, but the loss asks for {temperature:g}: the mass of "
            f"the other tokens is known only at {teacher_output.temperature:g}. Make the "
            f"distributions with temperature={temperature:g}, or give the loss their temperature."
        )


def _dense(teacher_output: TeacherOutput, name: str) -> Array:
    if teacher_output is None:
        raise UsageError(
            f"{name} compares with a teacher, but there is none: pass make_train_step(..., "
            "teacher=...) and the teacher's parameters."
        )
    if isinstance(teacher_output, TopK):
        raise UsageError(
            f"{name} needs all logits of the teacher, but was given only its "
            f"{len(teacher_output.ids)} most probable tokens: run the teacher itself in training."
        )
    return lax.stop_gradient(teacher_output.astype(jnp.float32))
