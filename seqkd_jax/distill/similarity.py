"""Similarities of a hypothesis to a reference, by which ``select`` chooses.

With any smoothing, BLEU and GLEU are 0 exactly if no word is in common: so a hypothesis that
shares a word with the reference is always preferred to one that does not.
"""

import functools
import warnings
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..base import EOS, PAD, Array
from ..bleu import (
    Smoothing,
    add_k,
    exponential,
    floor,
    geometric,
    gleu,
    ngram_counts,
    no_smoothing,
    sentence_bleu,
)
from ..chrf import chrf_table
from ..errors import UsageError

LENGTHS = (16, 32, 64, 128, 256, 512)  # values of T and R, so that few programs are compiled
SENTENCES = 64  # largest number of sentences that are compared in one call
COMPARISONS = SENTENCES * LENGTHS[2] ** 2  # of words in one call, for each rank in the lists
MAX_MEAN_WORD = 12  # characters: average words are shorter in all languages with spaces


class TextSimilarity(NamedTuple):
    """A similarity that is computed from texts on the host, such as ``chrf``."""

    table: Callable[[Sequence[str], Sequence[str]], np.ndarray]  # hypotheses, references -> [K, R]


# (hypothesis ids [T], reference ids [R]) -> [], on the device
WordSimilarity = Callable[[Array, Array], Array]
Similarity = WordSimilarity | TextSimilarity


@functools.cache
def bleu_by(smoothing: Smoothing) -> WordSimilarity:
    """Returns sentence BLEU with a smoothing, raised above 0 if a word is in common.

    Without smoothing, or if the brevity penalty underflows in float32, BLEU itself is 0 even for
    hypotheses that share words with the reference.
    """

    def similarity(hypothesis: Array, reference: Array) -> Array:
        score = sentence_bleu(hypothesis, reference, smoothing)
        shares_word = ngram_counts(hypothesis, reference, 1).matches[0] > 0
        return jnp.where(shares_word, jnp.maximum(score, jnp.finfo(jnp.float32).tiny), 0.0)

    return similarity


SMOOTHINGS: dict[str, Smoothing] = {
    "geometric": geometric,
    "exponential": exponential,
    "floor": floor(),
    "add-k": add_k(),
    "none": no_smoothing,
}
chrf = TextSimilarity(chrf_table)
bleu_of_kim_and_rush = bleu_by(geometric)  # with the smoothing of the original code


def choose(
    name: str = "auto", smoothing: str | None = None, texts: Iterable[str] = ()
) -> tuple[str, Similarity]:
    """Returns the name of a similarity and the similarity.

    Args:
      name: ``bleu``, ``gleu``, ``chrf``; or ``auto``: BLEU, but chrF if the text has no spaces
        between words and ``smoothing`` is None.
      smoothing: of BLEU, one of ``SMOOTHINGS``; None for Kim & Rush's.
      texts: the references.

    Raises:
      UsageError: there is no such name, or the similarity has no smoothing.
    """
    names = ("auto", "bleu", "gleu", "chrf")
    if name not in names:
        raise UsageError(f"similarity is {name!r}: give one of {', '.join(names)}.")
    if smoothing is not None and smoothing not in SMOOTHINGS:
        raise UsageError(f"smoothing is {smoothing!r}: give one of {', '.join(SMOOTHINGS)}.")
    if smoothing is not None and name in ("gleu", "chrf"):
        raise UsageError(
            f"A smoothing is for bleu only, but the similarity is {name}: leave the smoothing out."
        )
    spaced = has_word_spaces(texts)
    if name == "auto":
        name = "bleu" if smoothing is not None or spaced else "chrf"
    if name == "chrf":
        return name, chrf
    if not spaced:
        warnings.warn(
            f"The text has no spaces between words, but {name} compares words: most sentences "
            "have none in common. Use the similarity chrf, which compares characters.",
            stacklevel=2,
        )
    if name == "gleu":
        return name, gleu
    return name, bleu_by(SMOOTHINGS[smoothing or "geometric"])


def has_word_spaces(texts: Iterable[str]) -> bool:
    """Returns whether the words of a text are separated by spaces, so that they can be compared.

    They are not if half of the sentences are a single "word", or if "words" are longer on average
    than in any language with spaces.
    """
    sentences = single = count = characters = 0
    for words in filter(None, map(str.split, texts)):
        sentences += 1
        single += len(words) == 1
        count += len(words)
        characters += sum(map(len, words))
    return not sentences or (2 * single < sentences and characters <= MAX_MEAN_WORD * count)


def compare(
    hypotheses: Sequence[Sequence[str]],
    references: Sequence[Sequence[str]],
    similarity: Similarity | None,
    lower: bool,
) -> list[np.ndarray]:
    """Returns for each list the similarity [K, R] of its hypotheses to its references."""
    if lower:
        hypotheses, references = (
            [[text.lower() for text in texts] for texts in side]
            for side in (hypotheses, references)
        )
    if similarity is None:
        similarity = choose(texts=(text for texts in references for text in texts))[1]
    if not isinstance(similarity, TextSimilarity):
        return _compare_words(hypotheses, references, similarity)
    return [similarity.table(*lists) for lists in zip(hypotheses, references, strict=True)]


def _compare_words(hypotheses, references, similarity: WordSimilarity) -> list[np.ndarray]:
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
        indices, order = order[:rows], order[rows:]
        batch = [np.full((rows, size, width), PAD, np.int32) for size in widest]
        for side, padded in zip(sides, batch, strict=True):
            for row, index in enumerate(indices):
                for k, text in enumerate(side[index]):
                    padded[row, k, : len(text)] = text
        batch_tables = np.asarray(compare(*batch))
        for row, index in enumerate(indices):
            tables[index] = batch_tables[row, : len(sides[0][index]), : len(sides[1][index])]
    return tables


@functools.lru_cache(maxsize=8)
def _compiled(similarity: WordSimilarity) -> Callable[..., Array]:
    to_references = jax.vmap(similarity, (None, 0))
    return jax.jit(jax.vmap(jax.vmap(to_references, (0, None))))


def _width(tokens: int) -> int:
    return next((n for n in LENGTHS if n >= tokens), -(-tokens // LENGTHS[-1]) * LENGTHS[-1])
