"""Global attention with the "general" score (Luong et al. 2015, equations 3, 5 and 8).

    e_s = context_s . (W_a h),  a = softmax(e),  h~ = tanh(W_c [sum_s a_s context_s ; h])

Both matrix products that touch the source are done once per sentence: keys = context W_a and
values = context W_c's upper half. A decoding step is then two products with h and a weighted sum.
"""

import jax
import jax.numpy as jnp
from flax import struct

from ..base import Array
from .cells import Affine, Sums, Weights, uniform
from .dense import dense


@struct.dataclass
class Attention:
    """Weights W_a and the two halves of W_c; no biases."""

    score: Array  # [H, H]
    context: Array  # [H, H]
    query: Array  # [H, H]


@struct.dataclass
class Memory:
    """A source sentence, ready to be attended to."""

    keys: Array  # [S, H]
    values: Array  # [S, H]
    mask: Array  # [S], true at words


def init_attention(key: Array, hidden: int, scale: float) -> Attention:
    """Draws the weights from U(-scale, scale)."""
    keys = jax.random.split(key, 3)
    return Attention(*(uniform(k, (hidden, hidden), scale) for k in keys))


def remember(params: Attention, context: Array, mask: Array) -> Memory:
    """Prepares encoder outputs ``context`` [S, H] for attention; padding is masked for good."""
    return Memory(dense(context, params.score), dense(context, params.context), mask)


def attend(affine: Affine, h: Array) -> tuple[Array, Array]:
    """Returns the attentional vector h~ [H] and the weights a [S] for a decoder output h [H].

    ``affine`` is over ``attention_weights`` and ``attention_sums``. Weights are float32, exactly
    0 at padding, and sum to 1.
    """
    weights = jax.nn.softmax(affine("scores", h).astype(jnp.float32))
    return jnp.tanh(affine("attentional", weights.astype(h.dtype), h)), weights


def attention_weights(params: Attention, memory: Memory) -> Weights:
    """Returns the matrices of a step's two sums."""
    return {"scores": (memory.keys.T,), "attentional": (memory.values, params.query)}


def attention_sums(memory: Memory) -> Sums:
    """Returns what the two sums start from: scores [S], far below all others at padding, and 0."""
    dtype = memory.keys.dtype
    scores = jnp.where(memory.mask, 0, -1e30).astype(dtype)
    return {"scores": scores, "attentional": jnp.zeros(memory.values.shape[1], dtype)}
