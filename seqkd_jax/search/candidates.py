"""The tokens that may come next, and the best of them."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ..base import EOS, Array, Params, Seq2Seq, specialized
from ..errors import UsageError

BLOCK = 64  # logits that are looked at together
WORTH = 500  # V from which on that first look pays


def for_search(model: Seq2Seq, params: Params, words: int | None = None) -> tuple[Seq2Seq, Params]:
    """Returns a model that is searched sooner and does the same, and its parameters.

    Its logits may be filled up to whole blocks with -inf, which no search chooses: that is what
    ``top_candidates`` reads without copying. Parameters that it returns are not for training.

    Args:
      model: any; one that has nothing faster to offer is returned as it is.
      params: of it, which will not change.
      words: about how many words will be read and written; None for many.
    """
    return specialized(model, params, words, BLOCK)


class Allowed(NamedTuple):
    """Which tokens may be next: all words or none, and of some others each for itself."""

    words: Array  # [] bool
    others: dict[int, Array]  # id -> [] bool

    def among(self, ids: Array) -> Array:
        """Tells it of each of ``ids``."""
        mask = jnp.broadcast_to(self.words, ids.shape)
        for other, allowed in self.others.items():
            mask = jnp.where(ids == other, allowed, mask)
        return mask


def top_candidates(
    log_probs: Array, logits: Array, allowed: Allowed, count: int
) -> tuple[Array, Array, Array]:
    """Finds the best continuations of K hypotheses: exactly what one flat top-k would, sooner.

    The n best numbers lie in the n blocks with the largest maxima, since each block that goes
    before another holds a number that goes before all of the other's. So only block maxima and
    the candidates in the best blocks are masked, normalised and sorted, never all of [K, V].

    Args:
      log_probs: of the hypotheses, [K].
      logits: of their next tokens, [K, V].
      allowed: the tokens that may be next. The others have log-probability -inf, as has
        everything of a hypothesis whose logits are not numbers.
      count: n, at most K * V.

    Returns:
      log-probability of hypothesis and token [n], best first, hypothesis [n] and token [n]; of
      equal ones the lowest hypothesis first, then the lowest token.
    """
    hypotheses, vocabulary = logits.shape
    logits = logits.astype(jnp.float32)
    if vocabulary < max(WORTH, count) or count * BLOCK > logits.size:
        masked = jnp.where(allowed.among(jnp.arange(vocabulary))[None], logits, -jnp.inf)
        norms = jax.nn.logsumexp(logits, axis=-1)
        total = _total(log_probs, masked, norms).reshape(-1)
        best, place = lax.top_k(total, count)
        return best, place // vocabulary, place % vocabulary

    # The last block may be a short one: filling all rows up would copy the logits once more.
    number = vocabulary // BLOCK
    whole = logits[:, : number * BLOCK].reshape(hypotheses, number, BLOCK)
    rest = logits[:, number * BLOCK :]
    maxima = jnp.concatenate([whole.max(-1), rest.max(-1, keepdims=True, initial=-jnp.inf)], 1)
    # Each block's sum beside its maximum: both read the same copy of the logits.
    safe = jnp.where(jnp.isfinite(maxima), maxima, 0)
    sums = jnp.exp(whole - safe[:, :-1, None]).sum(-1), jnp.exp(rest - safe[:, -1:]).sum(-1)
    norms = jax.nn.logsumexp(safe, axis=-1, b=jnp.concatenate([sums[0], sums[1][:, None]], 1))
    filling = jnp.full((hypotheses, BLOCK - rest.shape[1]), -jnp.inf)
    rest = jnp.concatenate([rest, filling], axis=1)

    def block(parents: Array, blocks: Array) -> tuple[Array, Array]:
        """Tokens [n, BLOCK] of blocks [n], and the logits of hypotheses [n] there, masked."""
        tokens = blocks[:, None] * BLOCK + jnp.arange(BLOCK)[None]
        values = whole[parents, jnp.minimum(blocks, number - 1)]
        values = jnp.where((blocks == number)[:, None], rest[parents], values)
        return tokens, jnp.where(allowed.among(tokens), values, -jnp.inf)

    maxima = jnp.where(allowed.words, maxima, -jnp.inf)
    everyone = jnp.arange(hypotheses)
    for n in {other // BLOCK for other in allowed.others}:
        _, values = block(everyone, jnp.full_like(everyone, n))
        here = jnp.arange(number + 1)[None] == n
        maxima = jnp.where(here, values.max(axis=-1, keepdims=True), maxima)
    maxima = _total(log_probs, maxima, norms)
    # In ascending order the candidates keep the order of hypotheses and tokens, hence of ties.
    chosen = lax.sort(lax.top_k(maxima.reshape(-1), count)[1])
    parents = chosen // (number + 1)
    tokens, values = block(parents, chosen % (number + 1))
    total = _total(log_probs[parents], values, norms[parents])
    best, place = lax.top_k(total.reshape(-1), count)
    return best, parents[place // BLOCK], tokens.reshape(-1)[place]


def _total(log_probs: Array, logits: Array, norms: Array) -> Array:
    """The log-probability of each hypothesis with each of its tokens: [K], [K, N], [K]."""
    norms = norms[:, None]
    return jnp.where(jnp.isfinite(norms), log_probs[:, None] + (logits - norms), -jnp.inf)


def own_limit(limit: int | Array | None, max_len: int) -> Array:
    """A sentence's most tokens [], from 1 to ``max_len``; ValueError if that is less than 1."""
    if max_len < 1:
        raise UsageError(f"max_len is {max_len}; a sentence needs at least 1 token, its EOS.")
    return jnp.clip(jnp.asarray(max_len if limit is None else limit, jnp.int32), 1, max_len)


def allowed_after(banned: Sequence[int], min_len: int, length: Array, limit: Array) -> Allowed:
    """What may follow ``length`` tokens; where only one more fits, that is EOS."""
    more = length + 1 < limit
    end = (length >= min_len) & (EOS not in banned)
    return Allowed(more, {other: jnp.bool_(False) for other in banned} | {EOS: end | ~more})


def write(tokens: Array, column: Array, new: Array) -> Array:
    """The table [K, T] with ``new`` [K] in one column; a select, which under vmap no scatter is."""
    return jnp.where(jnp.arange(tokens.shape[1])[None] == column, new[:, None], tokens)
