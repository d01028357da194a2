"""Vocabularies of SentencePiece pieces, trained here or made elsewhere.

A model's own ids play no part: PAD, UNK, BOS and EOS are 0 to 3 as in every vocabulary, and its
other pieces follow in their order. A model from elsewhere may number its special pieces as it
likes, and may lack them.
"""

import base64
import functools
import io
import itertools
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import sentencepiece

from ..base import BOS, EOS, PAD, UNK
from ..errors import UsageError
from ..files import PathLike, read_file
from ..sealed import write_record
from .text import words_of
from .vocab import FORMAT, SPECIAL, checked_ids, content_digest, content_of

MODEL_BYTES = 1 << 27  # of a model's file, at most; those of 256,000 pieces have about 5 MB
# Some characters have a meaning to SentencePiece: U+2581 is its mark of a space, and when it trains
# it skips lines with U+2585 and does not learn U+001F. Private ones, which mean nothing, stand in.
HELD = {0x2581: 0xF2581, 0x2585: 0xF2585, 0x1F: 0xF001F}
RELEASED = {held: character for character, held in HELD.items()}
UNKNOWN = re.compile(r"(?<![^ \t\n\r\v\f])<unk>(?![^ \t\n\r\v\f])")  # as a word by itself
# Its trainer takes the names of special pieces out of the text, and so their characters.
NAME = re.compile(r"<(?=(blank|unk|s|/s)>)")
# A file of lines has no place for these, which pieces of single bytes can spell.
NOT_IN_LINES = {ord("\n"): " ", 0: "\ufffd"}


@dataclass(frozen=True)
class PieceVocabulary:
    """A SentencePiece model; see ``Vocabulary``, ``train_pieces`` and ``load_pieces``.

    What a model that was trained here decodes is the text that it encoded, with one space between
    words, where it knows the characters; U+00A0, U+200B, U+2581, U+2585 and ``<s>`` come back.
    Only the private characters U+F2581, U+F2585 and U+F001F do not: those that they stand for do.

    A model from elsewhere (``kind="sentencepiece"``) gives the pieces and the text that
    SentencePiece gives with it. So U+2581 comes back as a space, and what its normalisation
    changes (NFKC: U+00A0 becomes a space, U+200B goes) stays changed. Two things differ: the word
    ``<unk>`` is UNK in both directions, and a line break or NUL spelt in bytes becomes a space or
    U+FFFD, because a translation is a line.
    """

    model: bytes  # as SentencePiece serialises it
    kind: Literal["bpe", "unigram", "sentencepiece"]
    lower: bool = False

    @property
    def size(self) -> int:
        """How many ids there are, special ones included."""
        return len(self._layout[0])

    @property
    def digest(self) -> str:
        """The sha256 of kind, options and model."""
        return content_digest(self.kind, self.lower, base64.b64encode(self.model).decode())

    @functools.cached_property
    def _processor(self) -> Any:
        try:
            return sentencepiece.SentencePieceProcessor(model_proto=self.model)
        except RuntimeError:
            raise UsageError("not a SentencePiece model, or a damaged one") from None

    @functools.cached_property
    def _layout(self) -> tuple[list[int], list[int]]:
        """The model's id of each of ours, -1 where it has none, and ours of each of its."""
        model = self._processor
        special = {model.pad_id(): PAD, model.unk_id(): UNK, model.bos_id(): BOS}
        special |= {model.eos_id(): EOS}
        special.pop(-1, None)
        theirs = [-1] * len(SPECIAL)
        for n, ours in special.items():
            theirs[ours] = n
        theirs += [n for n in range(model.get_piece_size()) if n not in special]
        place = {n: ours for ours, n in enumerate(theirs)}
        return theirs, [place[n] for n in range(model.get_piece_size())]

    def encode(self, text: str) -> list[int]:
        """The ids of a text's pieces, without BOS and EOS."""
        text = text.lower() if self.lower else text
        if self.kind != "sentencepiece":
            text = " ".join(words_of(text)).translate(HELD)
        runs = UNKNOWN.split(text) if SPECIAL[UNK] in text else [text]
        ids: list[int] = []
        for n, run in enumerate(runs):
            ids += [UNK] * (n > 0)
            pieces = self._processor.encode(run if len(runs) == 1 else run.strip(" "))
            ids += [self._layout[1][piece] for piece in pieces]
        return ids

    def decode(self, ids: Iterable[int]) -> str:
        """The text of ids up to EOS; PAD and BOS are skipped, UNK becomes ``<unk>``."""
        parts = []
        for unknown, run in itertools.groupby(checked_ids(content_of(ids), self.size), UNK.__eq__):
            known = [self._layout[0][n] for n in run]
            parts += [SPECIAL[UNK]] * len(known) if unknown else [self._processor.decode(known)]
        if len(parts) > 1:
            parts = [part for part in (part.strip(" ") for part in parts) if part]
        text = " ".join(parts)
        if self.kind != "sentencepiece":
            return " ".join(words_of(text)).translate(RELEASED)
        return text.translate(NOT_IN_LINES)

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """The piece of each id; U+2581 marks the start of a word."""
        theirs, piece = self._layout[0], self._processor.id_to_piece
        known = checked_ids(ids, self.size)
        return [SPECIAL[n] if n < len(SPECIAL) else piece(theirs[n]) for n in known]

    def save(self, path: PathLike) -> None:
        """Writes the vocabulary to one JSON file, the model in base64."""
        model = base64.b64encode(self.model).decode()
        write_record(path, FORMAT, {"kind": self.kind, "lower": self.lower, "model": model})


