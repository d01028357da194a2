"""Attention (Luong et al. 2015, section 3), above the decoder's stack or below it.

    score      dot       h . context_s
               general   context_s . (W_a h)
               concat    v . tanh(W_e context_s + W_h h)        (additive: Bahdanau et al. 2015)
               location  (W_a h)_s
    alignment  global    a = softmax(score)
               local-m   of the words around p = t
               local-p   of those around p = S sigmoid(v_p . tanh(W_p h)), times a bell
    result     output    h~ = tanh(W_c [sum_s a_s context_s ; h])
               input     W_c sum_s a_s context_s, which the decoder's first layer reads

What touches the source is multiplied once per sentence: keys = context W_a and values = context
times the upper half of W_c. Every function is about one h [H] or, where all positions of a target
are known at once, about a row of them [T, H].
"""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ..base import Array
from ..errors import UsageError
from .cells import Affine, Sums, Weights, uniform
from .config import Config
from .dense import dense

# "score", "context" (upper half of W_c), "query" (lower half), and what a kind has besides; no
# biases. Only what the configuration needs is there.
Attention = dict[str, Array]

FAR_BELOW = -1e30  # all scores of words


@struct.dataclass
class Memory:
    """A source sentence, ready to be attended to; without attention, () or a fixed context."""

    keys: Any  # [S, H]
    values: Any  # [S, H]
    lower: Any  # [S, H], keys of the lower attention
    context: Any  # [S, H], the encoder's output, where it is read again
    mask: Array  # [S], true at words


def init_attention(config: Config, key: Array) -> Attention:
    """Draws the weights from U(-init_scale, init_scale)."""
    parts, hidden, wide = config.parts, config.hidden, config.context_width
    shapes: dict[str, tuple[int, ...]] = {}
    match parts.attention:
        case "general":
            shapes["score"] = (wide, hidden)
        case "concat":
            shapes |= {"score": (wide, hidden), "score_h": (hidden, hidden), "v": (hidden,)}
        case "location":
            shapes["score"] = (hidden, parts.max_source)
    if parts.attends == "input":
        shapes["context"] = (wide, config.read_width)
    elif parts.attention != "none":
        shapes |= {"context": (wide, hidden), "query": (hidden, hidden)}
    if parts.alignment == "local-p":
        shapes |= {"place_h": (hidden, hidden), "place": (hidden, 1)}
    if parts.lower_attention:
        shapes["lower"] = (wide, hidden)
    keys = jax.random.split(key, max(len(shapes), 1))
    return {
        name: uniform(k, shape, config.init_scale)
        for k, (name, shape) in zip(keys, shapes.items(), strict=False)
    }


def remember(config: Config, params: Attention, context: Array, mask: Array) -> Memory:
    """Prepares encoder outputs ``context`` [S, M] for attention; padding is masked for good.

    Raises UsageError if the score is by location and S is more than its weights know.
    """
    parts = config.parts
    if parts.attention == "location" and len(mask) > parts.max_source:
        raise UsageError(
            f"A source of {len(mask)} positions, and attention by location knows "
            f"{parts.max_source}: train with a larger max_source, or cut sources."
        )
    keys: Any = ()
    values: Any = ()
    lower: Any = ()
    kept: Any = ()
    if parts.attention in ("general", "concat"):
        keys = dense(context, params["score"])
    elif parts.attention == "dot":
        keys = context
    if parts.attention == "none" and parts.attends == "input":
        # A fixed context: each of its numbers is the largest of all words (Deep-ED).
        values = dense(jnp.where(mask[:, None], context, FAR_BELOW).max(0), params["context"])
    elif parts.attention != "none":
        values = dense(context, params["context"])
    if parts.lower_attention:
        lower, kept = dense(context, params["lower"]), context
    return Memory(keys, values, lower, kept, mask)


