"""One training step and one evaluation step, as pure functions of a batch.

A training step has two halves, because devices meet between them: ``gradients`` sums over the
sentences it is given, ``update`` moves the parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from ..base import Array, Example, Params, Seq2Seq, Total
from ..errors import UsageError
from ..losses import Loss, nll
from .state import TrainState
from .stream import Teacher, as_it_is, batch_loss


@dataclass(frozen=True)
class TrainStep:
    """Two halves of a step; calling it runs both on one device.

    ``step(state, batch, key, teacher_params=None) -> (state, metrics)``, where ``batch`` is an
    ``Example`` with leading axis B and ``key`` is the run's key: each sentence's own randomness
    is folded from (key, step, index).
    """

    # (state, batch, key, teacher_params, sentences), the number of them on all devices together,
    # by which a sum is divided; None for those of ``batch``.
    gradients: Callable[..., tuple[Params, Total]]
    update: Callable[..., tuple[TrainState, dict[str, Array]]]  # (state, gradients, total)

    def __call__(
        self, state: TrainState, batch: Example, key: Array, teacher_params: Params = None
    ) -> tuple[TrainState, dict[str, Array]]:
        """Runs both halves."""
        return self.update(state, *self.gradients(state, batch, key, teacher_params))


def make_train_step(
    student: Seq2Seq,
    tx: optax.GradientTransformation,
    loss: Loss = nll,
    *,
    teacher: Seq2Seq | None = None,
    microbatches: int = 1,
) -> TrainStep:
    """Builds the step that trains ``student``.

    The loss is summed over tokens and divided by the sentences of all microbatches and devices
    (Kim & Rush's code does so).

    Args:
      student: the model that learns.
      tx: from optax; it is handed ``epoch`` and ``perplexity`` of the state as extra arguments.
      loss: of one token.
      teacher: read by losses that compare with it; runs without dropout, learns nothing. Not
        needed where batches bring what it says (``Example.taught``).
      microbatches: gradient accumulation: the batch is worked off in so many equal parts, with
        the same result and less memory.

    Returns:
      A ``TrainStep``. Metrics: ``loss`` (nats per target token), ``tokens``, ``sentences``,
      ``gradient_norm`` (before clipping), ``finite``. A step whose loss or gradient is not
      finite changes nothing but ``step``, and says so in ``finite``.
    """
    tx = optax.with_extra_args_support(tx)

    def loss_per_sentence(params, state: TrainState, batch: Example, key, teacher_params, count):
        keys = jax.vmap(lambda i: jax.random.fold_in(key, i))(batch.index)
        hidden = jax.vmap(student.hidden, (None, 0, 0, 0))(params, batch.src, batch.tgt, keys)
        total = batch_loss(
            student.project,
            loss,
            params,
            hidden,
            batch.tgt,
            batch.weight,
            step=state.step,
            teacher=_teacher_side(teacher, teacher_params, batch),
        )
        # Divided here, where it is one number, and not in each gradient.
        return total.sum / count, total

    def gradients(state: TrainState, batch: Example, key, teacher_params=None, sentences=None):
        key = jax.random.fold_in(key, state.step)
        count = batch.weight.sum() if sentences is None else sentences

        def part(batch: Example) -> tuple[Params, Total]:
            differentiate = jax.grad(loss_per_sentence, has_aux=True)
            return differentiate(state.params, state, batch, key, teacher_params, count)

        if microbatches == 1:
            return part(batch)
        if (rows := len(batch.weight)) % microbatches:
            raise UsageError(
                f"microbatches is {microbatches}, which does not divide the {rows} sentences of "
                "a batch that each device gets; batches have a multiple of 8 sentences, so "
                "give 2, 4 or 8."
            )
        parts = jax.tree.map(lambda x: x.reshape(microbatches, -1, *x.shape[1:]), batch)
        zeros = jax.tree.map(
            lambda s: jnp.zeros(s.shape, s.dtype),
            jax.eval_shape(part, jax.tree.map(lambda x: x[0], parts)),
        )
        add = lambda sums, batch: (jax.tree.map(jnp.add, sums, part(batch)), None)  # noqa: E731
        return lax.scan(add, zeros, parts)[0]

    def update(state: TrainState, gradient: Params, total: Total):
        norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(norm) & jnp.isfinite(total.sum)
        updates, opt_state = tx.update(
            gradient,
            state.opt_state,
            state.params,
            epoch=state.epoch,
            perplexity=state.perplexity,
        )
        moved = (optax.apply_updates(state.params, updates), opt_state)
        params, opt_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old), moved, (state.params, state.opt_state)
        )
        metrics = {
            "loss": total.sum / total.tokens,
            "tokens": total.tokens,
            "sentences": total.sentences,
            "gradient_norm": norm,
            "finite": finite,
        }
        state = replace(state, step=state.step + 1, params=params, opt_state=opt_state)
        return state, metrics

    return TrainStep(gradients, update)


def make_eval_step(
    model: Seq2Seq, loss: Loss = nll, *, teacher: Seq2Seq | None = None
) -> Callable[..., Total]:
    """Builds ``(params, batch, teacher_params=None) -> Total``: the loss without dropout.

    With ``nll``, exp(sum / tokens) is the perplexity (EOS counted, padding not).
    """

    def evaluate(params: Params, batch: Example, teacher_params: Params = None) -> Total:
        hidden = jax.vmap(model.hidden, (None, 0, 0))(params, batch.src, batch.tgt)
        teacher_side = _teacher_side(teacher, teacher_params, batch)
        return batch_loss(
            model.project, loss, params, hidden, batch.tgt, batch.weight, teacher=teacher_side
        )

    return evaluate


def _teacher_side(teacher: Seq2Seq | None, params: Params, batch: Example) -> Teacher | None:
    if batch.taught is not None:
        if teacher is not None:
            raise UsageError(
                "The step was built with a teacher, but the batches bring a teacher's "
                "distributions as well: leave out one of the two."
            )
        return Teacher(as_it_is, None, batch.taught)
    if teacher is None:
        return None
    if params is None:
        raise UsageError(
            "The step was built with a teacher: call it with the teacher's parameters."
        )
    params = lax.stop_gradient(params)
    hidden: Any = jax.vmap(teacher.hidden, (None, 0, 0))(params, batch.src, batch.tgt)
    return Teacher(teacher.project, params, lax.stop_gradient(hidden))
