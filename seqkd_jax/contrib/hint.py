"""Hints: a student learns its teacher's hidden states through a learned projection.

    student, guide = hinted(small, width=512), with_hidden_output(big)      H of the teacher is 512
    hint_step = make_train_step(student, tx, on_hidden(), teacher=guide)    the hint alone, first
    loss = weighted((1.0, on_logits(mix(nll, word_kd, 0.5))), (0.1, on_hidden()))
    step = make_train_step(student, tx, loss, teacher=guide)
    state, metrics = step(init_state(student, tx, jax.random.key(0)), batch, key, big_params)
    small_params = state.params.model                                without the regressor

Training uses two models as usual, but ``project`` returns ``OutputsWithHidden`` instead of logits.
``on_logits`` and ``on_hidden`` apply a loss to one of its fields. A temperature goes inside:
``on_logits(with_temperature(word_kd, 2.0))``. For a search use the original model.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from ..base import Array, Params, Seq2Seq, TokenLoss
from ..errors import UsageError
from ..losses import Loss
from ..losses.combine import lift


@struct.dataclass
class OutputsWithHidden:
    """The result of ``project`` of a model with a hint: logits and a hidden state."""

    logits: Any  # [V]; a teacher's may be a TopK
    hidden: Array  # [H of the teacher]


@struct.dataclass
class WithRegressor:
    """Parameters of a student with a hint: the model's and those of the projection."""

    model: Params
    kernel: Array  # [H, H of the teacher]
    bias: Array  # [H of the teacher]


@functools.cache
def hinted(student: Seq2Seq, width: int) -> Seq2Seq:
    """Returns the student with a learned affine projection of its hidden state to ``width``.

    ``project`` returns ``OutputsWithHidden``: the student's logits [V] and the projected state
    [width]. Parameters are ``WithRegressor``; ``params.model`` are the student's. Raises
    UsageError if width < 1.

    Source: Romero et al. 2015 (FitNets), section 2.2, with an affine regressor.
    """
    if width < 1:
        raise UsageError(f"width is {width}; give the width of the teacher's hidden state.")

    def init(key: Array) -> WithRegressor:
        model_key, kernel_key = jax.random.split(key)
        params = student.init(model_key)
        ids = jnp.zeros(1, jnp.int32)
        states = jax.eval_shape(student.hidden, params, ids, ids)
        hidden = sum(x.size for x in jax.tree.leaves(states))
        kernel = jax.random.normal(kernel_key, (hidden, width)) / jnp.sqrt(hidden)
        return WithRegressor(params, kernel, jnp.zeros(width))

    def encode(params: WithRegressor, src: Array, key: Array | None = None):
        return student.encode(params.model, src, key)

    def step(params: WithRegressor, memory: Any, state: Any, token: Array):
        return student.step(params.model, memory, state, token)

    def hidden(params: WithRegressor, src: Array, tgt: Array, key: Array | None = None):
        return student.hidden(params.model, src, tgt, key)

    def project(params: WithRegressor, hidden: Any) -> Any:
        hint = _vector(hidden) @ params.kernel + params.bias
        return OutputsWithHidden(student.project(params.model, hidden), hint)

    return Seq2Seq(init, encode, step, hidden, project)


@functools.cache
def with_hidden_output(model: Seq2Seq) -> Seq2Seq:
    """Returns a teaching model with ``project`` returning ``OutputsWithHidden``; same parameters.

    The hidden states of an ensemble's members are concatenated.
    """

    def project(params: Params, hidden: Any) -> Any:
        return OutputsWithHidden(model.project(params, hidden), _vector(hidden))

    return model._replace(project=project)


def _vector(hidden: Any) -> Array:
    """Concatenates all hidden states of one position to one vector, float32."""
    leaves = [jnp.ravel(x).astype(jnp.float32) for x in jax.tree.leaves(hidden)]
    return jnp.concatenate(leaves)


def squared_distance(hidden: Array, target: Array, teacher_hidden: Array | None = None) -> Array:
    """Returns half the squared distance of two hidden states [H], as a scalar.

    Raises:
      UsageError: there is no teacher.

    Source: Romero et al. 2015, equation 3.
    """
    del target
    if teacher_hidden is None:
        raise UsageError("squared_distance compares with a teacher, but there is none.")
    difference = hidden.astype(jnp.float32) - lax.stop_gradient(teacher_hidden).astype(jnp.float32)
    return 0.5 * (difference**2).sum()


def on_logits(loss: Loss) -> Loss:
    """Applies ``loss`` to the logits of a student with a hint and of its teacher.

    The teacher may return ``OutputsWithHidden`` or logits.
    """

    def of_outputs(token_loss: TokenLoss) -> TokenLoss:
        def logits_loss(outputs: OutputsWithHidden, target: Array, teacher=None) -> Array:
            teacher_logits = teacher.logits if isinstance(teacher, OutputsWithHidden) else teacher
            return token_loss(_checked(outputs).logits, target, teacher_logits)

        return logits_loss

    return lift(of_outputs, loss)


def on_hidden(loss: Loss = squared_distance) -> Loss:
    """Applies ``loss`` to the student's projected hidden state and the teacher's hidden state.

    The loss raises UsageError if one of the models returns no hidden state, or the widths differ.
    """

    def of_outputs(token_loss: TokenLoss) -> TokenLoss:
        def hidden_loss(outputs: OutputsWithHidden, target: Array, teacher=None) -> Array:
            hidden = _checked(outputs).hidden
            if not isinstance(teacher, OutputsWithHidden):
                raise UsageError(
                    "on_hidden compares with the teacher's hidden states, but there are none: "
                    "pass make_train_step(..., teacher=with_hidden_output(teacher))."
                )
            if hidden.shape != teacher.hidden.shape:
                raise UsageError(
                    f"The student's hint has width {hidden.shape[-1]}, but the teacher's hidden "
                    f"state has {teacher.hidden.shape[-1]}: make the student with "
                    f"hinted(student, width={teacher.hidden.shape[-1]})."
                )
            return token_loss(hidden, target, teacher.hidden)

        return hidden_loss

    return lift(of_outputs, loss)


def _checked(outputs: OutputsWithHidden | Array) -> OutputsWithHidden:
    if not isinstance(outputs, OutputsWithHidden):
        raise UsageError(
            "on_logits and on_hidden need a student with a hint: "
            "make_train_step(hinted(student, width), ...)."
        )
    return outputs
