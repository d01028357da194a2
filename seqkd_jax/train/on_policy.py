"""On-policy distillation: a step whose targets are what the student itself would say now.

A student that has only seen good beginnings of sentences does not know what to do after its own
mistakes. Here it is trained on its own translations, and the teacher says what should have
followed each beginning of them:

    step = make_train_step(student, tx, word_kd, teacher=teacher)
    step = sample_targets(step, student, share=optax.linear_schedule(0, 1, 1000))

The result is a ``TrainStep`` like any other. What is drawn is a function of (key, step,
sentence), so runs are resumed exactly, and neither devices nor microbatches change it. Tokens
that the student chose itself are no evidence, so the loss should look at the teacher
(``word_kd``) and not at the target (``nll``).

Source: Lin et al. 2020 (ImitKD), algorithm 1; Agarwal et al. 2024 (GKD), algorithm 1.
"""

from dataclasses import replace
from typing import Any, Protocol

import jax
import jax.numpy as jnp
from jax import lax

from ..base import Array, Example, Hypotheses, Params, Seq2Seq, State, StepFn
from ..errors import UsageError
from ..losses import Weight
from ..search import beam_search, sample, temperature
from .state import TrainState
from .steps import TrainStep

DRAWS = 0x6F6E706F  # folded into the run's key, so that draws and dropout have nothing in common


class Draw(Protocol):
    """How a student's translation is found: ``search.sample`` is one, ``greedy`` another."""

    def __call__(
        self, step: StepFn, state: State, key: Array, *, max_len: int, limit: Array
    ) -> Hypotheses:
        """Returns hypotheses of at most ``limit`` tokens with EOS; the first is the target."""
        ...


def greedy(
    step: StepFn, state: State, key: Array, *, max_len: int, limit: int | Array | None = None
) -> Hypotheses:
    """The translation of greedy search, a ``Draw`` that needs no randomness."""
    del key
    return beam_search(step, state, beam_size=1, max_len=max_len, limit=limit)


def drawn_at(t: float) -> Draw:
    """Sampling at temperature ``t``; at 0 the greedy translation.

    Raises UsageError if t is negative.
    """
    if t == 0:
        return greedy
    warp = temperature(t)
    return lambda *args, **limits: sample(*args, **limits, warp=warp)


def sample_targets(
    step: TrainStep, student: Seq2Seq, share: Weight = 1.0, draw: Draw = sample
) -> TrainStep:
    """Makes a step that replaces the targets of a share of batches by the student's own.

    They are translations by the current parameters, without dropout, and no gradient flows
    through the choice of their tokens. They are as wide as the batch: where only one more token
    fits, that is EOS.

    Args:
      step: from ``make_train_step``.
      student: the model that it trains.
      share: lambda, the probability that a batch's targets are replaced: a number or an optax
        schedule of the training step.
      draw: how a translation is found.

    Raises:
      UsageError: ``share`` is a number outside [0, 1].
    """
    if not callable(share) and isinstance(share, float | int) and not 0 <= share <= 1:
        raise UsageError(f"share is {share}; it is a probability, from 0 to 1.")

    def gradients(
        state: TrainState, batch: Example, key: Array, teacher_params: Params = None, sentences=None
    ):
        now = jax.random.fold_in(jax.random.fold_in(key, DRAWS), state.step)
        coin, draws = jax.random.split(now)
        # From [0, 1): never below a share of 0, always below one of 1. It is the same on every
        # device, and the student only translates in the batches where it is needed.
        wanted = share(state.step) if callable(share) else share
        replaced = jax.random.uniform(coin) < wanted
        tgt = lax.cond(
            replaced,
            lambda: translations(student, state.params, batch, draws, draw),
            lambda: jnp.asarray(batch.tgt, jnp.int32),
        )
        return step.gradients(state, replace(batch, tgt=tgt), key, teacher_params, sentences)

    return TrainStep(gradients, step.update)


def translations(
    student: Seq2Seq, params: Params, batch: Example, key: Array, draw: Draw = sample
) -> Array:
    """The student's translations of a batch [B, T], each drawn with ``fold_in(key, index)``."""
    width = batch.tgt.shape[1]

    def one(src: Array, index: Array, weight: Array) -> Array:
        memory, state = student.encode(params, src)

        def step(state: Any, token: Array) -> tuple[Array, Any]:
            hidden, state = student.step(params, memory, state, token)
            return student.project(params, hidden), state

        # Rows that only fill the batch end at once.
        limit = jnp.where(weight > 0, width, 1)
        found = draw(step, state, jax.random.fold_in(key, index), max_len=width, limit=limit)
        return found.tokens[0]

    return jax.vmap(one)(batch.src, batch.index, batch.weight)
