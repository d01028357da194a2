"""Programs that were compiled and not run (``seqkd plan``), as a file and as a table."""

from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax

from ..addresses import PathLike
from ..errors import UsageError
from ..provenance import called, library
from ..sealed import RESTORE, read_record, write_record
from ..settings import Layout
from .layout import TEXT, Column, render

FORMAT = "seqkd-programs-1"
Record = dict[str, Any]
WORK = ("topology", "row", "dtype", "batch", "length", "beam")  # what a program is known by
# column -> its heading and how its numbers are written
COLUMNS = {
    "topology": ("slice", ""),
    "row": ("program", ""),
    "dtype": ("type", ""),
    "batch": ("B", ",d"),
    "length": ("S, T", "d"),
    "beam": ("K", "d"),
    "fits": ("fits", ""),
    "hbm_gib": ("HBM, GiB", ".2f"),
    "of_gib": ("of", ".0f"),
    "tflop": ("TFLOP", ".3g"),
    "own_tflop": ("own", ".3g"),
    "accessed_gb": ("accessed, GB", ".3g"),
    "sent_mb": ("sums, MB", ".3g"),
    "roofline_ms": ("roofline, ms", ".3g"),
    "bound": ("limited by", ""),
    "mcycles": ("cycles, M", ".3g"),
    "compile_s": ("compile, s", ".0f"),
    "largest_batch": ("largest B", ",d"),
}
FIT = ("row", "topology", "dtype", "batch", "length", "beam", "fits", "hbm_gib", "of_gib")
FIT += ("largest_batch", "compile_s")
COST = ("row", "roofline_ms", "bound", "tflop", "own_tflop", "accessed_gb", "sent_mb", "mcycles")


def made_with() -> Record:
    """Returns the versions of the compiler and of JAX."""
    return {"jax": jax.__version__, "libtpu": version("libtpu")}


def keep_plans(path: Path, records: Sequence[Record]) -> None:
    """Adds records of this version to a file of plans; they replace those of the same work.

    Raises:
      UsageError: the file was made with other versions, is damaged, or is of another kind.
    """
    kept = kept_plans(path)
    new = [record | {"library": library()} for record in records]
    known = {tuple(r.get(name) for name in WORK): r for r in [*kept["plans"], *new]}
    path.parent.mkdir(parents=True, exist_ok=True)
    write_record(path, FORMAT, kept | {"plans": list(known.values())})


def kept_plans(path: Path) -> Record:
    """Reads a file of plans to add more to it; the file need not exist yet.

    Raises UsageError as ``keep_plans`` does.
    """
    if not path.exists():
        return {"made_with": made_with(), "plans": []}
    kept = read_plans(path)
    if kept["made_with"] != made_with():
        raise UsageError(
            f"{path}: made with another version of JAX or libtpu; plans in one table have one "
            "compiler. Give another --out, or move this file away."
        )
    return kept


def read_plans(path: PathLike) -> Record:
    """Reads a file of plans.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the file is damaged, was edited, or is of another kind.
    """
    kept = read_record(path, FORMAT)
    plans = kept.get("plans")
    if not isinstance(kept.get("made_with"), dict) or not isinstance(plans, list):
        raise UsageError(f"{path}: not a file of plans. {RESTORE}")
    return kept


def plan_tables(path: PathLike) -> str:
    """Renders a file of plans: one table for each slice, the compiler, and this library's version.

    Raises UsageError if the file is damaged, was edited, or is of another kind.
    """
    kept = read_plans(path)
    slices = dict.fromkeys(r["topology"] for r in kept["plans"])
    tables = [plan_table([r for r in kept["plans"] if r["topology"] == s]) for s in slices]
    about = ", ".join(f"{name} {number}" for name, number in kept["made_with"].items())
    programs = dict.fromkeys(called(r["library"]) for r in kept["plans"] if "library" in r)
    return "\n\n".join([*tables, "\n".join([f"compiled, not run: {about}", *programs])])


def plan_table(records: Sequence[Record], layout: Layout = TEXT) -> str:
    """Renders plans as two tables, what fits and what it costs.

    They have the columns that at least one of the records has.
    """
    below = ["Compiled, not run. All numbers are per device."]
    return f"{_table(records, FIT, [], layout)}\n\n{_table(records, COST, below, layout)}"


def _table(
    records: Sequence[Record], names: Sequence[str], notes: Sequence[str], layout: Layout
) -> str:
    names = [n for n in names if any(r.get(n) not in (None, "") for r in records)]
    columns = [Column(COLUMNS[n][0], int(n == "compile_s"), not COLUMNS[n][1]) for n in names]
    lines = [
        ["" if r.get(n) in (None, "") else format(r[n], COLUMNS[n][1]) for n in names]
        for r in records
    ]
    return render(columns, lines, notes, layout)
