"""Texts whose tables are made from files of results.

    python -m seqkd_jax.report README.md

What lies between ``<!-- table: PATH -->`` and ``<!-- end -->`` is replaced by the table of that
file of results. Other kinds are ``speed`` (measurements of speed), ``plan`` (programs that were
compiled and not run), ``table3`` (pruned models), ``diagnosis`` (what distillation changed),
``trials`` (settings tried by ``seqkd tune``) and ``claims`` (those of the paper, for one or more
files of results). Paths are relative to the folder of the text.
"""

import re
from collections.abc import Sequence
from pathlib import Path

from ..addresses import PathLike, as_path
from ..provenance import origin_lines
from .claims import claims_table
from .compressed import compressed_table, read_compressed_rows
from .diagnosis import diagnosis_tables, read_diagnosis
from .programs import plan_tables
from .results import read_results
from .speed import speed_tables
from .table import table
from .trials import read_trials, trials_table

TABLE = re.compile(
    r"(<!-- (table|table3|speed|plan|claims|diagnosis|trials): ([^>]+?) -->\n).*?(<!-- end -->)",
    re.DOTALL,
)


def fill_tables(text: str, folder: PathLike) -> str:
    """Replaces each table of a text by the table of the results file that it names."""

    def fill(match: re.Match[str]) -> str:
        start, kind, names, end = match.groups()
        path, *others = (as_path(folder) / name for name in names.split())
        if kind == "claims":
            shown = _claims([path, *others])
        elif kind == "diagnosis":
            shown = diagnosis_tables(read_diagnosis(path), path)
        elif kind == "speed":
            shown = speed_tables(path)
        elif kind == "plan":
            shown = plan_tables(path)
        elif kind == "trials":
            _, trials = read_trials(path)
            shown = trials_table(
                trials, notes=origin_lines(made for trial in trials for made in trial.made)
            )
        elif kind == "table3":
            rows = read_compressed_rows(path)
            shown = compressed_table(
                rows, notes=origin_lines(e.made for row in rows for e in row.evaluations)
            )
        else:
            results = read_results(path)
            made = origin_lines(e.made for row in results.rows for e in row.evaluations)
            shown = table(results.rows, results.truth, notes=made)
        return f"{start}```text\n{shown}\n```\n{end}"

    return TABLE.sub(fill, text)


def _claims(paths: Sequence[Path]) -> str:
    """Returns the table of claims; a file of Table 3 stands beside its results."""
    beside = {path: path.with_name(f"{path.stem}-table3.json") for path in paths}
    pruned = {path: read_compressed_rows(other) for path, other in beside.items() if other.exists()}
    return claims_table({path: read_results(path) for path in paths}, pruned)
