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

    beam_size: Count = 5  # K; 1 is greedy
    n_best: Count = 1  # hypotheses returned, at most K
    length_rule: Literal["none", "mean", "gnmt"] = "none"  # what divides the log-probability
    alpha: NonNegative = 0.6  # of the gnmt rule
    min_len: Natural = 0  # words before the end may come
    max_ratio: NonNegative = 2.0  # at most max_ratio x source tokens + max_extra tokens
    max_extra: Natural = 10  # see max_ratio
    max_len: Count = 200  # and never more tokens than this, the end of the sentence counted
    stop_at_first: bool = False  # the first one to end while it is the best of its beam wins
    max_source: Count | None = 250  # longer sources are cut to so many tokens; None for any length

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_best > self.beam_size:
            raise UsageError(
                f"n_best is {self.n_best} and beam_size {self.beam_size}: a beam has no more "
                "hypotheses than its size; make n_best smaller or the beam larger."
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

    attention: Literal["none", "dot", "general", "concat", "location"] = "general"  # its score
    alignment: Literal["global", "local-m", "local-p"] = "global"  # words that it may look at
    window: Count = 10  # of local alignments: so many words to either side
    attends: Literal["output", "input"] = "output"  # above the decoder's stack, or below it
    input_feeding: bool = True  # the attentional vector is read by the next step
    lower_attention: Natural = 0  # a second attention below decoder layer number so much, 2 or more
    cell: Literal["lstm", "peephole"] = "lstm"  # peephole: gates see the cell
    connections: Literal["plain", "skip", "residual", "fast-forward"] = "plain"  # between layers
    join: Literal["sum", "concat", "interleaved"] = "sum"  # of a bidirectional encoder's halves
    bridge: Literal["state", "zero"] = "state"  # what the decoder's layers start from
    encoder_layers: Depth | None = None  # where they differ from the decoder's
    encoder_hidden: Width | None = None  # width of its layers, where it differs
    reverse_source: bool = False  # the encoder reads the last word first
    start_symbols: bool = False  # the encoder also reads <s> and </s>
    max_source: Count = 100  # of location: the longest source that its weights know


@dataclass(frozen=True)
class Size(Checked):
    """The shape of a model but for its vocabularies."""

    embed: Width = 256  # width of word embeddings
    hidden: Width = 256  # width of LSTM layers
    layers: Depth = 1  # of encoder and decoder each
    bidirectional: bool = False  # a second encoder reads right to left
    dropout: Fraction = 0.3  # between layers and before the output
    embed_dropout: Fraction = 0.0  # of word embeddings; the paper has none
    init_scale: Positive = 0.1  # parameters start in U(-init_scale, init_scale)
    embed_scale: Positive | None = None  # embeddings start in U(-embed_scale, ...); None: as all do
    dtype: Literal["float32", "bfloat16"] = "float32"  # of computation; parameters are float32
    parts: Parts = Parts()  # what it is put together from


@dataclass(frozen=True)
class Training(Checked):
    """How a model is trained."""

    epochs: Count = 20  # passes over the pairs, with a validation after each
    # sgd decays as the paper's does, half-epoch-sgd as that of Sutskever et al. 2014 (rate 0.7)
    optimizer: Literal["adam", "sgd", "half-epoch-sgd"] = "adam"
    rate: Positive = 2e-3  # of Adam, falling to 0 along a cosine; of SGD the paper's is 1.0
    warmup: Natural = 0  # steps over which Adam's rate rises from 0 first; deep stacks need them
    clip: Limit = 5.0  # greatest norm of all gradients together; inf for any
    tokens_per_batch: Count = 1024  # sentences x longest side
    buckets: Count = 6  # shapes of batches by length: more leave less padding, each is compiled
    microbatches: Count = 1  # a batch is worked off in so many parts: less memory, same result
    patience: Count | None = None  # validations without better BLEU before it stops
    label_smoothing: Fraction = 0.0  # of the part of the loss that sees the data
    max_tokens: Count | None = 60  # pairs with a longer side are left out, and counted; None: none


@dataclass(frozen=True)
class OnPolicy(Checked):
    """How often a student is trained on its own translations, as the teacher judges them."""

    share: Share = 1.0  # of batches, the others keep the targets of the corpus
    temperature: NonNegative = 1.0  # the student's own are sampled with; 0 for its greedy ones


@dataclass(frozen=True)
class Timing(Checked):
    """How speed is measured: the rows in turns, so that all see the same machine."""

    repeats: Count = 5  # of each row
    seconds: Positive = 1.2  # of one repeat, about, and never fewer than two steps
    steps: Count | None = None  # of one repeat, in place of seconds; of real text, the most steps


@dataclass(frozen=True)
class Plan(Checked):
    """All settings of a lab. The defaults suit a corpus of a few ten thousand sentences."""

    teacher: Size = Size(embed=256, hidden=512, bidirectional=True)
    student: Size = Size(embed=64, hidden=64)
    teacher_training: Training = Training()
    student_training: Training = Training()
    fine_tuning: Training = Training(epochs=4, rate=3e-4)  # of Seq-Inter, shared weights, on-policy
    pruning: Training = Training(epochs=6, rate=1e-3)  # of what a pruning leaves
    prune_ratios: Fractions = (
        0.5,
        0.7,
        0.8,
        0.85,
        0.9,
    )  # of Table 3, in rounds
    prune_by: Literal["magnitude", "obd"] = "magnitude"  # or Optimal Brain Damage
    bits: Bits = 5  # of each weight's code, in Table 3
    on_policy: OnPolicy = OnPolicy()
    vocabulary: Literal["words", "bpe", "unigram"] = "bpe"  # words, or SentencePiece models
    vocabulary_size: Entries | None = 8000  # entries of each vocabulary; None for all words
    shared_vocabulary: bool = False  # one vocabulary for both sides
    features: bool = False  # source tokens are word-|-value-|-value; of words only
    characters: Literal["none", "source", "target", "both"] = "none"  # words are spelt; of words
    lower: bool = False  # put all text in lower case
    max_source: Count | None = 250  # sources are cut there when translated; None: nowhere
    alpha: Share = 0.5  # weight of Word-KD against the data
    kd_beam: Count = 5  # K of Seq-KD
    inter_beam: Count = 35  # K of Seq-Inter
    similarity: Similarity = "auto"  # by which Seq-Inter chooses; chrf for text without spaces
    beams: Counts = (1, 5)  # that rows are evaluated with
    tokenize: Tokenizer = "auto"  # of BLEU: by corpus and target language, or sacreBLEU's name
    seed: Seed = 1  # of parameters, dropout and data order


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
