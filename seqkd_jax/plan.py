"""Settings: plain frozen dataclasses, from which the command line is made. Floor 0.

Imports nothing heavy, so that ``seqkd --help`` answers at once.
"""

from dataclasses import dataclass
from typing import Literal

from .errors import UsageError
from .ranges import (
    Bits,
    Checked,
    Count,
    Counts,
    Depth,
    Entries,
    Fraction,
    Fractions,
    Limit,
    Natural,
    NonNegative,
    Positive,
    Seed,
    Share,
    Width,
)

# sacreBLEU's; auto: none for corpora that are known to be tokenised, else by the target language
# (zh, ja-mecab, ko-mecab, flores200), and 13a where it is not told or has spaces between words.
Tokenizer = Literal[
    "auto",
    "none",
    "13a",
    "intl",
    "char",
    "zh",
    "ja-mecab",
    "ko-mecab",
    "spm",
    "flores101",
    "flores200",
    "spBLEU-1K",
]


# auto: chrf for text without spaces between words, else bleu
Similarity = Literal["auto", "bleu", "gleu", "chrf"]
Smoothing = Literal["geometric", "exponential", "floor", "add-k", "none"]


@dataclass(frozen=True)
class Search(Checked):
    """How to search for a translation. The defaults are the paper's beam for Seq-KD."""

    beam_size: Count = 5  # hypotheses kept at each step; 1 is greedy decoding
    n_best: Count = 1  # translations returned for each sentence, at most the beam size
    # what divides a log-probability: nothing, the length, or GNMT's penalty
    length_rule: Literal["none", "mean", "gnmt"] = "none"
    alpha: NonNegative = 0.6  # exponent of GNMT's length penalty
    min_len: Natural = 0  # tokens that a translation has at least, not counting its end
    # a translation has at most max-ratio x source tokens + max-extra tokens
    max_ratio: NonNegative = 2.0
    max_extra: Natural = 10  # see max-ratio
    max_len: Count = 200  # tokens that a translation never exceeds, its end counted
    # stop, with one translation, as soon as the best hypothesis of the beam has ended
    stop_at_first: bool = False
    max_source: Count | None = 250  # longer sources are cut to this many tokens; None: never cut

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_best > self.beam_size:
            raise UsageError(
                f"n_best is {self.n_best} and beam_size is {self.beam_size}: a beam holds "
                "beam_size hypotheses; make n_best smaller or beam_size larger."
            )

    def limit(self, source_tokens: int) -> int:
        """The longest translation, in tokens with EOS, of a source of so many tokens."""
        return max(1, min(self.max_len, int(self.max_ratio * source_tokens) + self.max_extra))


GREEDY = Search(beam_size=1)


@dataclass(frozen=True)
class Parts(Checked):
    """What an encoder-decoder is put together from. The defaults are the paper's.

    Sources: Luong et al. 2015 (attention), Zhou et al. 2016 (peephole, fast-forward, interleaved,
    attention at the input), Sutskever et al. 2014 (reversed source, no attention).
    """

    # how attention scores a source word; none: no attention
    attention: Literal["none", "dot", "general", "concat", "location"] = "general"
    # attend to all source words, or to a window (local)
    alignment: Literal["global", "local-m", "local-p"] = "global"
    window: Count = 10  # words to either side in the window of a local alignment
    # attention sits above the decoder's layers (output) or below them (input)
    attends: Literal["output", "input"] = "output"
    input_feeding: bool = True  # the next step reads the attentional vector of this one
    # add a second attention below this decoder layer, 2 or higher; 0: none
    lower_attention: Natural = 0
    cell: Literal["lstm", "peephole"] = "lstm"  # kind of LSTM; peephole: its gates see the cell
    # how each layer is connected to those below
    connections: Literal["plain", "skip", "residual", "fast-forward"] = "plain"
    # how a bidirectional encoder's halves are combined
    join: Literal["sum", "concat", "interleaved"] = "sum"
    # the decoder starts from the encoder's last state, or from zeros
    bridge: Literal["state", "zero"] = "state"
    encoder_layers: Depth | None = None  # layers of the encoder; None: as many as the decoder's
    encoder_hidden: Width | None = None  # width of the encoder's layers; None: as the decoder's
    reverse_source: bool = False  # the encoder reads the last word first
    start_symbols: bool = False  # the encoder also reads <s> and </s>
    max_source: Count = 100  # with attention location: source tokens that it can attend to, at most


@dataclass(frozen=True)
class Size(Checked):
    """The shape of a model, its vocabularies aside."""

    embed: Width = 256  # width of word embeddings
    hidden: Width = 256  # width of LSTM layers
    layers: Depth = 1  # LSTM layers of the encoder and of the decoder
    bidirectional: bool = False  # add a second encoder that reads right to left
    dropout: Fraction = 0.3  # dropout rate between layers and before the output
    embed_dropout: Fraction = 0.0  # dropout rate of word embeddings; the paper has none
    init_scale: Positive = 0.1  # parameters start in U(-init_scale, init_scale)
    embed_scale: Positive | None = None  # the same for embeddings; None: init-scale
    # type of the computation; parameters are float32
    dtype: Literal["float32", "bfloat16"] = "float32"
    parts: Parts = Parts()  # architecture; the defaults are the paper's


