"""Vocabularies of SentencePiece pieces, trained here or by other tools.

The ids inside the model are not used: PAD, UNK, BOS and EOS are 0 to 3 as in every vocabulary,
and the other pieces follow in the model's order. A model from elsewhere may number its special
pieces in any way, or have none.
"""

import base64
import functools
import io
import itertools
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import sentencepiece

from ..addresses import PathLike
from ..base import BOS, EOS, PAD, UNK
from ..errors import UsageError, require_lines
from ..files import read_file
from ..sealed import write_record
from ..tokens import (
    ORIGINALS,
    SPECIAL,
    STAND_INS,
    content_of,
    normal_text,
    piece_ids,
    words_of,
)
from .vocab import FORMAT, checked_ids, content_digest

MODEL_BYTES = 1 << 27  # largest model file; a model of 256,000 pieces has about 5 MB
# The trainer removes the names of special pieces from the text, and their characters with them.
SPECIAL_NAME = re.compile(r"<(?=(blank|unk|s|/s)>)")
# Byte pieces can spell these two characters, but a line of text cannot hold them.
NOT_IN_LINES = {ord("\n"): " ", 0: "\ufffd"}


@dataclass(frozen=True)
class PieceVocabulary:
    """A SentencePiece model; see ``Vocabulary``, ``train_pieces`` and ``load_pieces``.

    A model that was trained here decodes exactly the text that it encoded, with one space between
    words, if it knows the characters; U+00A0, U+200B, U+2581, U+2585 and ``<s>`` are preserved.
    Only the private characters U+F2581, U+F2585 and U+F001F are decoded as the characters that
    they stand in for.

    A model from elsewhere (``kind="sentencepiece"``) gives the same pieces and text as in
    SentencePiece itself. So U+2581 is decoded as a space, and what its normalisation changes
    (NFKC: U+00A0 becomes a space, U+200B is dropped) stays changed. Three things differ: the word
    ``<unk>`` is UNK in both directions; a line break or NUL spelt in bytes becomes a space or
    U+FFFD, because a translation is one line; and a translation neither begins nor ends with a
    space, even if the model marks the ends of words (``treat_whitespace_as_suffix``).
    """

    model: bytes  # as SentencePiece serialises it
    kind: Literal["bpe", "unigram", "sentencepiece"]
    lower: bool = False

    @property
    def size(self) -> int:
        """The number of ids, special ones included."""
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
        """The model's id of each id here (-1 for none), and the id here of each of the model's."""
        model = self._processor
        special = {model.pad_id(): PAD, model.unk_id(): UNK, model.bos_id(): BOS}
        special |= {model.eos_id(): EOS}
        special.pop(-1, None)
        model_ids = [-1] * len(SPECIAL)
        for model_id, own_id in special.items():
            model_ids[own_id] = model_id
        model_ids += [n for n in range(model.get_piece_size()) if n not in special]
        own_ids = {model_id: own_id for own_id, model_id in enumerate(model_ids)}
        return model_ids, [own_ids[n] for n in range(model.get_piece_size())]

    def encode(self, text: str) -> list[int]:
        """Returns the ids of a text's pieces, without BOS and EOS."""
        text = text.lower() if self.lower else text
        text = text if self.kind == "sentencepiece" else normal_text(text)
        own_ids, encode = self._layout[1], self._processor.encode
        return piece_ids(text, lambda run: [own_ids[piece] for piece in encode(run)])

    def decode(self, ids: Iterable[int]) -> str:
        """Returns the text of ids up to EOS; PAD and BOS are skipped, UNK becomes ``<unk>``."""
        parts = []
        for is_unk, run in itertools.groupby(checked_ids(content_of(ids), self.size), UNK.__eq__):
            model_ids = [self._layout[0][n] for n in run]
            parts += (
                [SPECIAL[UNK]] * len(model_ids) if is_unk else [self._processor.decode(model_ids)]
            )
        if len(parts) > 1:
            parts = [part for part in (part.strip(" ") for part in parts) if part]
        text = " ".join(parts)
        if self.kind != "sentencepiece":
            return " ".join(words_of(text)).translate(ORIGINALS)
        return text.strip(" ").translate(NOT_IN_LINES)

    def tokens(self, ids: Iterable[int]) -> list[str]:
        """Returns the piece of each id; U+2581 marks the start of a word."""
        model_ids, piece = self._layout[0], self._processor.id_to_piece
        checked = checked_ids(ids, self.size)
        return [SPECIAL[n] if n < len(SPECIAL) else piece(model_ids[n]) for n in checked]

    @property
    def scores(self) -> list[float]:
        """The model's score of each id; 0 for special ones."""
        score = self._processor.get_score
        return [0.0 if n < len(SPECIAL) else score(i) for n, i in enumerate(self._layout[0])]

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

    The model covers all characters of the text and normalises none, so decoding restores the text
    up to ASCII whitespace.

    Args:
      lines: text; that of both sides for a shared vocabulary.
      size: the number of ids, the 4 special ones included; less if the text is too small.
      kind: byte pair encoding (Sennrich et al. 2016) or a unigram language model (Kudo 2018).
      lower: whether text is lower-cased.

    Raises:
      UsageError: there is no text, or ``size`` is smaller than the number of its characters.
    """
    if kind not in ("bpe", "unigram"):
        raise UsageError(f'kind={kind!r}: must be "bpe" or "unigram".')
    require_lines(lines)
    lines = lines if isinstance(lines, Sequence) else list(lines)

    def text() -> Iterator[str]:
        return filter(None, (_training_text(line.lower() if lower else line) for line in lines))

    characters = set[str]()
    for line in text():
        characters.update(line)
    if not characters:
        raise UsageError("lines: no text to train a vocabulary on.")
    needed = len(SPECIAL) + len(characters | {" "})
    if size < needed:
        raise UsageError(
            f"size is {size}, but special pieces and single characters alone are {needed}; a "
            "vocabulary of this text needs at least as many entries (--vocabulary-size)."
        )
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=text(),
        model_writer=model,
        vocab_size=size,
        hard_vocab_limit=False,
        model_type=kind,
        **dict(pad_id=PAD, unk_id=UNK, bos_id=BOS, eos_id=EOS),
        **dict(zip(("pad_piece", "unk_piece", "bos_piece", "eos_piece"), SPECIAL, strict=True)),
        character_coverage=1.0,
        byte_fallback=False,
        normalization_rule_name="identity",
        max_sentence_length=1 << 30,  # bytes; the trainer skips longer lines
        num_threads=1,  # the result depends on the number of threads
        minloglevel=2,
    )
    return PieceVocabulary(model.getvalue(), kind, lower)


def load_pieces(path: PathLike, lower: bool = False) -> PieceVocabulary:
    """Makes a vocabulary from a SentencePiece model (``.model``, ``.spm``) with any ids.

    Args:
      path: the model's file.
      lower: whether text is lower-cased before it is split.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the file is not a SentencePiece model, or a damaged one.
    """
    model = read_file(path, MODEL_BYTES)
    try:
        return pieces_of(model, "sentencepiece", lower)
    except UsageError as error:
        raise UsageError(f"{path}: {error}; fetch or train it again.") from None


def pieces_of(
    model: bytes, kind: Literal["bpe", "unigram", "sentencepiece"], lower: bool
) -> PieceVocabulary:
    """Returns the vocabulary of a model's bytes; UsageError unless all pieces can be read."""
    if not model:  # the processor would accept it, and fail only when it is used
        raise UsageError("not a SentencePiece model: it is empty")
    vocab = PieceVocabulary(model, kind, lower)
    try:
        pieces = sum(map(bool, vocab.tokens(range(len(SPECIAL), vocab.size))))
    except UnicodeDecodeError:
        raise UsageError("a damaged SentencePiece model: a piece is not UTF-8") from None
    if not pieces:
        raise UsageError("a SentencePiece model without pieces")
    return vocab


def _training_text(text: str) -> str:
    words = [word for word in words_of(text) if word != SPECIAL[UNK]]
    return SPECIAL_NAME.sub("< ", " ".join(words)).translate(STAND_INS)
