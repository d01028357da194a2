"""The arguments of the commands that train."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..ranges import NONEMPTY, Bits, Checked, Entries, Fractions, Names, Seed, Share
from ..settings import Hosts, Layout, Messages, Size, Training
from ..settings import Plan as ExperimentPlan
from .given import Corpus, Flat, Learning, TestedCorpus, Validation, Vocabularies


@dataclass(frozen=True)
class Run(Learning):
    """Train and evaluate a teacher and its students: rows of Table 1.

    Example: seqkd run --data grammar --seeds 1 2 3 --out runs/grammar
    """

    corpus: Annotated[TestedCorpus, Flat]
    out: Path
    """Folder of the experiment; the same command resumes it."""
    plan: Annotated[ExperimentPlan, Flat]
    rows: Names = (
        "teacher",
        "baseline",
        "word-kd",
        "seq-kd",
        "seq-kd+seq-inter",
    )
    """Rows of Table 1, or all of them (all); other systems too, such as luong-dot or deep-att."""
    settings: Path | None = None
    """File of settings to start from, as tune writes it, in place of those of the corpus."""
    extra_source: Path | None = None
    """More source text, without translations; students of Seq-KD learn from the teacher's."""
    seeds: tuple[Seed, ...] = ()
    """Train each row once with each of these seeds, and print means and deviations."""
    new_teachers: bool = False
    """With --seeds: train a teacher with each seed, instead of one for all students."""
    anyway: bool = False
    """Continue even if the teacher is too weak to teach."""
    vocabularies: Annotated[Vocabularies, Flat] = Vocabularies()
    hosts: Annotated[Hosts, Flat] = Hosts()
    layout: Annotated[Layout, Flat] = Layout()
    messages: Annotated[Messages, Flat] = Messages()


@dataclass(frozen=True)
class Tune(Learning):
    """Choose settings of a row on the validation set, over seeds.

    Example: seqkd tune --data grammar --row seq-kd --out runs/tuned
    """

    corpus: Annotated[Corpus, Flat]
    out: Path
    """Folder of the trials; the same command resumes them, and plan.json is written there."""
    plan: Annotated[ExperimentPlan, Flat]
    row: str = "baseline"
    """Row of Table 1 whose settings are chosen; students of all trials have one teacher."""
    choices: Annotated[tuple[str, ...], NONEMPTY] = ("student-training.rate=1e-3,2e-3,4e-3",)
    """Values to try, as setting=value,value; settings are chosen one after the other."""
    seeds: Annotated[tuple[Seed, ...], NONEMPTY] = (1, 2)
    """Seeds that each trial is trained with."""
    settings: Path | None = None
    """File of settings to start from, as tune writes it, in place of those of the corpus."""
    vocabularies: Annotated[Vocabularies, Flat] = Vocabularies()
    layout: Annotated[Layout, Flat] = Layout()
    messages: Annotated[Messages, Flat] = Messages()


@dataclass(frozen=True)
class Train(Learning):
    """Train one model: a teacher, a baseline, or a student.

    A student is trained on distilled text, or with Word-KD.

    Example: seqkd train --train train.en train.de --valid valid.en valid.de --out teacher
    """

    corpus: Annotated[Corpus, Flat]
    out: Path
    """Folder of the model; the same command resumes its training."""
    size: Annotated[Size, Flat] = Size()
    training: Annotated[Training, Flat] = Training()
    teacher: Path | None = None
    """Folder of a trained model, the teacher, whose vocabularies the student shares."""
    kd_weight: Share = 0.5
    """Weight of Word-KD in the loss; the likelihood has 1 - kd-weight.
    0: no Word-KD; the teacher only provides its vocabularies."""
    teacher_cache: Path | None = None
    """Folder that seqkd cache wrote for these pairs; the teacher need not run."""
    start: Path | None = None
    """Folder of a trained model to fine-tune; its shape and vocabularies are kept."""
    vocabulary: Literal["words", "bpe", "unigram"] = "bpe"
    """Kind of vocabulary: whole words, or SentencePiece pieces (bpe, unigram).
    Not with --teacher or --start."""
    vocabulary_size: Entries | None = 8000
    """Entries of each vocabulary; None: all words (only with --vocabulary words)."""
    shared_vocabulary: bool = False
    """Use one vocabulary for both sides."""
    features: bool = False
    """Source tokens carry features, word-|-value-|-value, the same number for every token.
    Needs --vocabulary words."""
    characters: bool = False
    """Source words are read character by character; needs --vocabulary words."""
    lower: bool = False
    """Convert all text to lower case."""
    vocabularies: Annotated[Vocabularies, Flat] = Vocabularies()
    validation: Annotated[Validation, Flat] = Validation()
    seed: Seed = 1
    """Seed of parameters, dropout and data order."""
    hosts: Annotated[Hosts, Flat] = Hosts()
    messages: Annotated[Messages, Flat] = Messages()


