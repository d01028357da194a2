"""Sequence-level distillation: a student's corpus, selected from a teacher's n-best lists.

Each function here takes and returns whole lists. ``in_chunks`` runs them over a corpus of any size,
in memory that does not grow with it:

    for best, chosen in in_chunks(pairs, lists, seq_kd, closest_to_reference(similarity)):
        ...                                               # two ``Selected`` of the same sentences
"""

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np

from ..decode.nbest import NBest
from ..errors import UsageError, quoted
from ..progress import Bar
from .similarity import Similarity, choose, compare

Pairs = Sequence[tuple[str, str]]
CHUNK = 2048  # sentences that are in memory together


@dataclass(frozen=True)
class Selected:
    """A new corpus, and the origin of each of its lines."""

    pairs: list[tuple[str, str]]
    ranks: np.ndarray  # [pairs] int32, index in the n-best list; -1 where the reference was kept
    sources: np.ndarray  # [pairs] int32, index of the source in the corpus
    log_probs: np.ndarray  # [pairs] float32, of the teacher, mean per token; nan if not known
    similarities: np.ndarray | None = None  # [pairs] float32, by which Seq-Inter or MBR selected
    weights: np.ndarray | None = None  # [pairs] float32, in training; None for 1


Selection = Callable[[Pairs, Sequence[NBest]], Selected]


def in_chunks(
    pairs: Iterable[tuple[str, str]],
    nbest: Iterable[NBest],
    *selections: Selection,
    sentences: int = CHUNK,
) -> Iterator[tuple[Selected, ...]]:
    """Yields what each selection takes from some sentences at a time; at least one chunk.

    The chunks of a selection together are what it takes from the whole corpus. Both inputs are
    read once.

    Args:
      pairs: (source, reference) lines.
      nbest: of the sources, in their order.
      *selections: ``seq_kd``, ``closest_to_reference(...)``, ``closest_to_list(...)``, or any
        function of a part of a corpus, numbered from 0.
      sentences: in a chunk.

    Raises:
      UsageError: the lists do not belong to these pairs; chunks before them have been yielded.
    """
    rest, lists, first = iter(pairs), iter(nbest), 0
    total = len(pairs) if isinstance(pairs, Sequence) else None
    with Bar(total=total, desc="choosing", unit="sentence", wait=2) as bar:
        while True:
            chunk = list(itertools.islice(rest, sentences))
            own = list(itertools.islice(lists, sentences))
            if len(chunk) != len(own):
                counts = [
                    first + len(x) + sum(1 for _ in y) for x, y in ((own, lists), (chunk, rest))
                ]
                raise _unequal(*counts)
            _check_order(own, first)
            if not chunk and first:
                return
            numbered = [replace(n, index=number) for number, n in enumerate(own)]
            chosen = (selection(chunk, numbered) for selection in selections)
            yield tuple(replace(c, sources=c.sources + np.int32(first)) for c in chosen)
            first += len(chunk)
            bar.update(len(chunk))
            if not chunk:
                return


def concatenate(chunks: Iterable[Selected]) -> Selected:
    """Returns the selection whose parts these are, in memory."""
    parts = list(chunks)
    columns = {
        f.name: np.concatenate([getattr(part, f.name) for part in parts])
        for f in fields(Selected)
        if isinstance(getattr(parts[0], f.name), np.ndarray)
    }
    return Selected(pairs=[pair for part in parts for pair in part.pairs], **columns)


def seq_kd(pairs: Pairs, nbest: Sequence[NBest]) -> Selected:
    """Replaces each target by the teacher's best translation (Kim & Rush 2016, section 3.2).

    Empty translations are skipped; if all are empty, the target stays.

    Raises:
      UsageError: the lists do not belong to these pairs.

    >>> seq_kd([("a cat", "eine Katze")], [NBest(0, ("die Katze", "Katze"))]).pairs
    [('a cat', 'die Katze')]
    """
    _check(pairs, nbest)
    ranks = [next((r for r, text in enumerate(n.texts) if text.strip()), -1) for n in nbest]
    return _selected(pairs, nbest, range(len(pairs)), ranks)


