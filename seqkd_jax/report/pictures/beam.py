"""A beam search, or the n-best list that it found, as a tree of prefixes with their scores."""

import math
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from ...data import Vocabulary
from ...decode import NBest, trace_search
from ...decode.translation import sentence
from ...errors import UsageError
from ...search import BeamStep
from ...settings import Search
from ...tokens import BOS, EOS, SPECIAL, words_of
from ...trained import TrainedModel
from .fonts import families
from .style import BLACK, BLUE, GREY, axes_or_new

if TYPE_CHECKING:
    from matplotlib.axes import Axes

SMALL_BEAM = Search(beam_size=3, n_best=3)
ROW, CHARACTER, GAP = 0.45, 0.095, 3  # inches, inches, characters
DROPPED, OTHER, BEST = "dropped from the beam", "other hypotheses", "best hypothesis"
STYLES = {  # from the least to the most important
    DROPPED: {"color": GREY, "linestyle": ":", "linewidth": 1.0},
    OTHER: {"color": BLACK, "linestyle": "-", "linewidth": 1.0},
    BEST: {"color": BLUE, "linestyle": "-", "linewidth": 2.5},
}
IMPORTANCE = {kind: n for n, kind in enumerate(STYLES)}


@dataclass(eq=False)
class Prefix:
    """The first words of hypotheses; the root of a tree is the empty prefix."""

    word: str  # its last one
    log_prob: float | None = None  # of the whole prefix, in nats, if it is known
    score: float | None = None  # by which complete hypotheses are ranked
    rank: int | None = None  # of a result of the search, from 1
    kind: str = DROPPED
    next: "dict[Any, Prefix]" = field(default_factory=dict)  # the prefixes of one word more

    def add(self, words: Sequence[Any], spelling: Sequence[str]) -> "Prefix":
        """Returns the prefix of these words, which is added with all before it."""
        node = self
        for word, spelt in zip(words, spelling, strict=True):
            node = node.next.setdefault(word, Prefix(spelt))
        return node

    def leaves(self) -> int:
        """Returns the number of prefixes that no other one continues."""
        return sum(longer.leaves() for longer in self.next.values()) or 1


def beam_tree(
    trained: TrainedModel, source: str, search: Search = SMALL_BEAM, ax: "Axes | None" = None
) -> "Axes":
    """Draws the beam search for a source, with each prefix that was in the beam.

    Below each word stands the log-probability (nats) of the sentence up to it, and beside each
    finished hypothesis its rank and score. Prefixes that the search dropped end in dotted lines.

    Raises UsageError if the source has no words.
    """
    steps = trace_search(trained, source, search)
    return draw_tree(tree_of_search(steps, trained.tgt_vocab), ax)


def nbest_tree(
    nbest: NBest, vocabulary: Vocabulary | None = None, ax: "Axes | None" = None
) -> "Axes":
    """Draws an n-best list, whose hypotheses share their first words, with their scores.

    Args:
      nbest: from ``translate_texts`` or a file; scores may be missing.
      vocabulary: of the target, to draw tokens as the model wrote them; words if omitted.
      ax: axes to draw on.

    Raises:
      UsageError: tokens are to be drawn, but the list has none.
    """
    return draw_tree(tree_of_list(nbest, vocabulary), ax)


def tree_of_search(steps: Sequence[BeamStep], vocabulary: Vocabulary) -> Prefix:
    """Returns the tree of all prefixes that were in the beam after a step."""
    root = Prefix(SPECIAL[BOS])

    def add(tokens: Any) -> Prefix:
        ids = np.asarray(tokens).tolist()
        return root.add(ids, vocabulary.tokens(ids))

    results: list[Prefix] = []
    for step in steps:
        live, found = step.live, step.finished
        for tokens, log_prob in zip(live.tokens, live.log_probs, strict=True):
            if np.isfinite(log_prob):
                add(tokens[: step.length]).log_prob = float(log_prob)
        results = []
        for row in range(len(found.scores)):
            if np.isfinite(found.scores[row]):
                node = add([*sentence(np.asarray(found.tokens[row])), EOS])
                node.log_prob, node.score = float(found.log_probs[row]), float(found.scores[row])
                results.append(node)
    return _ranked(root, results)


def tree_of_list(nbest: NBest, vocabulary: Vocabulary | None = None) -> Prefix:
    """Returns the tree of an n-best list; only whole hypotheses have their scores."""
    if vocabulary is not None and not nbest.tokens:
        raise UsageError("This n-best list has no tokens, only texts: leave the vocabulary out.")
    root, results = Prefix(SPECIAL[BOS]), []
    for n, text in enumerate(nbest.texts):
        words = words_of(text) if vocabulary is None else vocabulary.tokens(nbest.tokens[n])
        node = root.add([*words, EOS], [*words, SPECIAL[EOS]])
        if node not in results:  # different tokens may be the same text: the best one counts
            node.score = nbest.scores[n] if nbest.scores else None
            node.log_prob = nbest.log_probs[n] if nbest.log_probs else None
            results.append(node)
    return _ranked(root, results)


