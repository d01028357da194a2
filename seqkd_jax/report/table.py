"""The table that compares systems: what people read first, with its significance."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from tabulate import tabulate

from ..evaluate import Difference, Evaluation, compare


@dataclass(frozen=True)
class Row:
    """One evaluated row; the differences are to the row's own baseline."""

    name: str
    evaluation: Evaluation
    differences: dict[int, Difference]  # by beam size; empty for a row that others refer to
    seconds: float | None = None  # of its training steps, without the stages before it


@dataclass(frozen=True)
class Truth:
    """What the grammar itself scores on a test set: no model can do better on average."""

    bleu: float  # of the most probable target against the sampled references
    perplexity: float  # of the true distribution, per token with EOS
    mode_mass: float  # mean probability of the most probable target


def compared(rows: Sequence[Row], references: Sequence[str], tokenize: str = "13a") -> list[Row]:
    """Adds to each row its difference from the baseline, with paired bootstrap significance.

    The baseline of a row is the row named ``teacher`` for names that begin so, else the one
    named ``baseline``; without these, the first row.
    """
    by_name = {row.name: row for row in rows}

    def reference_of(row: Row) -> Row:
        name = "teacher" if row.name.startswith("teacher") else "baseline"
        return by_name.get(name, rows[0])

    def differences(row: Row) -> dict[int, Difference]:
        reference = reference_of(row)
        if reference is row:
            return {}
        return {
            beam: compare(
                reference.evaluation.decodings[beam].outputs,
                decoding.outputs,
                references,
                tokenize=tokenize,
            )
            for beam, decoding in row.evaluation.decodings.items()
        }

    return [replace(row, differences=differences(row)) for row in rows]


def table(rows: Sequence[Row], truth: Truth | None = None) -> str:
    """Renders rows as Table 1 is laid out, with size, speed and significance.

    A difference is marked * where the paired bootstrap gives p < 0.05, ** where p < 0.01.
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
    first = rows[0].evaluation
    return (
        f"{text}\nBLEU {first.bleu_signature}; chrF {first.chrf_signature}\n"
        "diff: of BLEU, to the baseline; paired bootstrap, * p<.05, ** p<.01"
    )


def _millions(count: int) -> str:
    return f"{count / 1e6:.2f}m"


def _difference(difference: Difference | None) -> str:
    if difference is None:
        return ""
    p = difference.p_value
    return f"{difference.bleu:+.2f}" + ("**" if p < 0.01 else "*" if p < 0.05 else "")
