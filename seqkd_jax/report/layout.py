"""How tables are written: as text that fits a width, as Markdown, LaTeX or CSV."""

import csv
import io
import re
import textwrap
from collections.abc import Sequence
from dataclasses import dataclass

from tabulate import tabulate

from ..settings import Layout

WIDTH = 100  # characters of a line of text
LABELS = 30  # characters to which the first column is wrapped before any column is left out
TEXT = Layout()

Cells = Sequence[Sequence[str]]


@dataclass(frozen=True)
class Column:
    """A column of a table."""

    head: str
    # Where a table is too wide, the columns of the highest rank are left out first; 0 always stays.
    rank: int = 0
    left: bool = False  # aligned to the left
    name: str = ""  # what the head means without its neighbours, such as chrF K=5


def render(
    columns: Sequence[Column], lines: Cells, notes: Sequence[str] = (), layout: Layout = TEXT
) -> str:
    """Renders a table.

    Text is at most 100 characters wide: the first column is wrapped, then columns are left out,
    which a note says. Markdown and LaTeX have the same columns, CSV has all of them and no notes.
    """
    if layout.format == "csv":
        return _csv(columns, lines)
    shown = range(len(columns))
    if not layout.wide:
        shown, left_out = _fitting(columns, lines)
        names = ", ".join(columns[n].name or columns[n].head for n in left_out)
        notes = [*notes, f"left out: {names} (--wide)"] if names else notes
    columns = [columns[n] for n in shown]
    lines = [[line[n] for n in shown] for line in lines]
    if layout.format == "text":
        wrapped = notes if layout.wide else [part for note in notes for part in _wrapped(note)]
        return "\n".join([*_text(columns, lines, layout.wide), *wrapped])
    if layout.format == "latex":
        return "\n".join([_tabulated(columns, lines, "latex_booktabs"), *(f"% {n}" for n in notes)])
    escaped = [[_escaped(cell) for cell in line] for line in lines]
    heads = [Column(_escaped(column.head), left=column.left) for column in columns]
    return "\n\n".join([_tabulated(heads, escaped, "pipe"), *map(_escaped, notes)])


def _fitting(columns: Sequence[Column], lines: Cells) -> tuple[list[int], list[int]]:
    """Returns which columns fit the width, and which do not."""
    shown = list(range(len(columns)))
    while True:
        cells = [[line[n] for n in shown] for line in lines]
        text = _text([columns[n] for n in shown], cells, wide=False)
        highest = max(columns[n].rank for n in shown)
        if max(map(len, text)) <= WIDTH or highest == 0:
            return shown, [n for n in range(len(columns)) if n not in shown]
        shown = [n for n in shown if columns[n].rank < highest]


def _text(columns: Sequence[Column], lines: Cells, wide: bool) -> list[str]:
    """Returns the lines of a table as text."""
    heads = [column.head for column in columns]
    widths = [max(map(len, column)) for column in zip(heads, *lines, strict=True)]
    excess = sum(widths) + 2 * (len(widths) - 1) - WIDTH
    if excess > 0 and not wide and widths[0] > LABELS:
        widths[0] = max(LABELS, widths[0] - excess)
    # As lines of the table; tabulate would make columns two characters wider than their heads.
    rows = [heads, ["-" * width for width in widths], *lines]
    text = tabulate(
        rows,
        tablefmt="plain",
        disable_numparse=True,
        colalign=_alignment(columns),
        maxcolwidths=[widths[0], *[None] * (len(widths) - 1)],
    )
    return [line.rstrip() for line in text.split("\n")]


def _tabulated(columns: Sequence[Column], lines: Cells, form: str) -> str:
    heads, align = [column.head for column in columns], _alignment(columns)
    return tabulate(lines, heads, tablefmt=form, disable_numparse=True, colalign=align)


def _alignment(columns: Sequence[Column]) -> tuple[str, ...]:
    return tuple("left" if column.left else "right" for column in columns)


def _csv(columns: Sequence[Column], lines: Cells) -> str:
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow([column.name or column.head for column in columns])
    writer.writerows([[_number(cell) for cell in line] for line in lines])
    return file.getvalue().rstrip("\n")


def _number(cell: str) -> str:
    """Returns a number without commas between its thousands, and any other cell as it is."""
    return cell.replace(",", "") if re.fullmatch(r"[\d,]+(\.\d+)?", cell) else cell


def _escaped(text: str) -> str:
    return re.sub(r"([|*])", r"\\\1", text)


def _wrapped(note: str) -> list[str]:
    return textwrap.wrap(note, WIDTH, subsequent_indent="  ", break_on_hyphens=False) or [""]
