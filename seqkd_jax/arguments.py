"""The arguments of the ``seqkd`` commands, a dataclass each. What is done is in ``commands``.

Nothing heavy is imported here, so ``seqkd --help`` answers at once.
"""

import functools
import operator
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

from .plan import PLANS, Plan, Search, Similarity, Size, Smoothing, Timing, Tokenizer, Training
from .ranges import (
    NONEMPTY,
    Bits,
    Checked,
    Count,
    Counts,
    Entries,
    Fractions,
    Names,
    Positive,
    Seed,
    Share,
)

Files = tuple[Path, ...]  # source and target, or one .tsv file
CONFIG = (tyro.conf.OmitSubcommandPrefixes,)
Flat = tyro.conf.arg(name="")  # nested settings without a prefix of their own


@dataclass(frozen=True)
class Learning(Checked):
    """A command that trains, and knows which of its options were given."""

    given: Annotated[tuple[str, ...], tyro.conf.Suppress] = field(default=(), kw_only=True)


@dataclass(frozen=True)
class Corpus(Checked):
    """What to train on: a corpus that has a name, or any pair of files (plain or .gz)."""

    data: str | None = None
    """Name of a corpus: grammar (generated, no download) or multi30k."""
    pair: str | None = None
    """Source and target language: of multi30k two of en, de, fr, cs (en-de if left out); of files
    it says how BLEU must cut the target into tokens, as in en-ja."""
    form: Literal["tok", "raw"] = "tok"
    """Of multi30k: tokenised and lower-cased, or raw."""
    train: Files = ()
    """Training files: source and target, one sentence a line, or one .tsv file with both."""
    valid: Files = ()
    """Validation files, the same."""


@dataclass(frozen=True)
class TestedCorpus(Corpus):
    """What to train and to test on."""

    test: Files = ()
    """Test files, the same; the validation files if left out."""


@dataclass(frozen=True)
class Vocabularies(Checked):
    """Vocabularies made elsewhere, in place of new ones."""

    vocab: Path | None = None
    """Vocabulary of both sides: a SentencePiece .model, a list of words (one a line), or a
    .vocab.json of this library."""
    src_vocab: Path | None = None
    """Vocabulary of the source alone, the same."""
    tgt_vocab: Path | None = None
    """Vocabulary of the target alone, the same."""


@dataclass(frozen=True)
class Run(Learning):
    """Train and evaluate rows of the paper's Table 1: teacher, students, and what they gained."""

    corpus: Annotated[TestedCorpus, Flat]
    out: Path
    """Folder of the experiment; start again with the same one to resume."""
    plan: Annotated[Plan, Flat]
    rows: Names = (
        "teacher",
        "baseline",
        "word-kd",
        "seq-kd",
        "seq-kd+seq-inter",
    )
    """Rows of Table 1, or: all of them; other systems, too: luong-dot, sutskever, deep-att, ..."""
    vocabularies: Annotated[Vocabularies, Flat] = Vocabularies()


@dataclass(frozen=True)
class Train(Learning):
    """Train one model: a teacher, a baseline, a student on distilled text, or with Word-KD."""

    corpus: Annotated[Corpus, Flat]
    out: Path
    """Folder of the model; start again with the same one to resume."""
    size: Annotated[Size, Flat] = Size()
    training: Annotated[Training, Flat] = Training()
    teacher: Path | None = None
    """Folder of a trained model that teaches; its vocabularies are taken over."""
    alpha: Share = 0.5
    """Weight of the teacher's word-level KD against the data; 0 for its vocabularies alone."""
    teacher_cache: Path | None = None
    """Folder that the cache command wrote for these pairs: the teacher need not run."""
    start: Path | None = None
    """Folder of a trained model that goes on (fine-tuning); it brings shape and vocabularies."""
    vocabulary: Literal["words", "bpe", "unigram"] = "bpe"
    """Kind of vocabulary, where no teacher or start brings one."""
    vocabulary_size: Entries | None = 8000
    """Entries of each vocabulary."""
    shared_vocabulary: bool = False
    """One vocabulary for both sides."""
    features: bool = False
    """Source tokens are word-|-value-|-value, with as many values each; for --vocabulary words."""
    characters: Literal["none", "source", "target", "both"] = "none"
    """Read words by their characters (convolution and highway); for --vocabulary words."""
    lower: bool = False
    """Lower-case all text."""
    vocabularies: Annotated[Vocabularies, Flat] = Vocabularies()
    tokenize: Tokenizer = "auto"
    """sacreBLEU's tokeniser for validation, by the target language; none for tokenised text."""
    max_source: Count | None = 250
    """Longer sources are cut to so many tokens in validation; None for any length."""
    seed: Seed = 1
    """Of parameters, dropout and data order."""