def attention_weights(config: Config, params: Attention, memory: Memory) -> Weights:
    """Returns the matrices of each sum of ``attend`` and ``attentional``."""
    parts = config.parts
    weights: Weights = {}
    match parts.attention:
        case "none":
            return {}
        case "concat":
            weights = {"query": (params["score_h"],)}
        case "location":
            weights = {"scores": (params["score"][:, : len(memory.mask)],)}
        case _:
            weights = {"scores": (memory.keys.T,)}
    if parts.alignment == "local-p":
        weights |= {"place_h": (params["place_h"],), "place": (params["place"],)}
    if parts.attends == "input":
        return weights | {"context": (memory.values,)}
    return weights | {"attentional": (memory.values, params["query"])}


def attention_sums(config: Config, params: Attention, memory: Memory) -> Sums:
    """Returns what the sums start from: scores far below all others at padding, the rest 0."""
    parts = config.parts
    if parts.attention == "none":
        return {}
    dtype = memory.values.dtype
    sums = {"scores": jnp.where(memory.mask, 0, FAR_BELOW).astype(dtype)}
    if parts.attention == "concat":
        sums |= {"keys": memory.keys, "v": params["v"], "query": _zeros(params["score_h"], dtype)}
    if parts.alignment == "local-p":
        sums |= {name: _zeros(params[name], dtype) for name in ("place_h", "place")}
    return sums | {
        "context" if parts.attends == "input" else "attentional": _zeros(memory.values, dtype)
    }


def _zeros(matrix: Array, dtype: jnp.dtype) -> Array:
    return jnp.zeros(matrix.shape[1], dtype)


def attend(config: Config, affine: Affine, mask: Array, h: Array, position: Array) -> Array:
    """Returns the weights a [..., S] for decoder outputs h [..., H] at target positions [...].

    ``affine`` is over ``attention_weights`` and ``attention_sums``. Weights are float32, exactly
    0 at padding and outside a window. They sum to 1, but for local-p, whose bell is not
    normalised again. Positions count from 0.
    """
    parts = config.parts
    if parts.attention == "concat":
        read = jnp.tanh(affine("keys") + affine("query", h)[..., None, :])
        scores = (read * affine("v")[..., None, :]).sum(-1) + affine("scores")
    else:
        scores = affine("scores", h)
    scores = scores.astype(jnp.float32)
    if parts.alignment == "global":
        return jax.nn.softmax(scores)
    words = mask.sum().astype(jnp.float32)
    if parts.alignment == "local-m":
        # Beyond the source's end the window stays where it still holds the last word.
        centre = jnp.minimum(position + 1, words + parts.window)[..., None]
    else:
        centre = words * jax.nn.sigmoid(affine("place", jnp.tanh(affine("place_h", h))))
    source = jnp.arange(1, len(mask) + 1).reshape((1,) * (h.ndim - 1) + (-1,))
    distance = source - centre.astype(jnp.float32)
    weights = jax.nn.softmax(jnp.where(jnp.abs(distance) <= parts.window, scores, FAR_BELOW))
    if parts.alignment == "local-p":
        weights = weights * jnp.exp(-0.5 * (distance / (parts.window / 2)) ** 2)
    return weights


def attentional(affine: Affine, weights: Array, h: Array) -> Array:
    """Returns h~ = tanh(W_c [context ; h]) (Luong et al. 2015, equation 5)."""
    return jnp.tanh(affine("attentional", weights.astype(h.dtype), h))


def lower_weights(memory: Memory) -> Weights:
    """Returns the matrices of ``add_lower_context``."""
    return {"lower scores": (memory.lower.T,), "lower": (memory.context,)}


def lower_sums(memory: Memory) -> Sums:
    """Returns what its sums start from."""
    dtype = memory.context.dtype
    scores = jnp.where(memory.mask, 0, FAR_BELOW).astype(dtype)
    return {"lower scores": scores, "lower": jnp.zeros(memory.context.shape[1], dtype)}


def add_lower_context(affine: Affine, x: Array) -> Array:
    """Returns x + sum_s softmax_s(context_s . (W x)) context_s (seq2seq-attn's ``multi_attn``)."""
    scores = jax.nn.softmax(affine("lower scores", x).astype(jnp.float32)).astype(x.dtype)
    return x + affine("lower", scores)
