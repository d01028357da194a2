"""How hard a corpus is to learn: complexity and faithfulness of its translations of words.

Both are measured on a table of word translations p(y | x), counted from word alignments. One
aligner, IBM Model 1, is fitted to all corpora that are compared, so that they share it.

Source: Zhou, Gu and Neubig 2020, arXiv 1911.02727, section 3.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from ..errors import UsageError
from ..progress import Bar

Pairs = Sequence[tuple[str, str]]
ITERATIONS = 5  # of expectation and maximisation
SMOOTHING = 0.01  # added to each count of a table that is compared with another
LARGEST = 50_000  # pairs of a corpus that are aligned


class WordTable(NamedTuple):
    """How often source words were aligned to target words, as a sparse matrix."""

    sources: np.ndarray  # [entries] int64, source word
    targets: np.ndarray  # [entries] int64, target word
    counts: np.ndarray  # [entries] float64; the entries are the same for all corpora


def word_tables(corpora: Sequence[Pairs], iterations: int = ITERATIONS) -> list[WordTable]:
    """Aligns the words of several corpora with one aligner, and counts.

    Each target word is aligned to the source word, or to none, that is most probable under IBM
    Model 1 (Brown et al. 1993).

    Args:
      corpora: (source, target) lines with spaces between words; of each, the first 50,000 pairs.
      iterations: of expectation and maximisation, from a uniform table.

    Raises:
      UsageError: a corpus has no words.
    """
    of_source: dict[str, int] = {"": 0}  # the empty word, to which any target word may belong
    of_target: dict[str, int] = {}
    sources, targets, tokens, ends = [], [], [], []
    count = 0  # target words so far
    for pairs in corpora:
        for source, target in pairs[:LARGEST]:
            # The empty word last, so that a tie goes to a real one.
            xs = [*(of_source.setdefault(word, len(of_source)) for word in source.split()), 0]
            for word in target.split():
                y = of_target.setdefault(word, len(of_target))
                sources += xs
                targets += [y] * len(xs)
                tokens += [count] * len(xs)
                count += 1
        ends.append(count)
    if not count or len(of_source) == 1:
        raise UsageError("These pairs have no words to align.")
    keys = np.array(sources, np.int64) * len(of_target) + np.array(targets, np.int64)
    entries, entry = np.unique(keys, return_inverse=True)
    x, y = np.divmod(entries, len(of_target))
    token = np.array(tokens, np.int64)
    table = np.ones(len(entries))
    for _ in Bar(range(iterations), desc="aligning words", unit="iteration", wait=2):
        weight = table[entry]
        posterior = weight / np.bincount(token, weight)[token]
        expected = np.bincount(entry, posterior, len(entries))
        table = expected / np.bincount(x, expected)[x]
    order = np.lexsort((-table[entry], token))
    best = order[np.flatnonzero(np.diff(token[order], prepend=-1))]  # the first of each token
    aligned, owner = entry[best], token[best]
    tables = []
    for first, end in zip([0, *ends[:-1]], ends, strict=True):
        own = aligned[(owner >= first) & (owner < end)]
        counts = np.bincount(own, minlength=len(entries)).astype(float)
        counts[x == 0] = 0  # words that belong to no source word
        if not counts.any():
            raise UsageError("A corpus has no words to align.")
        tables.append(WordTable(x, y, counts))
    return tables


def complexity(table: WordTable) -> float:
    """Returns C(d): the entropy of p(y | x) in nats, averaged over source words.

    >>> complexity(word_tables([[("a", "x"), ("b", "y")]])[0])
    0.0
    """
    totals = np.bincount(table.sources, table.counts)
    known = table.counts > 0
    p = table.counts[known] / totals[table.sources[known]]
    return float((p * np.log(1 / p)).sum() / (totals > 0).sum())


def faithfulness(real: WordTable, distilled: WordTable) -> float:
    """Returns F(d): KL(p_real(y | x) || p_distilled(y | x)) in nats, averaged over source words.

    0 is the most faithful. Counts of the distilled corpus are smoothed by 0.01 over the target
    words that either corpus has for a source word. Source words that only one has are left out.

    Args:
      real: table of the original corpus.
      distilled: table from the same call of ``word_tables``.
    """
    x, together = real.sources, (real.counts > 0) | (distilled.counts > 0)
    totals = np.bincount(x, real.counts)
    smoothed = np.where(together, distilled.counts + SMOOTHING, 0)
    smoothed_totals = np.bincount(x, smoothed)
    shared = (totals > 0) & (np.bincount(x, distilled.counts) > 0)
    kept = (real.counts > 0) & shared[x]
    p = real.counts[kept] / totals[x[kept]]
    q = smoothed[kept] / smoothed_totals[x[kept]]
    return float((p * np.log(p / q)).sum() / shared.sum())
