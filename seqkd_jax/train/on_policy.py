"""On-policy distillation: training steps whose targets are the student's own translations.

A student that has only seen correct prefixes does not know how to continue after its own mistakes.
Here it is trained on its own translations, and the teacher gives the distribution of the next
token after each prefix:

    step = make_train_step(student, tx, word_kd, teacher=teacher)
    step = sample_targets(step, student, share=optax.linear_schedule(0, 1, 1000))

The result is a ``TrainStep`` like any other. Draws are a function of (key, step, sentence), so
runs can be resumed exactly, and draws do not depend on devices or microbatches. The student's own
tokens are no evidence, so the loss should compare with the teacher (``word_kd``) and not with the
target (``nll``).

Source: Lin et al. 2020 (ImitKD), algorithm 1; Agarwal et al. 2024 (GKD), algorithm 1.
"""

from dataclasses import replace
from typing import Protocol

import jax
import jax.numpy as jnp
from jax import lax

from ..base import Array, Example, Hypotheses, Params, Seq2Seq, State, StepFn, step_fn
from ..errors import UsageError
from ..losses import Weight
from ..search import beam_search, sample, temperature
from .state import TrainState
from .steps import TrainStep

DRAWS = 0x6F6E706F  # folded into the run's key, so that draws are independent of dropout


class Draw(Protocol):
    """A search for the student's translation, such as ``search.sample`` or ``greedy``."""

    def __call__(
        self, step: StepFn, state: State, key: Array, *, max_len: int, limit: Array
    ) -> Hypotheses:
        """Returns hypotheses of at most ``limit`` tokens with EOS; the first becomes the target."""
        ...


def greedy(
    step: StepFn, state: State, key: Array, *, max_len: int, limit: int | Array | None = None
) -> Hypotheses:
    """Returns the translation of greedy search: a ``Draw`` without randomness."""
    del key
    return beam_search(step, state, beam_size=1, max_len=max_len, limit=limit)


def drawn_at(t: float) -> Draw:
    """Returns a ``Draw`` that samples at temperature ``t``; at 0 it is ``greedy``.

    Raises UsageError if t is negative.
    """
    if t == 0:
        return greedy
    warp = temperature(t)
    return lambda *args, **limits: sample(*args, **limits, warp=warp)


def sample_targets(
    step: TrainStep, student: Seq2Seq, share: Weight = 1.0, draw: Draw = sample
) -> TrainStep:
    """Returns a step that replaces the targets of a share of batches by the student's own.

    The new targets are translations by the current parameters, without dropout, and no gradient
    flows through the choice of their tokens. They are as wide as the batch: a translation that
    does not fit ends in EOS at the last position.

    Args:
      step: from ``make_train_step``.
      student: the model that ``step`` trains.
      share: lambda, the probability that a batch's targets are replaced: a number or an optax
        schedule of the training step.
      draw: the search for a translation.

    Raises:
      UsageError: ``share`` is a number outside [0, 1].
    """
    if not callable(share) and isinstance(share, float | int) and not 0 <= share <= 1:
        raise UsageError(f"share is {share}; it is a probability, from 0 to 1.")

    def gradients(
        state: TrainState, batch: Example, key: Array, teacher_params: Params = None, sentences=None
    ):
        step_key = jax.random.fold_in(jax.random.fold_in(key, DRAWS), state.step)
        coin_key, draw_key = jax.random.split(step_key)
        # Uniform in [0, 1): never below a share of 0, always below a share of 1. The outcome is the
        # same on all devices, and the student translates only the batches that need it.
        probability = share(state.step) if callable(share) else share
        replaced = jax.random.uniform(coin_key) < probability
        tgt = lax.cond(
            replaced,
            lambda: translations(student, state.params, batch, draw_key, draw),
            lambda: jnp.asarray(batch.tgt, jnp.int32),
        )
        return step.gradients(state, replace(batch, tgt=tgt), key, teacher_params, sentences)

    return TrainStep(gradients, step.update)


def translations(
    student: Seq2Seq, params: Params, batch: Example, key: Array, draw: Draw = sample
) -> Array:
    """Returns the student's translations of a batch [B, T], each with ``fold_in(key, index)``."""
    width = batch.tgt.shape[1]

    def translate(src: Array, index: Array, weight: Array) -> Array:
        memory, state = student.encode(params, src)
        step = step_fn(student, params, memory)
        # Rows that only fill up the batch end after one token.
        limit = jnp.where(weight > 0, width, 1)
        hypotheses = draw(step, state, jax.random.fold_in(key, index), max_len=width, limit=limit)
        return hypotheses.tokens[0]

    return jax.vmap(translate)(batch.src, batch.index, batch.weight)
