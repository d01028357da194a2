"""How like a hypothesis is to a reference: the similarities that selection chooses by.

A hypothesis without a word in common with the reference has 0 under BLEU and GLEU, and every
other has more, whatever the smoothing: it can never be taken before one that shares a word.
"""

import functools
import warnings
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np

from ..base import Array
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
from ..errors import UsageError
from .chrf import chrf_table

LONG_WORD = 12  # characters, on average: no language that puts spaces between words has longer ones


class OfTexts(NamedTuple):
    """A similarity that is computed from texts on the host, such as ``chrf``."""

    table: Callable[[Sequence[str], Sequence[str]], np.ndarray]  # hypotheses, references -> [K, R]


OfWords = Callable[
    [Array, Array], Array
]  # (hypothesis ids [T], reference ids [R]) -> [], on device
Similarity = OfWords | OfTexts


@functools.cache
def bleu_by(smoothing: Smoothing) -> OfWords:
    """Sentence BLEU with a smoothing, and more than 0 exactly if a word is in common.

    Without smoothing, or where the brevity penalty is too small for a float32, BLEU itself is 0
    for hypotheses that are better than others.
    """

    def similarity(hypothesis: Array, reference: Array) -> Array:
        score = sentence_bleu(hypothesis, reference, smoothing)
        some = ngram_counts(hypothesis, reference, 1).matches[0] > 0
        return jnp.where(some, jnp.maximum(score, jnp.finfo(jnp.float32).tiny), 0.0)

    return similarity


SMOOTHINGS: dict[str, Smoothing] = {
    "geometric": geometric,
    "exponential": exponential,
    "floor": floor(),
    "add-k": add_k(),
    "none": no_smoothing,
}
chrf = OfTexts(chrf_table)
bleu_of_kim_and_rush = bleu_by(geometric)  # with the smoothing of the original code


def choose(
    name: str = "auto", smoothing: str | None = None, texts: Sequence[str] = ()
) -> tuple[str, Similarity]:
    """A similarity by its name, and the name.

    Args:
      name: ``bleu``, ``gleu``, ``chrf``; or ``auto``: chrF for text that has no spaces between
        words, where no smoothing is asked for, else BLEU.
      smoothing: of BLEU, one of ``SMOOTHINGS``; None for Kim & Rush's.
      texts: what hypotheses are to be compared with.

    Raises:
      UsageError: no such name, or a smoothing for what has none.
    """
    known = ("auto", "bleu", "gleu", "chrf")
    if name not in known:
        raise UsageError(f"similarity is {name!r}: give one of {', '.join(known)}.")
    if smoothing is not None and smoothing not in SMOOTHINGS:
        raise UsageError(f"smoothing is {smoothing!r}: give one of {', '.join(SMOOTHINGS)}.")
    if smoothing is not None and name in ("gleu", "chrf"):
        raise UsageError(
            f"A smoothing is for bleu only, but the similarity is {name}: leave the smoothing out."
        )
    apart = words_apart(texts)
    if name == "auto":
        name = "bleu" if smoothing is not None or apart else "chrf"
    if name == "chrf":
        return name, chrf
    if not apart:
        warnings.warn(
            f"The text has no spaces between words, but {name} compares words: most sentences "
            "have none in common. Use the similarity chrf, which compares characters.",
            stacklevel=2,
        )
    if name == "gleu":
        return name, gleu
    return name, bleu_by(SMOOTHINGS[smoothing or "geometric"])


def words_apart(texts: Sequence[str]) -> bool:
    """Whether spaces stand between the words of a text, so that words can be compared.

    They do not where half of the sentences are one "word", or where "words" are longer than those
    of any language with spaces.
    """
    counts = [len(words) for words in map(str.split, texts) if words]
    if not counts:
        return True
    characters = sum(len("".join(text.split())) for text in texts)
    single = sum(count == 1 for count in counts)
    return 2 * single < len(counts) and characters <= LONG_WORD * sum(counts)
