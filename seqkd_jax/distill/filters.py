"""Filters for distilled corpora, with a count of the pairs that each has removed.

    kept, counts = filter_pairs(
        seq_inter(pairs, nbest),
        {"length": length_ratio(2.0), "score": mean_log_prob(-1.5), "bleu": min_similarity(0.2)},
    )

The threshold that removes a given share is a quantile:
``mean_log_prob(float(np.nanquantile(selected.log_probs, 0.05)))``. A pair whose target is still
the reference has no score of the teacher, and passes all filters of scores.
"""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping

import numpy as np

from ..errors import UsageError
from .select import Selected

Filter = Callable[[Selected], np.ndarray]  # -> [pairs] bool: which are kept


def filter_pairs(
    selected: Selected, filters: Mapping[str, Filter]
) -> tuple[Selected, dict[str, int]]:
    """Keeps the pairs that pass all filters, in their order.

    Args:
      selected: from ``select``.
      filters: by name.

    Returns:
      The pairs that are kept, and for each filter the number of pairs that it was the first to
      remove.
    """
    kept = np.ones(len(selected.pairs), bool)
    counts = {}
    for name, passes in filters.items():
        passed = passes(selected)
        counts[name] = int((kept & ~passed).sum())
        kept &= passed
    columns = {
        field.name: column[kept]
        for field in dataclasses.fields(selected)
        if isinstance(column := getattr(selected, field.name), np.ndarray)
    }
    pairs = [pair for pair, keep in zip(selected.pairs, kept, strict=True) if keep]
    return dataclasses.replace(selected, pairs=pairs, **columns), counts


def filter_chunks(
    chunks: Iterable[Selected], filters: Mapping[str, Filter]
) -> Iterator[tuple[Selected, dict[str, int]]]:
    """Filters a corpus that comes in chunks (``select.in_chunks``), one of them at a time.

    Yields:
      The pairs of a chunk that are kept, and for each filter the number of pairs that it was the
      first to remove, in this chunk and those before it.
    """
    removed: Counter[str] = Counter()
    for chunk in chunks:
        kept, counts = filter_pairs(chunk, filters)
        removed.update(counts)
        yield kept, {name: removed[name] for name in filters}


def length_ratio(max_ratio: float) -> Filter:
    """Returns a filter for pairs whose longer side has at most ``max_ratio`` x the other's words.

    A pair with an empty side never passes. Raises UsageError if ``max_ratio`` is below 1.
    """
    if not max_ratio >= 1:
        raise UsageError(
            f"max_ratio is {max_ratio}; give at least 1: the longer side is never shorter than the "
            "other."
        )

    def passes(selected: Selected) -> np.ndarray:
        sides = [[len(text.split()) for text in pair] for pair in selected.pairs]
        lengths = np.array(sides, np.int64).reshape(-1, 2)
        return (lengths.min(1) > 0) & (lengths.max(1) <= max_ratio * lengths.min(1))

    return passes


def mean_log_prob(threshold: float) -> Filter:
    """Returns a filter for targets whose mean log-probability is at least ``threshold``.

    The mean is over tokens, EOS counted, in nats, under the teacher: a cheap detector of
    hallucinations (Guerreiro et al. 2023).

    Raises:
      UsageError: when it is applied to lists without log-probabilities.
    """

    def passes(selected: Selected) -> np.ndarray:
        if len(selected.ranks) and np.isnan(selected.log_probs[selected.ranks >= 0]).any():
            raise UsageError("The n-best lists have no log_prob, which mean_log_prob needs.")
        return ~(selected.log_probs < threshold)

    return passes


def max_repeats(count: int = 2, words: int = 2) -> Filter:
    """Returns a filter for targets that repeat themselves no more than the source does.

    For the most frequent n-gram of a side, its number of occurrences is compared: a target passes
    if its number is below that of the source plus ``count``. Repeated phrases are the commonest
    sign of a hallucination (Raunak et al. 2021, oscillatory hallucinations).

    Args:
      count: number of additional repetitions from which a target is removed.
      words: n, the length of a phrase in words.

    Raises:
      UsageError: a number is below 1.
    """
    if count < 1 or words < 1:
        raise UsageError(f"count is {count} and words is {words}: both must be at least 1.")

    def passes(selected: Selected) -> np.ndarray:
        return np.array(
            [
                most_frequent(target, words) < max(1, most_frequent(source, words)) + count
                for source, target in selected.pairs
            ],
            bool,
        )

    return passes


def most_frequent(text: str, n: int) -> int:
    """Returns how often the most frequent n-gram of a text occurs in it."""
    words = text.split()
    ngrams = Counter(zip(*(words[i:] for i in range(n)), strict=False))
    return max(ngrams.values(), default=0)


def min_similarity(threshold: float) -> Filter:
    """Returns a filter for targets selected with a similarity of at least ``threshold``.

    Raises:
      UsageError: when it is applied to what ``seq_kd`` selected, which has no similarities.
    """

    def passes(selected: Selected) -> np.ndarray:
        if selected.similarities is None:
            raise UsageError(
                "Seq-KD computes no similarities: min_similarity is for seq_inter and mbr."
            )
        return (selected.ranks < 0) | (selected.similarities >= threshold)

    return passes
