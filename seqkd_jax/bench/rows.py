"""The fixed work: random ids from a fixed seed, S = T = 16, in four batches that take turns.

There is neither padding nor dropout.

    train   nll, Adam 1e-3, clipping at 5; target tokens per second
    kd      the student on mix(nll, word_kd, 0.5), with the teacher's forward pass in the same step
    decode  a beam of K (1: greedy) over 16 tokens, EOS forbidden before the last one, with the
            encoder; sentences per second
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ..base import EOS, Example
from ..errors import UsageError
from ..models.config import Config

Models = Mapping[str, Config]  # sizes of models by their names

LENGTH = 16  # S and T of the fixed work
TURNS = 4  # number of batches that take turns
MODELS = {
    name: Config(*vocabularies, embed=width, hidden=width, layers=layers, dropout=0.0)
    for name, vocabularies, layers, width in (
        ("student", (6000, 7859), 1, 128),
        ("teacher", (6000, 7859), 2, 512),
        ("big", (50_004, 50_004), 2, 500),
        ("2x300", (50_004, 50_004), 2, 300),
        ("4x1000", (50_004, 50_004), 4, 1000),
    )
}


@dataclass(frozen=True)
class Row:
    """One piece of fixed work."""

    work: str  # train, kd or decode
    model: str  # name of the model
    config: Config  # sizes of the model
    batch: int  # B
    beam: int = 0  # K; 0 for training
    length: int = LENGTH  # S and T
    shortlist: int = 0  # target words for each source word; 0: the whole vocabulary
    teacher_config: Config | None = None  # sizes of the teacher; None unless the work is kd

    def __str__(self) -> str:
        beam = f"-k{self.beam}" if self.beam else ""
        return f"{self.work}-{self.model}{beam}-b{self.batch}"

    @property
    def amount(self) -> int:
        """Amount of work in one step: sentences when decoding, target tokens when training."""
        return self.batch if self.beam else self.batch * self.length


TRAINING = (("train", "student"), ("kd", "student"), ("train", "teacher"), ("train", "big"))
DECODING = ((1, 1), (1, 64), (5, 1), (5, 64), (35, 32))  # K, B


def fixed_row(work: str, model: str, batch: int, beam: int = 0, models: Models = MODELS) -> Row:
    """Returns a row of the fixed work for a model by its name."""
    teacher_config = models["teacher"] if work == "kd" else None
    return Row(work, model, models[model], batch, beam, teacher_config=teacher_config)


def fixed_rows(models: Models = MODELS) -> tuple[Row, ...]:
    """Returns all rows of the fixed work, for models of these sizes."""
    training = [fixed_row(work, model, 64, models=models) for work, model in TRAINING]
    decoded = [(model, b, k) for model in ("student", "teacher", "big") for k, b in DECODING]
    return (*training, *(fixed_row("decode", *one, models=models) for one in decoded))


FIXED = fixed_rows()


def chosen(known: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """Returns the rows that a name matches, in full or in part; all of them without a name.

    Raises UsageError for a name that matches no row.
    """
    matched = {name: [x for x in known if f"-{name}-" in f"-{x}-"] for name in names}
    for name, found in matched.items():
        if not found:
            listed = ", ".join(dict.fromkeys(map(str, known)))
            raise UsageError(f"There is no row {name!r}; the rows are: {listed}.")
    return [x for x in known if not names or any(x in found for found in matched.values())]


def random_batches(row: Row) -> list[Example]:
    """Returns the batches of a row, which are the same at every call."""
    config, shape = row.config, (TURNS, row.batch, row.length)
    vocabularies, rng = (config.src_vocab, config.tgt_vocab), np.random.default_rng(0)
    src, tgt = (rng.integers(EOS + 1, size, shape, np.int32) for size in vocabularies)
    tgt[:, :, -1] = EOS
    rest: Any = (np.ones(row.batch, np.float32), np.arange(row.batch, dtype=np.int32))
    return [Example(*sides, *rest) for sides in zip(src, tgt, strict=True)]
