"""The matrix products of a model's own equations, counted in what JAX traces.

Nothing is compiled; operations that no result depends on are not counted. Any ``Seq2Seq`` will do.
"""

import math
from typing import Any

import jax
import jax.numpy as jnp

from ..base import Seq2Seq

BACKWARDS = 2  # products of a gradient for each product of the value: by vector and by matrix


def training_flops(model: Seq2Seq, length: int) -> int:
    """Returns the operations of one sentence pair, S = T = ``length``, forwards and backwards."""
    return (1 + BACKWARDS) * teaching_flops(model, length)


def teaching_flops(model: Seq2Seq, length: int) -> int:
    """Returns the operations of one sentence pair forwards: hidden vectors and logits."""
    params, words = _abstract(model, length)
    hidden = jax.eval_shape(model.hidden, params, words, words)
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), hidden)
    return _count(model.hidden, params, words, words) + length * _count(model.project, params, one)


def search_flops(model: Seq2Seq, length: int, beam_size: int) -> int:
    """Returns the operations of a search over one sentence: encoder, T steps of K hypotheses."""
    params, words = _abstract(model, length)
    memory, state = jax.eval_shape(model.encode, params, words)
    token = jax.ShapeDtypeStruct((), jnp.int32)
    hidden, _ = jax.eval_shape(model.step, params, memory, state, token)
    step = _count(model.step, params, memory, state, token)
    step += _count(model.project, params, hidden)
    return _count(model.encode, params, words) + length * beam_size * step


def _abstract(model: Seq2Seq, length: int) -> tuple[Any, jax.ShapeDtypeStruct]:
    params = jax.eval_shape(lambda: model.init(jax.random.key(0)))
    return params, jax.ShapeDtypeStruct((length,), jnp.int32)


def _count(function: Any, *args: Any) -> int:
    jaxpr = jax.make_jaxpr(function)(*args).jaxpr
    return _live(jaxpr, [True] * len(jaxpr.outvars))[0]


def _live(jaxpr: Any, wanted: list[bool]) -> tuple[int, list[bool]]:
    """Returns the operations on which wanted outputs depend, and which inputs they depend on."""
    needed = {id(v) for v, want in zip(jaxpr.outvars, wanted, strict=True) if want}
    total = 0
    for equation in reversed(jaxpr.eqns):
        outputs = [id(v) in needed for v in equation.outvars]
        if not any(outputs):
            continue
        flops, inputs = _of_equation(equation, outputs)
        total += flops
        needed |= {id(v) for v, used in zip(equation.invars, inputs, strict=True) if used}
    return total, [id(v) in needed for v in jaxpr.invars]


def _of_equation(equation: Any, outputs: list[bool]) -> tuple[int, list[bool]]:
    name, params = equation.primitive.name, equation.params
    all_inputs = [True] * len(equation.invars)
    if name in ("dot_general", "dense"):
        left, right = (v.aval.shape for v in equation.invars)
        if name == "dense":
            return 2 * math.prod(left) * right[-1], all_inputs
        (contracted, _), _ = params["dimension_numbers"]
        inner = math.prod(left[n] for n in contracted)
        return 2 * math.prod(equation.outvars[0].aval.shape) * inner, all_inputs
    inner = [_jaxpr(v) for v in params.values() if _jaxpr(v) is not None]
    if name == "cond":
        return max(_live(_jaxpr(b), outputs)[0] for b in params["branches"]), all_inputs
    if not inner:
        return 0, all_inputs
    body = inner[0]
    if name == "scan":
        return params["length"] * _live(body, [True] * len(body.outvars))[0], all_inputs
    flops, inputs = _live(body, outputs)
    return flops, inputs if len(inputs) == len(all_inputs) else all_inputs


def _jaxpr(value: Any) -> Any:
    """Returns the jaxpr that a parameter of an equation holds, or None."""
    value = getattr(value, "jaxpr", value)
    return value if hasattr(value, "eqns") else None
