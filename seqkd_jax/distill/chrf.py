"""chrF of many texts with many: sacreBLEU's sentence score, without counting n-grams again."""

from collections.abc import Sequence

import numpy as np

ORDER = 6  # longest character n-grams
BETA = 2.0  # how much more recall counts than precision


def chrf_table(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """The chrF2 of each hypothesis with each reference, [K, R] float64 in [0, 1].

    Spaces do not count. Precision and recall are means over those lengths of n-grams that both
    texts have, as in sacreBLEU's ``CHRF().sentence_score(...)``, which gives the same times 100.

    Source: Popovic 2015.
    """
    texts = ["".join(text.split()) for text in (*hypotheses, *references)]
    lengths = np.array([len(text) for text in texts], np.int64)
    owner = np.repeat(np.arange(len(texts)), lengths)
    left = np.repeat(lengths, lengths) - np.concatenate([np.arange(n) for n in lengths] or [[]])
    _, characters = np.unique(np.array(list("".join(texts))), return_inverse=True)
    ids, kinds = characters, characters.max(initial=0) + 1
    shape = (len(hypotheses), len(references))
    precision, recall, orders = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for n in range(1, ORDER + 1):
        if n > 1:  # an n-gram is the n-gram before it, shortened by one, and a character
            ids = ids[:-1] * kinds + characters[n - 1 :]
        starts = np.flatnonzero(left[: len(ids)] >= n)
        types, ids = np.unique(ids, return_inverse=True)
        counts = _counts(owner[starts], ids[starts], len(texts), len(types))
        mine, theirs = np.split(counts, [len(hypotheses)])
        matches = np.array([np.minimum(row, theirs).sum(1) for row in mine]).reshape(shape)
        totals = mine.sum(1)[:, None], theirs.sum(1)[None]
        both = (totals[0] > 0) & (totals[1] > 0)
        precision += np.where(both, matches / np.maximum(totals[0], 1), 0)
        recall += np.where(both, matches / np.maximum(totals[1], 1), 0)
        orders += both
    weighted = BETA**2 * precision + recall
    f = (1 + BETA**2) * precision * recall / np.where(weighted > 0, weighted, 1)
    return f / np.maximum(orders, 1)


def _counts(owner: np.ndarray, ids: np.ndarray, texts: int, types: int) -> np.ndarray:
    """How often each of the texts has each n-gram, [texts, types]."""
    counts = np.bincount(owner * types + ids, minlength=texts * types)
    return counts.reshape(texts, types).astype(np.int32)
