"""Where systems differ: BLEU by the length of sentences, accuracy by the frequency of words."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ...diagnosis.buckets import (
    FREQUENCIES,
    LENGTHS,
    Bucket,
    accuracy_by_frequency,
    bleu_by_length,
)
from ...errors import UsageError
from ...scoring import Scorer
from .style import axes_or_new, grouped_bars

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def differences_by_length(
    outputs: Mapping[str, Sequence[str]],
    references: Sequence[str],
    scorer: Scorer,
    *,
    edges: Sequence[int] = LENGTHS,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws how much better than the first system the others are, by the references' length.

    Args:
      outputs: of each system, by name; the first is what the others are compared with.
      references: one for each sentence.
      scorer: whose BLEU it is.
      edges: see ``diagnosis.bleu_by_length``.
      ax: axes to draw on.

    Raises:
      UsageError: there are fewer than two systems, or as ``diagnosis.bleu_by_length``.
    """

    def measure(lines: Sequence[str]) -> list[Bucket]:
        return bleu_by_length(lines, references, scorer, edges)

    axes: Any = _draw(outputs, measure, "BLEU", ax)
    axes.set_xlabel("words of the reference (number of sentences)")
    return axes


def differences_by_frequency(
    outputs: Mapping[str, Sequence[str]],
    references: Sequence[str],
    scorer: Scorer,
    *,
    training: Iterable[str] | None = None,
    edges: Sequence[int] = FREQUENCIES,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws how much more accurate than the first system the others are on words, by frequency.

    Args:
      outputs: of each system, by name; the first is what the others are compared with.
      references: one for each sentence.
      scorer: whose words are compared.
      training: target lines in which words are counted; the references if omitted.
      edges: see ``diagnosis.accuracy_by_frequency``.
      ax: axes to draw on.

    Raises:
      UsageError: there are fewer than two systems, or as ``diagnosis.accuracy_by_frequency``.
    """
    counted = None if training is None else list(training)

    def measure(lines: Sequence[str]) -> list[Bucket]:
        return accuracy_by_frequency(lines, references, scorer, counted, edges)

    axes: Any = _draw(outputs, measure, "F-measure", ax)
    where = "the references" if training is None else "the training text"
    axes.set_xlabel(f"frequency of the word in {where} (number of words)")
    return axes


def _draw(
    outputs: Mapping[str, Sequence[str]],
    measure: Callable[[Sequence[str]], list[Bucket]],
    measured: str,
    ax: Any,
) -> Any:
    if len(outputs) < 2:
        raise UsageError(f"Differences need at least two systems; there are {len(outputs)}.")
    (first, baseline), *others = ((name, measure(lines)) for name, lines in outputs.items())
    axes: Any = axes_or_new(ax)
    grouped_bars(
        axes,
        [f"{bucket.label}\n({bucket.size:,})" for bucket in baseline],
        {
            name: [b.score - a.score for a, b in zip(baseline, buckets, strict=True)]
            for name, buckets in others
        },
        "{:+.1f}",
    )
    axes.axhline(0, color="black", linewidth=0.8)
    axes.set_ylabel(f"{measured}, difference to {first}")
    return axes
