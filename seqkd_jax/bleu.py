"""Sentence BLEU on token ids, on the device, for one pair. Floor 2.

Sequences end before their first EOS or PAD. Shapes are static: all pairs of n-grams are compared,
order x T x (T + R) comparisons per sentence pair. Scores are in [0, 1].
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp

from .base import EOS, PAD, Array


class Counts(NamedTuple):
    """The statistics of BLEU, for n = 1 .. order."""

    matches: Array  # [order] float32, clipped n-gram matches
    totals: Array  # [order] float32, number of n-grams of the hypothesis
    hypothesis: Array  # [] float32, length of the hypothesis
    reference: Array  # [] float32, length of the reference


Smoothing = Callable[[Counts], Array]  # -> the geometric mean of precisions, []


def sentence_bleu(
    hypothesis: Array, reference: Array, smoothing: "Smoothing | None" = None, order: int = 4
) -> Array:
    """Returns the BLEU of a hypothesis [T] against a reference [R].

    Args:
      hypothesis: ids; an empty hypothesis scores 0.
      reference: ids.
      smoothing: for precisions that are 0; None for ``exponential``, as in sacreBLEU.
      order: the largest n of n-grams.

    Returns:
      A number in [0, 1]; sacreBLEU's sentence BLEU with effective order, divided by 100.

    Source: Papineni et al. 2002; Chen & Cherry 2014 for the smoothings.

    >>> reference = jnp.array([4, 5, 6, 7])
    >>> print(sentence_bleu(reference, reference))
    1.0
    >>> print(sentence_bleu(jnp.array([8, 9]), reference))  # no word in common
    0.0
    """
    counts = ngram_counts(hypothesis, reference, order)
    mean = (exponential if smoothing is None else smoothing)(counts)
    length = jnp.maximum(counts.hypothesis, 1)
    brevity = jnp.exp(1 - jnp.maximum(counts.reference / length, 1))
    return jnp.where(counts.hypothesis > 0, brevity * mean, 0.0)


def no_smoothing(counts: Counts) -> Array:
    """Returns the geometric mean without smoothing: one precision of 0 makes it 0."""
    return _effective_mean(counts, counts.matches, counts.totals)


def floor(value: float = 0.1) -> Smoothing:
    """Returns the smoothing that replaces 0 matches by ``value`` (sacreBLEU's floor)."""

    def smooth(counts: Counts) -> Array:
        matches = jnp.where(counts.matches > 0, counts.matches, value)
        return _effective_mean(counts, matches, counts.totals)

    return smooth


def add_k(k: float = 1.0) -> Smoothing:
    """Returns the smoothing that adds ``k`` to matches and totals for n > 1 (Lin & Och 2004)."""

    def smooth(counts: Counts) -> Array:
        # As in sacreBLEU, a hypothesis too short for any n-gram has precision k / k.
        added = jnp.where(jnp.arange(counts.totals.shape[0]) > 0, k, 0.0)
        return _effective_mean(counts, counts.matches + added, counts.totals + added)

    return smooth


def exponential(counts: Counts) -> Array:
    """Smooths by replacing zeros with 1/2, 1/4, 1/8, ... (NIST's mteval; sacreBLEU's default)."""
    return _effective_mean(counts, _halving(counts), counts.totals)


def geometric(counts: Counts) -> Array:
    """Smooths as Kim & Rush's code, seq2seq-attn's scorers/bleu.lua, with one exception.

    Zeros are replaced by 1/2, 1/4, ...; orders for which the hypothesis has no n-gram are left out
    of the product, but the root is that of the full order. Unlike the original, a hypothesis
    without a match scores 0, as in sacreBLEU: the original scores it up to 0.84, the higher the
    shorter it is, and so prefers it to longer ones that share words with the reference.
    """
    has_ngrams = counts.totals > 0
    logs = jnp.where(has_ngrams, jnp.log(_halving(counts) / jnp.maximum(counts.totals, 1)), 0.0)
    mean = jnp.exp(logs.sum() / counts.totals.shape[0])
    return jnp.where((counts.matches > 0).any(), mean, 0.0)


def gleu(hypothesis: Array, reference: Array, order: int = 4) -> Array:
    """Returns GLEU, min(precision, recall) of the sets of 1..order-grams, as in seq2seq-attn."""
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
        # Each distinct n-gram is counted once, at its first occurrence.
        is_new = real & ~_seen_before(same)
        matches.append(jnp.where(is_new, jnp.minimum(in_hyp, in_ref), 0).sum())
        totals.append(real.sum())
    return Counts(
        matches=jnp.stack(matches).astype(jnp.float32),
        totals=jnp.stack(totals).astype(jnp.float32),
        hypothesis=hyp_len.astype(jnp.float32),
        reference=ref_len.astype(jnp.float32),
    )


def _effective_mean(counts: Counts, matches: Array, totals: Array) -> Array:
    """Returns the geometric mean over the orders with a positive total; 0 without a match."""
    has_ngrams = totals > 0
    zero = (has_ngrams & (matches <= 0)).any() | ~(counts.matches > 0).any()
    precisions = jnp.where(
        has_ngrams & (matches > 0), matches / jnp.where(has_ngrams, totals, 1), 1.0
    )
    mean = jnp.exp(jnp.log(precisions).sum() / jnp.maximum(has_ngrams.sum(), 1))
    return jnp.where(zero, 0.0, mean)


def _halving(counts: Counts) -> Array:
    """Returns the matches with the first 0 replaced by 1/2, the second by 1/4, and so on."""
    zero = (counts.matches <= 0) & (counts.totals > 0)
    return jnp.where(zero, 0.5 ** jnp.cumsum(zero), counts.matches)


def _length(tokens: Array) -> Array:
    ends = (tokens == EOS) | (tokens == PAD)
    return (jnp.cumsum(ends) == 0).sum()


def _real(tokens: Array, length: Array, n: int) -> Array:
    """Returns at which positions [T] an n-gram within the sequence starts."""
    return jnp.arange(tokens.shape[0]) + n <= length


def _equal(a: Array, b: Array) -> Array:
    return a[:, None] == b[None, :]


def _ngrams(equal: Array, n: int) -> Array:
    """Returns whether the n-grams starting at (i, j) are equal, from equal tokens [T, R]."""
    result = equal
    for shift in range(1, n):
        shifted = equal[shift:, shift:]
        result = result & jnp.pad(
            shifted, ((0, min(shift, equal.shape[0])), (0, min(shift, equal.shape[1])))
        )
    return result


def _seen_before(same: Array) -> Array:
    """Returns whether an equal n-gram starts at an earlier position, [T]."""
    return jnp.tril(same, -1).any(1)