@dataclass(frozen=True)
class Translate(Checked):
    """Translate text, line by line, from standard input to standard output or between files."""

    models: tyro.conf.Positional[Annotated[tuple[Path, ...], NONEMPTY]]
    """Folders of trained models; several form an ensemble."""
    source: Path | None = None
    """File to translate, of a .tsv file the first column; standard input if left out."""
    out: Path | None = None
    """File to write; standard output if left out."""
    search: Annotated[Search, Flat] = Search()
    shortlist: tuple[Path, Path] | None = None
    """Source and target text, best that of the training: compute only words a sentence can need."""
    scores: bool = False
    """Put the log-probability in front of each line; with --n-best above 1 it is there."""
    replace_unk: bool = False
    """Replace each <unk> by the source word attended to most; for vocabularies of words."""
    dictionary: Path | None = None
    """Lines source|||target: with --replace-unk, translate such a word instead of copying it."""


@dataclass(frozen=True)
class Distill(Checked):
    """Let a teacher translate a corpus, and write the text that a student trains on."""

    source: Path
    """Source sentences; of a .tsv file the first column."""
    out: Path
    """Folder for n-best lists and train.src, train.tgt; start again to resume."""
    model: tyro.conf.Positional[Path | None] = None
    """Folder of the teacher; left out where --nbest has its lists."""
    nbest: Path | None = None
    """Lists there are: as distill writes them, JSON lines, or the form of translate --n-best."""
    first_index: Literal[0, 1] = 0
    """Number of the first sentence in --nbest."""
    reference: Path | None = None
    """True translations: take the hypothesis closest to them (Seq-Inter), not the best (Seq-KD).
    Of a .tsv file, the same as the source or another, the second column."""
    mbr: bool = False
    """Take the hypothesis closest to all others, each by its probability (minimum Bayes risk)."""
    similarity: Similarity = "auto"
    """What closest means, with --reference or --mbr; chrf for text without spaces."""
    smoothing: Smoothing | None = None
    """Of bleu, for n-grams without a match; Kim & Rush's, geometric, if left out."""
    search: Annotated[Search, Flat] = Search(beam_size=5, n_best=5)


@dataclass(frozen=True)
class Cache(Checked):
    """Write a teacher's most probable words at each position of given pairs, for Word-KD."""

    model: tyro.conf.Positional[Path]
    """Folder of the teacher."""
    source: Path
    """Source sentences, or one .tsv file with both sides."""
    out: Path
    """Folder of the cache; start again to resume."""
    target: Path | None = None
    """Their translations: those that a student will be trained on."""
    k: Count = 16
    """Words kept of each distribution; the mass of all others is kept as one number."""
    temperature: Positive = 1.0
    """That distributions are softened by; the student is trained at the same one."""


@dataclass(frozen=True)
class Score(Checked):
    """Print a model's log-probability (natural, end of sentence counted) of each given pair."""

    model: tyro.conf.Positional[Path]
    """Folder of a trained model."""
    source: Path
    """Source sentences, or one .tsv file with both sides."""
    target: Path | None = None
    """Their translations."""


