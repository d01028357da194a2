"""``grammar``: sentence pairs of English and German whose true distribution is known.

A small synchronous context-free grammar, written for this project. An English sentence has many
right translations: "du" or "Sie", synonyms, perfect or preterite, the order of words. How probable
each is can be computed exactly, and so can all that a model estimates of p(t | s).

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
SHORTEST, LONGEST = 4, 20  # English words and marks


def sample_pairs(seed: int, n: int) -> Pairs:
    """Draws ``n`` pairs of source and target; the first ones do not depend on ``n``."""
    rng = random.Random(f"grammar {seed}")
    pairs: Pairs = []
    while len(pairs) < n:
        source, meaning = derive.draw(rng)
        if SHORTEST <= len(source.split()) <= LONGEST:
            pairs.append((source, german.draw(meaning, rng)))
    return pairs


def splits(seed: int, train: int, valid: int, test: int) -> dict[str, Pairs]:
    """Draws training, validation and test pairs; no source is in two of the three.

    A source belongs to one of the three by its hash, so that no part depends on the sizes of the
    others; within one part short sources can occur more than once, as they do in a text.
    """
    sizes = {"train": train, "valid": valid, "test": test}
    parts: dict[str, Pairs] = {name: [] for name in sizes}
    rng = random.Random(f"grammar {seed}")
    while any(len(parts[name]) < size for name, size in sizes.items()):
        source, meaning = derive.draw(rng)
        if SHORTEST <= len(source.split()) <= LONGEST:
            target = german.draw(meaning, rng)
            part = parts[_part_of(source)]
            if len(part) < sizes[_part_of(source)]:
                part.append((source, target))
    return parts


def _part_of(source: str) -> str:
    number = hashlib.sha256(source.encode()).digest()[0]
    return "test" if number < 16 else "valid" if number < 28 else "train"


@functools.lru_cache(maxsize=4096)
def _targets(source: str) -> dict[str, float]:
    readings = derive.read(source)
    if not readings:
        raise UsageError(f"{source!r} is not a sentence of the grammar; see sample_pairs.")
    whole = sum(weight for weight, _ in readings)
    total: dict[str, float] = {}
    for weight, meaning in readings:
        for target, probability in german.translations(meaning).items():
            total[target] = total.get(target, 0.0) + weight / whole * probability
    return total


def targets(source: str) -> dict[str, float]:
    """All right translations of a source with their probabilities, which sum to one.

    Raises:
      UsageError: the source is no sentence of the grammar.
    """
    return dict(_targets(source))


def log_prob(source: str, target: str) -> float:
    """The natural logarithm of p(target | source); -inf where the target is not right."""
    probability = _targets(source).get(target, 0.0)
    return math.log(probability) if probability else -math.inf


def mode(source: str) -> str:
    """The most probable translation; the first in alphabetical order where several are."""
    known = _targets(source)
    return min(known, key=lambda target: (-known[target], target))


def entropy(source: str) -> float:
    """The entropy of p(t | s), in nats."""
    return sum(p * -math.log(p) for p in _targets(source).values())
