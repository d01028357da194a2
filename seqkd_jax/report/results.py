"""``results.json``: evaluated rows on disk, and text files whose tables are made from them.

    python -m seqkd_jax.report README.md

fills each place of a text between ``<!-- table: PATH -->`` and ``<!-- end -->`` with the table of
that results file, or ``<!-- speed: PATH -->`` with those of a file of measurements; a path is
relative to the text's folder. ``<!-- table3: PATH -->`` stands for a table of pruned models.
"""

import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from ..files import PathLike
from ..scoring import Difference
from ..sealed import read_record, write_record
from .compressed import compressed_table, read_compressed_rows
from .records import evaluation_record, read_evaluation, unreadable
from .speed import speed_tables
from .table import Row, Truth, table

FORMAT = "seqkd-results-1"
PLACE = re.compile(r"(<!-- (table|table3|speed): (\S+) -->\n).*?(<!-- end -->)", re.DOTALL)


@dataclass(frozen=True)
class Results:
    """A table of systems, and what it was made with; the systems' outputs are not kept."""

    about: dict[str, Any]  # corpus, plan, versions
    rows: list[Row]
    truth: Truth | None


def write_results(
    path: PathLike, about: dict[str, Any], rows: Sequence[Row], truth: Truth | None = None
) -> None:
    """Writes rows as a record, without the outputs of the systems."""
    record = {"about": about, "truth": truth and asdict(truth), "rows": list(map(_record, rows))}
    write_record(path, FORMAT, record)


def read_results(path: PathLike) -> Results:
    """Reads what ``write_results`` wrote.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: it is damaged, was edited, or is another file.
    """
    record = read_record(path, FORMAT)
    try:
        truth = record["truth"] and Truth(**record["truth"])
        return Results(record["about"], list(map(_row, record["rows"])), truth)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise unreadable(path, error) from None


def fill_tables(text: str, folder: PathLike) -> str:
    """Replaces each table of a text by that of the results file it names."""

    def fill(match: re.Match[str]) -> str:
        start, kind, name, end = match.groups()
        path = Path(folder) / name
        if kind == "speed":
            shown = speed_tables(path)
        elif kind == "table3":
            shown = compressed_table(read_compressed_rows(path))
        else:
            results = read_results(path)
            shown = table(results.rows, results.truth)
        return f"{start}```text\n{shown}\n```\n{end}"

    return PLACE.sub(fill, text)


def _record(row: Row) -> dict[str, Any]:
    return asdict(row) | {"evaluation": evaluation_record(row.evaluation)}


def _row(record: dict[str, Any]) -> Row:
    differences = {int(beam): Difference(**d) for beam, d in record["differences"].items()}
    evaluation = read_evaluation(record["evaluation"])
    return Row(**{**record, "evaluation": evaluation, "differences": differences})
