"""A teacher that is a file: n-best lists as a ``Seq2Seq``, whatever system wrote them.

The distribution over sentences is that of a source's list, the teacher's probabilities
renormalised to 1. That over next words follows from it: of the hypotheses that begin with the
words so far, each votes with its probability for the word it goes on with.
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
from ..errors import UsageError
from .nbest import NBest


@struct.dataclass
class Lists:
    """The parameters: each source once, in the order of its hash."""

    hashes: Array  # [N] uint32, rising
    sources: Array  # [N, S] ids filled with PAD
    tokens: Array  # [N, K, T] of hypotheses, each ending in EOS and filled with PAD
    log_probs: Array  # [N, K], each list's sum to 1; -inf where there is no hypothesis


@struct.dataclass
class Choice:
    """What a prefix leaves of a list; both the search's state and the hidden vector have it."""

    log_probs: Array  # [K], -inf where the hypothesis does not begin with the prefix
    tokens: Array  # [K], the next of each hypothesis


def nbest_teacher(
    sources: Sequence[Sequence[int] | np.ndarray],
    nbest: Sequence[NBest],
    tgt_vocab: Vocabulary,
    *,
    smoothing: float = 0.0,
) -> tuple[Seq2Seq, Lists]:
    """Makes a model that answers with the n-best lists of a file; returns it and its parameters.

    A beam search with a K of at least the length of the lists returns these, most probable first.
    As the teacher of Word-KD it is for targets out of the lists: summed over all hypotheses of a
    list, each weighted with its probability, that is sequence-level KD over the list (Kim & Rush
    2016, section 3.2, with the list in place of all sentences); on the best ones alone (``seq_kd``)
    it adds, where a hypothesis leaves the best, the word by which it does.

    A word that no hypothesis goes on with has logit -inf. After words that no hypothesis begins
    with, all have, so that Word-KD is nan there and a step of training refuses the batch: smoothing
    makes all losses finite, and lets all words follow alike after such words. For a source that is
    not in the file logits are nan in either case, so that a search finds nothing; ``encode``
    called outside of compiled code raises ValueError.

    Args:
      sources: ids [S] of each source, as the student reads them.
      nbest: their lists, in the same order. Of equal sources the first one's list counts.
        Probabilities are ``log_probs``, else ``scores``; without these hypotheses are equally
        probable. Hypotheses that are the same in ids become one.
      tgt_vocab: V and the ids of texts. The file's own ids are used where they spell the text in
        this vocabulary.
      smoothing: the share of each next word's probability that all V words have alike.

    Raises:
      UsageError: lists do not belong to the sources, or a list's probabilities are not numbers.
    """
    if not 0 <= smoothing < 1:
        raise UsageError(f"smoothing is {smoothing}; it must be at least 0 and less than 1.")
    size = tgt_vocab.size
    lists = _lists(sources, nbest, tgt_vocab)
    same_hash = int(np.unique(lists.hashes, return_counts=True)[1].max())
    widest = lists.sources.shape[1]

    def encode(params: Lists, src: Array, key: Array | None = None):
        del key
        src = jnp.asarray(src, jnp.int32)
        wide = jnp.pad(src, (0, max(0, widest - len(src))))
        first = jnp.searchsorted(params.hashes, _hash(src))
        rows = jnp.minimum(first + jnp.arange(same_hash), len(params.hashes) - 1)
        same = (params.sources[rows] == wide[None, :widest]).all(1)
        known = same.any() & (wide[widest:] == PAD).all()
        if not isinstance(known, Tracer) and not known:
            raise UsageError(f"There is no n-best list for the source {np.asarray(src)}.")
        row = rows[same.argmax()]
        log_probs = jnp.where(known, params.log_probs[row], jnp.nan)
        start = Choice(log_probs, jnp.full(log_probs.shape, -1, jnp.int32))
        return params.tokens[row], (start, jnp.int32(0))

    def step(params: Lists, tokens: Array, state: tuple[Choice, Array], token: Array):
        del params
        before, length = state
        goes_on = (length == 0) | (before.tokens == token)
        following = jnp.take(tokens, length, axis=1, mode="fill", fill_value=PAD)
        # A sum, for what is nan stays so.
        after = Choice(before.log_probs + jnp.where(goes_on, 0, -jnp.inf), following)
        return after, (after, length + 1)

    def hidden(params: Lists, src: Array, tgt: Array, key: Array | None = None) -> Choice:
        tokens, state = encode(params, src, key)

        def advance(state: tuple[Choice, Array], token: Array):
            after, state = step(params, tokens, state, token)
            return state, after

        return lax.scan(advance, state, shift_right(tgt))[1]

    def project(params: Lists, hidden: Choice) -> Array:
        del params
        same = hidden.tokens[:, None] == hidden.tokens[None]
        votes = jax.nn.logsumexp(jnp.where(same, hidden.log_probs[None], -jnp.inf), axis=1)
        # ``max``, for all hypotheses with one next word bring the same sum.
        logits = jnp.full((size,), -jnp.inf).at[hidden.tokens].max(votes)
        logits = jnp.where(jnp.isnan(hidden.log_probs).any(), jnp.nan, logits)
        if not smoothing:
            return logits
        log_q = logits - jax.nn.logsumexp(hidden.log_probs)
        alike = jnp.full((size,), -jnp.log(size))
        mixed = jnp.logaddexp(jnp.log1p(-smoothing) + log_q, jnp.log(smoothing) + alike)
        return jnp.where((hidden.log_probs == -jnp.inf).all(), alike, mixed)

    return Seq2Seq(lambda key: lists, encode, step, hidden, project), lists


