"""The English side: a weighted context-free grammar; ``derive`` draws and parses its sentences.

A symbol is a name with features after slashes, such as ``object/food/full``; every other part of
a rule is a word. A rule's ``mean`` builds its meaning from the meanings of its symbols; if it
returns None, the derivation is rejected.
"""

import functools
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any, NamedTuple

from .entries import (
    ADJECTIVE_ENTRIES,
    CONJUNCTION_ENTRIES,
    FREQUENCY_ENTRIES,
    MODAL_ENTRIES,
    NOUN_ENTRIES,
    NUMBER_ENTRIES,
    QUESTION_ENTRIES,
    TIME_ENTRIES,
    VERB_ENTRIES,
    WANT_ENTRY,
    Entry,
)
from .lexicon import NAMES
from .meaning import Clause, Phrase, Sentence


class Rule(NamedTuple):
    """One expansion of a symbol, chosen in proportion to its weight among the symbol's rules."""

    weight: float
    parts: tuple[str, ...]
    mean: Callable[..., Any]


@functools.cache
def rules() -> dict[str, list[Rule]]:
    """Returns all rules, by symbol."""
    made: dict[str, list[Rule]] = {}

    def rule(symbol: str, weight: float, parts: str, mean: Callable[..., Any]) -> None:
        made.setdefault(symbol, []).append(Rule(weight, tuple(parts.split()), mean))

    def word(symbol: str, weight: float, words: tuple[str, ...], meaning: Any) -> None:
        made.setdefault(symbol, []).append(Rule(weight, words, lambda: meaning))

    _words(word)
    _phrases(rule)
    _verb_phrases(rule)
    _clauses(rule)
    _sentences(rule)
    return made


# The functions below add rules, with a function of type Add.

Add = Callable[[str, float, str, Callable[..., Any]], None]


def _words(word: Callable[[str, float, tuple[str, ...], Any], None]) -> None:
    def ranked(entries: tuple[Entry, ...]) -> Iterator[tuple[float, Entry]]:
        return ((1 / (rank + 2), entry) for rank, entry in enumerate(entries))

    for kind, entries in NOUN_ENTRIES.items():
        for weight, entry in ranked(entries):
            for number, form in zip(("s", "p"), entry.english, strict=True):
                word(f"noun/{kind}/{number}", weight, form, entry)
    for kind, entries in VERB_ENTRIES.items():
        for weight, entry in ranked(entries):
            for form, words in zip(("base", "third", "past"), entry.english, strict=True):
                word(f"verb/{kind}/{form}", weight, words, entry)
    for kind, entries in ADJECTIVE_ENTRIES.items():
        for weight, entry in ranked(entries):
            word(f"adjective/{kind}", weight, entry.english[0], entry)
    for tense, entries in TIME_ENTRIES.items():
        for weight, entry in ranked(entries):
            word(f"time/{tense}", weight, entry.english[0], entry)
    for symbol, entries in (
        ("frequency", FREQUENCY_ENTRIES),
        ("conjunction", CONJUNCTION_ENTRIES),
        ("question", QUESTION_ENTRIES),
        ("modal", MODAL_ENTRIES),
    ):
        for weight, entry in ranked(entries):
            word(symbol, weight, entry.english[0], entry)
    for name in NAMES.split():
        word("name", 1, (name,), Phrase(name=name))
    for entry in NUMBER_ENTRIES:
        word("number", 1, entry.english[0], entry)


PRONOUNS = (  # subject, object, person, plural, weight
    ("i", "me", 1, False, 5),
    ("you", "you", 2, False, 6),
    ("he", "him", 3, False, 4),
    ("she", "her", 3, False, 4),
    ("we", "us", 1, True, 3),
    ("they", "them", 3, True, 2),
)
SINGULAR = {"the": 40, "a": 28, "my": 9, "your": 7, "his": 6, "our": 4, "this": 8, "every": 4}
PLURAL = {"the": 45, "my": 8, "your": 7, "his": 5, "our": 5, "these": 9}
BEINGS, THINGS = ("person", "animal"), ("thing", "text", "food", "place")


