"""Reading vocabularies: the library's own files, and those of other tools."""

import base64
import json
import re
from collections.abc import Callable, Iterator, Mapping
from types import MappingProxyType
from typing import Any

from ..addresses import PathLike, as_path
from ..errors import UsageError, quoted
from ..sealed import read_json, read_record
from ..tokens import WORD_START
from .pieces import load_pieces, pieces_of
from .text import read_lines, words_of
from .vocab import FORMAT, SPECIAL, Vocabulary, WordVocabulary

RESTORE = (
    "Restore the file that the models were trained with; a new one would number the words "
    "differently."
)
# Special words in the lists of other systems; here they have the ids of ``SPECIAL``.
FOREIGN_SPECIAL = {*SPECIAL, "<pad>"}
NUMBERED = re.compile(r"([^ \t]+)[ \t][+-]?[0-9.]+(?:[eE][+-]?[0-9]+)?")
LINE_FORMS = {  # (pattern, description) of the lines of a list
    "word": (re.compile(r"([^ \t]+)"), "one word"),
    "numbered": (NUMBERED, "a word and a number, as the first line is"),
    "marian": (re.compile(r'("(?:[^"\\]|\\.)*"|[^ \t]+): *[0-9]+'), '"word": id'),
}

# By kind: (record of the file, whether text is lower-cased) -> vocabulary; raises UsageError.
Kinds = Mapping[str, Callable[[dict[str, Any], bool], Vocabulary]]


def load_vocabulary(path: PathLike, kinds: Kinds = MappingProxyType({})) -> Vocabulary:
    """Loads a vocabulary that ``save`` wrote.

    Args:
      path: the file.
      kinds: readers of vocabularies other than of words and pieces, by their ``kind``.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the file is damaged, or was not written by this library.
    """
    remedy = RESTORE
    if not str(path).endswith(".json"):
        remedy += " SentencePiece models and lists of words are read by open_vocabulary."
    record = read_record(path, FORMAT, remedy)
    try:
        return _vocabulary(record, kinds)
    except UsageError as error:
        raise UsageError(f"{path}: damaged vocabulary: {error}. {RESTORE}") from None


def open_vocabulary(
    path: PathLike, lower: bool = False, kinds: Kinds = MappingProxyType({})
) -> Vocabulary:
    """Makes a vocabulary from a file of any kind that lists words or pieces.

    The ending of the file's name decides its kind:

    - ``.model``, ``.spm``: a SentencePiece model, see ``load_pieces``;
    - ``.vocab.json``: a vocabulary that this library wrote, see ``load_vocabulary``;
    - all others: a list of words, see ``load_words``.

    Args:
      path: the file.
      lower: whether text is lower-cased.
      kinds: as for ``load_vocabulary``.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the file is not what its name says, or its words are not in lower case although
        text will be.
    """
    name = as_path(path).name.lower()
    if name.endswith((".model", ".spm")):
        return load_pieces(path, lower)
    if not name.endswith(".vocab.json"):
        return load_words(path, lower)
    vocab = load_vocabulary(path, kinds)
    if lower and not vocab.lower:
        raise UsageError(
            f"{path}: this vocabulary does not put text in lower case; leave --lower "
            "(lower=True) out, or give another vocabulary."
        )
    return vocab


def load_words(path: PathLike, lower: bool = False) -> WordVocabulary:
    """Makes a vocabulary from a list of words, in its order.

    Each line of a text file holds a word, or a word, a space or tab, and a number (the count or id
    of OpenNMT, fairseq and seq2seq-attn), which is ignored. A ``.json`` file holds a list of
    words, or an object that maps each word to its id; a ``.yml`` file is Marian's, with
    ``"word": id`` on each line. ``<blank>``, ``<pad>``, ``<unk>``, ``<s>`` and ``</s>`` stand for
    the special words, wherever they are in the list.

    Args:
      path: the list.
      lower: whether text is lower-cased.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: an entry is not a word, occurs twice, or can never match a word of text (the
        message names its number), or the list is empty.
    """
    suffix = as_path(path).suffix.lower()
    words = _json_words(path) if suffix == ".json" else _line_words(path, suffix)
    first: dict[str, int] = {}
    for number, word in enumerate(words, 1):
        problem = _problem(word, lower)
        if word in first:
            problem = f"occurs twice, first as number {first[word]}"
        if problem:
            raise UsageError(f"{path}:{number}: {quoted(word, 60)} {problem}.")
        first[word] = number
    listed = [word for word in first if word not in FOREIGN_SPECIAL]
    if not listed:
        raise UsageError(f"{path}: no words; give a list with one word a line.")
    return WordVocabulary((*SPECIAL, *listed), lower)


def _problem(word: str, lower: bool) -> str | None:
    """Returns what is wrong with an entry of a list of words, as the end of a sentence."""
    if words_of(word) != [word] or "\0" in word:
        return "is not a word: give one word a line, or a word and its count"
    if any("\ud800" <= c <= "\udfff" for c in word):
        return "holds half of a surrogate pair, which is not a character"
    if word.startswith(WORD_START):
        return "is a piece of SentencePiece, not a word: give the .model file that it is from"
    if lower and word.lower() != word and word not in FOREIGN_SPECIAL:
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
    form, description = LINE_FORMS[name]
    for number, line in enumerate(lines, 1):
        match = form.fullmatch(line)
        if not match:
            raise UsageError(
                f"{path}:{number}: {quoted(line, 60)} is not of the form {description}."
            )
        yield _unquoted(match[1]) if name == "marian" else match[1]


def _unquoted(word: str) -> str:
    try:
        return json.loads(word) if word.startswith('"') else word
    except ValueError:  # the word begins with a quotation mark of its own
        return word


def _json_words(path: PathLike) -> list[str]:
    content = read_json(path, "Give a list of words.")
    if isinstance(content, dict) and all(type(n) is int for n in content.values()):
        content = sorted(content, key=content.__getitem__)
    if not isinstance(content, list) or not all(isinstance(word, str) for word in content):
        raise UsageError(f"{path}: neither a list of words nor an object that gives their ids.")
    return content


def _vocabulary(record: dict[str, Any], kinds: Kinds) -> Vocabulary:
    kind, lower = record.get("kind"), record.get("lower")
    if not isinstance(lower, bool):
        raise UsageError("lower is neither true nor false")
    if kind == "words":
        return WordVocabulary(words_in(record.get("words")), lower)
    if isinstance(kind, str) and kind in kinds:
        return kinds[kind](record, lower)
    if kind not in ("bpe", "unigram", "sentencepiece"):
        raise UsageError(f"its kind {quoted(kind, 60)} is not known")
    try:
        model = base64.b64decode(record["model"], validate=True)
    except (KeyError, TypeError, ValueError):  # the last for letters outside of ASCII, too
        raise UsageError("its model is not in base64") from None
    return pieces_of(model, kind, lower)


def words_in(words: Any) -> tuple[str, ...]:
    """Returns the words of a record; UsageError unless they are texts and begin with SPECIAL."""
    words = texts_in(words)
    if words[: len(SPECIAL)] != SPECIAL:
        raise UsageError(f"its first entries must be {' '.join(SPECIAL)}")
    return words


def texts_in(texts: Any) -> tuple[str, ...]:
    """Returns the texts of a record; UsageError unless they are a list of texts."""
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise UsageError("it has no list of words")
    return tuple(texts)
