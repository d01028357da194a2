"""The progress of a training, for people: a table with a line for each validation. Floor 8."""

from collections.abc import Sequence
from typing import Any

from .. import console
from ..processes import is_first
from ..train.loop import OnValidation, Progress

WIDTHS = (9, 8, 8, 10, 9)
HEAD = ("updates", "passes", "BLEU", "PPL", "minutes")
LONGEST = 53  # characters of a translation that are shown


def validation_table(updates_per_pass: int) -> OnValidation:
    """Returns a function that prints a line for each validation, and a heading before the first.

    A line ends with the model's translation of one sentence, whose source and reference stand above
    the table; a * marks the best validation so far.
    """
    headed = False

    def show(progress: Progress, step: int, metrics: dict[str, Any]) -> None:
        nonlocal headed
        if not is_first():
            return
        source, reference, translation = metrics["example"]
        if not headed:
            head = f"{_line(HEAD)}   translation   (*: the best so far)"
            lines = f"source      {source}\nreference   {reference}\n{head}"
            console.note(lines, "example", source=source, reference=reference)
            headed = True
        values = (
            f"{step:,}",
            f"{step / updates_per_pass:.1f}",
            f"{metrics['bleu']:.2f}" + ("*" if progress.best == progress.recent[-1] else " "),
            _perplexity(metrics["perplexity"]),
            f"{progress.seconds / 60:.1f}",
        )
        console.note(
            f"{_line(values)}   {_shortened(translation)}",
            "validation",
            step=step,
            passes=step / updates_per_pass,
            bleu=metrics["bleu"],
            perplexity=metrics["perplexity"],
            best=progress.best == progress.recent[-1],
            seconds=progress.seconds,
            translation=translation,
        )

    return show


def _perplexity(value: float) -> str:
    return f"{value:,.2f}" if value < 1e6 else f"{value:.1e}"


def _line(cells: Sequence[str]) -> str:
    return "".join(cell.rjust(width) for cell, width in zip(cells, WIDTHS, strict=True))


def _shortened(text: str) -> str:
    return text if len(text) <= LONGEST else text[: LONGEST - 3] + "..."
