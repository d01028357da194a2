"""The table that compares systems, with the significance of their differences."""

import functools
import math
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from ..errors import UsageError
from ..evaluation import Evaluation
from ..progress import Bar
from ..scoring import Difference, Scorer
from ..settings import Layout
from .layout import TEXT, Column, render


@dataclass(frozen=True)
class Row:
    """One evaluated row."""

    name: str
    evaluations: tuple[Evaluation, ...]  # one for each seed
    differences: dict[int, Difference]  # by beam size; empty for a baseline
    # spent in training steps, without the stages before it; the mean over seeds
    seconds: float | None = None
    compared_to: str | None = None  # name of the row that this one is compared with

    @property
    def evaluation(self) -> Evaluation:
        """The evaluation of the first seed."""
        return self.evaluations[0]

    def mean(self, measure: Callable[[Evaluation], float]) -> float:
        """Returns the mean of a measure over seeds."""
        return statistics.fmean(map(measure, self.evaluations))

    def spread(self, measure: Callable[[Evaluation], float]) -> float | None:
        """Returns the standard deviation of a measure over seeds; None if all are the same."""
        values = [measure(e) for e in self.evaluations]
        return statistics.stdev(values) if len(set(values)) > 1 else None


@dataclass(frozen=True)
class Truth:
    """What the grammar itself scores on a test set; no model can do better on average."""

    bleu: float  # of the most probable target against the sampled references
    perplexity: float  # of the true distribution, per token with EOS
    mode_mass: float  # mean probability of the most probable target


def baseline_of(name: str) -> str:
    """Returns the row that a row of Table 1 is compared with: ``teacher`` or ``baseline``."""
    return "teacher" if name.startswith("teacher") else "baseline"


def compared(
    rows: Sequence[Row], references: Sequence[str], scorer: Scorer, by_name: bool = False
) -> list[Row]:
    """Adds to each row its difference from another row, with paired bootstrap significance.

    Args:
      rows: rows with the systems' outputs.
      references: references of the test set.
      scorer: the scorer that the rows were evaluated with.
      by_name: compare each row with the row that ``baseline_of`` names, if it is there. All other
        rows are compared with the first one.
    """
    named = {row.name: row for row in rows} if by_name else {}

    def with_differences(row: Row) -> Row:
        other = named.get(baseline_of(row.name), rows[0])
        if other is row:
            return replace(row, differences={}, compared_to=None)
        differences = {
            beam: scorer.compare_seeds(_outputs(other, beam), _outputs(row, beam), references)
            for beam in row.evaluation.decodings
        }
        return replace(row, differences=differences, compared_to=other.name)

    return [*map(with_differences, Bar(rows, desc="comparing", unit="row", wait=2))]


def _outputs(row: Row, beam: int) -> list[Sequence[str]]:
    """Returns the outputs of each seed."""
    kept = [e.decodings[beam].outputs for e in row.evaluations]
    outputs = [each for each in kept if each is not None]
    if len(outputs) < len(kept):
        raise UsageError(
            f"{row.name}: its outputs were not kept, so this row cannot be compared with others."
        )
    return outputs


