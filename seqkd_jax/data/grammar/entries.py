"""Entries of the lexicon, parsed from its tables: English forms and weighted German variants."""

import re
from typing import NamedTuple

from .lexicon import (
    ADJECTIVES,
    CONJUNCTIONS,
    FREQUENCIES,
    MODALS,
    NOUNS,
    NUMBERS,
    QUESTION_WORDS,
    TIMES,
    VERBS,
    WANT,
)


class Weighted(NamedTuple):
    """A German variant with its weights in informal and in formal language."""

    weights: tuple[float, float]
    variant: "Noun | Adjective | Verb | Modal | str"


class Noun(NamedTuple):
    """A German noun; the singular of ``weak`` ones is like the plural, but for the nominative."""

    singular: str
    gender: str  # m, f or n
    plural: str
    weak: bool


class Adjective(NamedTuple):
    """A German adjective."""

    stem: str
    bare: str  # predicative, without an ending


class Verb(NamedTuple):
    """A German verb; its forms are given without the separable prefix."""

    prefix: str
    infinitive: str
    third: str
    preterite: str
    participle: str
    auxiliary: str
    dative: bool  # case of the object


class Modal(NamedTuple):
    """A German modal verb in the present."""

    singular: str  # first and third person
    plural: str  # and infinitive


class Entry(NamedTuple):
    """One line of a table."""

    english: tuple[tuple[str, ...], ...]  # forms, each a tuple of words
    german: tuple[Weighted, ...]


def _noun(words: list[str]) -> Noun:
    singular, gender, plural = words
    return Noun(singular, gender[0], plural, gender.endswith("~"))


def _adjective(words: list[str]) -> Adjective:
    stem, _, bare = words[0].partition("=")
    return Adjective(stem, bare or stem)


def _modal(words: list[str]) -> Modal:
    return Modal(*words)


def _verb(words: list[str]) -> Verb:
    dative = "dat" in words
    auxiliary = "sein" if "sein" in words else "haben"
    given, *forms = [word for word in words if word not in ("dat", "sein")]
    prefix, _, rest = given.rpartition("+")
    infinitive = rest.replace("|", "")
    if forms:
        third, preterite, participle = forms
        return Verb(prefix, infinitive, third, preterite, participle, auxiliary, dative)
    stem = verb_stem(infinitive)
    ending = f"{linking_e(stem)}t"
    ge = "" if "|" in rest or infinitive.endswith("ieren") else "ge"
    return Verb(
        prefix,
        infinitive,
        third=stem + ending,
        preterite=stem + ending + "e",
        participle=ge + stem + ending,
        auxiliary=auxiliary,
        dative=dative,
    )


def verb_stem(infinitive: str) -> str:
    """Returns an infinitive without -en or, after -er and -el, without -n."""
    return infinitive.removesuffix("en") if infinitive.endswith("en") else infinitive[:-1]


def linking_e(stem: str) -> str:
    """Returns the e before the endings -t and -st of stems that need one to be pronounceable."""
    return "e" if re.search(r"[dt]$|([^aeiouäöülrhmn]|ch)[mn]$", stem) else ""


def entries(table: str, make=" ".join) -> tuple[Entry, ...]:
    """Parses a table; ``make`` turns the words of a German variant into its value."""
    result = []
    for line in re.sub(r"\n\s+/", " /", table).strip().splitlines():
        english, _, german = line.partition(" | ")
        variants = []
        for given in german.split(" / "):
            *words, last = given.split()
            weights = re.fullmatch(r"(\d+):(\d+)", last)
            if weights:
                pair = (float(weights[1]), float(weights[2]))
            else:
                words, pair = [*words, last], (1.0, 1.0)
            variants.append(Weighted(pair, make(words)))
        forms = tuple(tuple(form.split("_")) for form in english.split())
        result.append(Entry(forms, tuple(variants)))
    return tuple(result)


NOUN_ENTRIES = {kind: entries(table, _noun) for kind, table in NOUNS.items()}
ADJECTIVE_ENTRIES = {kind: entries(table, _adjective) for kind, table in ADJECTIVES.items()}
VERB_ENTRIES = {kind: entries(table, _verb) for kind, table in VERBS.items()}
MODAL_ENTRIES = entries(MODALS, _modal)
(WANT_ENTRY,) = entries(WANT, _modal)
TIME_ENTRIES = {tense: entries(table) for tense, table in TIMES.items()}
FREQUENCY_ENTRIES = entries(FREQUENCIES)
CONJUNCTION_ENTRIES = entries(CONJUNCTIONS)
QUESTION_ENTRIES = entries(QUESTION_WORDS)
NUMBER_ENTRIES = entries(NUMBERS)
