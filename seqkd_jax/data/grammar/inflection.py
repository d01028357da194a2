"""German inflection: pronouns, articles, endings, and the forms of nouns and verbs."""

from .entries import Modal, Noun, Verb, linking_e, verb_stem

# Noun phrases. Cases are nom, acc and dat.

PERSONAL = {  # person, plural: nominative, accusative, dative
    (1, False): ("ich", "mich", "mir"),
    (2, False): ("du", "dich", "dir"),
    (1, True): ("wir", "uns", "uns"),
    (3, True): ("sie", "sie", "ihnen"),
}
PERSONAL_THIRD = {"he": ("er", "ihn", "ihm"), "she": ("sie", "sie", "ihr")}
POLITE = ("sie", "sie", "ihnen")
CASES = ("nom", "acc", "dat")
ARTICLES = {  # masculine, feminine, neuter, plural
    "nom": ("der", "die", "das", "die"),
    "acc": ("den", "die", "das", "die"),
    "dat": ("dem", "der", "dem", "den"),
}


def strong_ending(case: str, column: int) -> str:
    """Returns the strong ending of a case, as in "dieser"."""
    article = ARTICLES[case][column]
    return "e" if article == "die" else "es" if article == "das" else article[1:]


def noun_form(noun: Noun, plural: bool, case: str) -> str:
    """Returns a noun in a number and a case."""
    if not plural:
        return noun.plural if noun.weak and case != "nom" else noun.singular
    return noun.plural + ("n" if case == "dat" and noun.plural[-1] not in "ns" else "")


# Verbs. A conjugation takes person and plural.

HABEN = {(1, False): "habe", (2, False): "hast", (3, False): "hat", (1, True): "haben"}
SEIN = {(1, False): "bin", (2, False): "bist", (3, False): "ist", (1, True): "sind"}
WERDEN = {(1, False): "werde", (2, False): "wirst", (3, False): "wird", (1, True): "werden"}


def _second(third: str) -> str:
    """Returns the du-form that belongs to a third person singular."""
    return third[:-1] + ("t" if third[-2] in "sßzx" else "st")


def present_form(verb: Verb, person: int, plural: bool) -> str:
    """Returns the present tense."""
    if plural:
        return verb.infinitive
    if person == 1:
        return verb_stem(verb.infinitive) + "e"
    return verb.third if person == 3 else _second(verb.third)


def preterite_form(verb: Verb, person: int, plural: bool) -> str:
    """Returns the simple past."""
    form = verb.preterite
    if plural:
        return form + ("n" if form.endswith("te") else "en")
    if person == 2:
        return form + ("est" if form[-1] in "sßdtz" else "st")
    return form


def imperative_form(verb: Verb, polite: bool) -> str:
    """Returns the imperative, with "Sie" if polite."""
    if polite:
        return f"{verb.infinitive} sie"
    stem = verb_stem(verb.infinitive)
    changed = verb.third.removesuffix("t")
    if _vowel_changes_to_i(stem, changed):
        return changed
    return stem + ("e" if linking_e(stem) or stem.endswith(("ig", "er")) else "")


def _vowel_changes_to_i(stem: str, changed: str) -> bool:
    return "e" in stem and changed != stem and changed.count("i") > stem.count("i")


def modal_form(modal: Modal, person: int, plural: bool) -> str:
    """Returns the present tense of a modal verb."""
    if plural:
        return modal.plural
    if person != 2:
        return modal.singular
    return modal.singular + ("t" if modal.singular.endswith("s") else "st")
