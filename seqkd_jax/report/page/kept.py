"""What a run has stored in its folder for the page: test set, outputs, models.

results.json                     the rows of the table, see ``results``
test.source.txt                  the test set, line by line
test.reference.txt
ROW/evaluation.json              the outputs of each beam
seed-N/ROW/evaluation.json       those of another seed
nbest-K-test/                    the teacher's lists of the test set, see ``insides``
ROW/attention.json               where the model looked, see ``insides``
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...addresses import PathLike, as_path
from ...data.lines import pairs_digest
from ...errors import UsageError
from ...evaluation import Evaluation
from ...files import atomic_write, read_file
from ...scoring import Scorer
from ...sealed import read_record
from ..records import EVALUATION, evaluation_record, read_evaluation, unreadable
from ..results import Results, read_results
from ..table import Row

SOURCE, REFERENCE = "test.source.txt", "test.reference.txt"
AGAIN = "run the seqkd run command of this folder again; what is trained is not trained again"


@dataclass(frozen=True)
class Kept:
    """An evaluation with its outputs and its folder."""

    folder: Path  # of the row, where its model is, too
    evaluation: Evaluation
    model: str  # digest of the parameters that were evaluated


@dataclass(frozen=True)
class KeptRun:
    """A run as its folder holds it."""

    folder: Path
    results: Results
    pairs: list[tuple[str, str]]  # the test set: (source, reference)
    kept: dict[str, list[Kept]]  # by the name of the row, one for each seed

    @property
    def name(self) -> str:
        """The name of the folder."""
        return self.folder.name or str(self.folder)

    @property
    def plan(self) -> dict[str, Any]:
        """The settings of the experiment."""
        return self.results.about["plan"]

    @property
    def scorer(self) -> Scorer:
        """What the rows were scored with."""
        return Scorer(**self.results.about["scorer"])


def keep_test(folder: PathLike, pairs: Iterable[tuple[str, str]]) -> None:
    """Writes a test set into the folder of a run, unless it is there already."""
    folder = as_path(folder)
    for name, side in zip((SOURCE, REFERENCE), zip(*pairs, strict=True), strict=True):
        data = "".join(line + "\n" for line in side).encode()
        path = folder / name
        if not path.exists() or read_file(path) != data:
            atomic_write(path, data)


def read_run(folder: PathLike) -> KeptRun:
    """Reads what a run has left in its folder.

    Raises:
      FileNotFoundError: the folder has no results, or lacks a file that belongs to them.
      UsageError: a file is damaged, was edited, or does not belong to the others.
    """
    folder = as_path(folder)
    path = folder / "results.json"
    if not path.exists():
        raise FileNotFoundError(
            f"{folder}: has no results (no results.json); give the --out folder of seqkd run or "
            "seqkd demo."
        )
    results = read_results(path)
    if not {"plan", "scorer", "seeds"} <= results.about.keys():
        raise UsageError(f"{path}: does not say how its rows were made: {AGAIN}.")
    if not results.rows:
        raise UsageError(f"{path}: has no rows: {AGAIN}.")
    pairs = _read_test(folder)
    kept = {row.name: _read_row(folder, results, row) for row in results.rows}
    digest = pairs_digest(pairs)
    for row in kept.values():
        for one, test in row:
            if test != digest:
                raise UsageError(
                    f"{one.folder / 'evaluation.json'}: of another test set than {folder / SOURCE} "
                    f"and {folder / REFERENCE}: {AGAIN}."
                )
    return KeptRun(folder, results, pairs, {n: [k for k, _ in row] for n, row in kept.items()})


def _read_test(folder: Path) -> list[tuple[str, str]]:
    sides = []
    for name in (SOURCE, REFERENCE):
        path = folder / name
        if not path.exists():
            raise FileNotFoundError(f"{path}: no such file: {AGAIN}.")
        try:
            sides.append(read_file(path).decode().split("\n")[:-1])
        except UnicodeDecodeError:
            raise UsageError(f"{path}: damaged or edited (not UTF-8): {AGAIN}.") from None
    if len(sides[0]) != len(sides[1]):
        raise UsageError(
            f"{folder / SOURCE} has {len(sides[0]):,} lines, {folder / REFERENCE} "
            f"{len(sides[1]):,}: {AGAIN}."
        )
    return list(zip(*sides, strict=True))


def _read_row(folder: Path, results: Results, row: Row) -> list[tuple[Kept, str]]:
    """Returns the evaluations of a row and the digest of the test set of each."""
    seeds, first = results.about["seeds"], results.about["plan"]["seed"]
    found = []
    for seed, evaluation in zip(seeds, row.evaluations, strict=True):
        own = folder if seed == first else folder / f"seed-{seed}"
        # The teacher that the students of all seeds share is evaluated once.
        folders = [parent / row.name for parent in dict.fromkeys((own, folder))]
        for candidate in folders:
            if (kept := _read_evaluation(candidate, evaluation)) is not None:
                found.append(kept)
                break
        else:
            raise UsageError(
                f"{folders[0] / 'evaluation.json'}: missing, or not what {folder / 'results.json'} "
                f"says of {row.name} with seed {seed}: {AGAIN}."
            )
    return found


def _read_evaluation(folder: Path, expected: Evaluation) -> tuple[Kept, str] | None:
    """Returns an evaluation with outputs if it is the expected one, which is without."""
    path = folder / "evaluation.json"
    if not path.exists():
        return None
    record = read_record(path, EVALUATION)
    try:
        evaluation = read_evaluation(record["evaluation"])
        model, test = record["of"]["model"], record["of"]["test"]
        if evaluation_record(evaluation) != evaluation_record(expected):
            return None
        outputs = [decoding.outputs for decoding in evaluation.decodings.values()]
    except (LookupError, TypeError, AttributeError, ValueError) as error:
        raise unreadable(path, error) from None
    if any(lines is None or len(lines) != evaluation.sentences for lines in outputs):
        raise UsageError(f"{path}: outputs are missing: {AGAIN}.")
    return Kept(folder, evaluation, model), test


def require_comparable(runs: Sequence[KeptRun]) -> None:
    """Refuses runs whose rows cannot stand in one table.

    Raises:
      UsageError: the runs were tested on other text, or scored in another way.
    """
    first = runs[0]
    for run in runs[1:]:
        if run.pairs != first.pairs:
            raise UsageError(
                f"{run.folder}: has another test set than {first.folder}; give runs that were "
                "tested on the same text, or write a page for each."
            )
        if run.scorer != first.scorer:
            raise UsageError(
                f"{run.folder}: was scored with {run.scorer}, {first.folder} with {first.scorer}; "
                "give runs that were scored in the same way, or write a page for each."
            )