def train_pieces(
    lines: Iterable[str],
    size: int,
    *,
    kind: Literal["bpe", "unigram"] = "bpe",
    lower: bool = False,
) -> PieceVocabulary:
    """Trains SentencePiece on text; the same text gives the same bytes.

    All characters of the text are covered and none is normalised, so decoding gives back the
    text up to ASCII whitespace.

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
    text = [line for line in (_learned(line.lower() if lower else line) for line in lines) if line]
    if not text:
        raise UsageError("lines: no text to train a vocabulary on.")
    needed = len(SPECIAL) + len(set().union({" "}, *text))
    if size < needed:
        raise UsageError(
            f"size is {size}, but special pieces and single characters alone are {needed}; a "
            "vocabulary of this text needs at least as many entries (--vocabulary-size)."
        )
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(text),
        model_writer=model,
        vocab_size=size,
        hard_vocab_limit=False,
        model_type=kind,
        **dict(pad_id=PAD, unk_id=UNK, bos_id=BOS, eos_id=EOS),
        **dict(zip(("pad_piece", "unk_piece", "bos_piece", "eos_piece"), SPECIAL, strict=True)),
        character_coverage=1.0,
        byte_fallback=False,
        normalization_rule_name="identity",
        max_sentence_length=1 << 30,  # bytes; longer lines would be skipped
        num_threads=1,  # more would make the result depend on their number
        minloglevel=2,
    )
    return PieceVocabulary(model.getvalue(), kind, lower)


def load_pieces(path: PathLike, lower: bool = False) -> PieceVocabulary:
    """Makes a vocabulary of a SentencePiece model (``.model``, ``.spm``), whatever ids it has.

    Args:
      path: of the model.
      lower: whether text is put in lower case before it is split.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: it is no SentencePiece model, or a damaged one.
    """
    model = read_file(path, MODEL_BYTES)
    try:
        return pieces_of(model, "sentencepiece", lower)
    except UsageError as error:
        raise UsageError(f"{Path(path)}: {error}; fetch or train it again.") from None


def pieces_of(
    model: bytes, kind: Literal["bpe", "unigram", "sentencepiece"], lower: bool
) -> PieceVocabulary:
    """A vocabulary of a model's bytes; raises UsageError unless all its pieces can be read."""
    if not model:  # the processor would wait for another one
        raise UsageError("not a SentencePiece model: it is empty")
    vocab = PieceVocabulary(model, kind, lower)
    try:
        known = sum(map(bool, vocab.tokens(range(len(SPECIAL), vocab.size))))
    except UnicodeDecodeError:
        raise UsageError("a damaged SentencePiece model: a piece is not UTF-8") from None
    if not known:
        raise UsageError("a SentencePiece model without pieces")
    return vocab


def _learned(text: str) -> str:
    words = [word for word in words_of(text) if word != SPECIAL[UNK]]
    return NAME.sub("< ", " ".join(words)).translate(HELD)
