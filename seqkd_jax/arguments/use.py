"""The arguments of the commands that use a model."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..ranges import NONEMPTY, Checked
from ..settings import Messages, Search
from .given import Flat


@dataclass(frozen=True)
class Translate(Checked):
    """Translate text line by line, from standard input or a file.

    Example: seqkd translate student < test.en > test.out
    """

    models: tyro.conf.Positional[Annotated[tuple[Path, ...], NONEMPTY]]
    """Folders of trained models; several form an ensemble."""
    source: Path | None = None
    """File to translate (a .tsv file: its first column); standard input if omitted."""
    out: Path | None = None
    """File to write; standard output if omitted."""
    search: Annotated[Search, Flat] = Search()
    shortlist: tuple[Path, Path] | None = None
    """Source and target text to fit a shortlist on, ideally the training set.
    Only words that a sentence is likely to need are then scored."""
    scores: bool = False
    """Print the log-probability in front of each line; --n-best prints it anyway."""
    replace_unk: bool = False
    """Replace each <unk> by the source word that it attends to most; for vocabularies of words."""
    dictionary: Path | None = None
    """File of lines source|||target: --replace-unk translates these words and copies others."""
    messages: Annotated[Messages, Flat] = Messages()


@dataclass(frozen=True)
class Score(Checked):
    """Print a model's log-probability of each sentence pair.

    The logarithm is natural, and </s> is included.

    Example: seqkd score student --source test.en --target test.de
    """

    model: tyro.conf.Positional[Path]
    """Folder of a trained model."""
    source: Path
    """File of source sentences, or one .tsv file with both sides."""
    target: Path | None = None
    """File of their translations, line by line."""
    messages: Annotated[Messages, Flat] = Messages()


@dataclass(frozen=True)
class Extract(Checked):
    """Write a model's states and attention for each token to an .npz file.

    The arrays are encoder [source tokens, M], where M is the width of the encoder's output;
    decoder_c and decoder_h [target tokens, layers, H]; hidden [target tokens, H]; attention, the
    matrices [T, S] of all pairs, flattened and concatenated; source_offsets and target_offsets,
    where each pair's tokens begin; and lines, the line number of each pair.

    Example: seqkd extract student --source test.en --target test.de --out states.npz
    """

    model: tyro.conf.Positional[Path]
    """Folder of a trained model."""
    source: Path
    """File of source sentences, or one .tsv file with both sides."""
    out: Path
    """The .npz file to write."""
    target: Path | None = None
    """File of their translations, line by line."""
    messages: Annotated[Messages, Flat] = Messages()


@dataclass(frozen=True)
class Export(Checked):
    """Write a model as one file that translates with jax and numpy alone.

    It holds weights, vocabularies and compiled searches for CPUs, GPUs and TPUs. In Python:
    seqkd_jax.load_exported("student.seqkdx").translate(lines). A model card is written beside it.

    Example: seqkd export student --out student.seqkdx
    """

    model: tyro.conf.Positional[Path]
    """Folder of a trained model."""
    out: Path
    """File to write, such as student.seqkdx. NAME.safetensors: the parameters alone, for other
    tools; as params.safetensors beside config.json and the vocabularies they can be loaded here.
    NAME.onnx: greedy search as a graph for ONNX Runtime; see onnx_student.load_onnx."""
    weights: Literal["float32", "bfloat16", "int8", "codes"] = "float32"
    """How weights are stored. bfloat16 and int8 (by column) round them; codes: at most 255 values
    for each array, exact for a model of seqkd compress."""
    platforms: Annotated[tuple[Literal["cpu", "cuda", "rocm", "tpu"], ...], NONEMPTY] = (
        "cpu",
        "cuda",
        "tpu",
    )
    """Platforms that the file will translate on; none of them has to be present."""
    search: Annotated[Search, Flat] = Search()
    teacher: Path | None = None
    """Folder of the model that taught it, for the model card; found by itself in seqkd run."""
    messages: Annotated[Messages, Flat] = Messages()
