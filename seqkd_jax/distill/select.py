"""From n-best lists to a student's corpus: sequence-level distillation is new data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import jax
import numpy as np

from ..base import EOS, PAD, Array
from ..bleu import geometric, sentence_bleu
from .nbest import NBest

Pairs = Sequence[tuple[str, str]]
Similarity = Callable[[Array, Array], Array]  # (hypothesis [T], reference [R]) -> []

LENGTHS = (16, 32, 64, 128, 256, 512)  # T and R, so that few programs are compiled
SENTENCES = 64  # compared in one call, at most
COMPARISONS = SENTENCES * LENGTHS[2] ** 2  # of words in one call, for each place in the lists


@dataclass(frozen=True)
class Selected:
    """A new corpus, and where each of its lines came from."""

    pairs: list[tuple[str, str]]
    ranks: np.ndarray  # [pairs] int32, place in the n-best list; -1 where the reference was kept
    similarities: np.ndarray | None = None  # [pairs] float32, to the reference; Seq-Inter's


def seq_kd(pairs: Pairs, nbest: Sequence[NBest]) -> Selected:
    """Replaces each target by the teacher's best translation (Kim & Rush 2016, section 3.2).

    An empty best translation is passed over for the next; where all are empty the target stays.

    Raises:
      ValueError: the lists do not belong to these pairs.
    """
    _check(pairs, nbest)
    ranks = [next((r for r, text in enumerate(n.texts) if text.strip()), -1) for n in nbest]
    return _selected(pairs, nbest, np.array(ranks, np.int32))


def bleu_of_kim_and_rush(hypothesis: Array, reference: Array) -> Array:
    """Sentence BLEU with the smoothing of the original code."""
    return sentence_bleu(hypothesis, reference, geometric)


def seq_inter(
    pairs: Pairs, nbest: Sequence[NBest], similarity: Similarity = bleu_of_kim_and_rush
) -> Selected:
    """Replaces each target by the hypothesis most like it (Kim & Rush 2016, section 3.3).

    Sentences are compared as words between spaces, so lists of any teacher will do. Of equally
    similar hypotheses the one the teacher ranks higher is taken; empty ones never are.

    Args:
      pairs: (source, reference) lines.
      nbest: of the sources, in their order.
      similarity: (hypothesis ids [T], reference ids [R]) -> [], on the device.

    Raises:
      ValueError: the lists do not belong to these pairs.
    """
    _check(pairs, nbest)
    scores = similarities(pairs, nbest, similarity)
    ranks = [int(np.argmax(s)) if np.isfinite(s).any() else -1 for s in scores]
    best = [float(s[r]) if r >= 0 else 0.0 for s, r in zip(scores, ranks, strict=True)]
    chosen = _selected(pairs, nbest, np.array(ranks, np.int32))
    return Selected(chosen.pairs, chosen.ranks, np.array(best, np.float32))


def similarities(
    pairs: Pairs, nbest: Sequence[NBest], similarity: Similarity = bleu_of_kim_and_rush
) -> list[np.ndarray]:
    """The similarity [K] of each hypothesis to its reference; -inf for an empty hypothesis."""
    ids: dict[str, int] = {}

    def encode(text: str) -> list[int]:
        return [ids.setdefault(word, EOS + 1 + len(ids)) for word in text.split()]

    hypotheses = [[encode(text) for text in n.texts] for n in nbest]
    references = [encode(target) for _, target in pairs]
    widest = max((len(n.texts) for n in nbest), default=1)
    longest = [
        max(map(len, [*texts, reference]))
        for texts, reference in zip(hypotheses, references, strict=True)
    ]
    scores = [np.full(len(n.texts), -np.inf, np.float32) for n in nbest]
    compare = _compiled(similarity)
    order = np.argsort(longest, kind="stable")[::-1]
    while len(order):
        width = _width(longest[order[0]])
        rows = max(1, min(SENTENCES, COMPARISONS // width**2))
        places, order = order[:rows], order[rows:]
        hyp = np.full((rows, widest, width), PAD, np.int32)
        ref = np.full((rows, width), PAD, np.int32)
        for row, place in enumerate(places):
            ref[row, : len(references[place])] = references[place]
            for k, words in enumerate(hypotheses[place]):
                hyp[row, k, : len(words)] = words
        found = np.asarray(compare(hyp, ref))
        for row, place in enumerate(places):
            for k, words in enumerate(hypotheses[place]):
                if words:
                    scores[place][k] = found[row, k]
    return scores


@lru_cache(maxsize=8)
def _compiled(similarity: Similarity) -> Callable[..., Array]:
    return jax.jit(jax.vmap(jax.vmap(similarity, (0, None))))


def _width(tokens: int) -> int:
    return next((n for n in LENGTHS if n >= tokens), -(-tokens // LENGTHS[-1]) * LENGTHS[-1])


def _selected(pairs: Pairs, nbest: Sequence[NBest], ranks: np.ndarray) -> Selected:
    lines = [
        (source, n.texts[rank] if rank >= 0 else target)
        for (source, target), n, rank in zip(pairs, nbest, ranks, strict=True)
    ]
    return Selected(lines, ranks)


def _check(pairs: Pairs, nbest: Sequence[NBest]) -> None:
    if len(pairs) != len(nbest):
        raise ValueError(f"{len(nbest)} n-best lists for {len(pairs)} pairs; each needs one.")
    for place, n in enumerate(nbest):
        if n.index != place:
            raise ValueError(f"n-best list number {place} belongs to sentence {n.index}.")
