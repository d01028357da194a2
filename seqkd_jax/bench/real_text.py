"""What a user sees: a training epoch with real lengths and padding, and decoding."""

import itertools
import os
import tempfile
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from .. import recipes
from ..base import PAD
from ..data import batches
from ..decode.translation import translate_texts
from ..losses import nll, smoothed_nll
from ..progress import Bar
from ..recipes.stages import prepared
from ..settings import Search, Timing
from .rows import chosen
from .steps import Trainer
from .timing import Record, first_calls, seconds_of, speed


def real_rows() -> list[str]:
    """Returns the names of the rows: of ``grammar`` and, if SEQKD_DATA is set, ``multi30k``."""
    corpora = ("grammar", "multi30k") if os.environ.get("SEQKD_DATA") else ("grammar",)
    return [f"{corpus}-{model}" for corpus in corpora for model in ("student", "teacher")]


def measure_real(
    names: Sequence[str],
    timing: Timing,
    experiment: Callable[[str, Path], recipes.Experiment] = recipes.experiment,
) -> list[Record]:
    """Measures a training epoch and decoding on the corpora of ``real_rows``.

    The models and settings are those of the corpora's plans. ``padding`` is the share of padding
    among all ids of both sides. ``input`` is the share of time in which the loop waited for its
    next batch to be made; devices may go on computing meanwhile, so no more than that is lost. All
    shapes are compiled beforehand.

    Args:
      names: of the rows, in full or in part; none for all rows.
      timing: how to measure; ``steps`` limits the batches of the epoch, and the test sentences to 8
        for each batch.
      experiment: opens the experiment of a named corpus in a folder.

    Raises:
      UsageError: there is no such row.
    """
    records = []
    with tempfile.TemporaryDirectory() as folder:
        for name in Bar(chosen(real_rows(), names), desc="real text", unit="row"):
            records += _measured(name, experiment(name.split("-")[0], Path(folder) / name), timing)
    return records


def _measured(name: str, exp: recipes.Experiment, timing: Timing) -> Iterator[Record]:
    plan, size, training = exp.plan, exp.plan.student_size, exp.plan.student_training
    if name.endswith("teacher"):
        size, training = plan.teacher_size, plan.teacher_training
    new = recipes.new(exp, size)
    model = new.model
    training, encoded, buckets, _ = prepared(exp, new, exp.corpus.train, training)
    assert training.rate is not None
    loss = smoothed_nll(training.label_smoothing) if training.label_smoothing else nll
    train = Trainer(model, loss, training.rate)

    def epoch() -> Iterator[Any]:
        return itertools.islice(batches(encoded, buckets, seed=plan.seed, epoch=0), timing.steps)

    made = list(epoch())
    ids = sum(batch.src.size + batch.tgt.size for batch in made)
    sides = [np.stack([(b.src != PAD).sum(1), (b.tgt != PAD).sum(1)]) @ b.weight for b in made]
    src, tgt = np.sum(sides, axis=0).tolist()
    shapes = {(batch.src.shape, batch.tgt.shape): batch for batch in made}
    facts, _ = first_calls(lambda: train.over(shapes.values()))
    waited: list[float] = []
    seconds = seconds_of(lambda: waited.append(train.over(epoch())))
    shares = {"padding": 1 - (src + tgt) / ids, "input": waited[0] / seconds}
    yield speed(f"train-{name}", "target tokens/s", [tgt / seconds]) | shares | facts

    said = [source for source, _ in exp.corpus.test if new.src_vocab.encode(source)]
    lines = said[: timing.steps and 8 * timing.steps]
    trained = new.with_params(train.state.params)
    for beam in (1, 5):
        decode = partial(translate_texts, trained, lines, Search(beam_size=beam))
        facts, _ = first_calls(decode)
        values = [len(lines) / seconds_of(decode) for _ in range(timing.repeats)]
        yield speed(f"decode-{name}-k{beam}", "sentences/s", values) | facts
