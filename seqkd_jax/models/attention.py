"""Attention, and how the decoder reads the source with it (Luong et al. 2015, section 3).

    a = softmax_s(context_s . (W_a h))            ``general``; others are in ``attentions``
    h~ = tanh(W_c [sum_s a_s context_s ; h])      ``above``

What touches the source is multiplied once per sentence: keys and values (by half of W_c).
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ..base import Array
from ..ops.dense import dense
from ..ops.recurrence import Sum
from .blocks import Attention, Reader
from .draws import uniform


def attend(attention: Attention, sums: Any, mask: Array, h: Array, position: Array) -> Array:
    """Returns the weights a [S], float32, for a decoder output h [H] at a target position from 0.

    They sum to 1, but for local_p, whose bell is not normalised again.
    """
    scores = attention.scores(sums, h).astype(jnp.float32)
    return attention.weights(sums, scores, mask, h, position)


def zeros_of(matrix: Array) -> Array:
    """Returns what a sum of products with ``matrix`` [N, M] starts from: 0 [M]."""
    return jnp.zeros(matrix.shape[1], matrix.dtype)


def of_keys(params: Any, keys: Array) -> Sum:
    """The sum of scores that are products of h with keys [S, H]."""
    del params
    return Sum(zeros_of(keys.T), (keys.T,))


@functools.cache
def general() -> Attention:
    """score_s = context_s . (W_a h)"""
    return Attention(
        init=lambda key, hidden, width, scale: uniform(key, (width, hidden), scale),
        memory=lambda w_a, context: dense(context, w_a),
        sums=of_keys,
        scores=lambda keys, h: keys(h),
    )


@struct.dataclass
class AboveParams:
    """Weights of ``above``: those of the scores and the two halves of W_c."""

    scores: Any
    context: Array  # [M, H]
    query: Array  # [H, H]


@functools.cache
def above(attention: Attention, input_feeding: bool = True) -> Reader:
    """Attention above the decoder's stack: h~ = tanh(W_c [context ; h]).

    With input feeding layer 1 reads the h~ of the step before.

    Source: Luong et al. 2015, equation 5 and section 3.3.
    """

    def init(key: Array, hidden: int, width: int, scale: float) -> AboveParams:
        of_scores, of_context, of_query = jax.random.split(key, 3)
        return AboveParams(
            scores=attention.init(of_scores, hidden, width, scale),
            context=uniform(of_context, (width, hidden), scale),
            query=uniform(of_query, (hidden, hidden), scale),
        )

    def memory(params: AboveParams, context: Array, mask: Array) -> tuple[Any, Array]:
        return attention.memory(params.scores, context), dense(context, params.context)

    def sums(params: AboveParams, memory: tuple[Any, Array]) -> tuple[tuple, tuple[Any, Sum]]:
        keys, values = memory
        attentional = Sum(zeros_of(values), (values, params.query))
        return (), (attention.sums(params.scores, keys), attentional)

    def vector(sums: tuple, mask: Array, h: Array, position: Array) -> tuple[Array, Array]:
        scores, attentional = sums
        weights = attend(attention, scores, mask, h, position)
        return jnp.tanh(attentional(weights.astype(h.dtype), h)), weights

    def widths(hidden: int, width: int) -> tuple[int, ...]:
        return (hidden,) if input_feeding else ()

    return Reader(init, widths, memory, sums, vector=vector, feeding=input_feeding, attends=True)
