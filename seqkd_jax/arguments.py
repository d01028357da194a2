"""The arguments of the ``seqkd`` commands, a dataclass each. What they do is in ``commands``.

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
    """What to train on: a named corpus, or any pair of files (plain or .gz)."""

    data: str | None = None
    """Name of a corpus: grammar (generated, no download) or multi30k."""
    pair: str | None = None
    """Source and target language, such as en-ja: they decide how BLEU tokenises the target.
    For multi30k, two of en, de, fr, cs (default en-de)."""
    form: Literal["tok", "raw"] = "tok"
    """Form of multi30k: tokenised and lower-cased, or raw."""
    train: Files = ()
    """Training files: source and target, one sentence a line, or one .tsv file with both."""
    valid: Files = ()
    """Validation files, in the same form."""


@dataclass(frozen=True)
class TestedCorpus(Corpus):
    """What to train and to test on."""

    test: Files = ()
    """Test files, in the same form; the validation files if left out."""


@dataclass(frozen=True)
class Vocabularies(Checked):
    """Vocabularies made elsewhere, in place of new ones."""

    vocab: Path | None = None
    """Vocabulary file for both sides: a SentencePiece .model, a .vocab.json, or a list of words."""
    src_vocab: Path | None = None
    """Vocabulary file for the source alone, in the same forms."""
    tgt_vocab: Path | None = None
    """Vocabulary file for the target alone, in the same forms."""


@dataclass(frozen=True)
class Validation(Checked):
    """How translations of the validation set are scored."""

    tokenize: Tokenizer = "auto"
    """sacreBLEU's tokeniser for validation; auto: by target language; none: text is tokenised."""
    max_source: Count | None = 250
    """Validation cuts longer sources to this many tokens; None: never."""


@dataclass(frozen=True)
class Run(Learning):
    """Train and evaluate rows of the paper's Table 1: teacher, students, and what they gained."""

    corpus: Annotated[TestedCorpus, Flat]
    out: Path
    """Folder of the experiment; the same command resumes there."""
    plan: Annotated[Plan, Flat]
    rows: Names = (
        "teacher",
        "baseline",
        "word-kd",
        "seq-kd",
        "seq-kd+seq-inter",
    )
    """Rows of Table 1, or all; also other systems, such as luong-dot, sutskever, deep-att."""
    vocabularies: Annotated[Vocabularies, Flat] = Vocabularies()


@dataclass(frozen=True)
class Train(Learning):
    """Train one model: a teacher, a baseline, or a student (on distilled text, with Word-KD)."""

    corpus: Annotated[Corpus, Flat]
    out: Path
    """Folder of the model; the same command resumes there."""
    size: Annotated[Size, Flat] = Size()
    training: Annotated[Training, Flat] = Training()
    teacher: Path | None = None
    """Folder of the trained model that teaches; the student shares its vocabularies."""
    alpha: Share = 0.5
    """Weight of Word-KD; the data weigh 1 - alpha. 0 takes only the teacher's vocabularies."""
    teacher_cache: Path | None = None
    """Folder that seqkd cache wrote for these pairs, so that the teacher need not run."""
    start: Path | None = None
    """Folder of a trained model to fine-tune; it brings its shape and vocabularies."""
    vocabulary: Literal["words", "bpe", "unigram"] = "bpe"
    """Whole words, or SentencePiece pieces (bpe, unigram); not with --teacher or --start."""
    vocabulary_size: Entries | None = 8000
    """Entries of each vocabulary; None: all words (only with --vocabulary words)."""
    shared_vocabulary: bool = False
    """One vocabulary for both sides."""
    features: bool = False
    """Source tokens are word-|-value-|-value, all with as many values; for --vocabulary words."""
    characters: Literal["none", "source", "target", "both"] = "none"
    """Sides whose words are read by their characters; for --vocabulary words."""
    lower: bool = False
    """Put all text in lower case."""
    vocabularies: Annotated[Vocabularies, Flat] = Vocabularies()
    validation: Annotated[Validation, Flat] = Validation()
    seed: Seed = 1
    """Seed of parameters, dropout and data order."""


