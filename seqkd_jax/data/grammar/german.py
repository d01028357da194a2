"""The German side: all correct translations of a meaning, as a graph of alternatives.

A node is a text, a tuple of consecutive nodes, or ``OneOf`` of several nodes with weights.
Alternatives are chosen independently, except for the style, which is drawn once per sentence:
informal or formal language, and "du" or "Sie".
"""

import random
from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from .entries import NUMBER_ENTRIES, Adjective, Entry, Modal, Noun, Verb
from .inflection import (
    ARTICLES,
    CASES,
    HABEN,
    PERSONAL,
    PERSONAL_THIRD,
    POLITE,
    SEIN,
    WERDEN,
    imperative_form,
    modal_form,
    noun_form,
    present_form,
    preterite_form,
    strong_ending,
)
from .meaning import Clause, Phrase, Sentence


class OneOf(NamedTuple):
    """A choice of one of several nodes, in proportion to their weights."""

    options: "tuple[tuple[float, Node], ...]"


Node = str | tuple["Node", ...] | OneOf


class Style(NamedTuple):
    """The choices that hold for a whole sentence."""

    formal: bool
    polite: bool  # says "Sie"


# Formal language mostly says "Sie", informal language mostly "du".
STYLES = {
    Style(False, False): 0.55 * 0.85,
    Style(False, True): 0.55 * 0.15,
    Style(True, False): 0.45 * 0.1,
    Style(True, True): 0.45 * 0.9,
}


def draw(sentence: Sentence, rng: random.Random) -> str:
    """Draws one translation."""
    (style,) = rng.choices(list(STYLES), list(STYLES.values()))
    words: list[str] = []

    def visit(node: Node) -> None:
        if isinstance(node, str):
            words.append(node)
        elif isinstance(node, OneOf):
            weights, nodes = zip(*node.options, strict=True)
            visit(rng.choices(nodes, weights)[0])
        else:
            for inner in node:
                visit(inner)

    visit(_sentence(sentence, style))
    return _tidy(words)


def translations(sentence: Sentence) -> dict[str, float]:
    """Returns all translations with their probabilities."""
    total: defaultdict[str, float] = defaultdict(float)
    for style, share in STYLES.items():
        for words, probability in _expanded(_sentence(sentence, style), {}).items():
            total[_tidy(words)] += share * probability
    return dict(total)


def _expanded(node: Node, known: dict[int, dict]) -> dict[tuple[str, ...], float]:
    """Returns the distribution over a node's words; a node that occurs twice is expanded once."""
    if isinstance(node, str):
        return {(node,): 1.0}
    if id(node) in known:
        return known[id(node)]
    result: defaultdict[tuple[str, ...], float] = defaultdict(float)
    if isinstance(node, OneOf):
        whole = sum(weight for weight, _ in node.options)
        for weight, option in node.options:
            for words, probability in _expanded(option, known).items():
                result[words] += probability * weight / whole
    else:
        result[()] = 1.0
        for inner in node:
            following = _expanded(inner, known)
            joined: defaultdict[tuple[str, ...], float] = defaultdict(float)
            for words, probability in result.items():
                for more, factor in following.items():
                    joined[words + more] += probability * factor
            result = joined
    known[id(node)] = result
    return result


def _tidy(words: Iterable[str]) -> str:
    """Joins words; a comma before another punctuation mark is dropped."""
    text = " ".join(word for word in words if word)
    for given, better in ((" , ,", " ,"), (" , .", " ."), (" , ?", " ?"), (" , !", " !")):
        text = text.replace(given, better)
    return text


def _variants(entry: Entry, style: Style) -> list[tuple[float, object]]:
    return [(w.weights[style.formal], w.variant) for w in entry.german]


def _text(entry: Entry | None, style: Style) -> Node:
    if entry is None:
        return ""
    return OneOf(tuple((weight, str(text)) for weight, text in _variants(entry, style)))


# Noun phrases. Cases are nom, acc and dat.

POSSESSIVES = {"my": "mein", "his": "sein", "our": "unser", "a": "ein", "no": "kein"}
CONTRACTED = {  # of a preposition and an article
    ("in", "dem"): "im",
    ("in", "das"): "ins",
    ("zu", "dem"): "zum",
    ("zu", "der"): "zur",
}


def _determiner(phrase: Phrase, case: str, column: int, style: Style) -> tuple[str, str]:
    """Returns the article or number, and the ending of an adjective after it."""
    given = phrase.determiner
    strong = strong_ending(case, column)
    weak = "e" if case == "nom" and column < 3 or case == "acc" and column in (1, 2) else "en"
    if given == "the":
        return ARTICLES[case][column], weak
    if given in ("this", "every"):
        return {"this": "dies", "every": "jed"}[given] + strong, weak
    if given == "your":
        stem = "ihr" if style.polite else "dein"
    elif given in POSSESSIVES:
        stem = POSSESSIVES[given]
    else:
        return given, strong  # a number
    bare = case == "nom" and column in (0, 2) or case == "acc" and column == 2
    if bare:
        return stem, strong
    return stem + strong, weak