def weighted_seq_kd(
    pairs: Pairs, nbest: Sequence[NBest], max_hypotheses: int | None = None
) -> Selected:
    """Pairs each source with every hypothesis, weighted by the teacher's probabilities.

    They are renormalised over the list, so the loss of the weighted corpus is the expectation
    -sum_t q(t | s) log p(t | s) over the K best; ``seq_kd`` is the case K = 1. Empty hypotheses,
    and those whose weight is 0 in float32, are left out; if none remains, the target stays, with
    weight 1.

    Args:
      pairs: (source, reference) lines.
      nbest: of the sources, in their order, with log-probabilities.
      max_hypotheses: K, the number of hypotheses of a list that are used; None for all.

    Raises:
      UsageError: the lists do not belong to these pairs, or have no log-probabilities.

    Source: Kim & Rush 2016, section 3.2, L_SEQ-KD before it is reduced to the mode.
    """
    _check(pairs, nbest)
    if max_hypotheses is not None and max_hypotheses < 1:
        raise UsageError(
            f"max_hypotheses is {max_hypotheses}; at least 1 hypothesis of each list must be used."
        )
    sources, ranks, weights = [], [], []
    for index, n in enumerate(nbest):
        probs = probabilities(n, max_hypotheses).astype(np.float32)
        kept = np.flatnonzero(probs).tolist() or [-1]
        sources += [index] * len(kept)
        ranks += kept
        weights += [1.0 if rank < 0 else probs[rank] for rank in kept]
    return _selected(pairs, nbest, sources, ranks, weights=np.array(weights, np.float32))


def probabilities(nbest: NBest, max_hypotheses: int | None = None) -> np.ndarray:
    """Returns the teacher's probabilities of the first K hypotheses [K], renormalised; float64.

    Those of empty hypotheses are 0. ``max_hypotheses`` is K; None for all.

    Raises:
      UsageError: the list has no log-probabilities, fewer than texts, or numbers that are none.
    """
    nonempty = _nonempty(nbest)[:max_hypotheses]
    if nonempty.any() and not nbest.log_probs:
        raise UsageError(
            f"The n-best list of sentence {nbest.index} has no log_prob, but the teacher's "
            "probabilities are needed here. For lists of samples, write the same log_prob for each."
        )
    if not nonempty.any():
        return np.zeros(len(nonempty))
    valid = all(log_prob < 0.01 for log_prob in nbest.log_probs)  # above 0 by rounding alone
    if len(nbest.log_probs) != len(nbest.texts) or not valid:
        raise UsageError(
            f"The n-best list of sentence {nbest.index} has {len(nbest.texts)} texts and log_probs "
            f"{quoted(nbest.log_probs)}: each text needs one, a natural logarithm of at most 0."
        )
    log_probs = np.where(nonempty, nbest.log_probs[: len(nonempty)], -np.inf)
    probs = np.exp(log_probs - log_probs.max())
    return probs / probs.sum()


def seq_inter(
    pairs: Pairs,
    nbest: Sequence[NBest],
    similarity: Similarity | None = None,
    *,
    lower: bool = False,
) -> Selected:
    """Replaces each target by the hypothesis most similar to it (Kim & Rush 2016, section 3.3).

    Sentences are compared as text, so lists of any teacher will do. Ties, also between hypotheses
    without a word in common with the reference, go to the hypothesis that the teacher ranks
    higher; empty hypotheses are never selected.

    Args:
      pairs: (source, reference) lines.
      nbest: of the sources, in their order.
      similarity: (hypothesis ids [T], reference ids [R]) -> [], on the device, where ids stand for
        the words between spaces; or a ``TextSimilarity``. The default is the BLEU of Kim & Rush's
        code, 0 if no word is in common, or chrF if the text has no spaces between words.
      lower: whether to compare in lower case, as is right for a teacher that writes lower case.

    Raises:
      UsageError: the lists do not belong to these pairs.

    >>> nbest = [NBest(0, ("eine Katze", "die Katze schläft"))]
    >>> seq_inter([("the cat sleeps", "die Katze schläft jetzt")], nbest).pairs
    [('the cat sleeps', 'die Katze schläft')]
    """
    if similarity is None:
        similarity = choose(texts=(target for _, target in pairs))[1]
    return concatenate(
        chosen for (chosen,) in in_chunks(pairs, nbest, closest_to_reference(similarity, lower))
    )


def closest_to_reference(similarity: Similarity, lower: bool = False) -> Selection:
    """Returns ``seq_inter`` with a similarity, as a function of (pairs, lists)."""

    def choose_closest(pairs: Pairs, nbest: Sequence[NBest]) -> Selected:
        return _highest(pairs, nbest, similarities(pairs, nbest, similarity, lower=lower))

    return choose_closest


