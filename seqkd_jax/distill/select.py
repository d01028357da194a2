"""From n-best lists to a student's corpus: sequence-level distillation is new data."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache

import jax
import numpy as np
from tqdm import tqdm

from ..base import EOS, PAD, Array
from ..errors import UsageError
from .nbest import NBest
from .similarity import OfTexts, OfWords, Similarity, choose

Pairs = Sequence[tuple[str, str]]
LENGTHS = (16, 32, 64, 128, 256, 512)  # T and R, so that few programs are compiled
SENTENCES = 64  # compared in one call, at most
COMPARISONS = SENTENCES * LENGTHS[2] ** 2  # of words in one call, for each place in the lists


@dataclass(frozen=True)
class Selected:
    """A new corpus, and where each of its lines came from."""

    pairs: list[tuple[str, str]]
    ranks: np.ndarray  # [pairs] int32, place in the n-best list; -1 where the reference was kept
    sources: np.ndarray  # [pairs] int32, place of the source in the corpus
    log_probs: np.ndarray  # [pairs] float32, teacher's, mean of the tokens; nan where not known
    similarities: np.ndarray | None = None  # [pairs] float32, by which Seq-Inter or MBR chose
    weights: np.ndarray | None = None  # [pairs] float32, in training; None for 1


def seq_kd(pairs: Pairs, nbest: Sequence[NBest]) -> Selected:
    """Replaces each target by the teacher's best translation (Kim & Rush 2016, section 3.2).

    An empty best translation is passed over for the next; where all are empty the target stays.

    Raises:
      UsageError: the lists do not belong to these pairs.
    """
    _check(pairs, nbest)
    ranks = [next((r for r, text in enumerate(n.texts) if text.strip()), -1) for n in nbest]
    return _selected(pairs, nbest, range(len(pairs)), ranks)


def weighted_seq_kd(pairs: Pairs, nbest: Sequence[NBest], most: int | None = None) -> Selected:
    """Pairs each source with every hypothesis, weighted by what the teacher thinks of it.

    The weights are the teacher's probabilities, renormalised over the list, so the loss of the
    weighted corpus is the expectation -sum_t q(t | s) log p(t | s) over the K best, of which
    ``seq_kd`` is the case K = 1. Empty hypotheses, and those whose weight is 0 in float32, are
    left out; where nothing remains the target stays, with weight 1.

    Args:
      pairs: (source, reference) lines.
      nbest: of the sources, in their order, with log-probabilities.
      most: K, hypotheses of a list that are used; None for all.

    Raises:
      UsageError: the lists do not belong to these pairs, or have no log-probabilities.

    Source: Kim & Rush 2016, section 3.2, L_SEQ-KD before it is reduced to the mode.
    """
    _check(pairs, nbest)
    if most is not None and most < 1:
        raise UsageError(f"most is {most}; at least 1 hypothesis of each list must be used.")
    sources, ranks, weights = [], [], []
    for place, n in enumerate(nbest):
        given = probabilities(n, most).astype(np.float32)
        kept = np.flatnonzero(given).tolist() or [-1]
        sources += [place] * len(kept)
        ranks += kept
        weights += [1.0 if rank < 0 else given[rank] for rank in kept]
    return _selected(pairs, nbest, sources, ranks, weights=np.array(weights, np.float32))


def probabilities(nbest: NBest, most: int | None = None) -> np.ndarray:
    """The teacher's probabilities of the first ``most`` hypotheses [K], renormalised; float64.

    Empty hypotheses have none; if all are empty the result is all 0.

    Raises:
      UsageError: the list has no log-probabilities.
    """
    said = _said(nbest)[:most]
    if said.any() and not nbest.log_probs:
        raise UsageError(
            f"The n-best list of sentence {nbest.index} has no log_prob, but the teacher's "
            "probabilities are needed here. For lists of samples, write the same log_prob for each."
        )
    if not said.any():
        return np.zeros(len(said))
    logs = np.where(said, nbest.log_probs[: len(said)], -np.inf)
    shares = np.exp(logs - logs.max())
    return shares / shares.sum()


def seq_inter(
    pairs: Pairs,
    nbest: Sequence[NBest],
    similarity: Similarity | None = None,
    *,
    lower: bool = False,
) -> Selected:
    """Replaces each target by the hypothesis most like it (Kim & Rush 2016, section 3.3).

    Sentences are compared as text, so lists of any teacher will do. Of equally similar
    hypotheses, those without a word in common with the reference among them, the one that
    the teacher ranks higher is taken; empty ones never are.

    Args:
      pairs: (source, reference) lines.
      nbest: of the sources, in their order.
      similarity: (hypothesis ids [T], reference ids [R]) -> [], on the device, of the words
        between spaces; or ``OfTexts``. Left out, the BLEU of Kim & Rush's code, with 0 where no
        word is in common, or chrF where the text has no spaces between words.
      lower: compare in lower case, as a teacher must be that writes nothing else.

    Raises:
      UsageError: the lists do not belong to these pairs.
    """
    _check(pairs, nbest)
    return _highest(pairs, nbest, similarities(pairs, nbest, similarity, lower=lower))


def mbr(
    pairs: Pairs,
    nbest: Sequence[NBest],
    similarity: Similarity | None = None,
    *,
    lower: bool = False,
) -> Selected:
    """Replaces each target by the hypothesis with the least Bayes risk within its list.

    That is the one with the highest expected similarity to a translation of the teacher, the
    expectation taken over the list with the teacher's renormalised probabilities. No reference
    is read, so it is a choice for text without translations, too; of equal ones the better
    ranked is taken, and an empty one never is.

    Args:
      pairs: (source, anything) lines.
      nbest: of the sources, in their order, with log-probabilities.
      similarity: as in ``seq_inter``.
      lower: compare in lower case.

    Raises:
      UsageError: the lists do not belong to these pairs, or have no log-probabilities.

    Source: Kumar & Byrne 2004, section 2; Wang et al. 2024 for its use in distillation.
    """
    _check(pairs, nbest)
    shares = [probabilities(n) for n in nbest]
    lists = [n.texts for n in nbest]
    tables = _compare(lists, lists, similarity, lower)
    expected = [
        np.where(_said(n), table @ share, -np.inf).astype(np.float32)
        for n, table, share in zip(nbest, tables, shares, strict=True)
    ]
    return _highest(pairs, nbest, expected)


def similarities(
    pairs: Pairs,
    nbest: Sequence[NBest],
    similarity: Similarity | None = None,
    *,
    lower: bool = False,
) -> list[np.ndarray]:
    """The similarity [K] of each hypothesis to its reference; -inf for an empty hypothesis."""
    references = [(target,) for _, target in pairs]
    tables = _compare([n.texts for n in nbest], references, similarity, lower)
    return [
        np.where(_said(n), table[:, 0], -np.inf).astype(np.float32)
        for n, table in zip(nbest, tables, strict=True)
    ]


def _compare(
    hypotheses: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    similarity: Similarity | None,
    lower: bool,
) -> list[np.ndarray]:
    """The similarity [K, R] of each hypothesis of a list to each reference of its list."""
    if lower:
        hypotheses, references = (
            [[text.lower() for text in texts] for texts in side]
            for side in (hypotheses, references)
        )
    if similarity is None:
        similarity = choose(texts=[text for texts in references for text in texts])[1]
    # A bar only where it takes long enough to wonder.
    with tqdm(total=len(hypotheses), desc="comparing", unit="sent", delay=5, disable=None) as bar:
        if not isinstance(similarity, OfTexts):
            return _compare_words(hypotheses, references, similarity, bar)
        tables = []
        for lists in zip(hypotheses, references, strict=True):
            tables.append(similarity.table(*lists))
            bar.update()
        return tables


def _compare_words(hypotheses, references, similarity: OfWords, bar: tqdm) -> list[np.ndarray]:
    ids: dict[str, int] = {}

    def encode(text: str) -> list[int]:
        return [ids.setdefault(word, EOS + 1 + len(ids)) for word in text.split()]

    sides = [
        [[encode(text) for text in texts] for texts in side] for side in (hypotheses, references)
    ]
    widest = [max(map(len, side), default=1) for side in sides]
    longest = [max(map(len, [*h, *r]), default=0) for h, r in zip(*sides, strict=True)]
    tables: list[np.ndarray] = [np.zeros(0)] * len(longest)
    compare = _compiled(similarity)
    order = np.argsort(longest, kind="stable")[::-1]
    while len(order):
        width = _width(longest[order[0]])
        rows = max(1, min(SENTENCES, COMPARISONS // (width**2 * max(1, widest[1]))))
        places, order = order[:rows], order[rows:]
        padded = [np.full((rows, size, width), PAD, np.int32) for size in widest]
        for side, filled in zip(sides, padded, strict=True):
            for row, place in enumerate(places):
                for k, text in enumerate(side[place]):
                    filled[row, k, : len(text)] = text
        found = np.asarray(compare(*padded))
        for row, place in enumerate(places):
            tables[place] = found[row, : len(sides[0][place]), : len(sides[1][place])]
        bar.update(len(places))
    return tables


@lru_cache(maxsize=8)
def _compiled(similarity: OfWords) -> Callable[..., Array]:
    of_reference = jax.vmap(similarity, (None, 0))
    return jax.jit(jax.vmap(jax.vmap(of_reference, (0, None))))


def _width(tokens: int) -> int:
    return next((n for n in LENGTHS if n >= tokens), -(-tokens // LENGTHS[-1]) * LENGTHS[-1])


def _said(nbest: NBest) -> np.ndarray:
    """Which hypotheses [K] are not empty."""
    return np.array([bool(text.strip()) for text in nbest.texts], bool)


def _highest(pairs: Pairs, nbest: Sequence[NBest], scores: Sequence[np.ndarray]) -> Selected:
    """Selects of each list the hypothesis with the highest score, of equal ones the first."""
    ranks = [int(np.argmax(s)) if np.isfinite(s).any() else -1 for s in scores]
    best = [float(s[r]) if r >= 0 else 0.0 for s, r in zip(scores, ranks, strict=True)]
    best = np.array(best, np.float32)
    return _selected(pairs, nbest, range(len(pairs)), ranks, similarities=best)


def _selected(
    pairs: Pairs,
    nbest: Sequence[NBest],
    sources: Sequence[int],
    ranks: Sequence[int],
    **columns: np.ndarray,
) -> Selected:
    """Hypothesis ``ranks`` of the lists ``sources``, each beside its source."""
    lines, log_probs = [], []
    for place, rank in zip(sources, ranks, strict=True):
        (source, target), n = pairs[place], nbest[place]
        lines.append((source, n.texts[rank] if rank >= 0 else target))
        known = rank >= 0 and n.log_probs
        log_probs.append(n.log_probs[rank] / _tokens(n, rank) if known else np.nan)
    return Selected(
        pairs=lines,
        ranks=np.array(ranks, np.int32),
        sources=np.array(sources, np.int32),
        log_probs=np.array(log_probs, np.float32),
        **columns,
    )


def _tokens(nbest: NBest, rank: int) -> int:
    """Tokens of a hypothesis, EOS counted; words where the list has no tokens."""
    return len(nbest.tokens[rank] if nbest.tokens else nbest.texts[rank].split()) + 1


def share_differing(one: Selected, other: Selected) -> float:
    """The share of pairs whose targets differ between two selections from the same lists."""
    different = sum(a != b for a, b in zip(one.pairs, other.pairs, strict=True))
    return different / max(1, len(one.pairs))


def _check(pairs: Pairs, nbest: Sequence[NBest]) -> None:
    if len(pairs) != len(nbest):
        raise UsageError(f"{len(nbest)} n-best lists for {len(pairs)} pairs; each pair needs one.")
    for place, n in enumerate(nbest):
        if n.index != place:
            raise UsageError(
                f"n-best list number {place} belongs to sentence {n.index}; lists must be in "
                "the order of the pairs."
            )
