"""Settings: plain frozen dataclasses, from which the command line is made. Floor 0.

The comment beside a field is the option's help text. This module imports nothing heavy, so that
``seqkd --help`` answers at once.
"""

from dataclasses import dataclass
from typing import Literal

from .errors import UsageError
from .ranges import (
    AtLeastOne,
    Beam,
    Beams,
    Bits,
    Checked,
    Count,
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
    rising,
)

# sacreBLEU's tokenisers. auto: none for a corpus that is known to be tokenised; otherwise the
# tokeniser of the target language if it has one of its own (zh, ja-mecab, ko-mecab, flores200),
# and 13a for every other language and where the language is not given.
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

# auto: chrf for text without spaces between words, otherwise bleu.
Similarity = Literal["auto", "bleu", "gleu", "chrf"]
Smoothing = Literal["geometric", "exponential", "floor", "add-k", "none"]


@dataclass(frozen=True)
class Messages(Checked):
    """What a command says on standard error while it works."""

    quiet: bool = False  # Say nothing but warnings and errors; results are printed all the same.
    log_json: bool = False  # Write progress, metrics, notes, warnings and errors as lines of JSON.


@dataclass(frozen=True)
class Layout(Checked):
    """How tables are printed."""

    # text, or a table for papers: markdown, latex (needs booktabs), or csv, which has no notes.
    format: Literal["text", "markdown", "latex", "csv"] = "text"
    # All columns; otherwise those that fit 100 characters as text (csv always has all).
    wide: bool = False


@dataclass(frozen=True)
class Search(Checked):
    """How to search for a translation. The defaults are the paper's beam for Seq-KD.

    >>> Search(beam_size=5, n_best=5).limit(source_tokens=7)  # 2 x 7 + 10
    24
    """

    beam_size: Beam = 5  # Hypotheses kept at each step; 1 is greedy decoding.
    n_best: Beam = 1  # Translations returned for each sentence, at most the beam size.
    # What log-probabilities are divided by to rank hypotheses: nothing (none), the length (mean),
    # or GNMT's length penalty (gnmt).
    length_rule: Literal["none", "mean", "gnmt"] = "none"
    length_alpha: NonNegative = 0.6  # Exponent of GNMT's length penalty.
    # Minimum length of a translation in tokens, excluding </s>; the maximum takes precedence.
    min_len: Natural = 0
    # A translation has at most max-ratio x source tokens + max-extra tokens.
    max_ratio: NonNegative = 2.0
    max_extra: Natural = 10  # See max-ratio.
    max_len: Count = 200  # Maximum length of a translation in tokens, including </s>.
    # Stop as soon as the best hypothesis of the beam has ended, and return that one alone.
    stop_at_first: bool = False
    max_source: Count | None = 250  # Longer sources are cut to this many tokens; None: never cut.

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.n_best > self.beam_size:
            raise UsageError(
                f"n_best is {self.n_best} and beam_size is {self.beam_size}: a beam holds "
                "beam_size hypotheses; make n_best smaller or beam_size larger."
            )
        if self.stop_at_first and self.n_best > 1:
            raise UsageError(
                f"n_best is {self.n_best}, but a search with stop_at_first (--stop-at-first) finds "
                "only 1: give n_best 1, or leave stop_at_first out."
            )
        if self.length_rule != "gnmt" and self.length_alpha != type(self).length_alpha:
            raise UsageError(
                f"length_alpha is {self.length_alpha}, but length_rule is {self.length_rule}: the "
                "exponent has no effect without length_rule gnmt (--length-rule gnmt)."
            )
        if self.min_len >= self.max_len:
            raise UsageError(
                f"min_len is {self.min_len} and max_len is {self.max_len}: make min_len smaller, "
                "since </s> takes one of the max_len tokens."
            )

    def limit(self, source_tokens: int) -> int:
        """Returns the maximum length of a translation, in tokens with EOS, for a source length."""
        longest = int(min(float(self.max_len), self.max_ratio * source_tokens))  # may be infinite
        return max(1, min(self.max_len, longest + self.max_extra))


