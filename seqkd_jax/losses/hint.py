"""Losses of models that give a hidden state beside their logits (``models.hint``).

    student, guide = hinted(small, width=512), hinting(big)          H of the teacher is 512
    hint = make_train_step(student, tx, of_hidden(), teacher=guide)  the hint alone, before training
    loss = weighted((1.0, of_logits(mix(nll, word_kd, 0.5))), (0.1, of_hidden()))
    both = make_train_step(student, tx, loss, teacher=guide)
    small_params = state.params.model                                what is kept in the end

A temperature belongs inside: ``of_logits(with_temperature(word_kd, 2.0))``.
"""

import jax.numpy as jnp
from jax import lax

from ..base import Array, Hinted, TokenLoss
from ..errors import UsageError
from .combine import Loss, lift


def squared_distance(hidden: Array, target: Array, teacher_hidden: Array | None = None) -> Array:
    """Half the squared distance of two vectors (Romero et al. 2015, equation 3)."""
    del target
    if teacher_hidden is None:
        raise UsageError("squared_distance compares with a teacher, but there is none.")
    difference = hidden.astype(jnp.float32) - lax.stop_gradient(teacher_hidden).astype(jnp.float32)
    return 0.5 * (difference**2).sum()


def of_logits(loss: Loss) -> Loss:
    """Lets ``loss`` see the logits of a model with a hint, and of its teacher, hinting or not."""

    def look(part: TokenLoss) -> TokenLoss:
        def of_part(given: Hinted, target: Array, teacher=None) -> Array:
            theirs = teacher.logits if isinstance(teacher, Hinted) else teacher
            return part(_hinted(given).logits, target, theirs)

        return of_part

    return lift(look, loss)


def of_hidden(loss: Loss = squared_distance) -> Loss:
    """Lets ``loss`` compare the student's projected hidden state [H] with the teacher's.

    Raises UsageError if one of them gives no hidden state, or another width.
    """

    def look(part: TokenLoss) -> TokenLoss:
        def of_part(given: Hinted, target: Array, teacher=None) -> Array:
            mine = _hinted(given).hidden
            if not isinstance(teacher, Hinted):
                raise UsageError(
                    "of_hidden compares with the teacher's hidden states, but there are none: "
                    "pass make_train_step(..., teacher=hinting(teacher))."
                )
            if mine.shape != teacher.hidden.shape:
                raise UsageError(
                    f"The student's hint has width {mine.shape[-1]}, but the teacher's hidden "
                    f"state has {teacher.hidden.shape[-1]}: make the student with "
                    f"hinted(student, width={teacher.hidden.shape[-1]})."
                )
            return part(mine, target, teacher.hidden)

        return of_part

    return lift(look, loss)


def _hinted(given: Hinted | Array) -> Hinted:
    if not isinstance(given, Hinted):
        raise UsageError(
            "of_logits and of_hidden need a student with a hint: "
            "make_train_step(hinted(student, width), ...)."
        )
    return given