def mbr(
    pairs: Pairs,
    nbest: Sequence[NBest],
    similarity: Similarity | None = None,
    *,
    lower: bool = False,
) -> Selected:
    """Replaces each target by the hypothesis with the minimum Bayes risk within its list.

    This is the hypothesis with the highest expected similarity to the teacher's translations; the
    expectation is over the list, with the teacher's renormalised probabilities. References are not
    read, so this also works for text without translations. Ties go to the better ranked
    hypothesis; empty hypotheses are never selected.

    Args:
      pairs: (source, anything) lines.
      nbest: of the sources, in their order, with log-probabilities.
      similarity: as in ``seq_inter``.
      lower: whether to compare in lower case.

    Raises:
      UsageError: the lists do not belong to these pairs, or have no log-probabilities.

    Source: Kumar & Byrne 2004, section 2; Wang et al. 2024 for its use in distillation.
    """
    if similarity is None:
        similarity = choose(texts=(text for n in nbest for text in n.texts))[1]
    selection = closest_to_list(similarity, lower)
    return concatenate(chosen for (chosen,) in in_chunks(pairs, nbest, selection))


def closest_to_list(similarity: Similarity, lower: bool = False) -> Selection:
    """Returns ``mbr`` with a similarity, as a function of (pairs, lists)."""

    def choose_closest(pairs: Pairs, nbest: Sequence[NBest]) -> Selected:
        weights = [probabilities(n) for n in nbest]
        lists = [n.texts for n in nbest]
        tables = compare(lists, lists, similarity, lower)
        expected = [
            np.where(_nonempty(n), table @ probs, -np.inf).astype(np.float32)
            for n, table, probs in zip(nbest, tables, weights, strict=True)
        ]
        return _highest(pairs, nbest, expected)

    return choose_closest


def similarities(
    pairs: Pairs,
    nbest: Sequence[NBest],
    similarity: Similarity | None = None,
    *,
    lower: bool = False,
) -> list[np.ndarray]:
    """Returns the similarity [K] of hypotheses to their reference; -inf for empty hypotheses."""
    references = [(target,) for _, target in pairs]
    tables = compare([n.texts for n in nbest], references, similarity, lower)
    return [
        np.where(_nonempty(n), table[:, 0], -np.inf).astype(np.float32)
        for n, table in zip(nbest, tables, strict=True)
    ]


def _nonempty(nbest: NBest) -> np.ndarray:
    """Returns which hypotheses [K] are not empty."""
    return np.array([bool(text.strip()) for text in nbest.texts], bool)


def _highest(pairs: Pairs, nbest: Sequence[NBest], scores: Sequence[np.ndarray]) -> Selected:
    """Selects the hypothesis of each list with the highest score, of several the first."""
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
    """Returns the corpus of hypothesis ``ranks[i]`` of list ``sources[i]``, for each i."""
    lines, log_probs = [], []
    for index, rank in zip(sources, ranks, strict=True):
        (source, target), n = pairs[index], nbest[index]
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
    """Returns the number of tokens, EOS counted; of words if the list has no tokens."""
    return len(nbest.tokens[rank] if nbest.tokens else nbest.texts[rank].split()) + 1


def differing(one: Selected, other: Selected) -> int:
    """Returns the number of pairs that differ between two selections from the same lists."""
    return sum(a != b for a, b in zip(one.pairs, other.pairs, strict=True))


def share_differing(one: Selected, other: Selected) -> float:
    """Returns the share of pairs that differ between two selections from the same lists."""
    return differing(one, other) / max(1, len(one.pairs))


def _check(pairs: Pairs, nbest: Sequence[NBest]) -> None:
    if len(pairs) != len(nbest):
        raise _unequal(len(nbest), len(pairs))
    _check_order(nbest, 0)


def _unequal(lists: int, pairs: int) -> UsageError:
    return UsageError(f"{lists} n-best lists for {pairs} pairs; each pair needs one.")


def _check_order(nbest: Sequence[NBest], first: int) -> None:
    for index, n in enumerate(nbest, first):
        if n.index != index:
            raise UsageError(
                f"n-best list number {index} belongs to sentence {n.index}; lists must be in "
                "the order of the pairs."
            )
