"""The table of pruned and compressed models, Table 3 of Kim & Rush (2016)."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..addresses import PathLike
from ..evaluation import Evaluation
from ..sealed import read_record, write_record
from ..settings import Layout
from .layout import TEXT, Column, render
from .records import evaluation_record, read_evaluation, unreadable
from .table import left_out

FORMAT = "seqkd-table3-1"


@dataclass(frozen=True)
class CompressedRow:
    """One model as it was trained, and as its compressed file gives it back."""

    name: str
    pruned: float  # share of the parameters that are pruned
    left: int  # number of parameters that are not 0
    evaluation: Evaluation
    bytes: int | None = None  # size of the compressed file of the parameters, if there is one
    compressed: Evaluation | None = None  # evaluation of the model in that file

    @property
    def evaluations(self) -> tuple[Evaluation, ...]:
        """Its evaluations: of the model, and of the file if there is one."""
        return (self.evaluation,) if self.compressed is None else (self.evaluation, self.compressed)


def compressed_table(
    rows: Sequence[CompressedRow], layout: Layout = TEXT, notes: Sequence[str] = ()
) -> str:
    """Renders rows, with notes below them; ratios are relative to the first row, the teacher."""
    beams = list(rows[0].evaluation.decodings)
    first = rows[0]
    columns = [Column("", left=True, name="row"), Column("pruned"), Column("params left", rank=1)]
    columns += [Column("ratio"), *(Column(f"BLEU K={beam}") for beam in beams)]
    columns += [Column("float32 kB", rank=2), Column("file kB"), Column("smaller")]
    columns += [Column(f"file's K={beam}") for beam in beams]
    lines = []
    for row in rows:
        line = [row.name, f"{100 * row.pruned:g}%", f"{row.left:,}"]
        line += [f"{first.left / row.left:.0f}x", *_bleu(row.evaluation)]
        line += [f"{row.evaluation.parameters * 4 / 1e3:,.0f}"]
        if row.bytes is not None and row.compressed is not None:
            smaller = first.evaluation.parameters * 4 / row.bytes
            line += [f"{row.bytes / 1e3:,.0f}", f"{smaller:.0f}x", *_bleu(row.compressed)]
        lines.append(line + [""] * (len(columns) - len(line)))
    below = [
        f"BLEU {first.evaluation.bleu_signature}",
        "ratio: of the teacher's parameters to those left; smaller: of the teacher in float32 to "
        "the file",
    ]
    below += [*left_out([row.evaluation for row in rows]), *notes]
    return render(columns, lines, below, layout)


def write_compressed_rows(
    path: PathLike, about: dict[str, Any], rows: Sequence[CompressedRow]
) -> None:
    """Writes rows as a record, without the systems' outputs."""
    write_record(path, FORMAT, {"about": about, "rows": list(map(_record, rows))})


def read_compressed_rows(path: PathLike) -> list[CompressedRow]:
    """Reads a file of ``write_compressed_rows``.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the file is damaged, was edited, or is of another kind.
    """
    record = read_record(path, FORMAT)
    try:
        rows = record["rows"]
        for row in rows:
            row["evaluation"] = read_evaluation(row["evaluation"])
            row["compressed"] = row["compressed"] and read_evaluation(row["compressed"])
        return [CompressedRow(**row) for row in rows]
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise unreadable(path, error) from None


def _record(row: CompressedRow) -> dict[str, Any]:
    return asdict(row) | {
        "evaluation": evaluation_record(row.evaluation),
        "compressed": row.compressed and evaluation_record(row.compressed),
    }


def _bleu(evaluation: Evaluation) -> list[str]:
    return [f"{decoding.bleu:.2f}" for decoding in evaluation.decodings.values()]
