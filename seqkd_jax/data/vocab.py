"""Text to ids and back: vocabularies of words or of SentencePiece pieces, one file each.

Ids 0 to 3 are PAD ``<blank>``, UNK ``<unk>``, BOS ``<s>`` and EOS ``</s>`` (the spelling of
seq2seq-attn). In text, ``<unk>`` is UNK, so that a teacher's output can be trained on, and the
other three are left out. Words are what whitespace separates.
"""

import base64
import functools
import hashlib
import io
import itertools
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import sentencepiece

from ..base import BOS, EOS, PAD, UNK
from ..errors import UsageError
from ..files import PathLike, atomic_write

FORMAT = "seqkd-vocabulary-1"
SPECIAL = ("<blank>", "<unk>", "<s>", "</s>")  # by id
LEFT_OUT = {SPECIAL[PAD], SPECIAL[BOS], SPECIAL[EOS]}
DISTILLING = (
    "Word-level distillation compares distributions over the same ids: train the student with the "
    "teacher's vocabulary, or number it anew if only the order differs (data.renumbering). "
    "Sequence-level distillation from the teacher's text files (Seq-KD, Seq-Inter) is still "
    "possible."
)
RESERVED = "\u2585"  # SentencePiece skips lines with this character when it trains


class Vocabulary(Protocol):
    """What turns text into ids and back."""

    @property
    def size(self) -> int:
        """How many ids there are, special ones included; V for the target side."""
        ...

    @property
    def lower(self) -> bool:
        """Whether text is put in lower case, so that a model of it writes nothing else."""
        ...

    @property
    def digest(self) -> str:
        """A sha256: two vocabularies with the same one give the same ids for every text."""
        ...

    def encode(self, text: str) -> list[Any]:
        """The ids of a text, without BOS and EOS; what is not known becomes UNK.

        Of a source side also rows of ids: a word's, its features', its characters'.
        """
        ...

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids up to EOS; PAD and BOS are skipped, UNK becomes ``<unk>``."""
        ...

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The word or piece of each id."""
        ...

    def save(self, path: PathLike) -> None:
        """Writes the vocabulary to one file (``NAME.vocab.json``)."""
        ...


@dataclass(frozen=True)
class WordVocabulary:
    """A list of words; see ``Vocabulary`` and ``build_words``."""

    words: tuple[str, ...]  # by id, the special ones included
    lower: bool = False
    kind = "words"

    @property
    def size(self) -> int:
        """How many ids there are, special ones included."""
        return len(self.words)

    @property
    def digest(self) -> str:
        """The sha256 of kind, options and words in order."""
        return _digest(self.kind, self.lower, list(self.words))

    @functools.cached_property
    def _ids(self) -> dict[str, int]:
        return {word: n for n, word in enumerate(self.words)}

    def split(self, text: str) -> list[str]:
        """The words that the ids of a text stand for, those that are not known included."""
        return _words(text, self.lower)

    def encode(self, text: str) -> list[int]:
        """The ids of a text's words, without BOS and EOS."""
        return [self._ids.get(word, UNK) for word in self.split(text)]

    def decode(self, ids: Iterable[int]) -> str:
        """The words of ids up to EOS; PAD and BOS are skipped."""
        return " ".join(self.tokens(_content(ids)))

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The word of each id."""
        return [self.words[n] for n in _checked(ids, self.size)]

    def save(self, path: PathLike) -> None:
        """Writes the vocabulary to one JSON file, one word a line."""
        _save(path, self.kind, self.lower, self.digest, words=list(self.words))


@dataclass(frozen=True)
class PieceVocabulary:
    """A SentencePiece model; see ``Vocabulary`` and ``train_pieces``."""

    model: bytes  # as SentencePiece serialises it
    kind: Literal["bpe", "unigram"]
    lower: bool = False

    @property
    def size(self) -> int:
        """How many ids there are, special ones included."""
        return self._processor.get_piece_size()

    @property
    def digest(self) -> str:
        """The sha256 of kind, options and model."""
        return _digest(self.kind, self.lower, base64.b64encode(self.model).decode())

    @functools.cached_property
    def _processor(self) -> Any:
        return sentencepiece.SentencePieceProcessor(model_proto=self.model)

    def encode(self, text: str) -> list[int]:
        """The ids of a text's pieces, without BOS and EOS."""
        ids = []
        for unknown, run in itertools.groupby(_words(text, self.lower), SPECIAL[UNK].__eq__):
            words = list(run)
            ids += [UNK] * len(words) if unknown else self._processor.encode(" ".join(words))
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids up to EOS, words separated by one space; PAD and BOS are skipped."""
        content = _checked(_content(ids), self.size)
        return " ".join(self._processor.decode(content).split())

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The piece of each id; U+2581 marks the start of a word."""
        return [self._processor.id_to_piece(n) for n in _checked(ids, self.size)]

    def save(self, path: PathLike) -> None:
        """Writes the vocabulary to one JSON file, the model in base64."""
        model = base64.b64encode(self.model).decode()
        _save(path, self.kind, self.lower, self.digest, model=model)


