"""Pictures of training and of what distillation does to a distribution. Needs matplotlib.

Each function draws on the axes that it is given, or on new ones, and returns them.
"""

import io
import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jax.numpy as jnp
import numpy as np

from ..addresses import PathLike, as_path
from ..errors import UsageError
from ..files import atomic_write
from ..models.inspection import alignments
from ..trained import TrainedModel

if TYPE_CHECKING:
    from matplotlib.axes import Axes


def training_curves(
    folders: Sequence[str | Path], metric: str = "bleu", axes: "Axes | None" = None
) -> "Axes":
    """Draws a validation metric over updates, with a line for each run's folder.

    ``metric`` is a name in ``metrics.jsonl``: bleu or perplexity.
    """
    ax = _axes(axes)
    for folder in map(Path, folders):
        lines = (folder / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        records = [r for r in map(json.loads, lines) if "valid" in r]
        updates, values = zip(*((r["step"], r["valid"][metric]) for r in records), strict=True)
        ax.plot(updates, values, marker=".", label=folder.name)
    ax.set_xlabel("updates")
    ax.set_ylabel(f"validation {metric}")
    ax.legend()
    return ax


def attention_map(
    trained: TrainedModel, source: str, target: str, axes: "Axes | None" = None
) -> "Axes":
    """Draws where in ``source`` a model attends while it predicts each token of ``target``."""
    ax = _axes(axes)
    src, tgt = trained.src_vocab.encode(source), trained.tgt_vocab.encode(target)
    weights = alignments(trained.network, trained.params, jnp.array(src), jnp.array(tgt))
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

    The legend shows each model's total probability of right targets; the rest of its probability
    mass goes to other sentences.

    Args:
      truth: probability of each right target.
      models: for each model's name, the log-probabilities (nats) of the same targets.
      most: number of targets to show, the most probable first.
      axes: axes to draw on.
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
    """Draws a histogram of the probabilities that models give to their own greedy outputs.

    ``log_probs`` maps each model's name to log-probabilities (nats), one for each sentence. Source:
    Kim & Rush 2016, section 5.2.
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


def reliability(models: Mapping[str, Any], axes: "Axes | None" = None) -> "Axes":
    """Draws how often a model is right about the next token, by how sure it is.

    ``models`` is that part of a record of ``diagnosis.diagnose``. On the diagonal a model is as
    often right as it believes. Source: Guo et al. 2017, figure 1.
    """
    ax = _axes(axes)
    ax.plot([0, 1], [0, 1], color="black", linewidth=0.8, linestyle=":")
    for name, measured in models.items():
        bins = measured["calibration"]
        points = [(b["confidence"], b["accuracy"]) for b in bins]
        label = f"{name} (ECE {measured['calibration_error']:.3f})"
        ax.plot(*zip(*points, strict=True), marker=".", label=label)
    ax.set_xlabel("confidence in the most probable token")
    ax.set_ylabel("share of tokens that are right")
    ax.legend()
    return ax


def position_losses(models: Mapping[str, Any], axes: "Axes | None" = None) -> "Axes":
    """Draws the loss by the position in the sentence; ``models`` as in ``reliability``."""
    ax = _axes(axes)
    names = []
    for name, measured in models.items():
        bins = measured["loss_by_position"]
        names = [f"{b['from'] + 1}" + ("" if b["to"] == b["from"] + 1 else "+") for b in bins]
        ax.plot(names, [b["loss"] for b in bins], marker=".", label=name)
    ax.set_xlabel("position of the token, from")
    ax.set_ylabel("nats per token")
    ax.legend()
    return ax


def draw_diagnosis(measured: Mapping[str, Any], folder: PathLike) -> None:
    """Draws a record of ``diagnosis.diagnose`` into ``reliability.png`` and ``positions.png``."""
    check_pictures()
    for name, draw in (("reliability", reliability), ("positions", position_losses)):
        picture = io.BytesIO()
        figure: Any = draw(measured["models"]).figure
        figure.savefig(picture, format="png")
        atomic_write(as_path(folder) / f"{name}.png", picture.getvalue())


def check_pictures() -> None:
    """Raises UsageError if the library that draws pictures is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise _no_pictures(error) from None


def _no_pictures(error: ImportError) -> UsageError:
    return UsageError(f'Pictures need matplotlib ({error}): install "seqkd-jax[notebooks]".')


def _axes(axes: "Axes | None") -> Any:
    if axes is not None:
        return axes
    try:
        from matplotlib import pyplot
    except ImportError as error:
        raise _no_pictures(error) from None
    return pyplot.subplots(figsize=(7, 4), layout="constrained")[1]