def _phrase(phrase: Phrase, case: str, style: Style, preposition: str = "") -> Node:
    """Returns a phrase in a case, after a preposition if there is one."""
    index = CASES.index(case)
    if phrase.name:
        return (preposition, phrase.name)
    if phrase.pronoun:
        forms = PERSONAL_THIRD.get(phrase.pronoun) or PERSONAL[phrase.person, phrase.plural]
        if phrase.person == 2 and style.polite:
            forms = POLITE
        return (preposition, forms[index])
    assert phrase.noun
    options = []
    for weight, noun in _variants(phrase.noun, style):
        assert isinstance(noun, Noun)
        column = 3 if phrase.plural else "mfn".index(noun.gender)
        article, ending = _determiner(phrase, case, column, style)
        contracted = CONTRACTED.get((preposition, article)) if phrase.determiner == "the" else None
        node: tuple[Node, ...] = (contracted,) if contracted else (preposition, article)
        if phrase.adjective:
            stems = tuple(
                (w, adjective.stem + ending)
                for w, adjective in _variants(phrase.adjective, style)
                if isinstance(adjective, Adjective)
            )
            node = (*node, OneOf(stems))
        node = (*node, noun_form(noun, phrase.plural, case))
        if phrase.relative:
            who = ARTICLES["nom"][column]
            node = (*node, ",", _clause(phrase.relative, style, "last", relative=who), ",")
        options.append((weight, node))
    return OneOf(tuple(options))


# Verbs. A conjugation takes person and plural.


def _agreeing(phrase: Phrase, style: Style) -> tuple[int, bool]:
    """Returns (person, plural) of the verb; all plurals and "Sie" have the same form."""
    if phrase.plural or phrase.person == 2 and style.polite:
        return 1, True
    return phrase.person, False


class Predicate(NamedTuple):
    """The verbs of a clause: ``finite ... rest`` in main clauses, ``... last`` in others."""

    weight: float
    finite: str
    rest: str
    last: str
    dative: bool = False


def _predicates(clause: Clause, agreeing: tuple[int, bool], style: Style) -> list[Predicate]:
    """Returns all variants of a clause's verb in its tense."""
    if clause.verb is None:
        return _being(clause, agreeing, style)
    made = []
    for weight, verb in _variants(clause.verb, style):
        assert isinstance(verb, Verb)
        infinitive = verb.prefix + verb.infinitive
        participle = verb.prefix + verb.participle

        def add(share: float, finite: str, rest: str, weight=weight, verb=verb) -> None:
            last = f"{rest} {finite}" if rest != verb.prefix else verb.prefix + finite
            made.append(Predicate(weight * share, finite, rest, last, verb.dative))

        if clause.modal:
            for share, modal in _variants(clause.modal, style):
                assert isinstance(modal, Modal)
                total = sum(w.weights[style.formal] for w in clause.modal.german)
                add(share / total, modal_form(modal, *agreeing), infinitive)
        elif clause.tense == "past":
            auxiliary = SEIN if verb.auxiliary == "sein" else HABEN
            perfect = 0.85 if not style.formal else 0.3
            if agreeing == (2, False):
                perfect = 1.0  # "du kauftest" is hardly ever used
            add(perfect, auxiliary[agreeing], participle)
            if perfect < 1:
                add(1 - perfect, preterite_form(verb, *agreeing), verb.prefix)
        elif clause.tense == "future":
            # A time expression marks the future, so that the present tense can be used.
            present = 0.0 if not clause.time else 0.3 if style.formal else 0.7
            add(1 - present, WERDEN[agreeing], infinitive)
            if present:
                add(present, present_form(verb, *agreeing), verb.prefix)
        else:
            add(1.0, present_form(verb, *agreeing), verb.prefix)
    return made


def _being(clause: Clause, agreeing: tuple[int, bool], style: Style) -> list[Predicate]:
    if clause.modal:
        options = [
            (weight, modal_form(modal, *agreeing), "sein")
            for weight, modal in _variants(clause.modal, style)
            if isinstance(modal, Modal)
        ]
    elif clause.tense == "past":
        options = [(1.0, {(2, False): "warst", (1, True): "waren"}.get(agreeing, "war"), "")]
    elif clause.tense == "future":
        options = [(1.0, WERDEN[agreeing], "sein")]
    else:
        options = [(1.0, SEIN[agreeing], "")]
    return [Predicate(w, finite, rest, f"{rest} {finite}".strip()) for w, finite, rest in options]


# Clauses.

PREPOSITIONS = {"with": ("mit", "dat"), "without": ("ohne", "acc"), "for": ("für", "acc")}
QUANTITIES = ("every", *(entry.german[0].variant for entry in NUMBER_ENTRIES))


