"""What a sentence says: English sentences are parsed into it, and German ones generated from it."""

from typing import Literal, NamedTuple

from .entries import Entry


class Phrase(NamedTuple):
    """A person or a thing: a pronoun, a name, or a noun with its article."""

    person: int = 3
    plural: bool = False
    pronoun: str = ""  # English, as a subject
    name: str = ""
    determiner: str = ""  # English singular, or a German number
    noun: Entry | None = None
    adjective: Entry | None = None
    relative: "Clause | None" = None  # with this phrase as its subject


class Clause(NamedTuple):
    """One statement; a field at its default means that the clause has no such part."""

    subject: Phrase | None = None
    verb: Entry | None = None
    adjective: Entry | None = None  # predicate of "to be", where there is no other verb
    tense: str = "present"  # or past, or future
    modal: Entry | None = None
    negated: bool = False
    receiver: Phrase | None = None  # indirect object
    object: Phrase | None = None
    preposition: str = ""
    companion: Phrase | None = None  # object of the preposition
    place: Phrase | None = None
    towards: bool = False  # whether the movement is to the place, not in it
    frequency: Entry | None = None
    time: Entry | None = None
    time_first: bool = False


class Sentence(NamedTuple):
    """One or two clauses."""

    kind: Literal["statement", "question", "order"]
    clause: Clause
    question_word: Entry | None = None
    conjunction: Entry | None = None  # of the second clause; None for "that"
    second: Clause | None = None
    second_first: bool = False
    please: bool = False