def _phrases(rule: Add) -> None:
    """Adds subjects by agreement (1: i; s: he; p: you), and objects by kind of noun and size.

    Clauses have two sizes: a sentence has one full clause or two short ones.
    """
    for subject, obj, person, plural, weight in PRONOUNS:
        phrase = Phrase(person, plural, pronoun=subject)
        agreement = "1" if subject == "i" else "s" if subject in ("he", "she") else "p"
        rule(f"subject/{agreement}/pronoun", weight, subject, lambda p=phrase: p)
        rule("object/pronoun", weight, obj, lambda p=phrase: p)
    for number, determiners in (("s", SINGULAR), ("p", PLURAL)):
        for determiner, weight in determiners.items():
            same = {"these": "this"}.get(determiner, determiner)
            rule(f"determiner/{number}", weight, determiner, lambda d=same: d)
    kinds = (*BEINGS, *THINGS)
    for kind in kinds:
        own = "being" if kind in BEINGS else "thing"
        rule(f"described/{kind}", 1, "adjective/all", lambda a: a)
        rule(f"described/{kind}", 1, f"adjective/{own}", lambda a: a)
        for number in "sp":
            plural = number == "p"
            named, full = f"determiner/{number}", f"{kind}/{number}"
            rule(
                f"{full}/short",
                1,
                f"{named} noun/{full}",
                lambda d, n, p=plural: Phrase(plural=p, determiner=d, noun=n),
            )
            rule(f"{full}/full", 10, f"{full}/short", lambda phrase: phrase)
            rule(
                f"{full}/full",
                10,
                f"{named} described/{kind} noun/{full}",
                lambda d, a, n, p=plural: Phrase(plural=p, determiner=d, adjective=a, noun=n),
            )
        rule(
            f"{kind}/p/full",
            4,
            f"number noun/{kind}/p",
            lambda number, n: Phrase(plural=True, determiner=number.german[0].variant, noun=n),
        )
        for size in ("short", "full"):
            rule(f"object/{kind}/{size}", 3, f"{kind}/s/{size}", lambda phrase: phrase)
            rule(f"object/{kind}/{size}", 1, f"{kind}/p/{size}", lambda phrase: phrase)
    for size in ("short", "full"):
        rule(f"subject/1/{size}", 1, "subject/1/pronoun", lambda phrase: phrase)
        rule(f"subject/s/{size}", 8, "subject/s/pronoun", lambda phrase: phrase)
        rule(f"subject/s/{size}", 5, "name", lambda phrase: phrase)
        rule(f"subject/s/{size}", 12, f"person/s/{size}", lambda phrase: phrase)
        rule(f"subject/p/{size}", 10, "subject/p/pronoun", lambda phrase: phrase)
        rule(f"subject/p/{size}", 4, f"person/p/{size}", lambda phrase: phrase)
        rule(f"object/someone/{size}", 3, "object/pronoun", lambda phrase: phrase)
        rule(f"object/someone/{size}", 1, "name", lambda phrase: phrase)
        rule(f"object/someone/{size}", 4, f"object/person/{size}", lambda phrase: phrase)
        rule(f"object/any/{size}", 3, f"object/someone/{size}", lambda phrase: phrase)
        for kind, weight in zip(kinds, (0, 2, 5, 1, 1, 1), strict=True):
            if weight:
                rule(f"object/any/{size}", weight, f"object/{kind}/{size}", lambda phrase: phrase)
    rule(
        "object/person/full",
        0.4,
        "person/s/short who core/third/short",
        lambda who, core: who._replace(relative=core),
    )
    rule(
        "object/person/full",
        0.3,
        "person/s/short who is adjective/being",
        lambda who, a: who._replace(relative=Clause(adjective=a)),
    )


