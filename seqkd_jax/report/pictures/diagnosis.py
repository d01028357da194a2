"""What ``diagnosis.diagnose`` measured, as pictures."""

import io
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from ...addresses import PathLike, as_path
from ...files import atomic_write
from .style import (
    FREE_PLACE,
    GREY,
    axes_or_new,
    grouped_bars,
    line_style,
    point_style,
    unmanaged_axes,
)

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SHARES = {  # of sentences, by their name in the record
    "reproduces": "greedy search\nwrites the\nteacher's beam",
    "greedy_is_beam": "greedy search\nwrites its\nown beam",
    "search_errors": "greedy search\nmisses a more\nprobable one",
    "repeats": "repeats\na phrase",
    "too_short": "far too\nshort",
}


def reliability(models: Mapping[str, Any], ax: "Axes | None" = None) -> "Axes":
    """Draws how often a model is right about the next token, by how sure it is.

    ``models`` is that part of a record of ``diagnosis.diagnose``. On the diagonal a model is as
    often right as it believes. Source: Guo et al. 2017, figure 1.
    """
    axes: Any = axes_or_new(ax)
    axes.plot([0, 1], [0, 1], color=GREY, linewidth=0.8)
    for n, (name, measured) in enumerate(models.items()):
        points = [(b["confidence"], b["accuracy"]) for b in measured["calibration"]]
        label = f"{name} (ECE {measured['calibration_error']:.3f})"
        axes.plot(*zip(*points, strict=True), label=label, **line_style(n))
    axes.set_xlabel("confidence in the most probable token")
    axes.set_ylabel("share of tokens that are right")
    axes.legend(loc=FREE_PLACE)
    return axes


def position_losses(models: Mapping[str, Any], ax: "Axes | None" = None) -> "Axes":
    """Draws the loss by the position in the sentence; ``models`` as in ``reliability``."""
    axes: Any = axes_or_new(ax)
    for n, (name, measured) in enumerate(models.items()):
        bins = measured["loss_by_position"]
        labels = [f"{b['from'] + 1}" + ("" if b["to"] == b["from"] + 1 else "+") for b in bins]
        axes.plot(labels, [b["loss"] for b in bins], label=name, **line_style(n))
    axes.set_xlabel("position of the token, from")
    axes.set_ylabel("nats per token")
    axes.legend(loc=FREE_PLACE)
    return axes


def output_shares(models: Mapping[str, Any], ax: "Axes | None" = None) -> "Axes":
    """Draws shares of sentences whose outputs have a property; ``models`` as in ``reliability``."""
    axes: Any = axes_or_new(ax, (9, 4))
    groups = {name: [100 * m[share] for share in SHARES] for name, m in models.items()}
    grouped_bars(axes, SHARES.values(), groups)
    axes.set_ylabel("sentences, per cent")
    return axes


def truth_shares(models: Mapping[str, Any], ax: "Axes | None" = None) -> "Axes":
    """Draws how models spread their probability over right and wrong sentences.

    ``models`` as in ``reliability``, with ``truth``; the legend shows KL(truth || model) in nats.
    """
    axes: Any = axes_or_new(ax)
    parts = ("the most probable\nright one", "all other\nright ones", "wrong ones")
    groups = {}
    for name, measured in models.items():
        t = measured["truth"]
        masses = [t["mode"], max(0.0, t["right"] - t["mode"]), t["wrong"]]
        groups[f"{name} (KL {t['kl']:.2f})"] = [100 * mass for mass in masses]
    grouped_bars(axes, parts, groups)
    axes.set_ylabel("probability, per cent")
    return axes


def corpus_complexity(corpora: Mapping[str, Any], ax: "Axes | None" = None) -> "Axes":
    """Draws complexity and faithfulness of corpora, that part of a record of ``diagnose``.

    A corpus is the easier to learn the further left, and the closer to the original the further
    down. Source: Zhou, Gu and Neubig 2020, figure 3.
    """
    axes: Any = axes_or_new(ax)
    for n, (name, measured) in enumerate(corpora.items()):
        point = measured["complexity"], measured.get("faithfulness", 0.0)
        axes.plot(*point, label=name, linestyle="none", **point_style(n))
    axes.set_xlabel("complexity (nats per source word)")
    axes.set_ylabel("KL of the original to it (nats)")
    axes.margins(0.15)
    axes.legend(loc=FREE_PLACE)
    return axes


def oracle_curve(oracle: Mapping[Any, float], ax: "Axes | None" = None) -> "Axes":
    """Draws the sentence BLEU of the best of the teacher's first n hypotheses, by n.

    ``oracle`` is that part of a record of ``diagnosis.diagnose``.
    """
    axes: Any = axes_or_new(ax)
    sizes = sorted(oracle, key=int)
    axes.plot([str(n) for n in sizes], [100 * oracle[n] for n in sizes], **line_style(0))
    axes.set_xlabel("hypotheses to choose from")
    axes.set_ylabel("sentence BLEU of the best one")
    return axes


def draw_diagnosis(measured: Mapping[str, Any], folder: PathLike) -> None:
    """Draws a record of ``diagnosis.diagnose`` into a folder, a PNG file for each picture.

    The files are ``reliability``, ``positions``, ``outputs`` and ``oracle``, and where it was
    measured ``corpora`` and ``truth``.
    """
    models = measured["models"]
    pictures: dict[str, tuple[Any, Any]] = {
        "reliability": (reliability, models),
        "positions": (position_losses, models),
        "outputs": (output_shares, models),
        "oracle": (oracle_curve, measured["oracle"]),
    }
    if measured["corpora"]:
        pictures["corpora"] = corpus_complexity, measured["corpora"]
    if all("truth" in m for m in models.values()):
        pictures["truth"] = truth_shares, models
    for name, (draw, record) in pictures.items():
        size = (9, 4) if draw is output_shares else (7, 4)
        file = io.BytesIO()
        draw(record, unmanaged_axes(size)).figure.savefig(file, format="png")
        atomic_write(as_path(folder) / f"{name}.png", file.getvalue())