def build_words(
    lines: Iterable[str], size: int | None = None, *, min_count: int = 1, lower: bool = False
) -> WordVocabulary:
    """Makes a vocabulary of the most frequent words; equally frequent ones in code point order.

    Args:
      lines: text; of both sides for a shared vocabulary.
      size: at most so many ids, the 4 special ones included; None for no limit.
      min_count: rarer words are left out.
      lower: whether text is put in lower case.

    Raises:
      UsageError: there is no text, or no room for a word.
    """
    if size is not None and size <= len(SPECIAL):
        raise UsageError(f"size={size}: must be more than the {len(SPECIAL)} special words.")
    counts = Counter(word for line in lines for word in _words(line, lower))
    counts.pop(SPECIAL[UNK], None)
    if not counts:
        raise UsageError("lines: no words to build a vocabulary of.")
    ranked = sorted(counts, key=lambda word: (-counts[word], word))
    words = [word for word in ranked if counts[word] >= min_count]
    return WordVocabulary((*SPECIAL, *words)[:size], lower)


def train_pieces(
    lines: Iterable[str],
    size: int,
    *,
    kind: Literal["bpe", "unigram"] = "bpe",
    lower: bool = False,
) -> PieceVocabulary:
    """Trains SentencePiece on text; the same text gives the same bytes.

    All characters of the text are covered and none is normalised, so decoding gives back the
    text up to whitespace.

    Args:
      lines: text; of both sides for a shared vocabulary.
      size: the number of ids, the 4 special ones included; fewer where the text is too small.
      kind: byte pair encoding (Sennrich et al. 2016) or a unigram language model (Kudo 2018).
      lower: whether text is put in lower case.

    Raises:
      UsageError: there is no text, or ``size`` is smaller than the number of its characters.
    """
    if kind not in ("bpe", "unigram"):
        raise UsageError(f'kind={kind!r}: must be "bpe" or "unigram".')
    clean = (" ".join(_words(line, lower)).replace(RESERVED, " ") for line in lines)
    text = [line for line in clean if line.strip()]
    if not text:
        raise UsageError("lines: no text to train a vocabulary on.")
    needed = len(SPECIAL) + len(set().union({" "}, *text))
    if size < needed:
        raise UsageError(f"size={size}: special pieces and single characters alone are {needed}.")
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text),
        model_writer=model,
        vocab_size=size,
        hard_vocab_limit=False,
        model_type=kind,
        **dict(pad_id=PAD, unk_id=UNK, bos_id=BOS, eos_id=EOS),
        **dict(zip(("pad_piece", "unk_piece", "bos_piece", "eos_piece"), SPECIAL, strict=True)),
        unk_surface=f" {SPECIAL[UNK]} ",
        character_coverage=1.0,
        byte_fallback=False,
        normalization_rule_name="identity",
        max_sentence_length=1 << 30,  # bytes; longer lines would be skipped
        num_threads=1,  # more would make the result depend on their number
        minloglevel=2,
    )
    return PieceVocabulary(model.getvalue(), kind, lower)


