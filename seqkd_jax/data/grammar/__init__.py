"""``grammar``: English-German sentence pairs whose true distribution p(t | s) is known exactly.

How to read this package: this file first, for what can be computed; then, in this order,

    meaning       what a sentence says (Sentence, Clause, Phrase): the interlingua of both sides
    english       the weighted context-free grammar of the source side, whose rules build meanings
    derive        draws a sentence from these rules, and parses a sentence into its meanings
    german        a meaning's translations as a graph of weighted alternatives; draws and lists them
    inflection    German articles, endings and verb forms
    lexicon       the words of both languages, in tables for people to edit
    entries       parses these tables

The grammar was written for this project. An English sentence has many correct translations: "du"
or "Sie", synonyms, perfect or preterite, different word orders. The probability of each can be
computed, and so can everything that a model estimates about p(t | s).

    source, target = grammar.sample_pairs(seed=1, n=1)[0]
    probability = grammar.targets(source)[target]
"""

import functools
import hashlib
import math
import random

from ...errors import UsageError
from . import derive, german

Pairs = list[tuple[str, str]]
MIN_TOKENS, MAX_TOKENS = 4, 20  # of a source, punctuation marks counted


def sample_pairs(seed: int, n: int) -> Pairs:
    """Draws ``n`` (source, target) pairs; a larger ``n`` only appends pairs."""
    rng = random.Random(f"grammar {seed}")
    pairs: Pairs = []
    while len(pairs) < n:
        source, meaning = derive.draw(rng)
        if MIN_TOKENS <= len(source.split()) <= MAX_TOKENS:
            pairs.append((source, german.draw(meaning, rng)))
    return pairs


def splits(seed: int, train: int, valid: int, test: int) -> dict[str, Pairs]:
    """Draws training, validation and test pairs; no source is in two of these parts.

    The hash of a source decides its part, so that no part depends on the sizes of the others.
    Within a part short sources can occur more than once, as in any text.
    """
    sizes = {"train": train, "valid": valid, "test": test}
    parts: dict[str, Pairs] = {name: [] for name in sizes}
    rng = random.Random(f"grammar {seed}")
    while any(len(parts[name]) < size for name, size in sizes.items()):
        source, meaning = derive.draw(rng)
        if MIN_TOKENS <= len(source.split()) <= MAX_TOKENS:
            target = german.draw(meaning, rng)
            part = parts[_part_of(source)]
            if len(part) < sizes[_part_of(source)]:
                part.append((source, target))
    return parts


def with_errors(pairs: Pairs, rate: float, seed: int = 1) -> Pairs:
    """Returns pairs whose targets have errors, as a noisy corpus has.

    Args:
      pairs: (source, target) lines.
      rate: probability of an error at each target word: the word is left out, or another word of
        these targets stands in its place, equally often.
      seed: of the errors.

    Raises:
      UsageError: the rate is not between 0 and 1.

    >>> with_errors([("a cat", "eine Katze")], rate=0.0)
    [('a cat', 'eine Katze')]
    """
    if not 0 <= rate <= 1:
        raise UsageError(f"rate is {rate}: give a number between 0 and 1.")
    rng = random.Random(f"errors {seed}")
    words = sorted({word for _, target in pairs for word in target.split()})

    def word_or_error(word: str) -> list[str]:
        if rng.random() >= rate:
            return [word]
        return [rng.choice(words)] if rng.random() < 0.5 else []

    return [
        (source, " ".join(new for word in target.split() for new in word_or_error(word)))
        for source, target in pairs
    ]


def _part_of(source: str) -> str:
    byte = hashlib.sha256(source.encode()).digest()[0]
    return "test" if byte < 16 else "valid" if byte < 28 else "train"


@functools.lru_cache(maxsize=4096)
def _targets(source: str) -> dict[str, float]:
    readings = derive.read(source)
    if not readings:
        raise UsageError(f"{source!r} is not a sentence of the grammar; see sample_pairs.")
    total_weight = sum(weight for weight, _ in readings)
    probabilities: dict[str, float] = {}
    for weight, meaning in readings:
        for target, probability in german.translations(meaning).items():
            probabilities[target] = (
                probabilities.get(target, 0.0) + weight / total_weight * probability
            )
    return probabilities


def targets(source: str) -> dict[str, float]:
    """Returns all correct translations of a source with their probabilities, which sum to one.

    Raises:
      UsageError: the source is not a sentence of the grammar.
    """
    return dict(_targets(source))


def log_prob(source: str, target: str) -> float:
    """Returns the natural logarithm of p(target | source); -inf for an incorrect target."""
    probability = _targets(source).get(target, 0.0)
    return math.log(probability) if probability else -math.inf


def mode(source: str) -> str:
    """Returns the most probable translation, of several the first in alphabetical order."""
    probabilities = _targets(source)
    return min(probabilities, key=lambda target: (-probabilities[target], target))


def entropy(source: str) -> float:
    """Returns the entropy of p(t | s), in nats."""
    return sum(p * -math.log(p) for p in _targets(source).values())