def _clause(
    clause: Clause,
    style: Style,
    verb_place: str,
    begins: Node = "",
    relative: str = "",
) -> Node:
    """Returns a clause whose verb is "second", "first" or "last".

    Second in main clauses; first in questions, and in main clauses after ``begins``; last in
    subordinate clauses.
    """
    subject = clause.subject or Phrase()
    agreeing = _agreeing(subject, style)
    who: Node = relative or _phrase(subject, "nom", style)
    time = _text(clause.time, style)
    timed = {dative: _middle(clause, time, style, dative) for dative in (False, True)}
    untimed = {dative: _middle(clause, "", style, dative) for dative in (False, True)}
    options: list[tuple[float, Node]] = []
    for verb in _predicates(clause, agreeing, style):
        middle, rest = timed[verb.dative], verb.rest
        if verb_place == "last":
            node: Node = (who, middle, verb.last)
        elif verb_place == "first":
            node = (begins, verb.finite, who, middle, rest)
        else:
            node = (who, verb.finite, middle, rest)
            if clause.time:
                share = 0.8 if clause.time_first else 0.4
                fronted = (time, verb.finite, who, untimed[verb.dative], rest)
                node = OneOf(((share, fronted), (1 - share, node)))
        options.append((verb.weight, node))
    return OneOf(tuple(options))


def _middle(clause: Clause, time: Node, style: Style, dative: bool) -> Node:
    """Returns what stands between the parts of the verb, in its possible orders."""
    no = clause.negated
    pronouns: list[Node] = []
    nouns: list[Node] = []
    definite = True
    for phrase, case in (
        (clause.receiver, "dat"),
        (clause.object, "dat" if dative else "acc"),
    ):
        if phrase is None:
            continue
        if phrase.determiner in QUANTITIES:
            definite = False
            if no:  # "nicht jedes buch": the quantity is negated
                nouns.append("nicht")
                no = False
        elif phrase.determiner == "a":
            definite = False
            if no and phrase is clause.object:
                phrase = phrase._replace(determiner="no")
                no = False
        (pronouns if phrase.pronoun else nouns).append(_phrase(phrase, case, style))
    end: list[Node] = ["nicht" if no else ""]
    if clause.companion:
        preposition, case = PREPOSITIONS[clause.preposition]
        end.append(_phrase(clause.companion, case, style, preposition))
    if clause.place:
        inside = _phrase(clause.place, "acc" if clause.towards else "dat", style, "in")
        if clause.towards:
            towards = _phrase(clause.place, "dat", style, "zu")
            inside = OneOf(((0.4 if style.formal else 0.6, towards), (0.5, inside)))
        end.append(inside)
    if clause.adjective:
        bare = tuple(
            (weight, adjective.bare)
            for weight, adjective in _variants(clause.adjective, style)
            if isinstance(adjective, Adjective)
        )
        end.append(OneOf(bare))
    often = _text(clause.frequency, style)
    usual: Node = (*pronouns, time, often, *nouns, *end)
    if not (nouns and definite and time):
        return usual
    return OneOf(((0.7, usual), (0.3, (*pronouns, *nouns, time, often, *end))))


# Sentences.


def _sentence(sentence: Sentence, style: Style) -> Node:
    clause = sentence.clause
    if sentence.kind == "question":
        return (_text(sentence.question_word, style), _clause(clause, style, "first"), "?")
    if sentence.kind == "order":
        return (_order(sentence, style), "!")
    if sentence.second is None:
        return (_clause(clause, style, "second"), ".")
    if sentence.conjunction is None:
        return (_clause(clause, style, "second"), ",", _reported(sentence.second, style), ".")
    second: Node = (_text(sentence.conjunction, style), _clause(sentence.second, style, "last"))
    share = 0.75 if sentence.second_first else 0.15
    return OneOf(
        (
            (share, (_clause(clause, style, "first", begins=(second, ",")), ".")),
            (1 - share, (_clause(clause, style, "second"), ",", second, ".")),
        )
    )


def _reported(clause: Clause, style: Style) -> Node:
    """Returns reported speech: with "dass", or as a main clause."""
    return OneOf(
        (
            (0.9 if style.formal else 0.6, ("dass", _clause(clause, style, "last"))),
            (0.1 if style.formal else 0.4, _clause(clause, style, "second")),
        )
    )


def _order(sentence: Sentence, style: Style) -> Node:
    clause = sentence.clause
    options: list[tuple[float, Node]] = []
    assert clause.verb
    for weight, verb in _variants(clause.verb, style):
        assert isinstance(verb, Verb)
        order = imperative_form(verb, style.polite)
        middle = _middle(clause, "", style, verb.dative)
        node: Node = (order, middle, verb.prefix)
        if sentence.please:
            later = (order, _middle(clause, "bitte", style, verb.dative), verb.prefix)
            node = OneOf(((0.6, ("bitte", node)), (0.4, later)))
        options.append((weight, node))
    return OneOf(tuple(options))
