"""What translations show: search errors, repeated and dropped phrases, the oracle of lists."""

from collections.abc import Sequence

import numpy as np

from ..decode.nbest import NBest
from ..distill.filters import most_frequent
from ..distill.select import similarities
from ..distill.similarity import Similarity

TOLERANCE = 1e-3  # nats by which log-probabilities of the same sentence may differ
REPEATED = 2  # more occurrences of a phrase than in the source that count as a repetition
SHORT = 0.6  # of the reference's length: shorter translations have dropped something


def oracle(
    nbest: Sequence[NBest],
    references: Sequence[str],
    sizes: Sequence[int],
    similarity: Similarity | None = None,
    *,
    lower: bool = False,
) -> dict[int, float]:
    """Returns the mean similarity of the best of the first n hypotheses, by n.

    Args:
      nbest: lists of at least max(sizes) hypotheses, where the search found as many.
      references: one for each list.
      sizes: n.
      similarity: as in ``distill.seq_inter``; sentence BLEU if omitted.
      lower: whether to compare in lower case.
    """
    pairs = [("", reference) for reference in references]
    scores = similarities(pairs, nbest, similarity, lower=lower)
    return {n: float(np.mean([max(0.0, s[:n].max(initial=0.0)) for s in scores])) for n in sizes}


def search_errors(greedy: Sequence[NBest], beam: Sequence[NBest]) -> float:
    """Returns the share of sentences for which greedy search missed a more probable translation.

    The log-probabilities of both are the model's own: where the beam's is higher, greedy search has
    made an error; that is no statement about which translation is better.
    """
    return float(
        np.mean(
            [b.log_probs[0] > g.log_probs[0] + TOLERANCE for g, b in zip(greedy, beam, strict=True)]
        )
    )


def repeats(sources: Sequence[str], outputs: Sequence[str], words: int = 2) -> float:
    """Returns the share of outputs in which a phrase occurs twice more often than in the source.

    Source: Raunak et al. 2021, oscillatory hallucinations, with phrases of two words.
    """
    return float(
        np.mean(
            [
                most_frequent(output, words) >= max(1, most_frequent(source, words)) + REPEATED
                for source, output in zip(sources, outputs, strict=True)
            ]
        )
    )


def too_short(outputs: Sequence[str], references: Sequence[str]) -> float:
    """Returns the share of outputs with less than 0.6 of the reference's words."""
    pairs = zip(outputs, references, strict=True)
    return float(np.mean([len(o.split()) < SHORT * len(r.split()) for o, r in pairs]))


def same(one: Sequence[str], other: Sequence[str]) -> float:
    """Returns the share of sentences for which two systems write the same."""
    return float(np.mean([a == b for a, b in zip(one, other, strict=True)]))
