"""Pictures of training and of what distillation does to a distribution. Needs matplotlib.

Each function draws on the axes it is given, or on new ones, and returns them.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from ..errors import UsageError
from ..models.inspection import alignments
from ..train.model_folder import Trained

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def training_curves(
    folders: Sequence[str | Path], metric: str = "bleu", axes: "Axes | None" = None
) -> "Axes":
    """Draws a validation metric over epochs, a line for each run's folder.

    ``metric`` is a name in ``metrics.jsonl``: bleu or perplexity.
    """
    ax = _axes(axes)
    for folder in map(Path, folders):
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        records = [r for r in map(json.loads, lines) if "valid" in r]
        epochs, values = zip(*((r["epoch"], r["valid"][metric]) for r in records), strict=True)
        ax.plot(epochs, values, marker=".", label=folder.name)
    ax.set_xlabel("epoch")
    ax.set_ylabel(f"validation {metric}")
    ax.legend()
    return ax


def attention_map(trained: Trained, source: str, target: str, axes: "Axes | None" = None) -> "Axes":
    """Draws where a model looks in ``source`` while it predicts each token of ``target``."""
    ax = _axes(axes)
    src, tgt = trained.src_vocab.encode(source), trained.tgt_vocab.encode(target)
    weights = alignments(trained.config, trained.params, jnp.array(src), jnp.array(tgt))
    ax.imshow(np.asarray(weights), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    ax.set_xticks(range(len(src)), trained.src_vocab.tokens(src), rotation=60, ha="right")
    ax.set_yticks(range(len(tgt)), trained.tgt_vocab.tokens(tgt))
    return ax


def distributions(
    truth: Mapping[str, float],
    models: Mapping[str, Mapping[str, float]],
    *,
    most: int = 12,
    axes: "Axes | None" = None,
) -> "Axes":
    """Draws the probabilities of one source's targets: the true ones, and those of models.

    Args:
      truth: probability of each right target.
      models: for each name, log-probability (nats) of the same targets.
      most: how many targets, the most probable first.
      axes: to draw on.

    What is left of a bar to 1 in the legend is mass that a model gives to other sentences.
    """
    ax = _axes(axes)
    shown = sorted(truth, key=lambda t: -truth[t])[:most]
    height = 0.8 / (len(models) + 1)
    rows = np.arange(len(shown))
    ax.barh(rows, [truth[t] for t in shown], height, label="truth", color="black")
    for n, (name, log_probs) in enumerate(models.items(), 1):
        values = [math.exp(log_probs[t]) for t in shown]
        total = sum(math.exp(log_probs[t]) for t in truth)
        ax.barh(rows + n * height, values, height, label=f"{name} ({total:.0%} on right ones)")
    ax.set_yticks(rows + 0.4, shown)
    ax.invert_yaxis()
    ax.set_xlabel("probability")
    ax.legend(loc="lower right")
    return ax


def mode_mass(log_probs: Mapping[str, Sequence[float]], axes: "Axes | None" = None) -> "Axes":
    """Draws how much probability models give to their own greedy outputs, sentence by sentence.

    ``log_probs`` maps a name to log-probabilities (nats). Source: Kim & Rush 2016, section 5.2.
    """
    ax = _axes(axes)
    bins = np.linspace(0, 1, 26)
    for name, values in log_probs.items():
        masses = np.exp(np.asarray(values))
        ax.hist(masses, bins, histtype="step", label=f"{name} (mean {masses.mean():.0%})")
    ax.set_xlabel("probability of the greedy output")
    ax.set_ylabel("sentences")
    ax.legend()
    return ax


def _axes(axes: "Axes | None") -> Any:
    if axes is not None:
        return axes
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise UsageError(
            f'Pictures need matplotlib ({error}): install "seqkd-jax[notebooks]".'
        ) from None
    return pyplot.subplots(figsize=(7, 4), layout="constrained")[1]
