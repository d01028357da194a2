"""chrF for all pairs of hypotheses and references, counting each text's n-grams once. Floor 2."""

from collections.abc import Sequence

import numpy as np

ORDER = 6  # the largest n of character n-grams
BETA = 2.0  # weight of recall relative to precision


def chrf_table(hypotheses: Sequence[str], references: Sequence[str]) -> np.ndarray:
    """Returns the chrF2 of each hypothesis with each reference, [K, R] float64 in [0, 1].

    Whitespace is ignored. Precision and recall are means over the n for which both texts have
    n-grams, as in sacreBLEU's ``CHRF().sentence_score(...)``, which returns the same times 100.

    Source: Popovic 2015.
    """
    texts = ["".join(text.split()) for text in (*hypotheses, *references)]
    lengths = np.array([len(text) for text in texts], np.int64)
    text_of = np.repeat(np.arange(len(texts)), lengths)
    left = np.repeat(lengths, lengths) - np.concatenate([np.arange(n) for n in lengths] or [[]])
    _, characters = np.unique(np.array(list("".join(texts))), return_inverse=True)
    ids, alphabet = characters, characters.max(initial=0) + 1
    shape = (len(hypotheses), len(references))
    precision, recall, orders = np.zeros(shape), np.zeros(shape), np.zeros(shape)
    for n in range(1, ORDER + 1):
        if n > 1:  # an n-gram is the (n-1)-gram at its start and one more character
            ids = ids[:-1] * alphabet + characters[n - 1 :]
        starts = np.flatnonzero(left[: len(ids)] >= n)
        types, ids = np.unique(ids, return_inverse=True)
        counts = _counts(text_of[starts], ids[starts], len(texts), len(types))
        hyp_counts, ref_counts = np.split(counts, [len(hypotheses)])
        matches = [np.minimum(row, ref_counts).sum(1) for row in hyp_counts]
        matches = np.array(matches).reshape(shape)
        hyp_totals, ref_totals = hyp_counts.sum(1)[:, None], ref_counts.sum(1)[None]
        both = (hyp_totals > 0) & (ref_totals > 0)
        precision += np.where(both, matches / np.maximum(hyp_totals, 1), 0)
        recall += np.where(both, matches / np.maximum(ref_totals, 1), 0)
        orders += both
    weighted = BETA**2 * precision + recall
    f = (1 + BETA**2) * precision * recall / np.where(weighted > 0, weighted, 1)
    return f / np.maximum(orders, 1)


def _counts(text_of: np.ndarray, ids: np.ndarray, texts: int, types: int) -> np.ndarray:
    """Counts each n-gram of each text, [texts, types]."""
    counts = np.bincount(text_of * types + ids, minlength=texts * types)
    return counts.reshape(texts, types).astype(np.int32)
