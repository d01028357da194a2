"""Evaluations as JSON, for the records that they are kept in."""

from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..errors import UsageError
from ..evaluate import Decoding, Evaluation, LeftOut
from ..files import PathLike
from ..sealed import RESTORE


def evaluation_record(evaluation: Evaluation, outputs: bool = False) -> dict[str, Any]:
    """An evaluation as JSON, with or without the systems' outputs."""
    record = asdict(evaluation)
    for decoding in record["decodings"].values():
        if not outputs:
            del decoding["outputs"]
    return record


def read_evaluation(record: dict[str, Any]) -> Evaluation:
    """An evaluation from its JSON."""
    decodings = {int(beam): Decoding(**d) for beam, d in record["decodings"].items()}
    left_out = {
        name: LeftOut(record[name]["count"], tuple(record[name]["lines"]))
        for name in ("not_decoded", "not_predicted")
    }
    return Evaluation(**{**record, "decodings": decodings, **left_out})


def unreadable(path: PathLike, error: Exception) -> UsageError:
    """What to say of a record whose seal is whole and that holds something else, all the same."""
    return UsageError(
        f"{Path(path)}: written by another version of seqkd_jax ({error!r}). {RESTORE}"
    )
