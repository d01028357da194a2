"""The claims of Kim & Rush (2016), and whether they hold in results of this library."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from ..evaluation import Evaluation
from .compressed import CompressedRow
from .layout import Column, render
from .results import Results
from .table import Row

COMBINATIONS = ("seq-kd+seq-inter", "seq-kd+word-kd", "seq-kd+seq-inter+word-kd")
CAUGHT_UP = 0.3  # BLEU that a beam may still add to a greedy search that has caught up
Rows = Mapping[str, Evaluation]  # of one seed, by name


class Claim(NamedTuple):
    """One claim, as a measure of the rows of one seed."""

    text: str
    paper: str  # the paper's figure: English-German, the student 2 x 500
    needs: tuple[str, ...]  # names of the rows
    measure: Callable[[Rows], float]
    holds: Callable[[float], bool]
    unit: str = "{:+.2f}"


def _bleu(rows: Rows, name: str, beam: int = 1) -> float:
    return rows[name].decodings[beam].bleu


def _gap(rows: Rows, name: str) -> float:
    """Returns what a beam of 5 adds to greedy search, in BLEU."""
    return _bleu(rows, name, 5) - _bleu(rows, name)


def _best_combination(rows: Rows) -> float:
    """Returns the highest BLEU with K=5; KeyError if no combination was trained."""
    found = [_bleu(rows, name, 5) for name in COMBINATIONS if name in rows]
    if not found:
        raise KeyError(COMBINATIONS)
    return max(found)


def _positive(value: float) -> bool:
    return value > 0


CLAIMS = (
    Claim(
        "Seq-KD beats training on the corpus, greedy BLEU",
        "+4.2",
        ("baseline", "seq-kd"),
        lambda rows: _bleu(rows, "seq-kd") - _bleu(rows, "baseline"),
        _positive,
    ),
    Claim(
        "Seq-KD beats Word-KD, greedy BLEU",
        "+3.5",
        ("word-kd", "seq-kd"),
        lambda rows: _bleu(rows, "seq-kd") - _bleu(rows, "word-kd"),
        _positive,
    ),
    Claim(
        "the best combination beats Seq-KD, BLEU with K=5",
        "+0.3",
        ("seq-kd",),
        lambda rows: _best_combination(rows) - _bleu(rows, "seq-kd", 5),
        _positive,
    ),
    Claim(
        f"greedy catches up: a beam adds at most {CAUGHT_UP} BLEU to Seq-KD",
        "+0.1",
        ("seq-kd",),
        lambda rows: _gap(rows, "seq-kd"),
        lambda gap: gap <= CAUGHT_UP,
    ),
    Claim(
        "a beam adds less to Seq-KD than to the baseline, BLEU",
        "-2.8",
        ("baseline", "seq-kd"),
        lambda rows: _gap(rows, "seq-kd") - _gap(rows, "baseline"),
        lambda difference: difference < 0,
    ),
    Claim(
        "perplexity rises with Seq-KD, by a factor of",
        "2.8",
        ("baseline", "seq-kd"),
        lambda rows: rows["seq-kd"].perplexity / rows["baseline"].perplexity,
        lambda factor: factor > 1,
        "{:.2f}",
    ),
    Claim(
        "the mass of the mode grows with Seq-KD, by a factor of",
        "19",
        ("baseline", "seq-kd"),
        lambda rows: rows["seq-kd"].mode_mass / rows["baseline"].mode_mass,
        lambda factor: factor > 1,
        "{:.1f}",
    ),
    Claim(
        "the best student's greedy search comes within 1 BLEU of the teacher's beam",
        "-0.6",
        ("teacher", "seq-kd"),
        lambda rows: (
            max(_bleu(rows, name) for name in ("seq-kd", *COMBINATIONS) if name in rows)
            - _bleu(rows, "teacher", 5)
        ),
        lambda difference: difference >= -1,
    ),
    Claim(
        "and is ten times as fast, sentences/s",
        "8.1",
        ("teacher", "seq-kd"),
        lambda rows: (
            rows["seq-kd"].decodings[1].sentences_per_second
            / rows["teacher"].decodings[5].sentences_per_second
        ),
        lambda factor: factor >= 10,
        "{:.1f}",
    ),
)
PRUNED = ("pruning 80 % of the student costs at most 0.4 BLEU, K=5", "-0.4")


def claims_table(
    results: Mapping[Path, Results],
    pruned: Mapping[Path, Sequence[CompressedRow]] | None = None,
) -> str:
    """Renders the claims: the paper's figure, and for each file of results its own.

    Each figure is the mean over seeds, with its standard deviation, and is followed by ``yes`` if
    the claim holds with every seed, ``n of m`` if with some, and ``no`` if with none.
    """
    corpora = {
        path: str(found.about.get("corpus", path)).split(":")[0] for path, found in results.items()
    }
    lines = []
    for claim in CLAIMS:
        cells = [_held(claim, found.rows) for found in results.values()]
        lines.append([claim.text, claim.paper, *cells])
    if pruned:
        lines.append([*PRUNED, *(_pruned(pruned.get(path)) for path in results)])
    heads = [Column("", left=True), *map(Column, ["the paper", *corpora.values()])]
    return render(heads, lines)


def _held(claim: Claim, rows: Sequence[Row]) -> str:
    named = {row.name: row.evaluations for row in rows}
    if not set(claim.needs) <= set(named):
        return ""
    seeds = range(min(map(len, named.values())))
    try:
        each = [claim.measure({name: e[seed] for name, e in named.items()}) for seed in seeds]
    except KeyError:  # a beam, or a combination, that was not evaluated
        return ""
    mean = claim.unit.format(statistics.fmean(each))
    spread = f" ±{statistics.stdev(each):.2f}" if len(each) > 1 else ""
    return f"{mean}{spread} {_count(list(map(claim.holds, each)))}"


def _count(held: Sequence[bool]) -> str:
    if all(held) or not any(held):
        return "yes" if all(held) else "no"
    return f"{sum(held)} of {len(held)}"


def _pruned(rows: Sequence[CompressedRow] | None) -> str:
    found = {round(row.pruned, 2): row for row in rows or () if row.name != "teacher"}
    if 0.8 not in found or 0.0 not in found:
        return ""
    difference = found[0.8].evaluation.decodings[5].bleu - found[0.0].evaluation.decodings[5].bleu
    return f"{difference:+.2f} {'yes' if difference >= -0.4 else 'no'}"
