"""The paper's attention, and how the decoder reads the source with it (Luong et al. 2015, sec. 3).

    a = softmax_s(context_s . (W_a h))            ``general``; others are in ``attentions``
    h~ = tanh(W_c [sum_s a_s context_s ; h])      ``above``

Products with encoder outputs are computed once per sentence: keys, and values (by half of W_c).
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ..base import Array
from ..ops.dense import dense
from ..ops.recurrence import Sum, product, zero_sum
from .blocks import Attention, Reader, cached
from .draws import uniform


def attention_weights(
    attention: Attention, sums: Any, mask: Array, h: Array, position: Array
) -> Array:
    """Returns the weights a [S], float32, for the decoder output h [H] at ``position``, from 0.

    They sum to 1, except those of ``local_p``, which are not normalised after the Gaussian.
    """
    scores = attention.scores(sums, h).astype(jnp.float32)
    return attention.weights(sums, scores, mask, h, position)


@cached
def general() -> Attention:
    """score_s = context_s . (W_a h)"""
    return Attention(
        init=lambda key, hidden, width, scale: uniform(key, (width, hidden), scale),
        memory=lambda w_a, context: dense(context, w_a),
        sums=lambda w_a, keys: product(keys.T),
        scores=lambda keys, h: keys(h),
    )


@struct.dataclass
class AboveParams:
    """Parameters of ``above``: those of the scores and the two halves of W_c."""

    scores: Any
    context: Array  # [M, H]
    query: Array  # [H, H]


@cached
def above(attention: Attention, input_feeding: bool = True) -> Reader:
    """Returns a reader with attention above the decoder's stack: h~ = tanh(W_c [context ; h]).

    With input feeding, layer 1 reads h~ of the previous step.

    Source: Luong et al. 2015, equation 5 and section 3.3.
    """

    def init(key: Array, hidden: int, width: int, scale: float) -> AboveParams:
        scores_key, context_key, query_key = jax.random.split(key, 3)
        return AboveParams(
            scores=attention.init(scores_key, hidden, width, scale),
            context=uniform(context_key, (width, hidden), scale),
            query=uniform(query_key, (hidden, hidden), scale),
        )

    def memory(params: AboveParams, context: Array, mask: Array) -> tuple[Any, Array]:
        return attention.memory(params.scores, context), dense(context, params.context)

    def sums(params: AboveParams, memory: tuple[Any, Array]) -> tuple[tuple, tuple[Any, Sum]]:
        keys, values = memory
        attentional_vector = Sum(zero_sum(values.shape[1], values), (values, params.query))
        return (), (attention.sums(params.scores, keys), attentional_vector)

    def vector(sums: tuple, mask: Array, h: Array, position: Array) -> tuple[Array, Array]:
        scores, attentional_vector = sums
        weights = attention_weights(attention, scores, mask, h, position)
        return jnp.tanh(attentional_vector(weights, h)), weights

    def widths(hidden: int, width: int) -> tuple[int, ...]:
        return (hidden,) if input_feeding else ()

    return Reader(init, widths, memory, sums, vector=vector, feeding=input_feeding, attends=True)