GREEDY = Search(beam_size=1)


@dataclass(frozen=True)
class Parts(Checked):
    """The architecture of an encoder-decoder, by name. The defaults are the paper's.

    Sources: Luong et al. 2015 (attention), Zhou et al. 2016 (peephole, fast-forward, interleaved,
    attention at the input), Sutskever et al. 2014 (reversed source, no attention).
    """

    # How attention scores a source word; none: no attention.
    attention: Literal["none", "dot", "general", "concat", "location"] = "general"
    # Attend to all source words (global), to a window of them around the target position (local-m),
    # or to a window around a predicted position (local-p).
    alignment: Literal["global", "local-m", "local-p"] = "global"
    window: Count = 10  # Source words on either side of the centre of a local window.
    # Where attention reads the source: above the decoder's layers (output) or below them (input).
    attends: Literal["output", "input"] = "output"
    input_feeding: bool = True  # Each decoder step reads the previous attentional vector.
    # Add a second attention below the decoder layer with this number, 2 or higher; 0: none.
    lower_attention: Natural = 0
    # Kind of LSTM cell; peephole: the gates also see the cell state.
    cell: Literal["lstm", "peephole"] = "lstm"
    # How each layer is connected to those below it.
    connections: Literal["plain", "skip", "residual", "fast-forward"] = "plain"
    # How the two directions of a bidirectional encoder are combined.
    join: Literal["sum", "concat", "interleaved"] = "sum"
    # What the decoder starts from: the encoder's last state, or zeros.
    bridge: Literal["state", "zero"] = "state"
    # The decoder reads words character by character; the target needs a vocabulary of words.
    target_characters: bool = False
    reverse_source: bool = False  # The encoder reads the last word first.
    start_symbols: bool = False  # The encoder also reads <s> and </s>.
    # With attention location: the maximum number of source tokens that have a weight.
    max_source: Count = 100


@dataclass(frozen=True)
class Size(Checked):
    """Size and architecture of a model, except for its vocabularies.

    >>> Size(hidden=64, parts=Parts(attention="dot")).parts.attention
    'dot'
    """

    embed: Width = 256  # Width of word embeddings.
    hidden: Width = 256  # Width of LSTM layers.
    layers: Depth = 1  # Number of LSTM layers in the encoder and in the decoder.
    bidirectional: bool = False  # Add an encoder that reads right to left.
    dropout: Fraction = 0.3  # Dropout rate between layers and before the output.
    embed_dropout: Fraction = 0.0  # Dropout rate of word embeddings; the paper has none.
    init_scale: Positive = 0.1  # Parameters are drawn from U(-init-scale, init-scale).
    embed_scale: Positive | None = None  # The same for embeddings; None: init-scale.
    # Type in which the model computes; parameters are always float32.
    dtype: Literal["float32", "bfloat16"] = "float32"
    encoder_layers: Depth | None = None  # Layers of the encoder; None: as many as the decoder has.
    encoder_hidden: Width | None = None  # Width of the encoder's layers; None: the decoder's.
    parts: Parts = Parts()  # The architecture; the defaults are the paper's.


