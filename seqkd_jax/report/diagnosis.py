"""The record of ``diagnosis.diagnose``: its file, and its tables."""

from collections.abc import Sequence
from typing import Any

from ..addresses import PathLike
from ..sealed import read_record, write_record
from ..settings import Layout
from .layout import TEXT, Column, render
from .records import unreadable

FORMAT = "seqkd-diagnosis-1"
Table = tuple[list[str], list[list[str]], list[str]]  # heads, lines and notes


def write_diagnosis(path: PathLike, about: dict[str, Any], measured: dict[str, Any]) -> None:
    """Writes a record of ``diagnose``, and what it was made with."""
    write_record(path, FORMAT, {"about": about, **measured})


def read_diagnosis(path: PathLike) -> dict[str, Any]:
    """Reads a file of ``write_diagnosis``.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the file is damaged, was edited, or is of another kind.
    """
    return read_record(path, FORMAT)


def diagnosis_tables(measured: dict[str, Any], path: PathLike = "", layout: Layout = TEXT) -> str:
    """Renders a record of ``diagnose``: models, the truth, positions, corpora and the oracle.

    Raises:
      UsageError: the record, which was read from ``path``, was written by another version.
    """
    try:
        models: dict[str, Any] = measured["models"]
        tables = [_searches(models), _outputs(models)]
        if any("truth" in m for m in models.values()):
            tables.append(_truth(models))
        tables.append(_positions(models))
        if measured["corpora"]:
            tables.append(_corpora(measured["corpora"]))
        tables.append(_oracle(measured["oracle"]))
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise unreadable(path, error) from None
    return "\n\n".join(
        render(_columns(head), lines, notes, layout) for head, lines, notes in tables
    )


def _searches(models: dict[str, Any]) -> Table:
    head = ["", "BLEU K=1", "BLEU K=5", "p(t=y^)", "teacher's beam", "own beam", "search errors"]
    lines = []
    for name, m in models.items():
        greedy, beam = (m["bleu"][key] for key in sorted(m["bleu"], key=int))
        shares = ("mode_mass", "reproduces", "greedy_is_beam", "search_errors")
        line = [name, f"{greedy:.2f}", f"{beam:.2f}", *(_percent(m[key]) for key in shares)]
        lines.append(line)
    notes = [
        "teacher's beam, own beam: share of sentences that greedy search translates as this beam "
        "of 5 does",
        "search errors: share of sentences for which the beam found a more probable translation "
        "than greedy search",
    ]
    return head, lines, notes


def _outputs(models: dict[str, Any]) -> Table:
    head = ["", "ECE", "agrees", "repeats", "too short", "length"]
    lines = []
    for name, m in models.items():
        line = [name, f"{m['calibration_error']:.3f}"]
        line += [_percent(m["agrees"]) if "agrees" in m else ""]
        line += [_percent(m["repeats"]), _percent(m["too_short"]), f"{m['length_ratio']:.2f}"]
        lines.append(line)
    notes = [
        "ECE: expected calibration error of the next token; agrees: share of tokens whose most "
        "probable prediction is the teacher's",
        "repeats: share of translations that repeat a phrase; too short: with less than 0.6 of the "
        "reference's words; length: words in all, relative to the references",
    ]
    return head, lines, notes


def _truth(models: dict[str, Any]) -> Table:
    head = ["", "KL(truth || model)", "on right ones", "on the mode", "on wrong ones"]
    lines = []
    for name, m in models.items():
        truth = m["truth"]
        masses = (_percent(truth[key]) for key in ("right", "mode", "wrong"))
        lines.append([name, f"{truth['kl']:.2f}", *masses])
    return head, lines, ["probability mass of whole sentences; KL in nats"]


def _positions(models: dict[str, Any]) -> Table:
    first = next(iter(models.values()))["loss_by_position"]
    head = ["loss by position", *(_between(b["from"], b["to"]) for b in first)]
    lines = [
        [name, *(f"{b['loss']:.2f}" for b in m["loss_by_position"])] for name, m in models.items()
    ]
    return head, lines, ["nats per token of the references; positions count from 1"]


def _between(low: int, high: int | None) -> str:
    if high is None:
        return f"from {low + 1}"
    return f"{low + 1}" if high == low + 1 else f"{low + 1}-{high}"


def _corpora(corpora: dict[str, Any]) -> Table:
    lines = [
        [name, f"{c['complexity']:.2f}", f"{c['faithfulness']:.2f}" if "faithfulness" in c else ""]
        for name, c in corpora.items()
    ]
    notes = [
        "complexity: entropy of the translations of a source word; faithfulness: KL of the "
        "original corpus' translations of a word to these, 0 is the most faithful; nats (Zhou et "
        "al. 2020)"
    ]
    return ["corpus", "complexity", "faithfulness"], lines, notes


def _oracle(oracle: dict[Any, float]) -> Table:
    head = ["the best of the teacher's first", *(str(n) for n in oracle)]
    return head, [["sentence BLEU", *(f"{100 * value:.1f}" for value in oracle.values())]], []


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _columns(head: Sequence[str]) -> list[Column]:
    """Returns columns, of which the last are left out first."""
    return [Column(text, max(0, n - 3), left=n == 0) for n, text in enumerate(head)]