@dataclass(frozen=True)
class Prune(Learning):
    """Prune a model and retrain it: most weights become 0 and stay 0.

    Example: seqkd prune student --train distilled/train.src distilled/train.tgt
        --valid valid.en valid.de --ratio 0.5 0.8 --out pruned
    """

    model: tyro.conf.Positional[Path]
    """Folder of a trained model."""
    corpus: Annotated[Corpus, Flat]
    out: Path
    """Folder of the pruned model; the same command resumes the work there."""
    ratio: Fractions = (0.8,)
    """Share of weights to prune; several, which must rise: prune in rounds, training after each."""
    scheme: Literal["blind", "uniform", "distribution"] = "blind"
    """blind: one threshold for all weights. uniform: the same share of each layer.
    distribution: a threshold proportional to each layer's standard deviation."""
    saliency: Literal["magnitude", "obd"] = "magnitude"
    """Prune the smallest weights, or those that matter least to the loss (Optimal Brain Damage)."""
    keep_embeddings: bool = False
    """Do not prune word embeddings; --ratio is then a share of the other weights."""
    training: Annotated[Training, Flat] = Training(rate=1e-3)
    validation: Annotated[Validation, Flat] = Validation()
    seed: Seed = 1
    """Seed of dropout and data order."""
    hosts: Annotated[Hosts, Flat] = Hosts()
    messages: Annotated[Messages, Flat] = Messages()


@dataclass(frozen=True)
class Compress(Learning):
    """Write a model, ideally a pruned one, as a compressed file.

    Example: seqkd compress pruned --bits 5 --out small
    """

    model: tyro.conf.Positional[Path]
    """Folder of a trained model."""
    corpus: Annotated[Corpus, Flat]
    out: Path
    """Folder of the compressed model, which translate, evaluate and the other commands can load."""
    bits: Bits = 5
    """Bits of each weight's code: each array has at most 2^bits different values."""
    training: Annotated[Training, Flat] = Training(rate=5e-4)
    validation: Annotated[Validation, Flat] = Validation()
    seed: Seed = 1
    """Seed of dropout and data order; only with --data or --train, which train the values."""
    layout: Annotated[Layout, Flat] = Layout()
    messages: Annotated[Messages, Flat] = Messages()


@dataclass(frozen=True)
class Table3(Learning):
    """Prune and compress the Seq-KD student of an experiment: Table 3.

    Example: seqkd table3 --data grammar --out runs/grammar
    """

    corpus: Annotated[TestedCorpus, Flat]
    out: Path
    """Folder of the experiment; may be that of seqkd run, whose trained models are then used."""
    plan: Annotated[ExperimentPlan, Flat]
    vocabularies: Annotated[Vocabularies, Flat] = Vocabularies()
    layout: Annotated[Layout, Flat] = Layout()
    messages: Annotated[Messages, Flat] = Messages()


@dataclass(frozen=True)
class Demo(Checked):
    """Distil students on a generated corpus, in minutes on a CPU.

    Example: seqkd demo --out runs/demo
    """

    out: Path = field(default_factory=lambda: Path("runs/demo"))
    """Folder of the experiment; the same command resumes it."""
    layout: Annotated[Layout, Flat] = Layout()
    messages: Annotated[Messages, Flat] = Messages()
