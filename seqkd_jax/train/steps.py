"""The training step and the evaluation step, as pure functions of a batch.

A training step has two halves, between which gradients are summed over devices: ``gradients``
sums over the sentences of a batch, and ``update`` changes the parameters.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import lax

from ..base import PAD, Array, Example, Params, Seq2Seq, Total
from ..errors import UsageError
from ..losses import Loss, nll
from .state import TrainState
from .stream import TeacherSide, batch_loss, identity


@dataclass(frozen=True)
class TrainStep:
    """The two halves of a training step; calling it runs both on one device.

    ``step(state, batch, key, teacher_params=None) -> (state, metrics)``, where ``batch`` is an
    ``Example`` with leading axis B and ``key`` is the run's key: the randomness of each sentence
    is folded from (key, step, index).
    """

    # (state, batch, key, teacher_params, sentences) -> (gradients, total). Sums are divided by
    # ``sentences``, the number on all devices together; None for that of ``batch``.
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
    ema: float = 0.0,
) -> TrainStep:
    """Builds the step that trains ``student``.

    The loss is summed over tokens and divided by the number of sentences in all microbatches and
    on all devices, as in Kim & Rush's code.

    Args:
      student: the model that is trained.
      tx: from optax; it gets ``epoch`` and ``perplexity`` of the state as extra arguments.
      loss: of one token.
      teacher: for losses that compare with it; runs without dropout and is not trained. Not
        needed if batches hold its outputs (``Example.teacher_targets``).
      microbatches: gradient accumulation: the batch is processed in this many equal parts, with
        the same result and less memory.
      ema: decay of the moving average of the parameters that a state of ``init_state(...,
        averaged=True)`` has; over the first n updates it is at most (n + 1) / (n + 10), so that the
        initial parameters are soon forgotten.

    Returns:
      A ``TrainStep``. Metrics: ``loss`` (nats per target token), ``tokens``, ``sentences``,
      ``gradient_norm`` (before clipping), ``finite``. If its loss or gradient is not finite, a
      step changes nothing but ``step``, and ``finite`` is False.

    >>> import seqkd_jax as skd
    >>> model = skd.attention_lstm(skd.Config(9, 9, embed=4, hidden=4, layers=1))
    >>> step = make_train_step(model, optax.sgd(1.0))
    >>> ids, one = jnp.array([[5, skd.EOS]]), jnp.ones(1)
    >>> batch, key = Example(ids, ids, one, one.astype(int)), jax.random.key(0)
    >>> state = jax.eval_shape(lambda: skd.init_state(model, optax.sgd(1.0), key))
    >>> state, metrics = jax.eval_shape(step, state, batch, key)  # shapes alone
    >>> sorted(metrics)
    ['finite', 'gradient_norm', 'loss', 'sentences', 'tokens']
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
        # Divided here, where it is a single number, and not in each gradient.
        return total.sum / count, total

    def gradients(state: TrainState, batch: Example, key, teacher_params=None, sentences=None):
        key = jax.random.fold_in(key, state.step)
        count = batch.weight.sum() if sentences is None else sentences

        def gradient_and_total(batch: Example) -> tuple[Params, Total]:
            differentiate = jax.grad(loss_per_sentence, has_aux=True)
            return differentiate(state.point, state, batch, key, teacher_params, count)

        if microbatches == 1:
            return gradient_and_total(batch)
        require_divisible(len(batch.weight), microbatches)
        parts = jax.tree.map(lambda x: x.reshape(microbatches, -1, *x.shape[1:]), batch)
        zeros = jax.tree.map(
            lambda s: jnp.zeros(s.shape, s.dtype),
            jax.eval_shape(gradient_and_total, jax.tree.map(lambda x: x[0], parts)),
        )

        def add(sums: Any, part: Example) -> tuple[Any, None]:
            return jax.tree.map(jnp.add, sums, gradient_and_total(part)), None

        return lax.scan(add, zeros, parts)[0]

    def update(state: TrainState, gradient: Params, total: Total):
        norm = optax.tree.norm(gradient)
        finite = jnp.isfinite(norm) & jnp.isfinite(total.sum)
        updates, opt_state = tx.update(
            gradient,
            state.opt_state,
            state.point,
            epoch=state.epoch,
            perplexity=state.perplexity,
        )
        new = replace(state, params=optax.apply_updates(state.point, updates), opt_state=opt_state)
        if state.iterate is not None:
            decay = jnp.minimum(ema, (state.step + 1) / (state.step + 10))
            average = optax.incremental_update(new.params, state.params, 1 - decay)
            new = replace(new, params=average, iterate=new.params)
        state = jax.tree.map(lambda new, old: jnp.where(finite, new, old), new, state)
        metrics = {
            "loss": total.sum / total.tokens,
            "tokens": total.tokens,
            "sentences": total.sentences,
            "gradient_norm": norm,
            "finite": finite,
        }
        return replace(state, step=state.step + 1), metrics

    return TrainStep(gradients, update)


def require_divisible(rows: int, microbatches: int) -> None:
    """Raises UsageError unless ``microbatches`` divides the rows of a batch on one device."""
    if rows % microbatches:
        divisors = [n for n in range(1, rows + 1) if rows % n == 0]
        raise UsageError(
            f"microbatches is {microbatches}, which does not divide the {rows} sentences of "
            f"a batch that each device gets; give one of {', '.join(map(str, divisors))}."
        )


def make_eval_step(
    model: Seq2Seq, loss: Loss = nll, *, teacher: Seq2Seq | None = None
) -> Callable[..., Total]:
    """Builds the evaluation step ``(params, batch, teacher_params=None) -> Total``.

    It computes the loss without dropout. With ``nll``, exp(sum / tokens) is the perplexity (EOS
    counted, padding not).
    """

    def evaluate(params: Params, batch: Example, teacher_params: Params = None) -> Total:
        hidden = jax.vmap(model.hidden, (None, 0, 0))(params, batch.src, batch.tgt)
        teacher_side = _teacher_side(teacher, teacher_params, batch)
        return batch_loss(
            model.project, loss, params, hidden, batch.tgt, batch.weight, teacher=teacher_side
        )

    return evaluate


def log_prob(model: Seq2Seq, params: Params, src: Array, tgt: Array) -> Array:
    """Returns the log-probability [] of ``tgt`` [T] given ``src`` [S], in nats, EOS counted."""
    hidden = model.hidden(params, src, tgt)
    losses = jax.vmap(lambda h, t: nll(model.project(params, h), t))(hidden, tgt)
    return -jnp.where(tgt != PAD, losses, 0).sum()


def _teacher_side(teacher: Seq2Seq | None, params: Params, batch: Example) -> TeacherSide | None:
    if batch.teacher_targets is not None:
        if teacher is not None:
            raise UsageError(
                "The step was built with a teacher, but the batches hold a teacher's "
                "distributions as well: leave out one of the two."
            )
        return TeacherSide(identity, None, batch.teacher_targets)
    if teacher is None:
        return None
    if params is None:
        raise UsageError(
            "The step was built with a teacher: call it with the teacher's parameters."
        )
    params = lax.stop_gradient(params)
    hidden: Any = jax.vmap(teacher.hidden, (None, 0, 0))(params, batch.src, batch.tgt)
    return TeacherSide(teacher.project, params, lax.stop_gradient(hidden))
