"""Alternatives to the paper's attention (Luong et al. 2015, section 3).

Scores:
    dot        h . context_s
    concat     v . tanh(W_e context_s + W_h h)        (additive: Bahdanau et al. 2015)
    location   (W_a h)_s

Weights:
    global_    a = softmax(score) over all words
    local_m    over a window around p = t
    local_p    over a window around p = S sigmoid(v_p . tanh(W_p h)), times a Gaussian

Example:
    attention_lstm(config, attention=local_p(general(), window=10))
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ..base import Array
from ..errors import UsageError
from ..ops.dense import dense
from ..ops.recurrence import Sum, product, zero_sum
from .blocks import NEG_INF, Attention, cached, softmax
from .draws import uniform


@cached
def dot() -> Attention:
    """Returns the attention with score_s = h . context_s, for h [H] and context [S, H].

    Raises:
      UsageError: ``init`` gets encoder and decoder outputs of different widths.

    Source: Luong et al. 2015, section 3.1.
    """

    def init(key: Array, hidden: int, width: int, scale: float) -> tuple[()]:
        if hidden != width:
            raise UsageError(
                f"The dot attention multiplies decoder outputs of width {hidden} by encoder "
                f"outputs of width {width}: make the widths equal, or use the general attention."
            )
        return ()

    return Attention(
        init,
        memory=lambda params, context: context,
        sums=lambda params, keys: product(keys.T),
        scores=lambda keys, h: keys(h),
    )


@struct.dataclass
class ConcatParams:
    """Parameters of ``concat``."""

    of_context: Array  # W_e [M, H]
    of_h: Array  # W_h [H, H]
    v: Array  # [H]


@cached
def concat() -> Attention:
    """Returns the attention with score_s = v . tanh(W_e context_s + W_h h), additive attention.

    The shapes are h [H], context [S, M], W_e [M, H], W_h [H, H], v [H].

    Source: Bahdanau et al. 2015; ``concat`` in Luong et al. 2015, section 3.1.
    """

    def init(key: Array, hidden: int, width: int, scale: float) -> ConcatParams:
        shapes = (width, hidden), (hidden, hidden), (hidden,)
        keys = jax.random.split(key, 3)
        return ConcatParams(*(uniform(k, s, scale) for k, s in zip(keys, shapes, strict=True)))

    def sums(params: ConcatParams, keys: Array) -> tuple[Array, Sum, Array]:
        return keys, product(params.of_h), params.v

    def scores(sums: tuple[Array, Sum, Array], h: Array) -> Array:
        keys, query, v = sums
        return (jnp.tanh(keys + query(h)[None]) * v[None]).sum(-1)

    return Attention(init, lambda p, context: dense(context, p.of_context), sums, scores)


@cached
def location(max_source: int = 100) -> Attention:
    """Returns the attention with score_s = (W_a h)_s, for h [H] and W_a [max_source, H].

    Raises:
      UsageError: a source has more than ``max_source`` positions.

    Source: Luong et al. 2015, equation 8.
    """

    def memory(w_a: Array, context: Array) -> Array:
        if len(context) > max_source:
            raise UsageError(
                f"A source has {len(context)} positions, but location attention has weights for "
                f"only {max_source}: train with a larger max_source (--parts.max-source), or "
                "shorten the sources."
            )
        return zero_sum(len(context), context)

    return Attention(
        init=lambda key, hidden, width, scale: uniform(key, (hidden, max_source), scale),
        memory=memory,
        sums=lambda w_a, zeros: Sum(zeros, (w_a[:, : len(zeros)],)),
        scores=lambda sums, h: sums(h),
    )


def global_(attention: Attention) -> Attention:
    """Returns the attention with weights over all words."""
    return attention._replace(weights=softmax)


def _window(scores: Array, mask: Array, centre: Array, window: int) -> tuple[Array, Array]:
    """Returns the softmax over the words around ``centre``, and all distances to it, [S] each."""
    distance = jnp.arange(1, len(mask) + 1) - centre.astype(jnp.float32)
    inside = mask & (jnp.abs(distance) <= window)
    return jax.nn.softmax(jnp.where(inside, scores, NEG_INF)), distance


@cached
def local_m(attention: Attention, window: int = 10) -> Attention:
    """Returns the attention with weights over the words at most ``window`` away from p = t."""

    def weights(sums: Any, scores: Array, mask: Array, h: Array, position: Array) -> Array:
        # Beyond the end of the source the window stops where it still contains the last word.
        centre = jnp.minimum(position + 1, mask.sum().astype(jnp.float32) + window)
        return _window(scores, mask, centre, window)[0]

    return attention._replace(weights=weights)


@struct.dataclass
class LocalParams:
    """Parameters of ``local_p``."""

    scores: Any  # of the attention
    of_h: Array  # W_p [H, H]
    v: Array  # v_p [H, 1]


@cached
def local_p(attention: Attention, window: int = 10) -> Attention:
    """Returns the attention with weights over the words around p = S sigmoid(v_p . tanh(W_p h)).

    The weight of word s is a_s exp(-(s - p)^2 / 2 (window / 2)^2), with a the softmax over the
    words at most ``window`` away from p.
    """

    def init(key: Array, hidden: int, width: int, scale: float) -> LocalParams:
        scores_key, h_key, v_key = jax.random.split(key, 3)
        return LocalParams(
            scores=attention.init(scores_key, hidden, width, scale),
            of_h=uniform(h_key, (hidden, hidden), scale),
            v=uniform(v_key, (hidden, 1), scale),
        )

    def sums(params: LocalParams, memory: Any) -> tuple[Any, Sum, Sum]:
        return attention.sums(params.scores, memory), product(params.of_h), product(params.v)

    def weights(sums: Any, scores: Array, mask: Array, h: Array, position: Array) -> Array:
        _, w, v = sums
        centre = mask.sum().astype(jnp.float32) * jax.nn.sigmoid(v(jnp.tanh(w(h))))
        a, distance = _window(scores, mask, centre, window)
        return a * jnp.exp(-0.5 * (distance / (window / 2)) ** 2)

    return Attention(
        init,
        lambda params, context: attention.memory(params.scores, context),
        sums,
        lambda sums, h: attention.scores(sums[0], h),
        weights,
    )
