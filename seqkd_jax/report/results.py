"""``results.json``: evaluated rows on disk."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from ..addresses import PathLike
from ..scoring import Difference
from ..sealed import read_record, write_record
from .records import evaluation_record, read_evaluation, unreadable
from .table import Row, Truth

FORMAT = "seqkd-results-2"


@dataclass(frozen=True)
class Results:
    """The rows of a table and what they were made with, without the systems' outputs."""

    about: dict[str, Any]  # corpus, plan, versions
    rows: list[Row]
    truth: Truth | None


def write_results(
    path: PathLike, about: dict[str, Any], rows: Sequence[Row], truth: Truth | None = None
) -> None:
    """Writes rows as a record, without the systems' outputs."""
    record = {"about": about, "truth": truth and asdict(truth), "rows": list(map(_record, rows))}
    write_record(path, FORMAT, record)


def read_results(path: PathLike) -> Results:
    """Reads a file of ``write_results``.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the file is damaged, was edited, or is of another kind.
    """
    record = read_record(path, FORMAT)
    try:
        truth = record["truth"] and Truth(**record["truth"])
        return Results(record["about"], list(map(_row, record["rows"])), truth)
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise unreadable(path, error) from None


def _record(row: Row) -> dict[str, Any]:
    return asdict(row) | {"evaluations": list(map(evaluation_record, row.evaluations))}


def _row(record: dict[str, Any]) -> Row:
    differences = {int(beam): _as_difference(d) for beam, d in record["differences"].items()}
    evaluations = tuple(map(read_evaluation, record["evaluations"]))
    return Row(**{**record, "evaluations": evaluations, "differences": differences})


def _as_difference(record: dict[str, Any]) -> Difference:
    return Difference(**{**record, "by_seed": tuple(map(tuple, record["by_seed"]))})
