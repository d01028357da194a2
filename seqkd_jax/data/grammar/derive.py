"""English sentences: drawn from the rules of the grammar, and parsed into their meanings."""

import functools
import random
from itertools import accumulate
from typing import Any

from .english import Rule, rules
from .meaning import Sentence


def draw(rng: random.Random) -> tuple[str, Sentence]:
    """Draws a sentence and its meaning."""
    while True:
        drawn = _draw("sentence", rng)
        if drawn:
            return _with_an(drawn[0]), drawn[1]


def _draw(symbol: str, rng: random.Random) -> tuple[list[str], Any] | None:
    here, weights = rules()[symbol], _weights()[symbol]
    (chosen,) = rng.choices(here, cum_weights=weights)
    words: list[str] = []
    meanings = []
    for part in chosen.parts:
        if part in rules():
            inner = _draw(part, rng)
            if inner is None:
                return None
            words += inner[0]
            meanings.append(inner[1])
        else:
            words.append(part)
    meaning = chosen.mean(*meanings)
    return None if meaning is None else (words, meaning)


def read(source: str) -> list[tuple[float, Sentence]]:
    """Parses a sentence: returns all its meanings with their weights.

    The weights sum to the probability of the sentence up to a factor that all sentences share.
    """
    words = ["a" if word == "an" else word for word in source.split()]
    if _with_an(words) != source:
        return []
    at_start: dict[tuple[str, int], list[tuple[float, int, Any]]] = {}

    def read_symbol(symbol: str, start: int) -> list[tuple[float, int, Any]]:
        key = symbol, start
        if key not in at_start:
            total = _weights()[symbol][-1]
            word = words[start] if start < len(words) else None
            first, later = _first_words()[symbol]
            found = []
            for rule in (*first.get(word, ()), *later):
                for weight, end, meanings in read_parts(rule.parts, start):
                    meaning = rule.mean(*meanings)
                    if meaning is not None:
                        found.append((weight * rule.weight / total, end, meaning))
            at_start[key] = found
        return at_start[key]

    def read_parts(parts: tuple[str, ...], start: int) -> list[tuple[float, int, tuple]]:
        partial: list[tuple[float, int, tuple]] = [(1.0, start, ())]
        for part in parts:
            if part in rules():
                partial = [
                    (weight * more, end, (*meanings, meaning))
                    for weight, middle, meanings in partial
                    for more, end, meaning in read_symbol(part, middle)
                ]
            else:
                partial = [
                    (weight, end + 1, meanings)
                    for weight, end, meanings in partial
                    if end < len(words) and words[end] == part
                ]
            if not partial:
                break
        return partial

    whole = read_symbol("sentence", 0)
    return [(weight, meaning) for weight, end, meaning in whole if end == len(words)]


def _with_an(words: list[str]) -> str:
    """Joins words; "a" becomes "an" before a vowel."""
    return " ".join(
        "an" if word == "a" and after[:1] in tuple("aeiou") else word
        for word, after in zip(words, [*words[1:], ""], strict=False)
    )


@functools.cache
def _weights() -> dict[str, list[float]]:
    """Returns the cumulative weights of each symbol's rules."""
    return {s: list(accumulate(rule.weight for rule in here)) for s, here in rules().items()}


@functools.cache
def _first_words() -> dict[str, tuple[dict[str | None, list[Rule]], list[Rule]]]:
    """Returns each symbol's rules: by their first word, and those that begin with a symbol."""
    table = {}
    for symbol, here in rules().items():
        first: dict[str | None, list[Rule]] = {}
        for rule in here:
            if rule.parts[0] not in rules():
                first.setdefault(rule.parts[0], []).append(rule)
        table[symbol] = first, [rule for rule in here if rule.parts[0] in rules()]
    return table