@dataclass(frozen=True)
class Training(Checked):
    """How a model is trained.

    >>> Training(epochs=3, ema=0.999).clip
    5.0
    """

    # Optimiser steps in all, rounded up so that 20 validations are evenly spaced. None: as
    # many as suit the amount of text, unless epochs says how many passes.
    updates: Count | None = None
    # Passes over the training pairs, each followed by a validation; in place of updates.
    epochs: Count | None = None
    # sgd decays its rate as in the paper; half-epoch-sgd as in Sutskever et al. 2014 (rate 0.7).
    optimizer: Literal["adam", "sgd", "half-epoch-sgd"] = "adam"
    # Learning rate. Adam's falls to 0 along a cosine; the paper trains with SGD at 1.0. None: one
    # that suits the optimiser and the size of a batch, and is lower for a model that was trained.
    rate: Positive | None = None
    # Steps over which Adam's rate first rises from 0; deep stacks need a warm-up.
    warmup: Natural = 0
    clip: Limit = 5.0  # Maximum norm of the whole gradient; inf disables clipping.
    # Size of a batch: its number of sentences times the length of its longest side. None: one that
    # suits the amount of text.
    tokens_per_batch: Count | None = None
    # Number of batch shapes, by sentence length: more shapes mean less padding and more compiling.
    buckets: Count = 6
    microbatches: Count = 1  # Process each batch in this many parts: less memory, same result.
    # Stop after this many validations in a row without an improvement; None: never.
    patience: Count | None = None
    # Keep an exponential moving average of the parameters with this decay, such as 0.999;
    # it is also what is validated. 0: keep the parameters themselves.
    ema: Fraction = 0.0
    # At the end, also validate the mean of the parameters after this many of the last
    # validations, and keep it if it is the best; 1: do not.
    average_last: Count = 1
    # Label smoothing, for the part of the loss that compares with the data.
    label_smoothing: Fraction = 0.0
    # Pairs with more tokens than this on one side are left out, and counted; None: no limit.
    max_tokens: Count | None = 60

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.updates is not None and self.epochs is not None:
            raise UsageError(
                f"updates is {self.updates} and epochs is {self.epochs}: each of them says how "
                "long to train, so give only one."
            )
        if self.epochs is not None and self.average_last > self.epochs:
            raise UsageError(
                f"average_last is {self.average_last}, but there are only {self.epochs} "
                "validations, one after each of the epochs: make it smaller."
            )


@dataclass(frozen=True)
class Hosts(Checked):
    """Several processes that train one model, on one machine or on many."""

    # Address (host:port) of process 0, where the processes meet. On TPU pods and under SLURM or
    # Open MPI all three are found without being given.
    coordinator: str | None = None
    processes: Count | None = None  # Number of processes; 1: train alone in any case.
    process: Natural | None = None  # Number of this process, from 0. Process 0 writes and prints.


@dataclass(frozen=True)
class OnPolicy(Checked):
    """How often a student is trained on its own translations, with the teacher's judgement."""

    # Share of batches whose targets are replaced by the student's own translations.
    share: Share = 1.0
    # Temperature at which the student's translations are sampled; 0: greedy.
    temperature: NonNegative = 1.0


@dataclass(frozen=True)
class Filters(Checked):
    """Which of a teacher's translations are dropped (rows named filtered)."""

    # Drop this share of the pairs, those with the lowest mean log-probability of a token.
    lowest_share: Fraction = 0.05
    # Drop pairs whose longer side has more than this times the other's words.
    max_ratio: AtLeastOne = 3.0
    # Drop targets in which some phrase of two words occurs this many times more than in the source.
    max_repeats: Count = 2


@dataclass(frozen=True)
class Timing(Checked):
    """How speed is measured: the rows take turns, so that all run under the same load."""

    repeats: Count = 5  # Measurements of each row.
    seconds: Positive = 1.2  # Approximate duration of a measurement, which has at least two steps.
    # Steps of one measurement, instead of seconds; with --real, the maximum.
    steps: Count | None = None