def _verb_phrases(rule: Add) -> None:
    """Adds cores: a verb in one form (base, third or past) with everything that follows it."""
    for form, size in product(("base", "third", "past"), ("short", "full")):
        core = f"core/{form}/{size}"
        kinds = {"any": 10, "thing": 9, "person": 8, "text": 5, "food": 5}
        for kind, weight in kinds.items():
            what = "someone" if kind == "person" else kind
            parts = f"verb/{kind}/{form} object/{what}/{size}"
            rule(core, weight, parts, lambda v, o: Clause(verb=v, object=o))
            if size == "full":
                rule(
                    core,
                    weight / 4,
                    f"verb/{kind}/{form} object/{what}/short place",
                    lambda v, o, p: Clause(verb=v, object=o, place=p),
                )
        if size == "full":
            rule(
                core,
                3,
                f"verb/thing/{form} object/thing/short for object/someone/short",
                lambda v, o, c: Clause(verb=v, object=o, preposition="for", companion=c),
            )
        for kind in ("thing", "text"):
            rule(
                core,
                3,
                f"verb/give/{form} object/someone/short object/{kind}/{size}",
                lambda v, r, o: Clause(verb=v, receiver=r, object=o),
            )
        for kind, share in (("rest", 0.25), ("none", 0.75)):  # no companion at rest
            verb = f"verb/{kind}/{form}"
            rule(core, 8 * share, verb, lambda v: Clause(verb=v))
            rule(core, 5 * share, f"{verb} place", lambda v, p: Clause(verb=v, place=p))
        rule(
            core,
            8,
            f"verb/move/{form} to object/place/short",
            lambda v, p: Clause(verb=v, place=p, towards=True),
        )
        if size == "full":
            for kind in ("none", "move"):
                for preposition in ("with", "without"):
                    rule(
                        core,
                        2,
                        f"verb/{kind}/{form} {preposition} object/someone/short",
                        lambda v, c, p=preposition: Clause(verb=v, preposition=p, companion=c),
                    )
    for size in ("short", "full"):
        rule(f"core/infinitive/{size}", 9, f"core/base/{size}", lambda core: core)
        rule(f"core/infinitive/{size}", 1, "be adjective/being", lambda a: Clause(adjective=a))
    rule("place", 1, "in object/place/short", lambda phrase: phrase)


BE = {"present": {"1": "am", "s": "is", "p": "are"}, "past": {"1": "was", "s": "was", "p": "were"}}
DO = {"present": {"1": "do", "s": "does", "p": "do"}, "past": dict.fromkeys("1sp", "did")}


def _clauses(rule: Add) -> None:
    """Adds predicates by tense, agreement and size, and clauses by tense and size."""
    for size, a in product(("short", "full"), "1sp"):
        for tense in ("present", "past"):
            predicate = f"predicate/{tense}/{a}/{size}"
            form = "past" if tense == "past" else "third" if a == "s" else "base"
            be, do = BE[tense][a], DO[tense][a]

            def mean(core: Clause, tense=tense) -> Clause:
                return core._replace(tense=tense)

            rule(predicate, 16, f"core/{form}/{size}", mean)
            rule(
                predicate,
                4,
                f"{do} not core/base/{size}",
                lambda core, tense=tense: core._replace(tense=tense, negated=True),
            )
            if size == "full":
                rule(
                    predicate,
                    7,
                    f"frequency core/{form}/{size}",
                    lambda f, core, tense=tense: core._replace(tense=tense, frequency=f),
                )
            rule(
                predicate,
                3,
                f"{be} adjective/being",
                lambda adj, tense=tense: Clause(adjective=adj, tense=tense),
            )
            rule(
                predicate,
                1,
                f"{be} not adjective/being",
                lambda adj, tense=tense: Clause(adjective=adj, tense=tense, negated=True),
            )
        core = f"core/infinitive/{size}"
        predicate = f"predicate/future/{a}/{size}"
        rule(predicate, 5, f"will {core}", lambda core: core._replace(tense="future"))
        rule(
            predicate,
            1,
            f"will not {core}",
            lambda core: core._replace(tense="future", negated=True),
        )
        predicate = f"predicate/modal/{a}/{size}"
        rule(predicate, 5, f"modal {core}", lambda m, core: core._replace(modal=m))
        want = "wants" if a == "s" else "want"
        rule(predicate, 2, f"{want} to {core}", lambda core: core._replace(modal=WANT_ENTRY))
    for size, (a, share) in product(("short", "full"), {"1": 3, "s": 9, "p": 6}.items()):
        for tense in ("present", "past", "future", "modal"):
            said = f"subject/{a}/{size} predicate/{tense}/{a}/{size}"
            clause = f"clause/{tense}/{size}"
            rule(clause, share, said, _with_subject)
            if size == "full" and tense != "modal":
                often = 3 if tense == "future" else 1
                rule(
                    clause,
                    0.9 * share * often,
                    f"{said} time/{tense}",
                    lambda s, p, t: _with_subject(s, p, time=t),
                )
                rule(
                    clause,
                    0.4 * share * often,
                    f"time/{tense} {said}",
                    lambda t, s, p: _with_subject(s, p, time=t, time_first=True),
                )
    for kind, (number, be) in product(THINGS[:2], (("s", "is"), ("p", "are"))):
        for tense, verb in (("present", be), ("past", {"is": "was", "are": "were"}[be])):
            for no, weight in (("", 0.6), ("not ", 0.2)):
                rule(
                    f"clause/{tense}/full",
                    weight,
                    f"{kind}/{number}/full {verb} {no}adjective/thing",
                    lambda s, a, t=tense, no=no: Clause(s, adjective=a, tense=t, negated=bool(no)),
                )


