"""Sampling, and warps of the distribution that tokens are drawn from."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from ..base import BOS, EOS, PAD, Array, Hypotheses, State, StepFn
from ..errors import UsageError
from .candidates import clip_limit, token_mask, write_column

Warp = Callable[[Array], Array]  # (logits [V]) -> logits [V]


def sample(
    step: StepFn,
    state: State,
    key: Array,
    *,
    max_len: int,
    limit: int | Array | None = None,
    warp: Warp = lambda logits: logits,
    banned: Sequence[int] = (PAD, BOS),
) -> Hypotheses:
    """Draws one sentence, token by token; in the last position only EOS is allowed.

    Args:
      step: (state, token []) -> (logits [V], state).
      state: the state before BOS is read.
      key: token t is drawn with ``fold_in(key, t)``; ``vmap`` over keys gives several sentences.
      max_len: T, the maximum length with EOS; a shape.
      limit: this sentence's maximum length with EOS; may be traced. Clipped to [1, max_len].
      warp: changes the logits [V] that tokens are drawn from; a token with -inf, such as a banned
        one, is never drawn.
      banned: ids that are never drawn.

    Returns:
      Hypotheses with tokens [1, T]. Score and log-probability are both the model's own, before
      ``warp``.

    Raises:
      UsageError: max_len is less than 1.
    """
    limit = clip_limit(limit, max_len)

    def cond(carry: tuple) -> Array:
        length, _, _, last, _ = carry
        return (length < limit) & (last != EOS)

    def body(carry: tuple) -> tuple:
        length, state, tokens, last, log_prob = carry
        logits, state = step(state, last)
        logits = logits.astype(jnp.float32)
        allowed = token_mask(banned, 0, length, limit).of(jnp.arange(logits.shape[-1]))
        warped = warp(jnp.where(allowed, logits, -jnp.inf))
        last = jax.random.categorical(jax.random.fold_in(key, length), warped).astype(jnp.int32)
        log_prob = log_prob + (logits[last] - jax.nn.logsumexp(logits))
        return length + 1, state, write_column(tokens, length, last[None]), last, log_prob

    tokens = jnp.full((1, max_len), PAD, jnp.int32)
    start = (jnp.int32(0), state, tokens, jnp.int32(BOS), jnp.float32(0))
    _, _, tokens, _, log_prob = lax.while_loop(cond, body, start)
    return Hypotheses(tokens=tokens, scores=log_prob[None], log_probs=log_prob[None])


def temperature(t: float) -> Warp:
    """Returns a warp that divides logits by ``t``; as t approaches 0 sampling becomes greedy.

    Raises UsageError unless t > 0.
    """
    if not t > 0:
        raise UsageError(f"t is {t}; a temperature must be greater than 0 (greedy: beam_size=1).")
    return lambda logits: logits / t


def top_k(k: int) -> Warp:
    """Returns a warp that keeps the k largest logits and sets the others to -inf.

    Ties are broken by the lower id.

    Source: Fan et al. 2018. Raises UsageError if k < 1.
    """
    if k < 1:
        raise UsageError(f"k is {k}; top_k must keep at least 1 token.")

    def warp(logits: Array) -> Array:
        best, ids = lax.top_k(logits, min(k, logits.shape[-1]))
        return jnp.full_like(logits, -jnp.inf).at[ids].set(best)

    return warp


def nucleus(p: float) -> Warp:
    """Returns a warp that keeps the smallest set of tokens with a total probability of at least p.

    Source: Holtzman et al. 2020, section 3.1. Raises UsageError if p is outside (0, 1].
    """
    if not 0 < p <= 1:
        raise UsageError(f"p is {p}; a nucleus needs a probability above 0 and at most 1.")

    def warp(logits: Array) -> Array:
        order = jnp.argsort(logits, descending=True)
        probs = jax.nn.softmax(logits)[order]
        # A token is kept if the tokens before it sum to less than p, that is, if it and the tokens
        # after it sum to more than 1 - p. Summing from the smallest loses no token when p is 1.
        tail = jnp.cumsum(probs[::-1])[::-1]
        kept = jnp.where(tail > 1 - p, logits[order], -jnp.inf)
        return jnp.zeros_like(logits).at[order].set(kept)

    return warp


def chain(*warps: Warp) -> Warp:
    """Returns a warp that applies ``warps`` in order."""
    return lambda logits: functools.reduce(lambda x, warp: warp(x), warps, logits)