@dataclass(frozen=True)
class Plan(Checked):
    """All settings of an experiment. The defaults suit a corpus of tens of thousands of pairs.

    >>> plan = Plan(student_size=Size(hidden=32), kd_weight=0.7)
    >>> plan.student_size.hidden, plan.teacher_size.hidden
    (32, 512)
    """

    # The shape of the teacher.
    teacher_size: Size = Size(embed=256, hidden=512, bidirectional=True)
    student_size: Size = Size(embed=64, hidden=64)  # The shape of the students.
    teacher_training: Training = Training()  # How the teacher is trained.
    student_training: Training = Training()  # How the students are trained.
    # Training for Seq-Inter, shared weights and on-policy rows.
    fine_tuning: Training = Training()
    # Training of the weights that pruning leaves.
    pruning: Training = Training(rate=1e-3)
    # Share of weights that is pruned after each round of Table 3; the shares must rise.
    prune_ratios: Fractions = (
        0.5,
        0.7,
        0.8,
        0.85,
        0.9,
    )
    # Prune the smallest weights, or those that matter least to the loss (Optimal Brain Damage).
    prune_by: Literal["magnitude", "obd"] = "magnitude"
    bits: Bits = 5  # Bits of each weight's code in Table 3.
    on_policy: OnPolicy = OnPolicy()
    filters: Filters = Filters()
    # Teachers, which differ in their seeds and teach as one ensemble.
    teachers: Count = 1
    # Kind of vocabulary: whole words, or SentencePiece pieces (bpe, unigram).
    vocabulary: Literal["words", "bpe", "unigram"] = "bpe"
    # Entries of each vocabulary; None: all words (only with --vocabulary words).
    vocabulary_size: Entries | None = 8000
    shared_vocabulary: bool = False  # Use one vocabulary for both sides.
    # Source tokens carry features, word-|-value-|-value; needs --vocabulary words.
    features: bool = False
    # Source words are read character by character; needs --vocabulary words.
    characters: bool = False
    lower: bool = False  # Convert all text to lower case.
    # Sources to translate are cut to this many tokens; None: never.
    max_source: Count | None = 250
    # Weight of Word-KD in the loss; the likelihood has weight 1 - kd-weight.
    kd_weight: Share = 0.5
    kd_beam: Beam = 5  # Beam size of Seq-KD.
    inter_beam: Beam = 35  # Beam size of Seq-Inter.
    # How Seq-Inter measures similarity; auto: chrf for text without spaces, otherwise bleu.
    similarity: Similarity = "auto"
    beams: Beams = (1, 5)  # Beam sizes to evaluate rows with; 1 is greedy.
    # sacreBLEU's tokeniser; auto: by the corpus and its target language.
    tokenize: Tokenizer = "auto"
    seed: Seed = 1  # Seed of parameters, dropout and data order.

    def __post_init__(self) -> None:
        super().__post_init__()
        rising(self.prune_ratios, "prune_ratios")


_GRAMMAR = Plan(
    teacher_size=Size(embed=96, hidden=160, bidirectional=True, dropout=0.05, init_scale=0.15),
    student_size=Size(embed=32, hidden=32, bidirectional=True, dropout=0.0, init_scale=0.3),
    teacher_training=Training(epochs=3, rate=8e-3, tokens_per_batch=768, buckets=3),
    student_training=Training(epochs=5, rate=1.6e-2, tokens_per_batch=512, buckets=3),
    fine_tuning=Training(epochs=1, rate=1e-3, tokens_per_batch=512, buckets=3),
    pruning=Training(epochs=3, rate=5e-3, tokens_per_batch=512, buckets=3),
    # The student is small: it does not recover from one step from 65 % to 80 %.
    prune_ratios=(0.5, 0.65, 0.72, 0.77, 0.8, 0.85, 0.9),
    vocabulary="words",
    vocabulary_size=None,
    inter_beam=5,  # so that Seq-KD and Seq-Inter share their n-best lists
)
# The settings for the corpora that have names.
PLANS = {
    "grammar": _GRAMMAR,
    "noisy-grammar": _GRAMMAR,
    "multi30k": Plan(
        teacher_size=Size(
            embed=512, hidden=448, bidirectional=True, dropout=0.5, embed_dropout=0.3
        ),
        student_size=Size(embed=64, hidden=144, bidirectional=True, dropout=0.2, embed_dropout=0.1),
        teacher_training=Training(
            epochs=12, rate=1.5e-3, tokens_per_batch=1024, label_smoothing=0.1, ema=0.999
        ),
        student_training=Training(epochs=14, rate=3e-3, tokens_per_batch=1024),
        fine_tuning=Training(epochs=3, rate=5e-4, tokens_per_batch=1024),
        pruning=Training(epochs=6, rate=2e-3, tokens_per_batch=1024),
        vocabulary_size=3000,
        shared_vocabulary=True,
        inter_beam=5,  # so that Seq-KD and Seq-Inter share their n-best lists
    ),
}
