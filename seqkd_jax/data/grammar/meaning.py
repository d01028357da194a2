"""What a sentence of the grammar says: the English side is read to it, the German made of it."""

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
    """One statement. The default of a field says that the clause has no such thing."""

    subject: Phrase | None = None
    verb: Entry | None = None
    adjective: Entry | None = None  # of "to be", where there is no verb
    tense: str = "present"  # or past, or future
    modal: Entry | None = None
    negated: bool = False
    receiver: Phrase | None = None  # indirect object
    object: Phrase | None = None
    preposition: str = ""
    companion: Phrase | None = None  # of the preposition
    place: Phrase | None = None
    towards: bool = False  # to the place, not in it
    frequency: Entry | None = None
    time: Entry | None = None
    time_first: bool = False


class Sentence(NamedTuple):
    """One or two clauses."""

    kind: Literal["statement", "question", "order"]
    clause: Clause
    question_word: Entry | None = None
    conjunction: Entry | None = None  # None before a second clause is "that"
    second: Clause | None = None
    second_first: bool = False
    please: bool = False
