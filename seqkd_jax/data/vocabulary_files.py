"""Vocabularies from files: the library's own, and those that others made."""

import base64
import binascii
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..errors import UsageError, quoted
from ..files import PathLike
from ..sealed import read_json, read_record
from .inputs import MOST_CHARACTERS, OF_WORDS, InputVocabulary
from .pieces import load_pieces, pieces_of
from .text import read_lines, words_of
from .vocab import FORMAT, SPECIAL, Vocabulary, WordVocabulary

RESTORE = (
    "Restore the file that the models were trained with; a new one would number the words "
    "differently."
)
# Names that other systems' lists give to what has an id of its own here.
THEIR_SPECIAL = {*SPECIAL, "<pad>"}
PIECE = "\u2581"  # with it begin SentencePiece's pieces
NUMBERED = re.compile(r"([^ \t]+)[ \t][+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?")
FORMS = {  # of the lines of a list
    "word": (re.compile(r"([^ \t]+)"), "one word"),
    "numbered": (NUMBERED, "a word and a number, as the first line is"),
    "marian": (re.compile(r'("(?:[^"\\]|\\.)*"|[^ \t]+): *[0-9]+'), '"word": id'),
}


def load_vocabulary(path: PathLike) -> Vocabulary:
    """Loads a vocabulary of any kind that ``save`` wrote.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the file is damaged, or is none of ours.
    """
    record = read_record(path, FORMAT, RESTORE)
    try:
        return _vocabulary(record)
    except UsageError as error:
        raise UsageError(f"{path}: damaged vocabulary: {error}. {RESTORE}") from None


def open_vocabulary(path: PathLike, lower: bool = False) -> Vocabulary:
    """Makes a vocabulary of any file that says which words or pieces there are.

    The ending of its name says what it is:

    - ``.model``, ``.spm``: a SentencePiece model, see ``load_pieces``;
    - ``.vocab.json``: one that this library wrote, see ``load_vocabulary``;
    - all others: a list of words, see ``load_words``.

    Args:
      path: of the file.
      lower: whether text is put in lower case.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the file is not what its name says, or its words are not in lower case although
        the text will be.
    """
    name = Path(path).name.lower()
    if name.endswith((".model", ".spm")):
        return load_pieces(path, lower)
    if not name.endswith(".vocab.json"):
        return load_words(path, lower)
    vocab = load_vocabulary(path)
    if lower and not vocab.lower:
        raise UsageError(
            f"{path}: this vocabulary does not put text in lower case; leave --lower "
            "(lower=True) out, or give another vocabulary."
        )
    return vocab


def load_words(path: PathLike, lower: bool = False) -> WordVocabulary:
    """Makes a vocabulary of a list of words, in its order.

    A text file has a word on each line, or on each line a word, a space or tab, and a number (the
    count or id of OpenNMT, fairseq and seq2seq-attn), which is not read. A ``.json`` file is a
    list of words, or an object that gives each its id; a ``.yml`` file is Marian's, ``"word": id``
    on each line. ``<blank>``, ``<pad>``, ``<unk>``, ``<s>`` and ``</s>`` are taken for the special
    words, wherever they are in the list.

    Args:
      path: of the list.
      lower: whether text is put in lower case.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: a line is no word, a word is there twice, holds whitespace or can never be found
        (the message names the line), or there are none.
    """
    suffix = Path(path).suffix.lower()
    words = _json_words(path) if suffix == ".json" else _line_words(path, suffix)
    first: dict[str, int] = {}
    for number, word in enumerate(words, 1):
        wrong = _wrong(word, lower)
        if word in first:
            wrong = f"is there twice, first as number {first[word]}"
        if wrong:
            raise UsageError(f"{path}:{number}: {quoted(word, 60)} {wrong}.")
        first[word] = number
    listed = [word for word in first if word not in THEIR_SPECIAL]
    if not listed:
        raise UsageError(f"{path}: no words; give a list with one word a line.")
    return WordVocabulary((*SPECIAL, *listed), lower)


def _wrong(word: str, lower: bool) -> str | None:
    if words_of(word) != [word] or "\0" in word:
        return "is not a word: give one word a line, or a word and its count"
    if any("\ud800" <= c <= "\udfff" for c in word):
        return "holds half of a surrogate pair, which is not a character"
    if word.startswith(PIECE):
        return "is a piece of SentencePiece, not a word: give the .model file that it is from"
    if lower and word.lower() != word and word not in THEIR_SPECIAL:
        return (
            "is not in lower case, as all text will be, so it would never be found: leave "
            "--lower out, or give a list in lower case"
        )
    return None


def _line_words(path: PathLike, suffix: str) -> Iterator[str]:
    lines = read_lines(path)
    name = "marian" if suffix in (".yml", ".yaml") else "word"
    if name == "word" and lines and NUMBERED.fullmatch(lines[0]):
        name = "numbered"
    form, shown = FORMS[name]
    for number, line in enumerate(lines, 1):
        found = form.fullmatch(line)
        if not found:
            raise UsageError(f"{path}:{number}: {quoted(line, 60)} is not of the form: {shown}.")
        yield _unquoted(found[1]) if name == "marian" else found[1]


def _unquoted(word: str) -> str:
    try:
        return json.loads(word) if word.startswith('"') else word
    except ValueError:  # a quotation mark, and no JSON
        return word


def _json_words(path: PathLike) -> list[str]:
    content = read_json(path, "Give a list of words.")
    if isinstance(content, dict) and all(type(n) is int for n in content.values()):
        content = sorted(content, key=content.__getitem__)
    if not isinstance(content, list) or not all(isinstance(word, str) for word in content):
        raise UsageError(f"{path}: neither a list of words nor an object that gives their ids.")
    return content


def _vocabulary(record: dict[str, Any]) -> Vocabulary:
    kind, lower = record.get("kind"), record.get("lower")
    if not isinstance(lower, bool):
        raise UsageError("lower is neither true nor false")
    if kind == "words":
        return WordVocabulary(_words(record.get("words")), lower)
    if kind == "inputs":
        return _inputs(record, lower)
    if kind not in ("bpe", "unigram", "sentencepiece"):
        raise UsageError(f"its kind {quoted(kind, 60)} is not known")
    try:
        model = base64.b64decode(record["model"], validate=True)
    except (KeyError, TypeError, binascii.Error):
        raise UsageError("its model is not in base64") from None
    return pieces_of(model, kind, lower)


def _inputs(record: dict[str, Any], lower: bool) -> InputVocabulary:
    features, longest = record.get("features"), record.get("max_word")
    if not isinstance(features, list):
        raise UsageError("it has no list of features")
    if type(longest) is not int or not 3 <= longest <= MOST_CHARACTERS:
        raise UsageError(f"max_word is not a number from 3 to {MOST_CHARACTERS}")
    characters = _texts(record.get("characters"))
    if characters and characters[: len(OF_WORDS)] != OF_WORDS:
        raise UsageError(f"its first characters must be {' '.join(OF_WORDS)}")
    return InputVocabulary(
        WordVocabulary(_words(record.get("words")), lower),
        tuple(WordVocabulary(_words(words)) for words in features),
        characters,
        longest,
    )


def _words(words: Any) -> tuple[str, ...]:
    words = _texts(words)
    if words[: len(SPECIAL)] != SPECIAL:
        raise UsageError(f"its first entries must be {' '.join(SPECIAL)}")
    return words


def _texts(texts: Any) -> tuple[str, ...]:
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UsageError("it has no list of words")
    return tuple(texts)
