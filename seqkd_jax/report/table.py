"""The table that compares systems: what people read first, with its significance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tabulate import tabulate

from ..errors import UsageError
from ..evaluate import Evaluation
from ..scoring import Difference, Scorer


@dataclass(frozen=True)
class Row:
    """One evaluated row."""

    name: str
    evaluation: Evaluation
    differences: dict[int, Difference]  # by beam size; empty for a row that others refer to
    seconds: float | None = None  # of its training steps, without the stages before it
    compared_to: str | None = None  # name of the row that the differences are to


@dataclass(frozen=True)
class Truth:
    """What the grammar itself scores on a test set: no model can do better on average."""

    bleu: float  # of the most probable target against the sampled references
    perplexity: float  # of the true distribution, per token with EOS
    mode_mass: float  # mean probability of the most probable target


def baseline_of(name: str) -> str:
    """The row that a row of Table 1 is compared to: students to ``baseline``."""
    return "teacher" if name.startswith("teacher") else "baseline"


def compared(
    rows: Sequence[Row], references: Sequence[str], scorer: Scorer, by_name: bool = False
) -> list[Row]:
    """Adds to each row its difference from another, with paired bootstrap significance.

    Args:
      rows: with the outputs of their systems.
      references: of the test set.
      scorer: the one that the rows were evaluated with.
      by_name: compare each with the row that ``baseline_of`` names, where there is one; if not,
        and where there is none, with the first.
    """
    named = {row.name: row for row in rows} if by_name else {}

    def with_differences(row: Row) -> Row:
        other = named.get(baseline_of(row.name), rows[0])
        if other is row:
            return replace(row, differences={}, compared_to=None)
        differences = {
            beam: scorer.compare(_outputs(other, beam), _outputs(row, beam), references)
            for beam in row.evaluation.decodings
        }
        return replace(row, differences=differences, compared_to=other.name)

    return [with_differences(row) for row in rows]


def _outputs(row: Row, beam: int) -> Sequence[str]:
    outputs = row.evaluation.decodings[beam].outputs
    if outputs is None:
        raise UsageError(
            f"{row.name}: its outputs were not kept, so it cannot be compared with others."
        )
    return outputs


def table(rows: Sequence[Row], truth: Truth | None = None) -> str:
    """Renders rows as Table 1 is laid out, with size, speed and significance.

    A difference is marked * where the paired bootstrap gives p < 0.05, ** where p < 0.01. Below
    stand the signatures, what the differences are to, and what could not be measured.
    """
    beams = list(rows[0].evaluation.decodings)
    head = ["", "params"]
    for beam in beams:
        head += [f"BLEU K={beam}", "diff", "chrF"]
    head += ["PPL", "p(t=y^)", *(f"sent/s K={beam}" for beam in beams)]
    lines = []
    for row in rows:
        e = row.evaluation
        line: list[Any] = [row.name, _millions(e.parameters)]
        for beam in beams:
            decoding = e.decodings[beam]
            line += [f"{decoding.bleu:.2f}", _difference(row.differences.get(beam))]
            line += [f"{decoding.chrf:.1f}"]
        line += [f"{e.perplexity:.2f}", f"{100 * e.mode_mass:.1f}%"]
        line += [f"{e.decodings[beam].sentences_per_second:,.0f}" for beam in beams]
        lines.append(line)
    if truth is not None:
        blank = [""] * (3 * len(beams) - 1)
        line = ["the truth's mode", "", f"{truth.bleu:.2f}", *blank]
        lines.append([*line, f"{truth.perplexity:.2f}", f"{100 * truth.mode_mass:.1f}%"])
    align = ("left", *["right"] * (len(head) - 1))
    text = tabulate(lines, head, disable_numparse=True, colalign=align)
    evaluations = [row.evaluation for row in rows]
    notes = [f"BLEU {e.bleu_signature}; chrF {e.chrf_signature}" for e in evaluations]
    notes += _compared_to(rows)
    return "\n".join(dict.fromkeys([text, *notes, *left_out(evaluations)]))


def left_out(evaluations: Sequence[Evaluation]) -> list[str]:
    """Lines that say what was not measured for want of words; none where nothing was left out."""
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
    """The line that names what differences are to, if there are any."""
    others = list(dict.fromkeys(row.compared_to for row in rows if row.compared_to))
    if not others:
        return []
    most = max(others, key=[row.compared_to for row in rows].count)
    named = [f"to {_called(most)}"]
    for other in others:
        if other != most:
            of = ", ".join(row.name for row in rows if row.compared_to == other)
            named.append(f"that of {of} to {_called(other)}")
    return [f"diff: of BLEU, {'; '.join(named)}; paired bootstrap, * p<.05, ** p<.01"]


def _called(name: str) -> str:
    return f"the {name}" if name in ("baseline", "teacher") else name


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f}m"


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return ""
    p = difference.p_value
    return f"{difference.bleu:+.2f}" + ("**" if p < 0.01 else "*" if p < 0.05 else "")