def _ranked(root: Prefix, results: Sequence[Prefix]) -> Prefix:
    """Marks the results of a search, best first, and the prefixes that lead to them."""
    for rank, result in enumerate(results, 1):
        result.rank = rank

    def mark(node: Prefix) -> str:
        kinds = [mark(longer) for longer in node.next.values()]
        if node.rank is not None:
            kinds.append(BEST if node.rank == 1 else OTHER)
        node.kind = max(kinds, key=IMPORTANCE.__getitem__, default=DROPPED)
        return node.kind

    mark(root)
    return root


class _Placed(NamedTuple):
    """A prefix and its position, in characters from the left and rows from the top."""

    node: Prefix
    left: float
    right: float
    row: int
    before: "_Placed | None"


def _placed(root: Prefix) -> list[_Placed]:
    """Places a tree: a column for each length; a prefix is in the row of its best longer one."""
    widths: list[int] = []

    def measure(node: Prefix, depth: int) -> None:
        widths.extend([0] * (depth + 1 - len(widths)))
        widths[depth] = max(widths[depth], _columns(node.word), 6)  # 6 for the log-probability
        for longer in node.next.values():
            measure(longer, depth + 1)

    measure(root, 0)
    lefts = np.cumsum([0, *(width + GAP for width in widths)]).tolist()

    def place(node: Prefix, depth: int, row: int, before: _Placed | None) -> Iterator[_Placed]:
        placed = _Placed(node, lefts[depth], lefts[depth] + widths[depth], row, before)
        yield placed
        for longer in sorted(node.next.values(), key=_importance, reverse=True):
            yield from place(longer, depth + 1, row, placed)
            row += longer.leaves()

    return list(place(root, 0, 0, None))


def _importance(node: Prefix) -> tuple[int, float, float]:
    """Returns a sort key: results first, the best ones first."""
    scores = [_importance(longer)[1] for longer in node.next.values()]
    own = -math.inf if node.score is None else node.score
    log_prob = -math.inf if node.log_prob is None else node.log_prob
    return IMPORTANCE[node.kind], max([own, *scores]), log_prob


def _columns(word: str) -> int:
    """Returns the width of a word in characters; those of East Asia are as wide as two."""
    return sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in word)


def draw_tree(root: Prefix, ax: "Axes | None" = None) -> "Axes":
    """Draws a tree of prefixes from left to right, the best hypotheses on top."""
    everything = _placed(root)
    width = max(p.right for p in everything) + 14  # room for a rank and a score
    rows = max(p.row for p in everything) + 1
    axes: Any = axes_or_new(ax, (CHARACTER * width, ROW * (rows + 1)))
    look: dict[str, Any] = {"parse_math": False, "va": "center", "fontsize": 8}
    look["fontfamily"] = families(p.node.word for p in everything)
    for node, left, right, row, before in everything:
        style, middle = STYLES[node.kind], (left + right) / 2
        colour = style["color"]
        if before is not None:
            # Down in the gap between columns, then to the right: lines cross no word.
            bend, start = left - GAP / 2, (before.left + before.right) / 2
            line = [start, bend, bend, middle], [before.row, before.row, row, row]
            axes.plot(*line, **style, zorder=1 + IMPORTANCE[node.kind] / 10)
        value = "" if node.log_prob is None else f"\n{node.log_prob:.2f}"
        box = {"boxstyle": "round,pad=0.2", "facecolor": "white", "edgecolor": colour}
        box |= {"linewidth": max(0.8, style["linewidth"] / 2), "linestyle": style["linestyle"]}
        axes.text(middle, row, node.word + value, ha="center", color=colour, bbox=box, **look)
        if node.score is not None or node.rank is not None:
            rank = "" if node.rank is None else f"{node.rank}. "
            score = "" if node.score is None else f"score {node.score:.2f}"
            axes.text(right + 1, row, rank + score, color=colour, **look)
    shown = {p.node.kind for p in everything}
    for kind, style in reversed(STYLES.items()):
        if kind in shown:
            axes.plot([], [], label=kind, **style)
    axes.set_xlim(-1, width)
    axes.set_ylim(rows - 0.4, -0.6)
    axes.set_axis_off()
    axes.legend(loc="lower left", bbox_to_anchor=(0, 1), ncol=3, frameon=False, fontsize=8)
    return axes
