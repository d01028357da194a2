"""Training curves, from what trainings log; in a notebook also during training."""

import io
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...addresses import PathLike, as_path
from ...errors import UsageError
from ...processes import is_first
from ...sealed import parse_json
from .style import FREE_PLACE, axes_or_new, line_style, unmanaged_axes

if TYPE_CHECKING:
    from matplotlib.axes import Axes

LOG = "metrics.jsonl"
LABELS = {
    "bleu": "validation BLEU",
    "score": "validation score",
    "perplexity": "validation perplexity",
    "loss": "training loss",
    "gradient_norm": "gradient norm",
    "tokens_per_second": "tokens per second",
}


def read_curve(folder: PathLike, metric: str = "bleu") -> tuple[list[int], list[float]]:
    """Reads a metric of a training: the numbers of updates, and the values after them.

    Args:
      folder: of the run, or of its model.
      metric: a name in its ``metrics.jsonl``: bleu, perplexity and what else validation measures;
        loss, gradient_norm and tokens_per_second of the updates since the last line.

    Raises:
      FileNotFoundError: the folder has no ``metrics.jsonl``.
      UsageError: a line of it is no record, or no line has the metric.
    """
    path = as_path(folder) / LOG
    updates, values, known = [], [], set()
    *lines, last = path.read_bytes().split(b"\n")  # the last one is incomplete if a run was killed
    for number, line in enumerate(lines, 1):
        try:
            record: Any = parse_json(line)
            measured = {**record.get("train", {}), **record.get("valid", {})}
            known |= {name for name, value in measured.items() if _is_number(value)}
            if _is_number(measured.get(metric)):
                updates.append(int(record["step"]))
                values.append(float(measured[metric]))
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise UsageError(
                f"{path}:{number}: not a line of a training's log ({error!r}). Remove it; the "
                "file is for people and pictures only."
            ) from None
    if not values:
        has = ", ".join(sorted(known)) or "nothing yet"
        raise UsageError(f"{path}: has no {metric}; it has {has}.")
    return updates, values


def training_curves(
    folders: Sequence[PathLike], metric: str = "bleu", ax: "Axes | None" = None
) -> "Axes":
    """Draws a metric over updates, with a line for each run's folder; see ``read_curve``.

    Raises UsageError and FileNotFoundError as ``read_curve`` does.
    """
    curves = [read_curve(folder, metric) for folder in folders]
    return _draw(dict(zip(_names(folders), curves, strict=True)), metric, axes_or_new(ax))


def live_curves(folders: Sequence[PathLike], metric: str = "bleu") -> Callable[..., None]:
    """Returns a function that redraws ``training_curves`` in a notebook each time it is called.

        train.fit("runs/mine", ..., on_validation=report.pictures.live_curves(["runs/mine"]))
        live = report.pictures.live_curves(["runs/demo/baseline", "runs/demo/seq-kd"])
        exp = recipes.experiment("noisy-grammar", "runs/demo", log=live)

    Its arguments are not read: it draws what the runs have logged. Runs that have not logged the
    metric yet are left out, so other runs can be drawn beside the one that is going on. Of several
    processes only the first draws.

    Raises UsageError outside of a notebook, or if matplotlib is missing.
    """
    axes_of_try = unmanaged_axes()  # a missing library is noticed before the training
    display, image = _notebook_display()
    del axes_of_try
    handle: Any = None

    def redraw(*_: Any, **__: Any) -> None:
        nonlocal handle
        if not is_first():
            return
        curves = {}
        for name, folder in zip(_names(folders), folders, strict=True):
            try:
                curves[name] = read_curve(folder, metric)
            except (FileNotFoundError, UsageError):
                continue  # nothing was logged yet
        if not curves:
            return
        picture = io.BytesIO()
        figure: Any = _draw(curves, metric, unmanaged_axes()).figure
        figure.savefig(picture, format="png")
        shown = image(data=picture.getvalue())
        if handle is None:
            handle = display(shown, display_id=True)
        else:
            handle.update(shown)

    return redraw


def _notebook_display() -> tuple[Callable[..., Any], Callable[..., Any]]:
    """Returns IPython's ``display`` and ``Image``; UsageError outside of a notebook."""
    try:
        from IPython import get_ipython
        from IPython.display import Image, display
    except ImportError as error:
        raise UsageError(f"Live pictures need IPython ({error}): pip install ipython.") from None
    if get_ipython() is None:
        raise UsageError(
            "Live pictures need a notebook, and this is not one: draw training_curves afterwards."
        )
    return display, Image


def _draw(curves: dict[str, tuple[list[int], list[float]]], metric: str, ax: Any) -> Any:
    for n, (name, (updates, values)) in enumerate(curves.items()):
        ax.plot(updates, values, label=name, **line_style(n))
    ax.set_xlabel("updates")
    ax.set_ylabel(LABELS.get(metric, f"validation {metric}"))
    ax.legend(loc=FREE_PLACE)
    return ax


def _names(folders: Sequence[PathLike]) -> list[str]:
    """Returns the folders' own names, or their paths if two have the same name."""
    names = [Path(str(folder)).name for folder in folders]
    return names if len(set(names)) == len(names) else list(map(str, folders))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
