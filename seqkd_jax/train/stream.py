"""The loss of a batch: the only file that handles padding and sentence weights.

The B x T hidden states become one list of tokens without padding. The list is processed in chunks
of a few megabytes of logits, and the gradient of a chunk is computed together with its value, so
[B, T, V] never exists for student or teacher, and padding costs nothing.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ..base import PAD, Array, Params, Total, platform
from ..losses import Loss, at

# (params, hidden [H]) -> logits [V], or another pytree that the loss reads
Project = Callable[[Params, Any], Any]

CPU_CHUNK_BYTES = 8 << 20  # of float32 logits: they stay in the cache
TPU_CHUNK_BYTES = 48 << 20  # they stay in the chip's own memory, of 128 MB
ACCELERATOR_CHUNK_BYTES = 128 << 20  # larger products keep the device busy
CHUNK_TOKENS = 256  # at least, because each chunk adds to the gradient of the whole projection


class TeacherSide(NamedTuple):
    """The teacher's outputs for a batch."""

    project: Project
    params: Params
    hidden: Any  # [B, T, H of the teacher]; or, with ``identity``, what the loss reads


def identity(params: Params, hidden: Any) -> Any:
    """Returns ``hidden``: the ``project`` of a teacher whose outputs are stored distributions."""
    del params
    return hidden


def batch_loss(
    project: Project,
    loss: Loss,
    params: Params,
    hidden: Any,
    tgt: Array,
    weight: Array,
    *,
    step: Array | int = 0,
    teacher: TeacherSide | None = None,
    chunk: int | None = None,
) -> Total:
    """Sums a token loss over the tokens of a batch, padding left out.

    Differentiable with respect to ``params`` and ``hidden``.

    Args:
      project: (params, hidden [H]) -> logits [V], or any pytree that the loss can read.
      loss: of one token.
      params: the model's parameters; those that ``project`` does not read get no gradient.
      hidden: [B, T, H], or a pytree of such arrays.
      tgt: [B, T], ids padded with PAD.
      weight: [B], of each sentence.
      step: the training step, for losses that follow a schedule.
      teacher: the teacher's hidden states at the same positions; no gradient flows into it.
      chunk: tokens of a chunk; None for ``chunk_tokens``.

    Returns:
      The sum of weight x loss, in nats, and the weighted numbers of tokens and sentences.
    """
    weights = jnp.where(tgt != PAD, weight[:, None], 0)
    of_token = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), hidden)
    used, rebuild = _split_used_params(project, params, of_token)
    width = sum(x.size for x in jax.tree.leaves(jax.eval_shape(project, params, of_token)))
    chunk = chunk or chunk_tokens(width, tgt.size)
    teacher_project = teacher.project if teacher else None

    def chunk_loss(used, hidden, data: _Tokens, index: Array) -> Array:
        logits = jax.vmap(project, (None, 0))(rebuild(used), hidden)
        teacher_logits = None
        if teacher_project is not None:
            states = _rows(data.teacher_hidden, index)
            teacher_logits = jax.vmap(teacher_project, (None, 0))(data.teacher_params, states)
        losses = jax.vmap(at(loss, data.step))(logits, _rows(data.targets, index), teacher_logits)
        return (losses * _rows(data.weights, index)).sum()

    total = _summed_over_chunks(chunk_loss, chunk)
    # All tracers are passed as data, because a ``custom_vjp`` function must not close over any.
    data = _Tokens(
        targets=tgt.reshape(-1),
        weights=weights.reshape(-1),
        step=jnp.asarray(step, jnp.int32),
        teacher_params=teacher.params if teacher else None,
        teacher_hidden=_flat(teacher.hidden) if teacher else None,
    )
    return Total(sum=total(used, _flat(hidden), data), tokens=weights.sum(), sentences=weight.sum())


class _Tokens(NamedTuple):
    """A batch as a list of N = B * T tokens, padding included; no gradient flows into it."""

    targets: Array  # [N]
    weights: Array  # [N], 0 at padding
    step: Array  # []
    teacher_params: Params
    teacher_hidden: Any  # [N, H of the teacher]