def _lists(sources: Sequence, nbest: Sequence[NBest], vocab: Vocabulary) -> Lists:
    if len(sources) != len(nbest):
        raise UsageError(
            f"{len(nbest)} n-best lists for {len(sources)} sources; each source needs one."
        )
    known: dict[tuple[int, ...], dict[tuple[int, ...], float]] = {}
    for source, n in zip(sources, nbest, strict=True):
        ids = tuple(map(int, source))
        if ids and ids not in known and n.texts:
            known[ids] = _distribution(n, vocab)
    if not known:
        raise UsageError("There is no source with an n-best list.")
    longest = max(len(words) for found in known.values() for words in found)
    shape = len(known), max(map(len, known.values())), longest
    tokens, log_probs = np.full(shape, PAD, np.int32), np.full(shape[:2], -np.inf, np.float32)
    for row, found in enumerate(known.values()):
        for k, (words, log_prob) in enumerate(found.items()):
            tokens[row, k, : len(words)], log_probs[row, k] = words, log_prob
    filled = np.full((len(known), max(map(len, known))), PAD, np.int32)
    for row, ids in enumerate(known):
        filled[row, : len(ids)] = ids
    hashes = np.array(jax.vmap(_hash)(jnp.asarray(filled)))
    order = np.argsort(hashes, kind="stable")
    arrays = (x[order] for x in (hashes, filled, tokens, log_probs))
    return Lists(*map(jnp.asarray, arrays))


def _distribution(n: NBest, vocab: Vocabulary) -> dict[tuple[int, ...], float]:
    """The log-probability of each hypothesis, most probable first."""
    given = np.array(n.log_probs or n.scores or [0.0] * len(n.texts), np.float64)
    if np.isnan(given).any() or not np.isfinite(given.max()):
        raise UsageError(
            f"n-best list of sentence {n.index}: its log-probabilities, {given}, must be "
            "numbers, and one of them finite."
        )
    given -= np.logaddexp.reduce(given)
    found: dict[tuple[int, ...], float] = {}
    for rank, text in enumerate(n.texts):
        words = (*_ids(text, n.tokens[rank] if n.tokens else None, vocab), EOS)
        found[words] = float(np.logaddexp(found.get(words, -np.inf), given[rank]))
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def _ids(text: str, tokens: tuple[int, ...] | None, vocab: Vocabulary) -> Sequence[int]:
    """A hypothesis in ids of ``vocab``, which may not be the vocabulary of the file."""
    if tokens is not None and all(t == UNK or EOS < t < vocab.size for t in tokens):
        if vocab.decode(tokens) == text:
            return tokens
    return vocab.encode(text)


def _hash(src: Array) -> Array:
    """A number [] uint32 of the ids [S] and their places, whatever fills them up."""
    x = src.astype(jnp.uint32) * jnp.uint32(0x9E3779B1)
    x += jnp.arange(len(src), dtype=jnp.uint32) * jnp.uint32(0x85EBCA77)
    x = (x ^ (x >> 15)) * jnp.uint32(0x2C1B3C6D)
    x = (x ^ (x >> 12)) * jnp.uint32(0x297A2D39)
    return jnp.where(src != PAD, x ^ (x >> 15), 0).sum(dtype=jnp.uint32)