@dataclass(frozen=True)
class Translate(Checked):
    """Translate text, line by line, from standard input to standard output or between files."""

    models: tyro.conf.Positional[Annotated[tuple[Path, ...], NONEMPTY]]
    """Folders of trained models; several form an ensemble."""
    source: Path | None = None
    """File to translate (of a .tsv file, the first column); standard input if left out."""
    out: Path | None = None
    """File to write; standard output if left out."""
    search: Annotated[Search, Flat] = Search()
    shortlist: tuple[Path, Path] | None = None
    """Source and target text, ideally the training set: score only words a sentence can need."""
    scores: bool = False
    """Put the log-probability in front of each line; not with --n-best, whose output has it."""
    replace_unk: bool = False
    """Replace each <unk> with the source word attended to most; for vocabularies of words."""
    dictionary: Path | None = None
    """File of lines source|||target, by which --replace-unk translates words instead of copying."""


@dataclass(frozen=True)
class Distill(Checked):
    """Let a teacher translate a corpus, and write the text that a student trains on."""

    source: Path
    """File of source sentences (of a .tsv file, the first column)."""
    out: Path
    """Folder for n-best lists, train.src and train.tgt; the same command resumes there."""
    model: tyro.conf.Positional[Path | None] = None
    """Folder of the teacher; leave it out with --nbest."""
    nbest: Path | None = None
    """Existing n-best lists: a folder of distill; a file of JSON lines or of translate --n-best."""
    first_index: Literal[0, 1] = 0
    """Number that --nbest gives to its first sentence."""
    reference: Path | None = None
    """File of true translations: take the closest hypothesis (Seq-Inter), not the best (Seq-KD).
    Of a .tsv file, its second column."""
    mbr: bool = False
    """Take the hypothesis closest to all others, weighted by probability (minimum Bayes risk)."""
    similarity: Similarity = "auto"
    """How --reference and --mbr compare; auto: chrf for text without spaces, else bleu."""
    smoothing: Smoothing | None = None
    """How bleu counts n-grams without a match; geometric, as Kim & Rush, if left out."""
    search: Annotated[Search, Flat] = Search(beam_size=5, n_best=5)


@dataclass(frozen=True)
class Cache(Checked):
    """Write a teacher's most probable words at each position of sentence pairs, for Word-KD."""

    model: tyro.conf.Positional[Path]
    """Folder of the teacher."""
    source: Path
    """File of source sentences, or one .tsv file with both sides."""
    out: Path
    """Folder of the cache; the same command resumes there."""
    target: Path | None = None
    """File of their translations, the ones that a student will be trained on."""
    k: Count = 16
    """Words kept of each distribution; the probability of all others is kept as one number."""
    temperature: Positive = 1.0
    """Temperature that softens the distributions; the student is trained at the same one."""


@dataclass(frozen=True)
class Score(Checked):
    """Print a model's log-probability (natural, end of sentence counted) of each sentence pair."""

    model: tyro.conf.Positional[Path]
    """Folder of a trained model."""
    source: Path
    """File of source sentences, or one .tsv file with both sides."""
    target: Path | None = None
    """File of their translations, line by line."""


@dataclass(frozen=True)
class Extract(Checked):
    """Write a model's states and attention, for each token of sentence pairs, to an .npz file.

    Its arrays: encoder [source tokens, M]; decoder_c, decoder_h [target tokens, layers, H]; hidden
    [target tokens, H]; attention, the matrices [T, S] of all pairs, flattened one after the other;
    source_offsets and target_offsets, where each pair's tokens begin; lines, the line of each pair.
    """

    model: tyro.conf.Positional[Path]
    """Folder of a trained model."""
    source: Path
    """File of source sentences, or one .tsv file with both sides."""
    out: Path
    """The .npz file to write."""
    target: Path | None = None
    """File of their translations, line by line."""