@dataclass(frozen=True)
class Extract(Checked):
    """Write a model's states and attention, for each token of sentence pairs, to an .npz file.

    encoder [source tokens, M]; decoder_c, decoder_h [target tokens, layers, H]; hidden [target
    tokens, H]; attention, the matrices [T, S] of all pairs one after the other, flat; the offsets
    of each pair's tokens; and its line.
    """

    model: tyro.conf.Positional[Path]
    """Folder of a trained model."""
    source: Path
    """Source sentences, or one .tsv file with both sides."""
    out: Path
    """File to write."""
    target: Path | None = None
    """Their translations."""


@dataclass(frozen=True)
class Evaluate(Checked):
    """Compare trained models on a test set: BLEU, chrF, perplexity, p(t=y^), size, speed."""

    models: tyro.conf.Positional[Annotated[tuple[Path, ...], NONEMPTY]]
    """Folders of trained models; differences are to the first."""
    source: Path
    """Source sentences, or one .tsv file with both sides."""
    reference: Path | None = None
    """Their true translations."""
    beams: Counts = (1, 5)
    """Beam sizes; 1 is greedy."""
    pair: str | None = None
    """Source and target language, as in en-ja: how BLEU must cut the target into tokens."""
    tokenize: Tokenizer = "auto"
    """sacreBLEU's tokeniser, by the target language; none for text that is tokenised."""
    max_source: Count | None = 250
    """Longer sources are cut to so many tokens; None for any length."""
    shortlist: tuple[Path, Path] | None = None
    """Source and target text to fit a shortlist on: decode with it, too; say what it changes."""


@dataclass(frozen=True)
class Prune(Learning):
    """Prune a trained model and train what is left: most weights become 0, and stay 0."""

    model: tyro.conf.Positional[Path]
    """Folder of a trained model."""
    corpus: Annotated[Corpus, Flat]
    out: Path
    """Folder of the pruned model; start again with the same one to resume."""
    ratio: Fractions = (0.8,)
    """Share of the weights that goes; several, rising, for rounds with training between."""
    scheme: Literal["blind", "uniform", "distribution"] = "blind"
    """One threshold for all, the same share of each layer, or a threshold by its deviation."""
    saliency: Literal["magnitude", "obd"] = "magnitude"
    """By which weights go: the smallest, or those that cost least (Optimal Brain Damage)."""
    keep_embeddings: bool = False
    """Leave word embeddings whole; the ratio is then of all other weights."""
    training: Annotated[Training, Flat] = Training(epochs=6, rate=1e-3)
    tokenize: Tokenizer = "auto"
    """sacreBLEU's tokeniser for validation, by the target language; none for tokenised text."""
    max_source: Count | None = 250
    """Longer sources are cut to so many tokens in validation; None for any length."""
    seed: Seed = 1
    """Of dropout and data order."""


@dataclass(frozen=True)
class Compress(Learning):
    """Write a trained, best a pruned, model as a compressed file (Deep Compression)."""

    model: tyro.conf.Positional[Path]
    """Folder of a trained model."""
    corpus: Annotated[Corpus, Flat]
    out: Path
    """Folder of the compressed model, which translate, evaluate and the others load."""
    bits: Bits = 5
    """Of each weight's code: 2^bits values for each array."""
    training: Annotated[Training, Flat] = Training(epochs=2, rate=5e-4)
    tokenize: Tokenizer = "auto"
    """sacreBLEU's tokeniser for validation, by the target language; none for tokenised text."""
    max_source: Count | None = 250
    """Longer sources are cut to so many tokens in validation; None for any length."""
    seed: Seed = 1
    """Of dropout and data order, where there is text to train the values on."""


