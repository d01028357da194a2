"""Masks over next tokens, and the best candidates of a beam."""

from collections.abc import Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ..base import EOS, Array, Params, Seq2Seq, platform, specialized
from ..errors import UsageError

BLOCK_SIZE = 64  # logits per block; of most blocks only the maximum is needed
TPU_BLOCK_SIZE = 128  # a row of a vector register, so that blocks need no rearrangement
MIN_VOCAB_FOR_BLOCKS = 500  # smallest V for which blocks are faster


def for_search(
    model: Seq2Seq, params: Params, num_words: int | None = None
) -> tuple[Seq2Seq, Params]:
    """Returns an equivalent model that is faster to search, and its parameters.

    Its logits may be padded with -inf to a multiple of the block size, which ``top_candidates``
    reads without copying; no search chooses the padding. The parameters returned cannot be trained.

    Args:
      model: any model; returned unchanged if it has no faster equivalent.
      params: its parameters, which must not change.
      num_words: about how many words will be read and written; None for many.

    >>> import jax
    >>> from seqkd_jax import Config, attention_lstm
    >>> model = attention_lstm(Config(6, 6, embed=4, hidden=4, layers=1))
    >>> params = model.init(jax.random.key(0))
    >>> faster, prepared = for_search(model, params)
    >>> model.project(params, jnp.ones(4)).shape, faster.project(prepared, jnp.ones(4)).shape
    ((6,), (64,))
    """
    return specialized(model, params, num_words, block_size())


def block_size() -> int:
    """Returns the number of logits in a block, on the platform that programs are traced for."""
    return TPU_BLOCK_SIZE if platform() == "tpu" else BLOCK_SIZE


class TokenMask(NamedTuple):
    """A mask over next tokens: one value for all ids, with overrides for a few."""

    default: Array  # [] bool
    overrides: dict[int, Array]  # id -> [] bool

    def of(self, ids: Array) -> Array:
        """Returns the mask of ``ids``."""
        mask = jnp.broadcast_to(self.default, ids.shape)
        for token, allowed in self.overrides.items():
            mask = jnp.where(ids == token, allowed, mask)
        return mask


def top_candidates(
    log_probs: Array, logits: Array, allowed: TokenMask, count: int
) -> tuple[Array, Array, Array]:
    """Finds the best continuations of K hypotheses: the same as one flat top-k, but faster.

    The n largest numbers are in the n blocks with the largest maxima, since each of these blocks
    contains a number that ranks before all those of any other block. So only block maxima and
    the candidates in the best blocks are masked, normalised and sorted, never all of [K, V].

    Args:
      log_probs: of the hypotheses, [K].
      logits: of their next tokens, [K, V].
      allowed: the tokens that may come next. Other tokens have log-probability -inf, as have all
        tokens of a hypothesis whose logits are nan.
      count: n, at most K * V.

    Returns:
      Log-probabilities of the continued hypotheses [n], best first, their parents [n] and their
      last tokens [n]. Ties are broken by the lower hypothesis, then by the lower token.
    """
    hypotheses, vocabulary = logits.shape
    size = block_size()
    logits = logits.astype(jnp.float32)
    if vocabulary < max(MIN_VOCAB_FOR_BLOCKS, count) or count * size > logits.size:
        masked = jnp.where(allowed.of(jnp.arange(vocabulary))[None], logits, -jnp.inf)
        norms = jax.nn.logsumexp(logits, axis=-1)
        total = _total(log_probs, masked, norms).reshape(-1)
        best, index = lax.top_k(total, count)
        return best, index // vocabulary, index % vocabulary

    # The last, shorter block is separate: padding all rows would copy the logits once more.
    num_full = vocabulary // size
    full = logits[:, : num_full * size].reshape(hypotheses, num_full, size)
    rest = logits[:, num_full * size :]
    maxima = jnp.concatenate([full.max(-1), rest.max(-1, keepdims=True, initial=-jnp.inf)], 1)
    # Sums of blocks are computed with their maxima, so that both read the same copy of the logits.
    safe = jnp.where(jnp.isfinite(maxima), maxima, 0)
    sums = jnp.exp(full - safe[:, :-1, None]).sum(-1), jnp.exp(rest - safe[:, -1:]).sum(-1)
    norms = jax.nn.logsumexp(safe, axis=-1, b=jnp.concatenate([sums[0], sums[1][:, None]], 1))
    padding = jnp.full((hypotheses, size - rest.shape[1]), -jnp.inf)
    rest = jnp.concatenate([rest, padding], axis=1)

    def block(parents: Array, blocks: Array) -> tuple[Array, Array]:
        """Returns tokens [n, block size] of blocks [n] and their masked logits in parents [n]."""
        tokens = blocks[:, None] * size + jnp.arange(size)[None]
        values = full[parents, jnp.minimum(blocks, num_full - 1)]
        values = jnp.where((blocks == num_full)[:, None], rest[parents], values)
        return tokens, jnp.where(allowed.of(tokens), values, -jnp.inf)

    maxima = jnp.where(allowed.default, maxima, -jnp.inf)
    all_hypotheses = jnp.arange(hypotheses)
    for n in {token // size for token in allowed.overrides}:
        _, values = block(all_hypotheses, jnp.full_like(all_hypotheses, n))
        is_block = jnp.arange(num_full + 1)[None] == n
        maxima = jnp.where(is_block, values.max(axis=-1, keepdims=True), maxima)
    maxima = _total(log_probs, maxima, norms)
    # Sorted blocks keep the candidates in the order of hypotheses and tokens, which breaks ties.
    chosen = lax.sort(lax.top_k(maxima.reshape(-1), count)[1])
    parents = chosen // (num_full + 1)
    tokens, values = block(parents, chosen % (num_full + 1))
    total = _total(log_probs[parents], values, norms[parents])
    best, index = lax.top_k(total.reshape(-1), count)
    return best, parents[index // size], tokens.reshape(-1)[index]


def _total(log_probs: Array, logits: Array, norms: Array) -> Array:
    """Returns log-probabilities [K, N] of continued hypotheses for [K], [K, N] and [K]."""
    norms = norms[:, None]
    return jnp.where(jnp.isfinite(norms), log_probs[:, None] + (logits - norms), -jnp.inf)


def clip_limit(limit: int | Array | None, max_len: int) -> Array:
    """Returns a sentence's maximum length [], 1 to ``max_len``; UsageError if ``max_len`` < 1."""
    if max_len < 1:
        raise UsageError(f"max_len is {max_len}; a sentence needs at least 1 token, its EOS.")
    return jnp.clip(jnp.asarray(max_len if limit is None else limit, jnp.int32), 1, max_len)


def token_mask(banned: Sequence[int], min_len: int, length: Array, limit: Array) -> TokenMask:
    """Returns the mask for the token after ``length`` others; only EOS in the last position."""
    can_continue = length + 1 < limit
    can_end = (length >= min_len) & (EOS not in banned)
    never = {token: jnp.bool_(False) for token in banned}
    return TokenMask(can_continue, never | {EOS: can_end | ~can_continue})


def write_column(tokens: Array, column: Array, values: Array) -> Array:
    """Returns tokens [K, T] with one column set; a select, as ``.at`` would scatter under vmap."""
    return jnp.where(jnp.arange(tokens.shape[1])[None] == column, values[:, None], tokens)
