"""Teachers that are too weak to teach, found before students learn from them. Floor 8."""

from collections.abc import Sequence
from typing import Any

from ..addresses import PathLike
from ..errors import UsageError
from ..model_folder import validations

TOO_LOW = 5.0  # BLEU
RISING = 1.15  # times the BLEU of the first four fifths of the training: still rising steeply
FEWEST = 5  # validations that make a curve


def require_able(folder: PathLike) -> None:
    """Refuses a teacher whose own validations say that it is too weak to teach.

    Raises:
      UsageError: it is; the message says why, and what helps.
    """
    reason = weakness(validations(folder), "--teacher-training.updates")
    if reason:
        raise UsageError(f"{folder}: {reason} To let it teach as it is, give --anyway.")


def weakness(curve: Sequence[dict[str, Any]], option: str = "--updates") -> str | None:
    """Returns why a model is too weak to teach, and what helps; None if it is not.

    Args:
      curve: the metrics of its validations, in their order.
      option: what sets the number of updates of its training.
    """
    bleu = [metrics.get("bleu") or 0.0 for metrics in curve]
    if not bleu:
        return None
    if max(bleu) < TOO_LOW:
        return (
            f"the best validation BLEU of this teacher is {max(bleu):.2f}. What it writes has "
            "little to do with the source, and students would learn that. Train another in a "
            f"new --out folder: with more updates ({option}), on more text, or with a vocabulary "
            "that suits the text (a small text needs a small one: --vocabulary-size)."
        )
    before = max(bleu[: 4 * len(bleu) // 5], default=0.0)
    if len(bleu) >= FEWEST and max(bleu) > RISING * before:
        return (
            f"the validation BLEU of this teacher rose from {before:.1f} to {max(bleu):.1f} in the "
            "last fifth of its training: it has not learnt all that it can. Train another in a "
            f"new --out folder with more updates ({option})."
        )
    return None
