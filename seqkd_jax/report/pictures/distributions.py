"""What models consider probable: sentences, the next word, and their own output."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .fonts import families
from .style import BLACK, FREE_PLACE, axes_or_new, bar_style, line_style

if TYPE_CHECKING:
    from matplotlib.axes import Axes

OTHERS = "all others"


def distributions(
    truth: Mapping[str, float],
    models: Mapping[str, Mapping[str, float]],
    *,
    most: int = 12,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws the probabilities of one source's targets: the true ones, and those of models.

    The legend shows each model's total probability of right targets; the rest of its probability
    mass goes to other sentences.

    Args:
      truth: probability of each right target.
      models: for each model's name, the log-probabilities (nats) of the same targets.
      most: number of targets to show, the most probable first.
      ax: axes to draw on.
    """
    shown = sorted(truth, key=lambda t: -truth[t])[:most]
    bars = {"truth": [truth[t] for t in shown]}
    for name, log_probs in models.items():
        total = sum(math.exp(log_probs[t]) for t in truth)
        label = f"{name} ({total:.0%} on right ones)"
        bars[label] = [math.exp(log_probs[t]) for t in shown]
    return _side_by_side(shown, bars, ax)


def next_word(
    models: Mapping[str, Mapping[str, float]],
    truth: Mapping[str, float] | None = None,
    *,
    most: int = 8,
    ax: "Axes | None" = None,
) -> "Axes":
    """Draws what models and the truth hold probable at one position of a sentence, side by side.

    Args:
      models: for each model's name, the probability of each word it may write next
        (``diagnosis.next_tokens``).
      truth: the true probabilities: of a known distribution (``diagnosis.next_words``), or
        ``{word: 1.0}`` where one reference is all that is known.
      most: number of words to show: the true ones first, then those that a model holds most
        probable. The bars below them are the probability of all other words.
      ax: axes to draw on.
    """
    everything = {"truth": truth, **models} if truth else dict(models)
    largest = {
        w: max(d.get(w, 0.0) for d in everything.values()) for d in models.values() for w in d
    }
    right = sorted(truth or {}, key=lambda w: -(truth or {})[w])
    likely = sorted(largest, key=lambda w: (-largest[w], w))
    shown = list(dict.fromkeys([*right, *likely]))[:most]
    bars = {}
    for name, probabilities in everything.items():
        values = [probabilities.get(word, 0.0) for word in shown]
        bars[name] = [*values, max(0.0, 1.0 - sum(values))]
    return _side_by_side([*shown, OTHERS], bars, ax)


def mode_mass(
    log_probs: Mapping[str, Sequence[float]], *, log: bool = False, ax: "Axes | None" = None
) -> "Axes":
    """Draws a histogram of the probabilities that models give to their own greedy outputs.

    Args:
      log_probs: for each model's name, log-probabilities (nats), one for each sentence.
      log: whether the probability is drawn on a logarithmic scale, for text on which all models
        are far from certain. Probabilities below 1e-8 are counted there.
      ax: axes to draw on.

    Source: Kim & Rush 2016, section 5.2.
    """
    axes: Any = axes_or_new(ax)
    bins = np.logspace(-8, 0, 26) if log else np.linspace(0, 1, 26)
    for n, (name, values) in enumerate(log_probs.items()):
        masses = np.exp(np.asarray(values, float))
        counts, _ = np.histogram(np.maximum(masses, bins[0]), bins)
        label = f"{name} (mean {masses.mean():.0%})"
        style = line_style(n)
        axes.stairs(counts, bins, color=style["color"], linestyle=style["linestyle"])
        # The marks tell lines apart where they cross.
        middles = np.sqrt(bins[1:] * bins[:-1]) if log else (bins[1:] + bins[:-1]) / 2
        axes.plot(middles, counts, label=label, **style | {"linestyle": "none"})
    if log:
        axes.set_xscale("log")
    axes.set_xlabel("probability of the greedy output, p(t = ŷ)")
    axes.set_ylabel("sentences")
    axes.legend(loc=FREE_PLACE)
    return axes


def _side_by_side(shown: Sequence[str], bars: Mapping[str, Sequence[float]], ax: Any) -> Any:
    """Draws horizontal bars of probabilities; those of the truth are black."""
    axes: Any = axes_or_new(ax, (7, 1.5 + 0.14 * len(shown) * (len(bars) + 1)))
    height, rows = 0.8 / len(bars), np.arange(len(shown))
    others = 0
    for n, (name, values) in enumerate(bars.items()):
        style = {"color": BLACK} if name == "truth" else bar_style(others)
        others += name != "truth"
        axes.barh(rows + (n - (len(bars) - 1) / 2) * height, values, height, label=name, **style)
    axes.set_yticks(rows, shown, fontfamily=families(shown), parse_math=False)
    axes.invert_yaxis()
    axes.set_xlabel("probability")
    if sum(len(name) + 6 for name in bars) <= 48:  # one line above the bars has room for all
        axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncol=len(bars), frameon=False)
    else:
        axes.legend(loc="lower right")  # where bars are short
    return axes