def table(
    rows: Sequence[Row],
    truth: Truth | None = None,
    layout: Layout = TEXT,
    notes: Sequence[str] = (),
) -> str:
    """Renders rows as Table 1 is laid out, with size, speed and significance.

    A difference is marked * where the paired bootstrap gives p < 0.05, and ** where p < 0.01. Of
    several seeds, values are means, BLEU with its standard deviation, and each difference has the
    signs that it has with each seed. Below the table are the signatures, what the rows are compared
    with, what could not be measured, and notes of the caller's.
    """
    beams = list(rows[0].evaluation.decodings)
    columns = [Column("", left=True, name="row"), Column("params", rank=3)]
    for beam in beams:
        columns += [Column(f"BLEU K={beam}"), Column("diff", name=f"diff K={beam}")]
        columns += [Column("chrF", rank=5, name=f"chrF K={beam}")]
        columns += [Column(name, name=f"{name} K={beam}") for name in _metrics(rows, beam)]
        columns += [Column("sent/s", rank=2, name=f"sent/s K={beam}")]
    columns += [Column("PPL", rank=1), Column("p(t=y^)", rank=1)]
    lines = []
    for row in rows:
        line = [row.name, _millions(row.evaluation.parameters)]
        for beam in beams:
            line += [_with_spread(row, functools.partial(_bleu, beam))]
            line += [_difference(row.differences.get(beam))]
            line += [f"{row.mean(lambda e, beam=beam: e.decodings[beam].chrf):.1f}"]
            for name in _metrics(rows, beam):
                line.append(f"{row.mean(functools.partial(_metric, beam, name)):.4g}")
            speed = row.mean(lambda e, beam=beam: e.decodings[beam].sentences_per_second)
            line.append(f"{speed:,.0f}")
        line += [f"{row.mean(lambda e: e.perplexity):.2f}"]
        line += [f"{100 * row.mean(lambda e: e.mode_mass):.1f}%"]
        lines.append(line)
    if truth is not None:
        known = {
            "row": "the truth's mode",
            f"BLEU K={beams[0]}": f"{truth.bleu:.2f}",
            "PPL": f"{truth.perplexity:.2f}",
            "p(t=y^)": f"{100 * truth.mode_mass:.1f}%",
        }
        lines.append([known.get(column.name or column.head, "") for column in columns])
    evaluations = [evaluation for row in rows for evaluation in row.evaluations]
    below = [f"BLEU {e.bleu_signature}" for e in evaluations]
    below += [f"chrF {e.chrf_signature}" for e in evaluations]
    below += _compared_to(rows)
    seeds = len(rows[0].evaluations)
    if seeds > 1:
        below.append(f"means of {seeds} seeds, ± standard deviation")
    if any(d.bleu == 0 and d.chrf > 0 for e in evaluations for d in e.decodings.values()):
        below.append(
            "BLEU is 0 where no output has four words, or none has a word of its reference: "
            "compare chrF"
        )
    below += [*left_out(evaluations), *notes]
    return render(columns, lines, list(dict.fromkeys(below)), layout)


def _metrics(rows: Sequence[Row], beam: int) -> Sequence[str]:
    """Returns the names of the metrics of the user's own."""
    return list(rows[0].evaluation.decodings[beam].metrics)


def left_out(evaluations: Sequence[Evaluation]) -> list[str]:
    """Returns lines that say what had no words and was therefore left out, if there is any."""
    notes = []
    for e in evaluations:
        if e.not_decoded.count:
            notes.append(
                f"sources without a word, of {e.sentences:,}, left out of p(t=y^) and of sent/s: "
                f"{e.not_decoded}"
            )
        if e.not_predicted.count:
            notes.append(
                f"pairs without a word on a side, of {e.sentences:,}, left out of PPL: "
                f"{e.not_predicted}"
            )
    return list(dict.fromkeys(notes))


def _compared_to(rows: Sequence[Row]) -> list[str]:
    """Returns the line that names what rows are compared with, if any are compared."""
    others = list(dict.fromkeys(row.compared_to for row in rows if row.compared_to))
    if not others:
        return []
    most = max(others, key=[row.compared_to for row in rows].count)
    named = [f"to {_called(most)}"]
    for other in others:
        if other != most:
            of = ", ".join(row.name for row in rows if row.compared_to == other)
            named.append(f"that of {of} to {_called(other)}")
    of_seeds = " over sentences and seeds" if len(rows[0].evaluations) > 1 else ""
    return [f"diff: of BLEU, {'; '.join(named)}; paired bootstrap{of_seeds}, * p<.05, ** p<.01"]


def _called(name: str) -> str:
    return f"the {name}" if name in ("baseline", "teacher") else name


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f}m"


def _bleu(beam: int, evaluation: Evaluation) -> float:
    return evaluation.decodings[beam].bleu


def _metric(beam: int, name: str, evaluation: Evaluation) -> float:
    return evaluation.decodings[beam].metrics.get(name, math.nan)


def _with_spread(row: Row, measure: Callable[[Evaluation], float]) -> str:
    spread = row.spread(measure)
    return f"{row.mean(measure):.2f}" + ("" if spread is None else f" ±{spread:.2f}")


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return ""
    p = difference.p_value
    marks = "**" if p < 0.01 else "*" if p < 0.05 else ""
    signs = "".join("+" if bleu > 0 else "-" if bleu < 0 else "0" for bleu, _ in difference.by_seed)
    return f"{difference.bleu:+.2f}{marks}" + (f" {signs}" if signs else "")