@dataclass(frozen=True)
class Table3(Learning):
    """Prune the Seq-KD student of an experiment as in the paper's Table 3; sizes and BLEU."""

    corpus: Annotated[TestedCorpus, Flat]
    out: Path
    """Folder of the experiment, as of run; what has been trained there is used."""
    plan: Annotated[Plan, Flat]
    vocabularies: Annotated[Vocabularies, Flat] = Vocabularies()


@dataclass(frozen=True)
class Demo(Checked):
    """The main job in minutes on a CPU: distil a student on a generated corpus, print the table."""

    out: Path = field(default_factory=lambda: Path("runs/demo"))
    """Folder of the experiment; start again with the same one to resume."""


@dataclass(frozen=True)
class Bench(Checked):
    """Measure this library's speed on fixed work; or on real text, or beside a peer."""

    rows: tuple[str, ...] = ()
    """Rows, or parts of their names: student, decode-teacher, k5; all if left out."""
    timing: Annotated[Timing, Flat] = Timing()
    against: tuple[str, ...] = ()
    """Peers' commands; the JSON line of each names the row that both then measure in turns.
    A command may stay, and print one for each line it reads (docs/peers/README.md)."""
    real: bool = False
    """Measure an epoch and a decoded test set of grammar, and of multi30k if SEQKD_DATA is set."""
    table2: bool = False
    """Measure the paper's Table 2: greedy students against a teacher's beam, V = 50,004."""
    out: Path | None = None
    """JSON file to write. Rows measured on the same machine before stay, unless measured again."""


RESUMED = (Learning, Distill, Cache, Demo)  # what has been done is found by the next start


def _commands(data: str | None) -> dict[str, Any]:
    """All commands, with the plan of the named corpus as the default of experiments."""
    plan = PLANS.get(data or "", Plan())
    # What train and the experiments both have is called the same and has the same default.
    shared = {f.name: getattr(plan, f.name) for f in fields(Train) if hasattr(plan, f.name)}
    shared = {name: value for name, value in shared.items() if name != "teacher"}
    defaults = {
        Run: Run(TestedCorpus(), tyro.MISSING, plan),
        Table3: Table3(TestedCorpus(), tyro.MISSING, plan),
        Train: Train(Corpus(), tyro.MISSING, **shared),
    }
    others = (
        Translate,
        Distill,
        Cache,
        Score,
        Extract,
        Evaluate,
        Prune,
        Compress,
        Demo,
        Bench,
    )
    commands: dict[str, Any] = {}
    for command in (Run, Table3, Train, *others):
        name = command.__name__.lower()
        given = {"default": defaults[command]} if command in defaults else {}
        commands[name] = Annotated[command, tyro.conf.subcommand(name, **given)]
    return commands


def parse(arguments: list[str]) -> Any:
    """The command that arguments name, one of the classes above; exits where they are wrong.

    Errors and help are of that command alone.
    """
    commands = _commands(_value_of("--data", arguments))
    name = arguments[0] if arguments else ""
    if name in commands:
        command = tyro.cli(commands[name], prog=f"seqkd {name}", args=arguments[1:], config=CONFIG)
        given = {"given": _options(arguments)} if isinstance(command, Learning) else {}
        return replace(command, **given)
    return tyro.cli(
        functools.reduce(operator.or_, commands.values()),
        prog="seqkd",
        description="Sequence-level knowledge distillation for attention LSTM translators.",
        args=arguments,
        config=CONFIG,
    )


def _options(arguments: list[str]) -> tuple[str, ...]:
    """The names of the options that were given, without dashes before them."""
    named = [a.partition("=")[0][2:].replace("_", "-") for a in arguments if a.startswith("--")]
    return tuple(dict.fromkeys(named))


def _value_of(flag: str, arguments: list[str]) -> str | None:
    for n, argument in enumerate(arguments):
        if argument == flag and n + 1 < len(arguments):
            return arguments[n + 1]
        if argument.startswith(flag + "="):
            return argument.removeprefix(flag + "=")
    return None
