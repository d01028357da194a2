"""The look of all pictures, and the axes that they are drawn on.

Colours are those of Okabe and Ito (2008), which the colour-blind can tell apart. No picture
relies on colour alone: lines differ in marker and dashes too, and bars in their hatching.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from ...errors import UsageError

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, VERMILION, GREEN, PURPLE = "#0072B2", "#D55E00", "#009E73", "#CC79A7"
ORANGE, SKY, BLACK, GREY = "#E69F00", "#56B4E9", "#000000", "#767676"
COLOURS = (BLUE, VERMILION, GREEN, PURPLE, ORANGE, SKY, BLACK)  # their yellow is too pale for lines
MARKERS = "os^DvPX*"
DASHES = ("-", "--", "-.", ":")
HATCHES = ("", "///", "...", "\\\\\\", "xxx")
FREE_PLACE = "best"  # for legends; matplotlib warns that it is slow unless it is asked for


def point_style(n: int) -> dict[str, Any]:
    """Returns colour and marker of the n-th system."""
    return {"color": COLOURS[n % len(COLOURS)], "marker": MARKERS[n % len(MARKERS)]}


def line_style(n: int) -> dict[str, Any]:
    """Returns colour, marker and dashes of the n-th line."""
    return {**point_style(n), "linestyle": DASHES[n % len(DASHES)], "markersize": 4}


def bar_style(n: int) -> dict[str, Any]:
    """Returns colour and hatching of the n-th kind of bar."""
    hatch = HATCHES[n % len(HATCHES)]
    return {"facecolor": COLOURS[n % len(COLOURS)], "hatch": hatch, "edgecolor": "white"}


def axes_or_new(ax: "Axes | None", size: tuple[float, float] = (7, 4)) -> Any:
    """Returns the axes that were given, or those of a new figure of a size in inches.

    Raises UsageError if matplotlib is missing.
    """
    check_pictures()
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(figsize=size, layout="constrained")[1]


def unmanaged_axes(size: tuple[float, float] = (7, 4)) -> Any:
    """Returns the axes of a new figure that pyplot does not keep, so it need not be closed.

    Raises UsageError if matplotlib is missing.
    """
    check_pictures()
    from matplotlib.figure import Figure

    return Figure(figsize=size, layout="constrained").subplots()


def check_pictures() -> None:
    """Raises UsageError if the library that draws pictures is missing."""
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise UsageError(f"Pictures need matplotlib ({error}): pip install matplotlib.") from None


def grouped_bars(
    ax: Any, ticks: Iterable[str], groups: dict[str, list[float]], values: str = "{:.3g}"
) -> None:
    """Draws bars side by side at each tick, one for each group, with values and a legend."""
    names = list(ticks)
    width = 0.8 / max(1, len(groups))
    for n, (name, heights) in enumerate(groups.items()):
        centres = [tick + (n - (len(groups) - 1) / 2) * width for tick in range(len(names))]
        bars = ax.bar(centres, heights, width, label=name, **bar_style(n))
        ax.bar_label(bars, fmt=values, fontsize=6, padding=1)
    ax.set_xticks(range(len(names)), names)
    ax.margins(y=0.12)  # room for the values
    ax.legend(loc=FREE_PLACE)
