"""Sampling, and what may be done to the distribution that is drawn from."""

import functools
from collections.abc import Callable, Sequence

import jax
import jax.numpy as jnp
from jax import lax

from ..base import BOS, EOS, PAD, Array, Hypotheses, State, StepFn
from ..errors import UsageError
from .candidates import allowed_after, own_limit, write

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
    """Draws one sentence, token by token; where only one more token fits, that is EOS.

    Step, state, max_len, limit and banned are as in ``beam_search``, and so is what is raised.

    Args:
      step: of one hypothesis.
      state: before BOS is read.
      key: token t is drawn with ``fold_in(key, t)``; ``vmap`` over keys gives several sentences.
      max_len: T.
      limit: this sentence's own.
      warp: changes the logits [V] that are drawn from; -inf, as of banned ids, is never drawn.
      banned: ids.

    Returns:
      tokens [1, T]; score and log-probability are both the model's own, before ``warp``.
    """
    limit = own_limit(limit, max_len)

    def goes_on(carry: tuple) -> Array:
        length, _, _, last, _ = carry
        return (length < limit) & (last != EOS)

    def advance(carry: tuple) -> tuple:
        length, state, tokens, last, log_prob = carry
        logits, state = step(state, last)
        logits = logits.astype(jnp.float32)
        allowed = allowed_after(banned, 0, length, limit).among(jnp.arange(logits.shape[-1]))
        warped = warp(jnp.where(allowed, logits, -jnp.inf))
        last = jax.random.categorical(jax.random.fold_in(key, length), warped).astype(jnp.int32)
        log_prob = log_prob + (logits[last] - jax.nn.logsumexp(logits))
        return length + 1, state, write(tokens, length, last[None]), last, log_prob

    tokens = jnp.full((1, max_len), PAD, jnp.int32)
    start = (jnp.int32(0), state, tokens, jnp.int32(BOS), jnp.float32(0))
    _, _, tokens, _, log_prob = lax.while_loop(goes_on, advance, start)
    return Hypotheses(tokens=tokens, scores=log_prob[None], log_probs=log_prob[None])


def temperature(t: float) -> Warp:
    """Divides the logits [V] by ``t``: 1 changes nothing, towards 0 the best token always wins.

    Raises UsageError unless t > 0.
    """
    if not t > 0:
        raise UsageError(f"t is {t}; a temperature must be greater than 0 (greedy: beam_size=1).")
    return lambda logits: logits / t


def top_k(k: int) -> Warp:
    """Keeps the k largest of the logits [V], of equal ones the lowest ids; the others get -inf.

    Source: Fan et al. 2018. Raises UsageError if k < 1.
    """
    if k < 1:
        raise UsageError(f"k is {k}; top_k must keep at least 1 token.")

    def warp(logits: Array) -> Array:
        best, ids = lax.top_k(logits, min(k, logits.shape[-1]))
        return jnp.full_like(logits, -jnp.inf).at[ids].set(best)

    return warp


def nucleus(p: float) -> Warp:
    """Keeps the fewest tokens of the logits [V] with a probability of at least p together.

    Source: Holtzman et al. 2020, section 3.1. Raises UsageError if p is outside (0, 1].
    """
    if not 0 < p <= 1:
        raise UsageError(f"p is {p}; a nucleus needs a probability above 0 and at most 1.")

    def warp(logits: Array) -> Array:
        order = jnp.argsort(logits, descending=True)
        probs = jax.nn.softmax(logits)[order]
        # A token belongs to it where those before hold less than p, so it and those after more
        # than 1 - p. Summed from the small end, no token is lost to rounding when p is 1.
        after = jnp.cumsum(probs[::-1])[::-1]
        kept = jnp.where(after > 1 - p, logits[order], -jnp.inf)
        return jnp.zeros_like(logits).at[order].set(kept)

    return warp


def chain(*warps: Warp) -> Warp:
    """Applies warps one after the other, the first first."""
    return lambda logits: functools.reduce(lambda x, warp: warp(x), warps, logits)
