"""Evaluations as JSON, for the records that keep them."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..addresses import PathLike
from ..errors import UsageError
from ..evaluation import Decoding, Evaluation, LeftOut
from ..sealed import RESTORE

EVALUATION = "seqkd-evaluation-1"  # format of a stage's evaluation.json


def evaluation_record(evaluation: Evaluation, outputs: bool = False) -> dict[str, Any]:
    """Returns an evaluation as JSON, with or without the systems' outputs."""
    record = asdict(evaluation)
    for decoding in record["decodings"].values():
        if not outputs:
            del decoding["outputs"]
    return record


def read_evaluation(record: dict[str, Any]) -> Evaluation:
    """Returns an evaluation from its JSON."""
    decodings = {int(beam): Decoding(**d) for beam, d in record["decodings"].items()}
    left_out = {
        name: LeftOut(record[name]["count"], tuple(record[name]["lines"]))
        for name in ("not_decoded", "not_predicted")
    }
    return Evaluation(**{**record, "decodings": decodings, **left_out})


def unreadable(path: PathLike, error: Exception) -> UsageError:
    """Returns the error for a record whose seal is intact but whose content is not as expected."""
    return UsageError(
        f"{Path(path)}: written by another version of seqkd_jax ({error!r}). {RESTORE}"
    )