def _with_subject(subject: Phrase, predicate: Clause, **more: Any) -> Clause | None:
    others = (predicate.object, predicate.receiver, predicate.companion)
    if any(other and other.pronoun and other.person == subject.person < 3 for other in others):
        return None  # "i see me" would need a reflexive pronoun
    if subject.name and subject in others:
        return None  # so would "anna sees anna"
    return predicate._replace(subject=subject, **more)


def _sentences(rule: Add) -> None:
    tenses = {"present": 10, "past": 11, "future": 3, "modal": 6}
    for tense, share in tenses.items():
        rule("sentence", 5 * share, f"clause/{tense}/full .", lambda c: Sentence("statement", c))
        later = "present" if tense == "future" else tense  # no "before he will"
        two = f"clause/{tense}/short conjunction clause/{later}/short ."
        rule("sentence", 1.6 * share, two, _joined)
        if tense in ("present", "past"):
            front = f"conjunction clause/{tense}/short , clause/{tense}/short ."
            rule("sentence", 0.5 * share, front, _fronted)
        for a, weight in {"1": 0.1, "s": 0.5, "p": 0.6}.items():
            before = {"future": "will", "modal": "modal"}.get(tense) or DO[tense][a]
            for begin in ("", "question "):
                ask = functools.partial(_asked, tense=tense, word=bool(begin))
                parts = f"{begin}{before} subject/{a}/short core/base/short ?"
                rule("sentence", weight * share, parts, ask)
            if tense in BE:
                parts = f"{BE[tense][a]} subject/{a}/short adjective/being ?"
                rule(
                    "sentence",
                    0.3 * weight * share,
                    parts,
                    lambda s, adj, t=tense: Sentence("question", Clause(s, adjective=adj, tense=t)),
                )
    for tense, form in (("present", "third"), ("present", "base"), ("past", "past")):
        for a in {"third": "s", "base": "1p", "past": "1sp"}[form]:
            for inner in ("present", "past", "modal"):
                rule(
                    "sentence",
                    0.9,
                    f"subject/{a}/short verb/that/{form} that clause/{inner}/short .",
                    lambda s, v, c, tense=tense: Sentence(
                        "statement", Clause(s, verb=v, tense=tense), second=c
                    ),
                )
    for please, no in product(("", "please "), ("", "do not ")):
        rule(
            "sentence",
            2.5 if no else 6,
            f"{please}{no}core/base/short !",
            functools.partial(_ordered, please=bool(please), negated=bool(no)),
        )


def _joined(first: Clause, conjunction: Entry, second: Clause) -> Sentence:
    return Sentence("statement", first, conjunction=conjunction, second=second)


def _fronted(conjunction: Entry, second: Clause, first: Clause) -> Sentence:
    sentence = _joined(first, conjunction, second)
    return sentence._replace(second_first=True)


def _asked(*parts: Any, tense: str, word: bool) -> Sentence | None:
    asks = parts[0] if word else None
    subject, core = parts[-2:]
    if asks and asks.english[0] == ("where",) and core.place:
        return None  # it asks for the place
    if tense == "modal":
        clause = _with_subject(subject, core, modal=parts[-3])
    else:
        clause = _with_subject(subject, core, tense=tense)
    return clause and Sentence("question", clause, question_word=asks)


def _ordered(core: Clause, *, please: bool, negated: bool) -> Sentence | None:
    you = Phrase(2, pronoun="you")
    clause = _with_subject(you, core._replace(negated=negated))
    return clause and Sentence("order", clause, please=please)
