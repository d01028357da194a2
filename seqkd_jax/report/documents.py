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
from typing import Any

from .. import __version__
from ..addresses import PathLike, as_path
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
            about, trials = read_trials(path)
            shown = "\n".join([trials_table(trials), *made_with(about)])
        elif kind == "table3":
            shown = compressed_table(read_compressed_rows(path))
        else:
            results = read_results(path)
            shown = "\n".join([table(results.rows, results.truth), *made_with(results.about)])
        return f"{start}```text\n{shown}\n```\n{end}"

    return TABLE.sub(fill, text)


def made_with(about: dict[str, Any]) -> list[str]:
    """Returns the line that says which version made a table and where, if that was recorded.

    It says so if the version is another than this one.
    """
    if "library" not in about:
        return []
    made, here = about["library"], about["machine"]
    commit = f" ({made['commit']})" if made["commit"] else ""
    date = f"; {about['date']}" if "date" in about else ""
    other = "" if made["version"] == __version__ else f", not by this version, {__version__}"
    return [
        f"made by seqkd_jax {made['version']}{commit}, jax {made['jax']}{other}; "
        f"{here['cpu']}, {here['cores']} cores, {here['device']}{date}"
    ]


def _claims(paths: Sequence[Path]) -> str:
    """Returns the table of claims; a file of Table 3 stands beside its results."""
    beside = {path: path.with_name(f"{path.stem}-table3.json") for path in paths}
    pruned = {path: read_compressed_rows(other) for path, other in beside.items() if other.exists()}
    return claims_table({path: read_results(path) for path in paths}, pruned)
