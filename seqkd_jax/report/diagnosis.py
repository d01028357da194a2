"""The record of ``diagnosis.diagnose``: its file, and its tables."""

from collections.abc import Sequence
from typing import Any

from tabulate import tabulate

from ..addresses import PathLike
from ..sealed import read_record, write_record
from .records import unreadable

FORMAT = "seqkd-diagnosis-1"


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


def diagnosis_tables(measured: dict[str, Any], path: PathLike = "") -> str:
    """Renders a record of ``diagnose``: models, the truth, positions, corpora and the oracle.

    Raises:
      UsageError: the record, which was read from ``path``, was written by another version.
    """
    try:
        models: dict[str, Any] = measured["models"]
        tables = [_models(models)]
        if any("truth" in m for m in models.values()):
            tables.append(_truth(models))
        tables.append(_positions(models))
        if measured["corpora"]:
            tables.append(_corpora(measured["corpora"]))
        tables.append(_oracle(measured["oracle"]))
        return "\n\n".join(tables)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise unreadable(path, error) from None


def _models(models: dict[str, Any]) -> str:
    head = ["", "BLEU K=1", "K=5", "p(t=y^)", "teacher's beam", "own beam", "search errors"]
    head += ["ECE", "agrees", "repeats", "too short", "length"]
    lines = []
    for name, m in models.items():
        greedy, beam = (m["bleu"][key] for key in sorted(m["bleu"], key=int))
        shares = ("mode_mass", "reproduces", "greedy_is_beam", "search_errors")
        line = [name, f"{greedy:.2f}", f"{beam:.2f}", *(_percent(m[key]) for key in shares)]
        line += [f"{m['calibration_error']:.3f}"]
        line += [_percent(m["agrees"]) if "agrees" in m else ""]
        line += [_percent(m["repeats"]), _percent(m["too_short"]), f"{m['length_ratio']:.2f}"]
        lines.append(line)
    notes = (
        "teacher's beam, own beam: share of sentences that greedy search translates as this beam "
        "of 5 does\n"
        "search errors: share of sentences for which the beam found a more probable translation "
        "than greedy search\n"
        "ECE: expected calibration error of the next token; agrees: share of tokens whose most "
        "probable prediction is the teacher's\n"
        "repeats: share of translations that repeat a phrase; too short: with less than 0.6 of the "
        "reference's words; length: words in all, relative to the references"
    )
    return f"{_table(head, lines)}\n{notes}"


def _truth(models: dict[str, Any]) -> str:
    head = ["", "KL(truth || model)", "on right ones", "on the mode", "on wrong ones"]
    lines = []
    for name, m in models.items():
        truth = m["truth"]
        masses = (_percent(truth[key]) for key in ("right", "mode", "wrong"))
        lines.append([name, f"{truth['kl']:.2f}", *masses])
    return f"{_table(head, lines)}\nprobability mass of whole sentences; KL in nats"


def _positions(models: dict[str, Any]) -> str:
    first = next(iter(models.values()))["loss_by_position"]
    head = ["loss by position", *(_between(b["from"], b["to"]) for b in first)]
    lines = [
        [name, *(f"{b['loss']:.2f}" for b in m["loss_by_position"])] for name, m in models.items()
    ]
    return f"{_table(head, lines)}\nnats per token of the references; positions count from 1"


def _between(low: int, high: int | None) -> str:
    if high is None:
        return f"from {low + 1}"
    return f"{low + 1}" if high == low + 1 else f"{low + 1}-{high}"


def _corpora(corpora: dict[str, Any]) -> str:
    lines = [
        [name, f"{c['complexity']:.2f}", f"{c['faithfulness']:.2f}" if "faithfulness" in c else ""]
        for name, c in corpora.items()
    ]
    notes = (
        "complexity: entropy of the translations of a source word; faithfulness: KL of the "
        "original corpus' translations of a word to these, 0 is the most faithful; nats (Zhou et "
        "al. 2020)"
    )
    return f"{_table(['corpus', 'complexity', 'faithfulness'], lines)}\n{notes}"


def _oracle(oracle: dict[Any, float]) -> str:
    head = ["the best of the teacher's first", *(str(n) for n in oracle)]
    return _table(head, [["sentence BLEU", *(f"{100 * value:.1f}" for value in oracle.values())]])


def _percent(share: float) -> str:
    return f"{100 * share:.1f}%"


def _table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> str:
    align = ("left", *["right"] * (len(head) - 1))
    return tabulate(lines, head, disable_numparse=True, colalign=align)
