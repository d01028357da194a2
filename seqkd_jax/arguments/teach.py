"""The arguments of the commands that turn a teacher into training data."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from ..ranges import Checked, Count, Positive
from ..settings import Messages, Search, Similarity, Smoothing
from .given import Flat


@dataclass(frozen=True)
class Distill(Checked):
    """Translate a corpus with a teacher, for students to be trained on.

    Example: seqkd distill teacher --source train.en --out distilled
    """

    source: Path
    """File of source sentences (a .tsv file: its first column)."""
    out: Path
    """Folder for n-best lists, train.src and train.tgt; the same command resumes the work there."""
    model: tyro.conf.Positional[Path | None] = None
    """Folder of the teacher; omit it with --nbest."""
    nbest: Path | None = None
    """Existing n-best lists: a folder of distill, JSON lines, or output of translate --n-best."""
    first_index: Literal[0, 1] = 0
    """Number of the first sentence in the --nbest file."""
    reference: Path | None = None
    """File of reference translations (a .tsv file: its second column).
    Take the hypothesis closest to the reference (Seq-Inter), not the best one (Seq-KD)."""
    mbr: bool = False
    """Take the hypothesis closest to all others, weighted by probability (minimum Bayes risk)."""
    similarity: Similarity = "auto"
    """How --reference and --mbr compare; auto: chrf for text without spaces, otherwise bleu."""
    smoothing: Smoothing | None = None
    """Smoothing of sentence BLEU for n-grams without a match; geometric (Kim & Rush) if omitted."""
    search: Annotated[Search, Flat] = Search(beam_size=5, n_best=5)
    engine: Literal["ray"] | None = None
    """ray: decode on the Ray cluster of RAY_ADDRESS, or else on this machine as a cluster.
    All its machines must see the teacher's folder; None: this process decodes."""
    workers: Count | None = None
    """Processes of --engine ray; one on each GPU, TPU host, or machine without them, if omitted."""
    messages: Annotated[Messages, Flat] = Messages()


@dataclass(frozen=True)
class Cache(Checked):
    """Write a teacher's most probable words at each position, for Word-KD.

    Example: seqkd cache teacher --source train.en --target train.de --out cache
    """

    model: tyro.conf.Positional[Path]
    """Folder of the teacher."""
    source: Path
    """File of source sentences, or one .tsv file with both sides."""
    out: Path
    """Folder of the cache; the same command resumes the work there."""
    target: Path | None = None
    """File of their translations, the targets that a student will be trained on."""
    k: Count = 16
    """Number of words kept of each distribution; the probability of all others is kept as a sum."""
    temperature: Positive = 1.0
    """Temperature that softens the distributions; the student is trained at the same one."""
    messages: Annotated[Messages, Flat] = Messages()