def load_vocabulary(path: PathLike) -> Vocabulary:
    """Loads a vocabulary that ``save`` wrote.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the file is damaged, or is none of ours.
    """
    try:
        data = json.loads(Path(path).read_bytes())
        if not isinstance(data, dict) or data.get("format") != FORMAT:
            raise UsageError(f"not a vocabulary of this library ({FORMAT} expected)")
        kind, lower = data["kind"], data["lower"]
        content = data["words"] if kind == "words" else data["model"]
        if data["digest"] != _digest(kind, lower, content):
            raise UsageError("its content does not match its digest")
        vocab = (
            WordVocabulary(tuple(content), lower)
            if kind == "words"
            else PieceVocabulary(base64.b64decode(content, validate=True), kind, lower)
        )
        if tuple(vocab.tokens(range(len(SPECIAL)))) != SPECIAL:
            raise UsageError(f"its first entries must be {' '.join(SPECIAL)}")
        return vocab
    except FileNotFoundError:
        raise FileNotFoundError(f"{path}: no such file.") from None
    except KeyError as error:
        raise UsageError(f"{path}: damaged vocabulary: {error} is missing.") from None
    except (ValueError, TypeError, RuntimeError, RecursionError) as error:
        raise UsageError(
            f"{path}: damaged vocabulary: {error}. Restore the file that the models were trained "
            "with; a new one would number the words differently."
        ) from None


def check_same(
    one: Vocabulary,
    other: Vocabulary,
    names: tuple[str, str] = ("the student", "the teacher"),
    remedy: str = DISTILLING,
) -> None:
    """Refuses two models whose vocabularies are not the same one.

    Args:
      one: a model's vocabulary.
      other: another's, of the same side.
      names: of the two models.
      remedy: why they must be the same, and what to do.

    Raises:
      UsageError: the vocabularies differ; the message says where.
    """
    if one.digest == other.digest:
        return
    first, second = names
    if one.size != other.size:
        where = f"that of {first} has {one.size} entries, that of {second} {other.size}"
    else:
        where = f"both have {one.size} entries, but they split or case text differently"
        sides = [vocab.tokens(range(vocab.size)) for vocab in (one, other)]
        for n, (mine, yours) in enumerate(zip(*sides, strict=True)):
            if mine != yours:
                where = (
                    f"both have {one.size} entries, but id {n} is {mine!r} for {first} and "
                    f"{yours!r} for {second}"
                )
                break
    raise UsageError(f"{first} and {second} have different vocabularies: {where}. {remedy}")


def renumbering(student: Vocabulary, teacher: Vocabulary) -> np.ndarray:
    """The teacher's id of each id of the student's [V], where they number the same pieces.

    The special ones have the same numbers in all vocabularies. For ``models.renumber`` and
    ``distill.teacher_cache``.

    Raises:
      UsageError: the vocabularies have different pieces; the message says where.
    """
    mine, theirs = (v.tokens(range(v.size)) for v in (student, teacher))
    place = {token: n for n, token in enumerate(theirs)}
    if sorted(mine) != sorted(theirs) or len(place) != len(theirs):
        check_same(student, teacher)
    return np.array([place[token] for token in mine], np.int32)


def _words(text: str, lower: bool) -> list[str]:
    words = (text.lower() if lower else text).split()
    return [word for word in words if word not in LEFT_OUT]


def _content(ids: Iterable[int]) -> list[int]:
    until_end = itertools.takewhile(lambda n: n != EOS, map(int, ids))
    return [n for n in until_end if n not in (PAD, BOS)]


def _checked(ids: Iterable[int], size: int) -> list[int]:
    ids = [int(n) for n in ids]
    wrong = [n for n in ids if not 0 <= n < size]
    if wrong:
        raise UsageError(f"ids: {wrong[0]} is not in a vocabulary of {size}.")
    return ids


def _digest(kind: str, lower: bool, content: Any) -> str:
    return hashlib.sha256(json.dumps([kind, lower, content]).encode()).hexdigest()


def _save(path: PathLike, kind: str, lower: bool, digest: str, **content: Any) -> None:
    data = {"format": FORMAT, "kind": kind, "lower": lower, "digest": digest, **content}
    atomic_write(path, json.dumps(data, ensure_ascii=False, indent=0).encode())
