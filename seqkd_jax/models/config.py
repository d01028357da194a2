"""The configuration of an attention LSTM: all of its sizes and rates."""

from dataclasses import dataclass
from typing import Literal

from ..ranges import Checked, Depth, Entries, Fraction, Positive, Width


@dataclass(frozen=True)
class Config(Checked):
    """The configuration of an attention LSTM.

    The defaults are the paper's: a unidirectional encoder, plain stacks, dropout between layers
    and on the attentional vector, all parameters drawn from U(-0.1, 0.1).

    >>> Config(src_vocab=8000, tgt_vocab=8000, hidden=300, layers=2).encoder_depth
    2
    """

    src_vocab: Entries  # source vocabulary size, special tokens included
    tgt_vocab: Entries  # V
    embed: Width = 500  # E
    hidden: Width = 500  # H
    layers: Depth = 2  # of the decoder, and of the encoder unless ``encoder_layers`` is set
    bidirectional: bool = False  # whether a second column of the encoder reads right to left
    dropout: Fraction = 0.3  # on the input of every layer above the first, and on h~
    embed_dropout: Fraction = 0.0  # on the embeddings of both sides; the paper has none
    init_scale: Positive = 0.1  # parameters are drawn from U(-init_scale, init_scale)
    embed_scale: Positive | None = None  # the same for embeddings; None: ``init_scale``
    dtype: Literal["float32", "bfloat16"] = (
        "float32"  # of computation; parameters and logits are float32
    )
    encoder_layers: Depth | None = None  # None: ``layers``
    encoder_hidden: Width | None = None  # width of the encoder's layers; None: ``hidden``

    @property
    def encoder_depth(self) -> int:
        """The number of encoder layers."""
        return self.encoder_layers or self.layers

    @property
    def encoder_width(self) -> int:
        """The width of the encoder's layers."""
        return self.encoder_hidden or self.hidden