def _summed_over_chunks(chunk_loss: Callable, chunk: int) -> Callable:
    """Sums ``chunk_loss(used, hidden [C, H], data, index [C])`` over the tokens with a weight.

    Under differentiation, the gradient of each chunk is computed while its logits exist.
    """

    def walk(body: Callable, start: Any, data: _Tokens) -> Any:
        # Indices of the tokens with a weight, in order; the fill value points past the last row.
        size = data.weights.size
        indices = jnp.nonzero(data.weights, size=-(-size // chunk) * chunk, fill_value=size)[0]
        chunks = (jnp.count_nonzero(data.weights) + chunk - 1) // chunk

        def step(i: Array, carry: Any) -> Any:
            return body(carry, lax.dynamic_slice_in_dim(indices, i * chunk, chunk))

        return lax.fori_loop(0, chunks, step, start)

    @jax.custom_vjp
    def total(used, hidden, data: _Tokens) -> Array:
        def add(value, index):
            return value + chunk_loss(used, _rows(hidden, index), data, index)

        return walk(add, jnp.float32(0), data)

    def forward(used, hidden, data: _Tokens):
        def add(carry, index):
            value, grad_used, grad_hidden = carry
            chunk_value, (d_used, d_hidden) = jax.value_and_grad(chunk_loss, (0, 1))(
                used, _rows(hidden, index), data, index
            )
            grad_used = jax.tree.map(jnp.add, grad_used, d_used)
            grad_hidden = jax.tree.map(
                lambda x, d: x.at[index].set(d, mode="drop"), grad_hidden, d_hidden
            )
            return value + chunk_value, grad_used, grad_hidden

        zeros = jax.tree.map(jnp.zeros_like, (used, hidden))
        value, *gradient = walk(add, (jnp.float32(0), *zeros), data)
        return value, tuple(gradient)

    def backward(gradient, scale):
        return *jax.tree.map(lambda g: g * scale.astype(g.dtype), gradient), None

    total.defvjp(forward, backward)
    return total


def chunk_tokens(vocabulary: int, tokens: int) -> int:
    """Returns the number of tokens in a chunk: a multiple of 8, and no more than needed."""
    budgets = {"cpu": CPU_CHUNK_BYTES, "tpu": TPU_CHUNK_BYTES}
    budget = budgets.get(platform(), ACCELERATOR_CHUNK_BYTES)
    wanted = max(budget // (4 * vocabulary), CHUNK_TOKENS)
    return max(8, min(wanted, tokens + 7) // 8 * 8)


def _flat(hidden: Any) -> Any:
    """Reshapes [B, T, ...] to [B * T, ...]."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), hidden)


def _rows(tree: Any, index: Array) -> Any:
    """Returns rows of each array; an index past the end gives zeros."""
    return jax.tree.map(lambda x: jnp.take(x, index, 0, mode="fill", fill_value=0), tree)


def _split_used_params(project: Project, params: Params, hidden: Any):
    """Splits off the parameters that ``project`` uses, so that the loop does not add up zeros.

    Returns:
      The list of used leaves, and a function that rebuilds the whole tree from such a list.
    """
    leaves, tree = jax.tree.flatten(params)
    jaxpr = jax.make_jaxpr(project)(params, hidden).jaxpr
    seen = {id(variable) for equation in jaxpr.eqns for variable in equation.invars}
    is_used = [id(variable) in seen for variable in jaxpr.invars[: len(leaves)]]
    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]

    def rebuild(used: list[Array]) -> Params:
        remaining = iter(used)
        return tree.unflatten(
            [
                next(remaining) if u else jnp.zeros(shape.shape, shape.dtype)
                for shape, u in zip(shapes, is_used, strict=True)
            ]
        )

    return [leaf for leaf, u in zip(leaves, is_used, strict=True) if u], rebuild
