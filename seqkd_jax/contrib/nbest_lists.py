"""N-best lists of any system as a teacher: a ``Seq2Seq`` made from a file.

The distribution over a source's translations is that of its list, with probabilities renormalised
to 1. It determines the distribution over next words: each hypothesis that starts with the words so
far contributes its probability to its next word.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct
from jax import lax
from jax.core import Tracer

from ..base import EOS, PAD, UNK, Array, Seq2Seq, shift_right
from ..data import Vocabulary
from ..decode.nbest import NBest
from ..errors import UsageError


@struct.dataclass
class NBestParams:
    """The parameters: each source once, sorted by its hash."""

    hashes: Array  # [N] uint32, sorted
    sources: Array  # [N, S] ids, padded with PAD
    tokens: Array  # [N, K, T] of hypotheses, each ending in EOS and padded with PAD
    log_probs: Array  # [N, K], normalised for each source; -inf where there is no hypothesis


@struct.dataclass
class Continuations:
    """The hypotheses of a list that start with a prefix: hidden vector and part of the state."""

    log_probs: Array  # [K], -inf for hypotheses that do not start with the prefix
    tokens: Array  # [K], next token of each hypothesis


def nbest_teacher(
    sources: Sequence[Sequence[int] | np.ndarray],
    nbest: Sequence[NBest],
    tgt_vocab: Vocabulary,
    *,
    smoothing: float = 0.0,
) -> tuple[Seq2Seq, NBestParams]:
    """Returns a model with the distributions of n-best lists, and its parameters.

    A beam search with a K of at least the length of the lists returns them, most probable first.
    The model is meant as a Word-KD teacher for targets from the lists: summed over all hypotheses
    of a list, each weighted by its probability, Word-KD is sequence-level KD over the list (Kim &
    Rush 2016, section 3.2, with the list in place of all sentences). On the best hypotheses alone
    (``seq_kd``) it adds, where another hypothesis diverges from the best, its next word.

    Words that continue no hypothesis have logit -inf. After a prefix that no hypothesis has, all
    words have it, so that Word-KD is nan and a training step rejects the batch. Smoothing makes all
    losses finite and the distribution after such a prefix uniform. For a source that is not in the
    file logits are nan in either case, so that a search finds nothing; outside compiled code
    ``encode`` raises UsageError.

    Args:
      sources: ids [S] of each source, as the student reads them.
      nbest: the list of each source. Of equal sources the first one's list is used. Probabilities
        come from ``log_probs``, else from ``scores``; without either the hypotheses are equally
        probable. Hypotheses with equal ids are merged.
      tgt_vocab: defines V and encodes texts. The file's own ids are used if they decode to the text
        in this vocabulary.
      smoothing: weight of a uniform distribution over V that each next-word distribution is mixed
        with.

    Raises:
      UsageError: the number of lists differs from the number of sources, there is no list, or a
        list's probabilities are not numbers.
    """
    if not 0 <= smoothing < 1:
        raise UsageError(f"smoothing is {smoothing}; it must be at least 0 and less than 1.")
    size = tgt_vocab.size
    params = _nbest_params(sources, nbest, tgt_vocab)
    max_collisions = int(np.unique(params.hashes, return_counts=True)[1].max())
    max_source = params.sources.shape[1]

    def encode(params: NBestParams, src: Array, key: Array | None = None):
        del key
        src = jnp.asarray(src, jnp.int32)
        padded = jnp.pad(src, (0, max(0, max_source - len(src))))
        first_row = jnp.searchsorted(params.hashes, _hash(src))
        rows = jnp.minimum(first_row + jnp.arange(max_collisions), len(params.hashes) - 1)
        same = (params.sources[rows] == padded[None, :max_source]).all(1)
        known = same.any() & (padded[max_source:] == PAD).all()
        if not isinstance(known, Tracer) and not known:
            raise UsageError(f"There is no n-best list for the source {np.asarray(src)}.")
        row = rows[same.argmax()]
        log_probs = jnp.where(known, params.log_probs[row], jnp.nan)
        start = Continuations(log_probs, jnp.full(log_probs.shape, -1, jnp.int32))
        return params.tokens[row], (start, jnp.int32(0))

    def step(params: NBestParams, tokens: Array, state: tuple[Continuations, Array], token: Array):
        del params
        previous, length = state
        matches = (length == 0) | (previous.tokens == token)
        next_tokens = jnp.take(tokens, length, axis=1, mode="fill", fill_value=PAD)
        # Added, so that nan stays nan.
        log_probs = previous.log_probs + jnp.where(matches, 0, -jnp.inf)
        continuations = Continuations(log_probs, next_tokens)
        return continuations, (continuations, length + 1)

    def hidden(params: NBestParams, src: Array, tgt: Array, key: Array | None = None):
        tokens, state = encode(params, src, key)

        def body(state: tuple[Continuations, Array], token: Array):
            continuations, state = step(params, tokens, state, token)
            return state, continuations

        return lax.scan(body, state, shift_right(tgt))[1]

    def project(params: NBestParams, hidden: Continuations) -> Array:
        del params
        same = hidden.tokens[:, None] == hidden.tokens[None]
        totals = jax.nn.logsumexp(jnp.where(same, hidden.log_probs[None], -jnp.inf), axis=1)
        # ``max``, as all hypotheses with the same next word have the same total.
        logits = jnp.full((size,), -jnp.inf).at[hidden.tokens].max(totals)
        logits = jnp.where(jnp.isnan(hidden.log_probs).any(), jnp.nan, logits)
        if not smoothing:
            return logits
        log_q = logits - jax.nn.logsumexp(hidden.log_probs)
        uniform = jnp.full((size,), -jnp.log(size))
        mixed = jnp.logaddexp(jnp.log1p(-smoothing) + log_q, jnp.log(smoothing) + uniform)
        return jnp.where((hidden.log_probs == -jnp.inf).all(), uniform, mixed)

    return Seq2Seq(lambda key: params, encode, step, hidden, project), params


def _nbest_params(sources: Sequence, nbest: Sequence[NBest], vocab: Vocabulary) -> NBestParams:
    if len(sources) != len(nbest):
        raise UsageError(
            f"{len(nbest)} n-best lists for {len(sources)} sources; each source needs one."
        )
    lists: dict[tuple[int, ...], dict[tuple[int, ...], float]] = {}
    for source, n in zip(sources, nbest, strict=True):
        ids = tuple(map(int, source))
        if ids and ids not in lists and n.texts:
            lists[ids] = _distribution(n, vocab)
    if not lists:
        raise UsageError("There is no source with an n-best list.")
    max_len = max(len(words) for hypotheses in lists.values() for words in hypotheses)
    shape = len(lists), max(map(len, lists.values())), max_len
    tokens, log_probs = np.full(shape, PAD, np.int32), np.full(shape[:2], -np.inf, np.float32)
    for row, hypotheses in enumerate(lists.values()):
        for k, (words, log_prob) in enumerate(hypotheses.items()):
            tokens[row, k, : len(words)], log_probs[row, k] = words, log_prob
    padded = np.full((len(lists), max(map(len, lists))), PAD, np.int32)
    for row, ids in enumerate(lists):
        padded[row, : len(ids)] = ids
    hashes = np.array(jax.vmap(_hash)(jnp.asarray(padded)))
    order = np.argsort(hashes, kind="stable")
    arrays = (x[order] for x in (hashes, padded, tokens, log_probs))
    return NBestParams(*map(jnp.asarray, arrays))


def _distribution(n: NBest, vocab: Vocabulary) -> dict[tuple[int, ...], float]:
    """Returns the log-probability of each hypothesis, most probable first."""
    log_probs = np.array(n.log_probs or n.scores or [0.0] * len(n.texts), np.float64)
    if np.isnan(log_probs).any() or not np.isfinite(log_probs.max()):
        raise UsageError(
            f"n-best list of sentence {n.index}: its log-probabilities, {log_probs}, must be "
            "numbers, and one of them finite."
        )
    log_probs -= np.logaddexp.reduce(log_probs)
    merged: dict[tuple[int, ...], float] = {}
    for rank, text in enumerate(n.texts):
        words = (*_ids(text, n.tokens[rank] if n.tokens else None, vocab), EOS)
        merged[words] = float(np.logaddexp(merged.get(words, -np.inf), log_probs[rank]))
    return dict(sorted(merged.items(), key=lambda item: -item[1]))


def _ids(text: str, tokens: tuple[int, ...] | None, vocab: Vocabulary) -> Sequence[int]:
    """Returns a hypothesis as ids of ``vocab``, which may differ from the file's vocabulary."""
    if tokens is not None and all(t == UNK or EOS < t < vocab.size for t in tokens):
        if vocab.decode(tokens) == text:
            return tokens
    return vocab.encode(text)


def _hash(src: Array) -> Array:
    """Returns a hash [] uint32 of ids [S] and their positions, independent of padding."""
    x = src.astype(jnp.uint32) * jnp.uint32(0x9E3779B1)
    x += jnp.arange(len(src), dtype=jnp.uint32) * jnp.uint32(0x85EBCA77)
    x = (x ^ (x >> 15)) * jnp.uint32(0x2C1B3C6D)
    x = (x ^ (x >> 12)) * jnp.uint32(0x297A2D39)
    return jnp.where(src != PAD, x ^ (x >> 15), 0).sum(dtype=jnp.uint32)
