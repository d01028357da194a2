"""What quality costs: BLEU against speed and size, with the systems that no other one beats."""

import itertools
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from ...evaluation import Evaluation
from ..compressed import CompressedRow
from ..table import Row
from .style import FREE_PLACE, GREY, axes_or_new, point_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BYTES_OF_FLOAT = 4
MOST_LABELS = 12  # points that have their label beside them


class _Point(NamedTuple):
    x: float
    y: float
    spread: float | None = None  # standard deviation over seeds
    label: str = ""
    filled: bool = True


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """Returns the indices of the points that no other point beats, from left to right.

    A point (x, y) is beaten by one that is at least as large in both, and larger in one. Of equal
    points all are returned.

    >>> pareto_front([(1, 5), (2, 4), (2, 3), (3, 1), (0, 5)])
    [0, 1, 3]
    """
    front: list[int] = []
    best = float("-inf")
    by_x = sorted(range(len(points)), key=lambda n: (-points[n][0], -points[n][1]))
    for _, group in itertools.groupby(by_x, key=lambda n: points[n][0]):
        same_x = list(group)
        top = points[same_x[0]][1]
        if top > best:
            front += reversed([n for n in same_x if points[n][1] == top])
            best = top
    return front[::-1]


def bleu_by_speed(rows: Sequence[Row], ax: "Axes | None" = None) -> "Axes":
    """Draws BLEU against sentences per second, for each row and beam size, with the Pareto front.

    ``rows`` are those of a table (``read_results(path).rows``). Values are means over seeds; bars
    are the standard deviation of BLEU.
    """
    systems = {
        row.name: [
            _Point(
                row.mean(lambda e, beam=beam: e.decodings[beam].sentences_per_second),
                row.mean(lambda e, beam=beam: e.decodings[beam].bleu),
                row.spread(lambda e, beam=beam: e.decodings[beam].bleu),
                f"K={beam}",
            )
            for beam in row.evaluation.decodings
        ]
        for row in rows
    }
    axes: Any = axes_or_new(ax)
    _draw(systems, axes, larger_is_better=True)
    axes.set_xlabel("sentences per second")
    return axes


def bleu_by_size(
    rows: Sequence[Row | CompressedRow], beam: int = 1, ax: "Axes | None" = None
) -> "Axes":
    """Draws BLEU against the bytes of the parameters, with the Pareto front.

    Open marks are parameters in float32; filled ones are compressed files, which rows of Table 3
    have (``read_compressed_rows``). BLEU is of searches with a beam of ``beam``.
    """

    def bleu(evaluation: Evaluation) -> float:
        return evaluation.decodings[beam].bleu

    systems: dict[str, list[_Point]] = {}
    for row in rows:
        size = row.evaluation.parameters * BYTES_OF_FLOAT
        if isinstance(row, Row):
            point = _Point(size, row.mean(bleu), row.spread(bleu), filled=False)
            systems[row.name] = [point]
        else:
            systems[row.name] = [_Point(size, bleu(row.evaluation), filled=False)]
            if row.bytes is not None and row.compressed is not None:
                systems[row.name].append(_Point(row.bytes, bleu(row.compressed)))
    axes: Any = axes_or_new(ax)
    _draw(systems, axes, larger_is_better=False)
    axes.set_xlabel("bytes of the parameters; open: float32, filled: compressed file")
    axes.set_ylabel(f"BLEU, K={beam}")
    return axes


def _draw(systems: dict[str, list[_Point]], ax: Any, *, larger_is_better: bool) -> None:
    from matplotlib.ticker import EngFormatter, LogLocator, NullFormatter

    sign = 1 if larger_is_better else -1
    everything = [point for points in systems.values() for point in points]
    front = [everything[n] for n in pareto_front([(sign * p.x, p.y) for p in everything])]
    # From one point of the front to the next: what the better one of both offers at that cost.
    steps = "steps-pre" if larger_is_better else "steps-post"
    front.sort(key=lambda p: p.x)
    line, *_ = ax.plot([p.x for p in front], [p.y for p in front], color=GREY, linewidth=1)
    line.set(drawstyle=steps, label="Pareto front", zorder=1)
    for n, (name, points) in enumerate(systems.items()):
        style = point_style(n)
        ax.plot([p.x for p in points], [p.y for p in points], color=style["color"], linewidth=0.8)
        for first, point in enumerate(points):
            ax.errorbar(
                point.x,
                point.y,
                point.spread,
                label="" if first else name,
                capsize=2,
                linestyle="none",
                markerfacecolor=style["color"] if point.filled else "white",
                **style,
            )
            if larger_is_better and len(everything) <= MOST_LABELS:
                # Above and below in turns: neighbours on the front are often of two systems.
                place = {"xytext": (5, -11 if n % 2 else 4), "textcoords": "offset points"}
                ax.annotate(point.label, (point.x, point.y), fontsize="small", **place)
    ax.set_xscale("log")
    ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    ax.xaxis.set_major_formatter(EngFormatter(sep=""))
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.set_ylabel("BLEU")
    ax.legend(loc=FREE_PLACE)
    ax.margins(0.08)
