"""Sentence BLEU on token ids, on the device, for one pair. Floor 1.

Sequences end at their first EOS or PAD, which do not count. Shapes are static: n-grams are compared
all with all, so a pair costs order x T x (T + R) comparisons. Scores are in [0, 1].
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from .base import EOS, PAD, Array


class Counts(NamedTuple):
    """What BLEU is made of, for n = 1 .. order."""

    matches: Array  # [order] float32, clipped n-gram matches
    totals: Array  # [order] float32, n-grams of the hypothesis
    hypothesis: Array  # [] float32, its length
    reference: Array  # [] float32, its length


Smoothing = Callable[[Counts], Array]  # -> the geometric mean of precisions, []


def sentence_bleu(
    hypothesis: Array, reference: Array, smoothing: "Smoothing | None" = None, order: int = 4
) -> Array:
    """BLEU of one hypothesis [T] against one reference [R].

    Args:
      hypothesis: ids; an empty one scores 0.
      reference: ids.
      smoothing: of precisions that are 0; ``exponential`` if left out, as in sacreBLEU.
      order: longest n-grams.

    Returns:
      A number in [0, 1]; sacreBLEU's sentence BLEU with effective order, divided by 100.

    Source: Papineni et al. 2002; Chen & Cherry 2014 for the smoothings.
    """
    counts = ngram_counts(hypothesis, reference, order)
    mean = (exponential if smoothing is None else smoothing)(counts)
    length = jnp.maximum(counts.hypothesis, 1)
    brevity = jnp.exp(1 - jnp.maximum(counts.reference / length, 1))
    return jnp.where(counts.hypothesis > 0, brevity * mean, 0.0)


def no_smoothing(counts: Counts) -> Array:
    """One precision of 0 makes the score 0."""
    return _effective_mean(counts, counts.matches, counts.totals)


def floor(value: float = 0.1) -> Smoothing:
    """Puts ``value`` in the place of 0 matches (sacreBLEU's floor)."""

    def smooth(counts: Counts) -> Array:
        matches = jnp.where(counts.matches > 0, counts.matches, value)
        return _effective_mean(counts, matches, counts.totals)

    return smooth


def add_k(k: float = 1.0) -> Smoothing:
    """Adds ``k`` to matches and totals of all orders but the first (Lin & Och 2004)."""

    def smooth(counts: Counts) -> Array:
        # As in sacreBLEU, a short hypothesis gets k / k for orders of which it has no n-gram.
        added = jnp.where(jnp.arange(counts.totals.shape[0]) > 0, k, 0.0)
        return _effective_mean(counts, counts.matches + added, counts.totals + added)

    return smooth


def exponential(counts: Counts) -> Array:
    """Zeros count 1/2, 1/4, 1/8, ... (NIST's mteval; sacreBLEU's default)."""
    return _effective_mean(counts, _halving(counts), counts.totals)


def geometric(counts: Counts) -> Array:
    """The smoothing of Kim & Rush's code, seq2seq-attn's scorers/bleu.lua.

    Zeros count 1/2, 1/4, ...; orders of which the hypothesis has no n-gram are left out of the
    product, but the root stays that of the full order. Not as there, a hypothesis without a match
    has 0, as in sacreBLEU: the original gives it up to 0.84, the more the shorter it is, and so
    prefers it to longer ones that share words with the reference.
    """
    has = counts.totals > 0
    logs = jnp.where(has, jnp.log(_halving(counts) / jnp.maximum(counts.totals, 1)), 0.0)
    mean = jnp.exp(logs.sum() / counts.totals.shape[0])
    return jnp.where((counts.matches > 0).any(), mean, 0.0)


def gleu(hypothesis: Array, reference: Array, order: int = 4) -> Array:
    """GLEU of seq2seq-attn: min(precision, recall) of the sets of distinct 1..order-grams, []."""
    hyp_len, ref_len = _length(hypothesis), _length(reference)
    common = hyp_types = ref_types = jnp.float32(0)
    hyp_hyp, hyp_ref, ref_ref = (
        _equal(a, b)
        for a, b in ((hypothesis, hypothesis), (hypothesis, reference), (reference,) * 2)
    )
    for n in range(1, order + 1):
        new_hyp = _real(hypothesis, hyp_len, n) & ~_seen_before(_ngrams(hyp_hyp, n))
        new_ref = _real(reference, ref_len, n) & ~_seen_before(_ngrams(ref_ref, n))
        in_ref = (_ngrams(hyp_ref, n) & _real(reference, ref_len, n)[None]).any(1)
        common += (new_hyp & in_ref).sum()
        hyp_types, ref_types = hyp_types + new_hyp.sum(), ref_types + new_ref.sum()
    return common / jnp.maximum(jnp.maximum(hyp_types, ref_types), 1)


def ngram_counts(hypothesis: Array, reference: Array, order: int = 4) -> Counts:
    """Counts clipped n-gram matches of a hypothesis [T] in a reference [R]."""
    hyp_len, ref_len = _length(hypothesis), _length(reference)
    within, across = _equal(hypothesis, hypothesis), _equal(hypothesis, reference)
    matches, totals = [], []
    for n in range(1, order + 1):
        real = _real(hypothesis, hyp_len, n)
        same = _ngrams(within, n) & real[None]
        in_hyp = same.sum(1)
        in_ref = (_ngrams(across, n) & _real(reference, ref_len, n)[None]).sum(1)
        # Each distinct n-gram counts once, where it stands first.
        first = real & ~_seen_before(same)
        matches.append(jnp.where(first, jnp.minimum(in_hyp, in_ref), 0).sum())
        totals.append(real.sum())
    return Counts(
        matches=jnp.stack(matches).astype(jnp.float32),
        totals=jnp.stack(totals).astype(jnp.float32),
        hypothesis=hyp_len.astype(jnp.float32),
        reference=ref_len.astype(jnp.float32),
    )


def _effective_mean(counts: Counts, matches: Array, totals: Array) -> Array:
    """Geometric mean over the orders that have a total; 0 without a match."""
    has = totals > 0
    zero = (has & (matches <= 0)).any() | ~(counts.matches > 0).any()
    precisions = jnp.where(has & (matches > 0), matches / jnp.where(has, totals, 1), 1.0)
    mean = jnp.exp(jnp.log(precisions).sum() / jnp.maximum(has.sum(), 1))
    return jnp.where(zero, 0.0, mean)


def _halving(counts: Counts) -> Array:
    """Matches, with the first 0 replaced by 1/2, the second by 1/4, and so on."""
    zero = (counts.matches <= 0) & (counts.totals > 0)
    return jnp.where(zero, 0.5 ** jnp.cumsum(zero), counts.matches)


def _length(tokens: Array) -> Array:
    ends = (tokens == EOS) | (tokens == PAD)
    return (jnp.cumsum(ends) == 0).sum()


def _real(tokens: Array, length: Array, n: int) -> Array:
    """Where an n-gram within the sequence begins, [T]."""
    return jnp.arange(tokens.shape[0]) + n <= length


def _equal(a: Array, b: Array) -> Array:
    return a[:, None] == b[None, :]


def _ngrams(equal: Array, n: int) -> Array:
    """Whether the n-grams that begin at (i, j) are equal, from the equality of tokens [T, R]."""
    result = equal
    for shift in range(1, n):
        moved = equal[shift:, shift:]
        result = result & jnp.pad(
            moved, ((0, min(shift, equal.shape[0])), (0, min(shift, equal.shape[1])))
        )
    return result


def _seen_before(same: Array) -> Array:
    """Whether an equal n-gram stands further left, [T]."""
    return jnp.tril(same, -1).any(1)
