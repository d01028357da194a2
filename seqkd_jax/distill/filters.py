"""Which pairs of a distilled corpus stay: small filters, and a count of what each left out.

    left, counts = keep(
        seq_inter(pairs, nbest),
        {"length": length_ratio(2.0), "score": mean_log_prob(-1.5), "likeness": similar(0.2)},
    )

What a threshold must be to leave out a given share is a quantile:
``mean_log_prob(float(np.nanquantile(selected.log_probs, 0.05)))``. A pair whose target is still
the reference has no score of the teacher, and filters of scores let it stay.
"""

import dataclasses
from collections.abc import Callable, Mapping

import numpy as np

from ..errors import UsageError
from .select import Selected

Filter = Callable[[Selected], np.ndarray]  # -> [pairs] bool: which stay


def keep(selected: Selected, filters: Mapping[str, Filter]) -> tuple[Selected, dict[str, int]]:
    """Keeps the pairs that pass all filters, in their order.

    Args:
      selected: from ``select``.
      filters: by the name of what they look at.

    Returns:
      What stays, and for each filter how many pairs it was the first to leave out.
    """
    stays = np.ones(len(selected.pairs), bool)
    counts = {}
    for name, passes in filters.items():
        passed = passes(selected)
        counts[name] = int((stays & ~passed).sum())
        stays &= passed
    columns = {
        field.name: column[stays]
        for field in dataclasses.fields(selected)
        if isinstance(column := getattr(selected, field.name), np.ndarray)
    }
    pairs = [pair for pair, stay in zip(selected.pairs, stays, strict=True) if stay]
    return dataclasses.replace(selected, pairs=pairs, **columns), counts


def length_ratio(most: float) -> Filter:
    """Lets pairs pass whose longer side has at most ``most`` times the words of the other.

    An empty side never passes. Raises UsageError if ``most`` is below 1.
    """
    if not most >= 1:
        raise UsageError(
            f"most is {most}; give at least 1: the longer side is never shorter than the other."
        )

    def passes(selected: Selected) -> np.ndarray:
        sides = [[len(text.split()) for text in pair] for pair in selected.pairs]
        lengths = np.array(sides, np.int64).reshape(-1, 2)
        return (lengths.min(1) > 0) & (lengths.max(1) <= most * lengths.min(1))

    return passes


def mean_log_prob(least: float) -> Filter:
    """Lets targets pass whose tokens have a mean log-probability of at least ``least`` nats.

    Under the teacher, EOS counted: a cheap detector of hallucinations (Guerreiro et al. 2023).
    """

    def passes(selected: Selected) -> np.ndarray:
        if len(selected.ranks) and np.isnan(selected.log_probs[selected.ranks >= 0]).any():
            raise UsageError("The n-best lists have no log_prob, which mean_log_prob needs.")
        return ~(selected.log_probs < least)

    return passes


def similar(least: float) -> Filter:
    """Lets targets pass whose similarity, by which they were selected, is at least ``least``."""

    def passes(selected: Selected) -> np.ndarray:
        if selected.similarities is None:
            raise UsageError("Seq-KD compares nothing: similar() is for seq_inter and mbr.")
        return (selected.ranks < 0) | (selected.similarities >= least)

    return passes
