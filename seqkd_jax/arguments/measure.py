"""The arguments of the commands that measure."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..ranges import NONEMPTY, Beam, Beams, Checked, Count, Entries
from ..settings import Layout, Messages, Size, Timing, Tokenizer
from .given import Files, Flat


@dataclass(frozen=True)
class Evaluate(Checked):
    """Compare models on a test set: BLEU, chrF, perplexity, size, speed.

    Example: seqkd evaluate teacher student --source test.en --reference test.de
    """

    models: tyro.conf.Positional[Annotated[tuple[Path, ...], NONEMPTY]]
    """Folders of trained models; each is compared with the first."""
    source: Path
    """File of source sentences, or one .tsv file with both sides."""
    reference: Path | None = None
    """File of their reference translations."""
    beams: Beams = (1, 5)
    """Beam sizes; 1 is greedy."""
    pair: str | None = None
    """Source and target language, such as en-ja. The target language decides how BLEU tokenises."""
    tokenize: Tokenizer = "auto"
    """sacreBLEU's tokeniser; auto: by the target language; none: already tokenised."""
    max_source: Count | None = 250
    """Sources are cut to this many tokens; None: never."""
    shortlist: tuple[Path, Path] | None = None
    """Source and target text to fit a shortlist on.
    Each model then also decodes with it, and the changes are printed."""
    layout: Annotated[Layout, Flat] = Layout()
    messages: Annotated[Messages, Flat] = Messages()


@dataclass(frozen=True)
class Diagnose(Checked):
    """Show what distillation changed in students, beyond BLEU.

    Example: seqkd diagnose teacher student --source test.en --reference test.de
    """

    models: tyro.conf.Positional[Annotated[tuple[Path, ...], NONEMPTY]]
    """Folder of the teacher, then those of students."""
    data: Literal["grammar", "noisy-grammar"] | None = None
    """Test on a generated corpus, of which the truth is known, instead of on files."""
    source: Path | None = None
    """Source sentences of the test set, or a .tsv file with both sides."""
    reference: Path | None = None
    """Their references; not with a .tsv file."""
    original: Files = ()
    """Text that the teacher was trained on: source and target, or one .tsv file."""
    distilled: Files = ()
    """Text that students were trained on, to compare with --original."""
    pair: str | None = None
    """Source and target language, such as en-ja. The target language decides how BLEU tokenises."""
    tokenize: Tokenizer = "auto"
    """sacreBLEU's tokeniser; auto: by target language; none: already tokenised."""
    max_source: Count | None = 250
    """Sources are cut to this many tokens; None: never."""
    oracle: Beams = (1, 5, 35)
    """Lengths of the teacher's n-best lists whose best hypothesis is scored."""
    out: Path | None = None
    """File for all that was measured (JSON)."""
    pictures: Path | None = None
    """Folder for pictures (PNG); needs matplotlib."""
    layout: Annotated[Layout, Flat] = Layout()
    messages: Annotated[Messages, Flat] = Messages()


@dataclass(frozen=True)
class Report(Checked):
    """Write a page that compares the rows of runs, sentence by sentence.

    Example: seqkd report runs/demo --out page.html
    """

    runs: tyro.conf.Positional[Annotated[tuple[Path, ...], NONEMPTY]]
    """Folders of seqkd run or seqkd demo, with the same test set."""
    out: Path = field(default_factory=lambda: Path("page.html"))
    """File to write; it needs no network."""
    sentences: Count | None = 1000
    """Number of test sentences to show, the first ones; None: all."""
    messages: Annotated[Messages, Flat] = Messages()


@dataclass(frozen=True)
class Bench(Checked):
    """Measure speed on fixed work, real text, or against another system.

    Example: seqkd bench --rows student --out speed.json
    """

    rows: tuple[str, ...] = ()
    """Rows, or parts of their names, such as student, decode-teacher or k5; all if omitted."""
    timing: Annotated[Timing, Flat] = Timing()
    against: tuple[str, ...] = ()
    """Commands of other systems; each prints a JSON line that names the row to measure in turns.
    A command may keep running and print a line for each line it reads (docs/peers/README.md)."""
    real: bool = False
    """Time a training epoch and decoding on grammar, and on multi30k if SEQKD_DATA is set."""
    table2: bool = False
    """Measure the paper's Table 2: greedy students against a teacher's beam, V = 50,004."""
    out: Path | None = None
    """JSON file to write; rows that it already holds stay unless they are measured again."""
    layout: Annotated[Layout, Flat] = Layout()
    messages: Annotated[Messages, Flat] = Messages()


@dataclass(frozen=True)
class Plan(Checked):
    """Compile for TPUs that this machine lacks: what fits, and how fast.

    The defaults are the paper's models: a student of 2x500 and a teacher of 4x1000, V = 50,004.
    All numbers are per device. Needs libtpu (pip install 'jax[tpu]').

    Example: seqkd plan --topology v5e:2x4 --model student --no-largest
    """

    topology: str = "v5e:2x4"
    """A chip (v4, v5e, v5p, v6e) and the shape of the slice."""
    programs: tuple[Literal["train", "word-kd", "search"], ...] = ("train", "word-kd", "search")
    """A training step, a training step with a teacher (Word-KD), and a beam search."""
    model: Path | None = None
    """Folder of a model to plan for, instead of --hidden and so on."""
    size: Annotated[Size, Flat] = Size(embed=500, hidden=500, layers=2)
    vocabulary_size: Entries = 50_004
    """Entries of each vocabulary, if no folder of a model is given."""
    teacher: Path | None = None
    """Folder of the teacher of Word-KD, instead of --teacher-size.hidden and so on."""
    teacher_size: Size = Size(embed=1000, hidden=1000, layers=4)
    """The shape of the teacher of Word-KD; it computes in the type of the student."""
    batch: Count = 64
    """Sentences of each device."""
    length: Count = 50
    """Tokens of each source and of each target; none is padding."""
    beam_size: Beam = 5
    """Hypotheses of the search."""
    largest: bool = True
    """Look for the largest batch that fits, which compiles each program several times."""
    out: Path | None = None
    """JSON file to write; programs that it already holds stay unless they are compiled again."""
    layout: Annotated[Layout, Flat] = Layout()
    messages: Annotated[Messages, Flat] = Messages()
