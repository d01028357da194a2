"""Measured speed: the file of measurements, its tables, and the machine."""

import textwrap
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from ..addresses import PathLike
from ..errors import UsageError
from ..provenance import library, machine
from ..sealed import RESTORE, read_record, write_record
from ..settings import Layout
from .layout import TEXT as AS_TEXT
from .layout import WIDTH, Column, render

FORMAT = "seqkd-speed-1"
TEXT = ("row", "peer", "unit")  # columns of text, aligned to the left
HEADS = {"lower_quartile": "25 %", "upper_quartile": "75 %", "peer_median": "peer's"}
FIRST = 4  # columns that always stay; of the others, the last are left out first
RATIOS = ("ratio", "lower_quartile", "upper_quartile")
COMPARED = {  # columns to show for each kind of measurement; kinds not listed show all
    "against": ("row", "peer", *RATIOS, "median", "peer_median", "unit", "gemm_share"),
    "table2": ("row", *RATIOS, "paper_ratio", "median", "unit", "gemm_share"),
    "real": ("row", "median", "min", "max", "unit", "padding", "input", "compile_s", "programs"),
}
Records = Sequence[dict[str, Any]]


def measured_on() -> dict[str, Any]:
    """Returns what a measurement is made on, with which versions, and when."""
    return machine() | library() | {"date": time.strftime("%Y-%m-%d")}


def kept_speed(path: Path) -> dict[str, Any]:
    """Reads a file of measurements to add more to it; the file need not exist yet.

    Raises:
      UsageError: the file was measured on another machine, is damaged, was edited, or is of another
        kind.
    """
    here: dict[str, Any] = {"machine": measured_on()}
    if path.exists():
        before = read_speed(path)
        different = [k for k, v in before["machine"].items() if v != here["machine"].get(k)]
        if set(different) - {"date"}:
            raise UsageError(
                f"{path}: made on or with another {', '.join(different)}; only measurements from "
                "one machine belong in one table. Give another --out, or move this file away."
            )
        here = before | here
    return here


def read_speed(path: PathLike) -> dict[str, Any]:
    """Reads a file of measurements: the machine, and records of each kind.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the file is damaged, was edited, or is of another kind.
    """
    kept = read_record(path, FORMAT)
    kinds = [records for kind, records in kept.items() if kind != "machine"]
    rows = [row for records in kinds if isinstance(records, list) for row in records]
    if not (
        isinstance(kept.get("machine"), dict)
        and all(isinstance(records, list) for records in kinds)
        and all(isinstance(row, dict) and isinstance(row.get("row"), str) for row in rows)
    ):
        raise UsageError(f"{path}: not a file of measurements. {RESTORE}")
    return kept


def keep_speed(path: Path, kind: str, records: Records) -> None:
    """Adds records to a file of measurements; they replace those of the same rows and peers.

    Raises UsageError as ``kept_speed`` does.
    """
    here = kept_speed(path)
    rows = {(r["row"], r.get("peer")): r for r in [*here.get(kind, []), *records]}
    here[kind] = list(rows.values())
    path.parent.mkdir(parents=True, exist_ok=True)
    write_record(path, FORMAT, here)


def speed_tables(path: PathLike) -> str:
    """Renders a file of measurements: the columns that readers compare, and the machine.

    Raises UsageError if the file is damaged, was edited, or is of another kind.
    """
    kept = read_speed(path)
    about = ", ".join(f"{k} {v}" for k, v in kept.pop("machine").items())
    tables = [speed_table(kept[kind], COMPARED.get(kind, ())) for kind in kept]
    return "\n\n".join([*tables, "\n".join(textwrap.wrap(about, WIDTH))])


def speed_table(records: Records, columns: Sequence[str] = (), layout: Layout = AS_TEXT) -> str:
    """Renders records, with a column for each name in them, or for those of ``columns`` only.

    Values that are lists or objects are left out.
    """
    cells = [{k: v for k, v in r.items() if not isinstance(v, list | dict)} for r in records]
    names = list(dict.fromkeys(name for record in cells for name in record))
    names = [name for name in columns or names if name in names]
    lines = [[_cell(record.get(name)) for name in names] for record in cells]
    shown = [
        Column(HEADS.get(name, name.replace("_", " ")), max(0, n - FIRST + 1), name in TEXT)
        for n, name in enumerate(names)
    ]
    return render(shown, lines, layout=layout)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return "" if value is None else str(value)
