"""Where systems differ: scores by the length of sentences and by the frequency of words.

Formulas and boundaries are those of compare-mt (Neubig et al. 2019). Words are those that BLEU
counts (``Scorer.words``).
"""

import bisect
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple

from ..errors import UsageError
from ..scoring import Scorer

LENGTHS = (10, 20, 30, 40, 50, 60)
FREQUENCIES = (1, 2, 3, 4, 5, 10, 100, 1000)


class Bucket(NamedTuple):
    """A score of the sentences, or words, between two boundaries."""

    label: str  # "<10", "10-19", ">=60"
    size: int  # number of references, or of words in them
    score: float


def bleu_by_length(
    outputs: Sequence[str],
    references: Sequence[str],
    scorer: Scorer,
    edges: Sequence[int] = LENGTHS,
) -> list[Bucket]:
    """Returns the corpus BLEU of sentences whose references are of similar length, in words.

    Args:
      outputs: of a system.
      references: one for each output.
      scorer: whose BLEU it is.
      edges: lengths at which the next bucket begins, increasing. Empty buckets are left out.

    Raises:
      UsageError: there are more or fewer outputs than references, or edges do not increase.

    >>> few = bleu_by_length(["a b c d", "e"], ["a b c d", "a x"], Scorer("none"), edges=(3, 5))
    >>> [(b.label, b.size, round(b.score)) for b in few]
    [('<3', 1, 0), ('3-4', 1, 100)]
    """
    _check(outputs, references, edges)
    inside: list[list[int]] = [[] for _ in range(len(edges) + 1)]
    for n, reference in enumerate(references):
        inside[bisect.bisect_right(edges, len(scorer.words(reference)))].append(n)
    return [
        Bucket(
            label,
            len(chosen),
            scorer.bleu([outputs[n] for n in chosen], [references[n] for n in chosen]),
        )
        for label, chosen in zip(_labels(edges), inside, strict=True)
        if chosen
    ]


def accuracy_by_frequency(
    outputs: Sequence[str],
    references: Sequence[str],
    scorer: Scorer,
    training: Iterable[str] | None = None,
    edges: Sequence[int] = FREQUENCIES,
) -> list[Bucket]:
    """Returns the F-measure of words that are similarly frequent in the training text, 0 to 100.

    Of each sentence, a word that the reference has r times and the output o times is right
    min(r, o) times. Precision and recall are shares of all words of a bucket in outputs and in
    references; F = 2PR / (P + R).

    Args:
      outputs: of a system.
      references: one for each output.
      scorer: whose words are compared.
      training: target lines in which words are counted; the references if omitted.
      edges: frequencies at which the next bucket begins, increasing. Buckets without a word of a
        reference are left out.

    Raises:
      UsageError: there are more or fewer outputs than references, or edges do not increase.

    >>> rare = accuracy_by_frequency(["a a b"], ["a b b"], Scorer("none"), edges=(2,))
    >>> [(b.label, b.size, round(b.score)) for b in rare]
    [('<2', 1, 67), ('>=2', 2, 67)]
    """
    _check(outputs, references, edges)
    said, wanted = ([Counter(scorer.words(s)) for s in lines] for lines in (outputs, references))
    counted = wanted if training is None else map(Counter, map(scorer.words, training))
    frequency: Counter[str] = Counter()
    for words in counted:
        frequency.update(words)
    right, of_outputs, of_references = ([0] * (len(edges) + 1) for _ in range(3))

    def add(totals: list[int], words: Counter[str]) -> None:
        for word, count in words.items():
            totals[bisect.bisect_right(edges, frequency[word])] += count

    for output, reference in zip(said, wanted, strict=True):
        add(right, output & reference)
        add(of_outputs, output)
        add(of_references, reference)
    return [
        # F = 2PR / (P + R), with P = right / outputs and R = right / references
        Bucket(label, references, 100 * 2 * matches / (outputs + references))
        for label, matches, outputs, references in zip(
            _labels(edges), right, of_outputs, of_references, strict=True
        )
        if references
    ]


def _check(outputs: Sequence[str], references: Sequence[str], edges: Sequence[int]) -> None:
    if len(outputs) != len(references):
        raise UsageError(
            f"There are {len(outputs):,} outputs and {len(references):,} references: give one "
            "reference for each output."
        )
    if list(edges) != sorted(set(edges)) or not edges:
        raise UsageError(f"edges is {tuple(edges)}; its numbers must increase.")


def _labels(edges: Sequence[int]) -> list[str]:
    between = [
        f"{low}" if high == low + 1 else f"{low}-{high - 1}"
        for low, high in zip(edges[:-1], edges[1:], strict=True)
    ]
    first = "0" if edges[0] == 1 else f"<{edges[0]}"
    return [first, *between, f">={edges[-1]}"]
