"""The shape of an attention LSTM: sizes, and settings of its parts (``build``)."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from ..plan import Parts
from ..ranges import Checked, Count, Depth, Entries, Fraction, Natural, Positive, Width


class Spelling:
    """The characters of each word of a vocabulary, ids [V, W] filled with PAD; equal by content."""

    def __init__(self, table: np.ndarray):
        self.table = table
        self._bytes = table.tobytes()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Spelling) and self._bytes == other._bytes

    def __hash__(self) -> int:
        return hash(self._bytes)


@dataclass(frozen=True)
class Inputs(Checked):
    """What tokens are made of besides words: numbers that come from the vocabularies, and shapes.

    The defaults are seq2seq-attn's. ``data.inputs.inputs_of`` fills in the first three.
    """

    features: tuple[Count, ...] = ()  # entries of the vocabulary of each feature of a source word
    src_characters: Natural = 0  # entries of the vocabulary of characters; 0 for word vectors
    tgt_characters: Natural = 0  # of the target side
    char_embed: Width = 25  # width of a character's vector
    kernels: tuple[tuple[Count, Width], ...] = ((6, 1000),)  # width and number of convolutions
    highway: Natural = 2  # layers above them
    feature_exponent: Fraction = 0.7  # a feature of N values has a vector of N ** 0.7 numbers

    def feature_width(self, values: int) -> int:
        """The width of the vector of a feature with so many values."""
        return int(values**self.feature_exponent)


@dataclass(frozen=True)
class Config(Checked):
    """The shape of one attention LSTM.

    The defaults are the paper's: one direction, plain stacks, dropout between layers and on the
    attentional vector, all parameters drawn from U(-0.1, 0.1).
    """

    src_vocab: Entries  # source vocabulary size, special tokens included
    tgt_vocab: Entries  # V
    embed: Width = 500  # E
    hidden: Width = 500  # H
    layers: Depth = 2  # of the decoder, and of the encoder unless ``parts`` says else
    bidirectional: bool = False  # a second encoder reads right to left
    dropout: Fraction = 0.3  # input of every layer above the first, and h~
    embed_dropout: Fraction = 0.0  # embeddings of both sides; the paper has none
    init_scale: Positive = 0.1  # parameters start in U(-init_scale, init_scale)
    embed_scale: Positive | None = None  # of embeddings; None: as all others
    dtype: Literal["float32", "bfloat16"] = (
        "float32"  # of computation; parameters and logits are float32
    )
    parts: Parts = Parts()
    inputs: Inputs = Inputs()

    def _word_width(self, characters: int) -> int:
        return sum(n for _, n in self.inputs.kernels) if characters else self.embed

    @property
    def src_width(self) -> int:
        """The width of what the encoder reads of a token."""
        features = sum(map(self.inputs.feature_width, self.inputs.features))
        return self._word_width(self.inputs.src_characters) + features

    @property
    def tgt_width(self) -> int:
        """The width of what the decoder reads of a word."""
        return self._word_width(self.inputs.tgt_characters)

    @property
    def encoder_layers(self) -> int:
        """The encoder's depth."""
        return self.parts.encoder_layers or self.layers

    @property
    def encoder_hidden(self) -> int:
        """The width of the encoder's layers."""
        return self.parts.encoder_hidden or self.hidden
