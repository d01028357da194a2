"""Hints: a student learns the hidden states of its teacher through a projection of its own.

    student, guide = hinted(small, width=512), hinting(big)          H of the teacher is 512
    step = make_train_step(student, tx, of_hidden(), teacher=guide)
    state = init_state(student, tx, jax.random.key(0))
    state, metrics = step(state, batch, key, big_params)
    small_params = state.params.model                                the regressor is left behind

Training sees two models as ever; only ``project`` gives ``Hinted`` in place of logits, which the
losses of ``losses.hint`` take apart. To search, use the model that was wrapped.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ..base import Array, Hinted, Params, Seq2Seq
from ..errors import UsageError


@struct.dataclass
class WithRegressor:
    """Parameters of a student with a hint: its own, and the projection to the teacher's width."""

    model: Params
    kernel: Array  # [H, H of the teacher]
    bias: Array  # [H of the teacher]


@functools.lru_cache(maxsize=64)
def hinted(student: Seq2Seq, width: int) -> Seq2Seq:
    """Returns the student with a learned affine projection of its hidden state to ``width``.

    ``project`` gives ``Hinted``: the student's logits [V], and the projected state [width].
    Parameters are ``WithRegressor``; ``params.model`` are the student's. Raises UsageError if
    width < 1.

    Source: Romero et al. 2015 (FitNets), section 2.2, with an affine regressor.
    """
    if width < 1:
        raise UsageError(f"width is {width}; give that of the teacher's hidden state.")

    def init(key: Array) -> WithRegressor:
        of_model, of_kernel = jax.random.split(key)
        params = student.init(of_model)
        one = jnp.zeros(1, jnp.int32)
        states = jax.eval_shape(student.hidden, params, one, one)
        hidden = sum(x.size for x in jax.tree.leaves(states))
        kernel = jax.random.normal(of_kernel, (hidden, width)) / jnp.sqrt(hidden)
        return WithRegressor(params, kernel, jnp.zeros(width))

    def encode(params: WithRegressor, src: Array, key: Array | None = None):
        return student.encode(params.model, src, key)

    def step(params: WithRegressor, memory: Any, state: Any, token: Array):
        return student.step(params.model, memory, state, token)

    def hidden(params: WithRegressor, src: Array, tgt: Array, key: Array | None = None):
        return student.hidden(params.model, src, tgt, key)

    def project(params: WithRegressor, hidden: Any) -> Any:
        hint = _vector(hidden) @ params.kernel + params.bias
        return Hinted(student.project(params.model, hidden), hint)

    return Seq2Seq(init, encode, step, hidden, project)


@functools.lru_cache(maxsize=64)
def hinting(teacher: Seq2Seq) -> Seq2Seq:
    """Returns the teacher, its parameters unchanged, with ``project`` giving ``Hinted``.

    The hidden states of an ensemble's members stand one after another.
    """

    def project(params: Params, hidden: Any) -> Any:
        return Hinted(teacher.project(params, hidden), _vector(hidden))

    return teacher._replace(project=project)


def _vector(hidden: Any) -> Array:
    """All hidden states of one position as one vector, float32."""
    leaves = [jnp.ravel(x).astype(jnp.float32) for x in jax.tree.leaves(hidden)]
    return jnp.concatenate(leaves)
