"""The loss of a batch: the one place that knows padding and sentence weights.

B x T hidden states become one list of tokens with the padding left out. The list is walked in
chunks of a few megabytes of logits, and the gradient of a chunk is taken together with its value,
so no [B, T, V] exists for student or teacher, and padding costs nothing.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ..base import PAD, Array, Params, Total
from ..losses import Loss, at

Project = Callable[[Params, Any], Any]  # (params, hidden [H]) -> logits [V], or what a loss reads

CPU_CHUNK_BYTES = 8 << 20  # of float32 logits: they stay in the cache
ACCELERATOR_CHUNK_BYTES = 128 << 20  # larger products keep the device busy
CHUNK_TOKENS = 256  # at least: each chunk adds to the gradient of the whole projection


class Teacher(NamedTuple):
    """The teacher's side of a batch."""

    project: Project
    params: Params
    hidden: Any  # [B, T, H of the teacher]; or, with ``as_it_is``, what the loss reads


def as_it_is(params: Params, hidden: Any) -> Any:
    """The ``project`` of a teacher whose distributions are at hand."""
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
    teacher: Teacher | None = None,
) -> Total:
    """Sums a token loss over the real tokens of a batch; differentiable in params and hidden.

    Args:
      project: (params, hidden [H]) -> logits [V], or any pytree that the loss can read.
      loss: of one token.
      params: the model's parameters; those that ``project`` does not read get no gradient here.
      hidden: [B, T, H], or a pytree of such.
      tgt: [B, T], ids filled with PAD.
      weight: [B], of each sentence.
      step: the training step, for losses that follow a schedule.
      teacher: the teacher's hidden states at the same positions; no gradient flows into it.

    Returns:
      The sum of weight x loss, in nats, and the weighted numbers of tokens and sentences.
    """
    weights = jnp.where(tgt != PAD, weight[:, None], 0)
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[2:], x.dtype), hidden)
    read, join = _read_by(project, params, one)
    width = sum(x.size for x in jax.tree.leaves(jax.eval_shape(project, params, one)))
    chunk = chunk_tokens(width, tgt.size)
    teacher_project = teacher.project if teacher else None

    def chunk_loss(read, hidden, data: _Tokens, index: Array) -> Array:
        logits = jax.vmap(project, (None, 0))(join(read), hidden)
        teacher_logits = None
        if teacher_project is not None:
            states = _rows(data.teacher_hidden, index)
            teacher_logits = jax.vmap(teacher_project, (None, 0))(data.teacher_params, states)
        losses = jax.vmap(at(loss, data.step))(logits, _rows(data.targets, index), teacher_logits)
        return (losses * _rows(data.weights, index)).sum()

    total = _summed_over_chunks(chunk_loss, chunk)
    # All that is traced enters as data: a function with its own derivative closes over no tracer.
    data = _Tokens(
        targets=tgt.reshape(-1),
        weights=weights.reshape(-1),
        step=jnp.asarray(step, jnp.int32),
        teacher_params=teacher.params if teacher else None,
        teacher_hidden=_flat(teacher.hidden) if teacher else None,
    )
    return Total(sum=total(read, _flat(hidden), data), tokens=weights.sum(), sentences=weight.sum())


class _Tokens(NamedTuple):
    """A batch as one list of N = B * T tokens, padding included; no gradient flows into it."""

    targets: Array  # [N]
    weights: Array  # [N], 0 at padding
    step: Array  # []
    teacher_params: Params
    teacher_hidden: Any  # [N, H of the teacher]


def _summed_over_chunks(chunk_loss: Callable, chunk: int) -> Callable:
    """Sums ``chunk_loss(read, hidden [C, H], data, index [C])`` over the tokens with weight.

    Where a derivative is asked for, that of each chunk is taken while its logits are at hand.
    """

    def walk(body: Callable, start: Any, data: _Tokens) -> Any:
        # Tokens with weight first, in place order; the filling points past the end: no row.
        size = data.weights.size
        places = jnp.nonzero(data.weights, size=-(-size // chunk) * chunk, fill_value=size)[0]
        chunks = (jnp.count_nonzero(data.weights) + chunk - 1) // chunk

        def step(i: Array, carry: Any) -> Any:
            return body(carry, lax.dynamic_slice_in_dim(places, i * chunk, chunk))

        return lax.fori_loop(0, chunks, step, start)

    @jax.custom_vjp
    def total(read, hidden, data: _Tokens) -> Array:
        def add(value, index):
            return value + chunk_loss(read, _rows(hidden, index), data, index)

        return walk(add, jnp.float32(0), data)

    def forward(read, hidden, data: _Tokens):
        def add(carry, index):
            value, of_read, of_hidden = carry
            more, (d_read, d_hidden) = jax.value_and_grad(chunk_loss, (0, 1))(
                read, _rows(hidden, index), data, index
            )
            of_read = jax.tree.map(jnp.add, of_read, d_read)
            of_hidden = jax.tree.map(
                lambda x, d: x.at[index].set(d, mode="drop"), of_hidden, d_hidden
            )
            return value + more, of_read, of_hidden

        zeros = jax.tree.map(jnp.zeros_like, (read, hidden))
        value, *gradient = walk(add, (jnp.float32(0), *zeros), data)
        return value, tuple(gradient)

    def backward(gradient, scale):
        return *jax.tree.map(lambda g: g * scale.astype(g.dtype), gradient), None

    total.defvjp(forward, backward)
    return total


def chunk_tokens(vocabulary: int, tokens: int) -> int:
    """How many tokens one chunk holds: a multiple of 8, and no more than there are."""
    on_cpu = jax.default_backend() == "cpu"
    budget = CPU_CHUNK_BYTES if on_cpu else ACCELERATOR_CHUNK_BYTES
    wanted = max(budget // (4 * vocabulary), CHUNK_TOKENS)
    return max(8, min(wanted, tokens + 7) // 8 * 8)


def _flat(hidden: Any) -> Any:
    """[B, T, ...] -> [B * T, ...]."""
    return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:]), hidden)


def _rows(tree: Any, index: Array) -> Any:
    """Rows of each array; an index past the end gives zeros."""
    return jax.tree.map(lambda x: jnp.take(x, index, 0, mode="fill", fill_value=0), tree)


def _read_by(project: Project, params: Params, hidden: Any):
    """Splits off the parameters that ``project`` reads, so that the walk sums no zeros.

    Returns:
      The list of leaves that are read, and a function from such a list to a whole tree.
    """
    leaves, tree = jax.tree.flatten(params)
    jaxpr = jax.make_jaxpr(project)(params, hidden).jaxpr
    seen = {id(variable) for equation in jaxpr.eqns for variable in equation.invars}
    used = [id(variable) in seen for variable in jaxpr.invars[: len(leaves)]]
    shapes = [jax.ShapeDtypeStruct(leaf.shape, leaf.dtype) for leaf in leaves]

    def join(read: list[Array]) -> Params:
        given = iter(read)
        return tree.unflatten(
            [
                next(given) if u else jnp.zeros(shape.shape, shape.dtype)
                for shape, u in zip(shapes, used, strict=True)
            ]
        )

    return [leaf for leaf, u in zip(leaves, used, strict=True) if u], join
