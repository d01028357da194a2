"""Settings that were tried on the validation set, as a file and as a table."""

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..addresses import PathLike
from ..sealed import read_record, write_record
from ..settings import Layout
from .layout import TEXT, Column, render

FORMAT = "seqkd-tuning-1"


@dataclass(frozen=True)
class Trial:
    """One choice of settings, and what it reached on the validation set."""

    settings: dict[str, Any]  # the settings that differ from the plan that was started with
    scores: tuple[float, ...]  # best validation BLEU of each seed
    perplexities: tuple[float, ...]  # lowest validation perplexity of each seed
    made: tuple[dict[str, Any], ...] = ()  # what made each seed's model: ``provenance.origin``

    @property
    def rank(self) -> tuple[float, float]:
        """The higher the better: mean BLEU, then mean perplexity."""
        return statistics.fmean(self.scores), -statistics.fmean(self.perplexities)


def write_trials(path: PathLike, about: dict[str, Any], trials: Sequence[Trial]) -> None:
    """Writes trials atomically, with what they were made with."""
    write_record(path, FORMAT, {"about": about, "trials": [asdict(trial) for trial in trials]})


def read_trials(path: PathLike) -> tuple[dict[str, Any], list[Trial]]:
    """Reads ``tuning.json``: what the trials were made with, and the trials."""
    record = read_record(path, FORMAT)
    trials = [
        Trial(t["settings"], tuple(t["scores"]), tuple(t["perplexities"]), tuple(t.get("made", ())))
        for t in record["trials"]
    ]
    return record["about"], trials


def trials_table(trials: Sequence[Trial], layout: Layout = TEXT, notes: Sequence[str] = ()) -> str:
    """Renders trials, with notes below them; a * marks the best."""
    best = max(trials, key=lambda trial: trial.rank)
    lines = []
    for trial in trials:
        settings = " ".join(f"{name}={value}" for name, value in trial.settings.items())
        mean, each = trial.rank[0], " ".join(f"{score:.2f}" for score in trial.scores)
        mark = "*" if trial is best else ""
        lines.append([settings, f"{mean:.2f}{mark}", each, f"{-trial.rank[1]:.2f}"])
    columns = [Column("settings", left=True), Column("validation BLEU")]
    columns += [Column("of each seed", rank=1), Column("PPL")]
    return render(columns, lines, notes, layout)
