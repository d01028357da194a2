"""The shape of an attention LSTM: what its parts are made from."""

from dataclasses import dataclass
from typing import Literal

from ..errors import UsageError
from ..plan import Parts
from ..ranges import Checked, Count, Depth, Entries, Fraction, Natural, Positive, Width


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

    @property
    def fast_forward(self) -> bool:
        """Whether a layer also reads what the one below it read."""
        return self.parts.connections == "fast-forward"

    @property
    def summed(self) -> bool:
        """Whether there is one encoder output as wide as a layer, or two that are concatenated."""
        return not self.bidirectional or self.parts.join == "sum"

    @property
    def final_width(self) -> int:
        """The width of an encoder layer's final state."""
        return self.encoder_hidden * (1 if self.summed else 2)

    @property
    def context_width(self) -> int:
        """The width of the encoder's output: h, or both h side by side, with f if it goes on."""
        return self.final_width * (5 if self.fast_forward and not self.summed else 1)

    @property
    def above(self) -> bool:
        """Whether the decoder attends above its stack."""
        return self.parts.attention != "none" and self.parts.attends == "output"

    @property
    def feeding(self) -> bool:
        """Whether a decoder step reads the attentional vector of the one before."""
        return self.above and self.parts.input_feeding

    @property
    def reads(self) -> bool:
        """Whether layer 1 reads, besides a word, what a step makes: h~ or a context."""
        below = self.parts.attention != "none" and self.parts.attends == "input"
        return below or self.feeding

    @property
    def read_width(self) -> int:
        """How much layer 1 reads besides a word: h~, a context (also a fixed one), or nothing."""
        if self.parts.attends == "input":
            return self.context_width // 4  # Zhou et al. 2016, section 3.3
        return self.hidden if self.feeding else 0


def check(config: Config) -> None:
    """Raises UsageError for parts that do not fit together; the message says what would."""
    parts = config.parts
    widths = config.hidden, config.context_width
    if min(config.layers, config.encoder_layers, config.embed, *widths) < 1:
        raise UsageError("embed, hidden and layers must be at least 1.")
    if parts.join == "interleaved" and not config.bidirectional:
        raise UsageError('join="interleaved" needs bidirectional=True: it has two columns.')
    if parts.attention == "dot" and widths[0] != widths[1]:
        raise UsageError(
            f'attention="dot" multiplies decoder outputs of width {widths[0]} with encoder outputs '
            f'of width {widths[1]}: make them equal, or use attention="general".'
        )
    if parts.alignment != "global" and parts.attention == "none":
        raise UsageError(f'alignment="{parts.alignment}" needs an attention, and it is "none".')
    if parts.window < 1:
        raise UsageError(f"window is {parts.window}; a local alignment sees at least 1 word more.")
    if parts.lower_attention:
        if not 2 <= parts.lower_attention <= config.layers:
            raise UsageError(
                f"lower_attention is {parts.lower_attention}; it stands below a layer from 2 to "
                f"layers, {config.layers}."
            )
        if config.fast_forward or widths[0] != widths[1]:
            raise UsageError(
                "lower_attention adds encoder outputs to a decoder layer's: both must be equally "
                "wide, and not joined by fast-forward connections."
            )