@dataclass(frozen=True)
class Training(Checked):
    """How a model is trained."""

    epochs: Count = 20  # passes over the pairs, with a validation after each
    # sgd: its rate decays as in the paper; half-epoch-sgd: as in Sutskever et al. 2014 (rate 0.7)
    optimizer: Literal["adam", "sgd", "half-epoch-sgd"] = "adam"
    # learning rate; Adam's falls to 0 along a cosine; the paper's, for SGD, is 1.0
    rate: Positive = 2e-3
    warmup: Natural = 0  # steps over which Adam's rate first rises from 0; deep stacks need it
    clip: Limit = 5.0  # largest norm of the whole gradient; inf: no clipping
    tokens_per_batch: Count = 1024  # size of a batch: sentences x longest side
    # batch shapes, by length: more of them mean less padding and more compilation
    buckets: Count = 6
    microbatches: Count = 1  # process a batch in this many parts: less memory, same result
    patience: Count | None = None  # stop after this many validations without better BLEU
    label_smoothing: Fraction = 0.0  # label smoothing, for the part of the loss that sees the data
    # pairs with a longer side are left out, and counted; None: no limit
    max_tokens: Count | None = 60


@dataclass(frozen=True)
class OnPolicy(Checked):
    """How often a student is trained on its own translations, as the teacher judges them."""

    # share of batches trained on the student's own translations; others keep their targets
    share: Share = 1.0
    # temperature that the student's translations are sampled at; 0: greedy
    temperature: NonNegative = 1.0


@dataclass(frozen=True)
class Timing(Checked):
    """How speed is measured: the rows in turns, so that all see the same machine."""

    repeats: Count = 5  # measurements of each row
    seconds: Positive = 1.2  # about how long one measurement takes; it has at least two steps
    # steps of one measurement, in place of seconds; with --real, at most
    steps: Count | None = None


@dataclass(frozen=True)
class Plan(Checked):
    """All settings of a lab. The defaults suit a corpus of a few ten thousand sentences."""

    teacher: Size = Size(embed=256, hidden=512, bidirectional=True)  # shape of the teacher
    student: Size = Size(embed=64, hidden=64)  # shape of the students
    teacher_training: Training = Training()  # how the teacher is trained
    student_training: Training = Training()  # how the students are trained
    # training for Seq-Inter, shared weights and on-policy rows
    fine_tuning: Training = Training(epochs=4, rate=3e-4)
    pruning: Training = Training(epochs=6, rate=1e-3)  # training of the weights that pruning leaves
    # share of weights pruned after each round of Table 3, rising
    prune_ratios: Fractions = (
        0.5,
        0.7,
        0.8,
        0.85,
        0.9,
    )
    # prune the smallest weights, or those that cost least (Optimal Brain Damage)
    prune_by: Literal["magnitude", "obd"] = "magnitude"
    bits: Bits = 5  # bits of each weight's code, in Table 3
    on_policy: OnPolicy = OnPolicy()
    # whole words, or SentencePiece pieces (bpe, unigram)
    vocabulary: Literal["words", "bpe", "unigram"] = "bpe"
    # entries of each vocabulary; None: all words (only with --vocabulary words)
    vocabulary_size: Entries | None = 8000
    shared_vocabulary: bool = False  # one vocabulary for both sides
    features: bool = False  # source tokens are word-|-value-|-value; for --vocabulary words
    # sides whose words are read by their characters; for --vocabulary words
    characters: Literal["none", "source", "target", "both"] = "none"
    lower: bool = False  # put all text in lower case
    # longer sources are cut to this many tokens to be translated; None: never
    max_source: Count | None = 250
    alpha: Share = 0.5  # weight of Word-KD; the data weigh 1 - alpha
    kd_beam: Count = 5  # beam size of Seq-KD
    inter_beam: Count = 35  # beam size of Seq-Inter
    # how Seq-Inter measures closeness; auto: chrf for text without spaces, else bleu
    similarity: Similarity = "auto"
    beams: Counts = (1, 5)  # beam sizes to evaluate rows with; 1 is greedy
    tokenize: Tokenizer = "auto"  # sacreBLEU's tokeniser; auto: by corpus and target language
    seed: Seed = 1  # seed of parameters, dropout and data order


PLANS = {
    "grammar": Plan(
        teacher=Size(embed=96, hidden=160, bidirectional=True, dropout=0.05, init_scale=0.15),
        student=Size(embed=32, hidden=32, bidirectional=True, dropout=0.0, init_scale=0.3),
        teacher_training=Training(epochs=3, rate=4e-3, tokens_per_batch=768, buckets=3),
        student_training=Training(epochs=5, rate=5e-3, tokens_per_batch=512, buckets=3),
        fine_tuning=Training(epochs=1, rate=1e-3, tokens_per_batch=512, buckets=3),
        pruning=Training(epochs=3, rate=5e-3, tokens_per_batch=512, buckets=3),
        # The student is small: taken in one step from 65 % to 80 % it does not recover.
        prune_ratios=(0.5, 0.65, 0.72, 0.77, 0.8, 0.85, 0.9),
        vocabulary="words",
        vocabulary_size=None,
        inter_beam=5,  # the lists of Seq-KD serve twice
    ),
    "multi30k": Plan(
        teacher=Size(embed=512, hidden=448, bidirectional=True, dropout=0.5, embed_dropout=0.3),
        student=Size(embed=64, hidden=144, bidirectional=True, dropout=0.2, embed_dropout=0.1),
        teacher_training=Training(
            epochs=8, rate=1.5e-3, tokens_per_batch=1024, label_smoothing=0.1
        ),
        student_training=Training(epochs=14, rate=3e-3),
        fine_tuning=Training(epochs=3, rate=5e-4),
        pruning=Training(epochs=6, rate=2e-3),
        vocabulary_size=3000,
        shared_vocabulary=True,
    ),
}