@dataclass(frozen=True)
class Evaluate(Checked):
    """Compare trained models on a test set: BLEU, chrF, perplexity, p(t=y^), size, speed."""

    models: tyro.conf.Positional[Annotated[tuple[Path, ...], NONEMPTY]]
    """Folders of trained models; the others are compared with the first."""
    source: Path
    """File of source sentences, or one .tsv file with both sides."""
    reference: Path | None = None
    """File of their true translations."""
    beams: Counts = (1, 5)
    """Beam sizes; 1 is greedy."""
    pair: str | None = None
    """Source and target language, such as en-ja; decides how BLEU tokenises the target."""
    tokenize: Tokenizer = "auto"
    """sacreBLEU's tokeniser; auto: by the target language; none: text is tokenised."""
    max_source: Count | None = 250
    """Longer sources are cut to this many tokens; None: never."""
    shortlist: tuple[Path, Path] | None = None
    """Source and target text to fit a shortlist on; also decode with it, and print the changes."""


@dataclass(frozen=True)
class Prune(Learning):
    """Prune a trained model and retrain it: most weights become 0, and stay 0."""

    model: tyro.conf.Positional[Path]
    """Folder of a trained model."""
    corpus: Annotated[Corpus, Flat]
    out: Path
    """Folder of the pruned model; the same command resumes there."""
    ratio: Fractions = (0.8,)
    """Share of weights to prune; several, rising, prune in rounds with training after each."""
    scheme: Literal["blind", "uniform", "distribution"] = "blind"
    """One threshold for all, the same share of each layer, or a threshold by its deviation."""
    saliency: Literal["magnitude", "obd"] = "magnitude"
    """Prune the smallest weights, or those that cost least (Optimal Brain Damage)."""
    keep_embeddings: bool = False
    """Do not prune word embeddings; --ratio is then a share of all other weights."""
    training: Annotated[Training, Flat] = Training(epochs=6, rate=1e-3)
    validation: Annotated[Validation, Flat] = Validation()
    seed: Seed = 1
    """Seed of dropout and data order."""


@dataclass(frozen=True)
class Compress(Learning):
    """Write a trained, ideally pruned, model as a compressed file (Deep Compression)."""

    model: tyro.conf.Positional[Path]
    """Folder of a trained model."""
    corpus: Annotated[Corpus, Flat]
    out: Path
    """Folder of the compressed model; translate, evaluate and the others can load it."""
    bits: Bits = 5
    """Bits of each weight's code: an array has at most 2^bits different values."""
    training: Annotated[Training, Flat] = Training(epochs=2, rate=5e-4)
    validation: Annotated[Validation, Flat] = Validation()
    seed: Seed = 1
    """Seed of dropout and data order; only with --data or --train, to train the values."""


@dataclass(frozen=True)
class Table3(Learning):
    """Prune the Seq-KD student of an experiment, as in the paper's Table 3: sizes and BLEU."""

    corpus: Annotated[TestedCorpus, Flat]
    out: Path
    """Folder of the experiment, which may be that of seqkd run: models trained there are used."""
    plan: Annotated[Plan, Flat]
    vocabularies: Annotated[Vocabularies, Flat] = Vocabularies()


@dataclass(frozen=True)
class Demo(Checked):
    """The main job in minutes on a CPU: distil students on a generated corpus, print the table."""

    out: Path = field(default_factory=lambda: Path("runs/demo"))
    """Folder of the experiment; the same command resumes there."""


@dataclass(frozen=True)
class Bench(Checked):
    """Measure this library's speed on fixed work, on real text, or beside another system."""

    rows: tuple[str, ...] = ()
    """Rows, or parts of their names, such as student, decode-teacher, k5; all if left out."""
    timing: Annotated[Timing, Flat] = Timing()
    against: tuple[str, ...] = ()
    """Commands of other systems, each printing a JSON line that names the row to measure in turns.
    A command may also keep running and print one for each line it reads (docs/peers/README.md)."""
    real: bool = False
    """Time an epoch and decoding of grammar's test set, and of multi30k's if SEQKD_DATA is set."""
    table2: bool = False
    """Measure the paper's Table 2: greedy students against a teacher's beam, V = 50,004."""
    out: Path | None = None
    """JSON file to write; rows already in it stay, unless they are measured again."""


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
