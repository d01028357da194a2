"""The table of pruned and compressed models, Table 3 of Kim & Rush (2016)."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from tabulate import tabulate

from ..errors import UsageError
from ..evaluate import Decoding, Evaluation
from ..files import PathLike, atomic_write


@dataclass(frozen=True)
class CompressedRow:
    """One model: as it was trained, and as it is read back from its compressed file."""

    name: str
    pruned: float  # share of its parameters
    left: int  # parameters that are not 0
    evaluation: Evaluation
    bytes: int | None = None  # of the compressed file of its parameters, if there is one
    compressed: Evaluation | None = None  # of what is in it


def compressed_table(rows: Sequence[CompressedRow]) -> str:
    """Renders rows; ratios are to the first one, the teacher."""
    beams = list(rows[0].evaluation.decodings)
    first = rows[0]
    head = ["", "pruned", "params left", "ratio", *(f"BLEU K={beam}" for beam in beams)]
    head += ["float32 kB", "file kB", "smaller", *(f"file's K={beam}" for beam in beams)]
    lines = []
    for row in rows:
        line = [row.name, f"{100 * row.pruned:g}%", f"{row.left:,}"]
        line += [f"{first.left / row.left:.0f}x", *_bleu(row.evaluation)]
        line += [f"{row.evaluation.parameters * 4 / 1e3:,.0f}"]
        if row.bytes is not None and row.compressed is not None:
            smaller = first.evaluation.parameters * 4 / row.bytes
            line += [f"{row.bytes / 1e3:,.0f}", f"{smaller:.0f}x", *_bleu(row.compressed)]
        lines.append(line + [""] * (len(head) - len(line)))
    align = ("left", *["right"] * (len(head) - 1))
    text = tabulate(lines, head, disable_numparse=True, colalign=align)
    return (
        f"{text}\nBLEU {first.evaluation.bleu_signature}\n"
        "ratio: of the teacher's parameters to those left; smaller: of the teacher in float32 to "
        "the file"
    )


def write_compressed_rows(
    path: PathLike, about: dict[str, Any], rows: Sequence[CompressedRow]
) -> None:
    """Writes rows as JSON, without the outputs of the systems."""
    record = {"about": about, "rows": [asdict(row) for row in rows]}
    for row in record["rows"]:
        for evaluation in filter(None, (row["evaluation"], row["compressed"])):
            for decoding in evaluation["decodings"].values():
                decoding["outputs"] = []
    atomic_write(path, (json.dumps(record, indent=1) + "\n").encode())


def read_compressed_rows(path: PathLike) -> list[CompressedRow]:
    """Reads what ``write_compressed_rows`` wrote.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: it is damaged.
    """
    try:
        rows = json.loads(Path(path).read_bytes())["rows"]
        for row in rows:
            row["evaluation"] = read_evaluation(row["evaluation"])
            row["compressed"] = row["compressed"] and read_evaluation(row["compressed"])
        return [CompressedRow(**row) for row in rows]
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise UsageError(f"{path}: not a file of table 3, or damaged ({error!r}).") from None


def read_evaluation(record: dict[str, Any]) -> Evaluation:
    """An evaluation from its JSON."""
    decodings = {int(beam): Decoding(**d) for beam, d in record["decodings"].items()}
    return Evaluation(**{**record, "decodings": decodings})


def _bleu(evaluation: Evaluation) -> list[str]:
    return [f"{decoding.bleu:.2f}" for decoding in evaluation.decodings.values()]
