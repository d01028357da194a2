"""Fonts that have the characters of a text, in any script, among those that are installed."""

import unicodedata
import warnings
from collections.abc import Iterable
from typing import NamedTuple

# Of several fonts that will do, those made for text; all others come after these.
PREFERRED = (
    "Noto Sans",
    "Source Han Sans",
    "Microsoft YaHei",
    "Yu Gothic",
    "Malgun Gothic",
    "PingFang",
    "Hiragino Sans",
    "WenQuanYi",
    "IPA",
)
REMEDIES = {  # by the first word of a character's name in Unicode
    **dict.fromkeys(
        ("CJK", "HIRAGANA", "KATAKANA", "HANGUL", "BOPOMOFO", "IDEOGRAPHIC", "FULLWIDTH"),
        "Noto Sans CJK (Debian, Ubuntu and Colab: apt-get install fonts-noto-cjk)",
    ),
}
OTHER_REMEDY = "Noto Sans of this script (Debian, Ubuntu and Colab: apt-get install fonts-noto)"
PLACEHOLDERS = "Last Resort"  # has a box for each character; matplotlib brings it along


def families(texts: Iterable[str]) -> list[str]:
    """Returns font families which together have all characters of texts, the default ones first.

    matplotlib takes a character from the first family that has it. Fonts are found that were
    installed after matplotlib made its list. Warns of characters that no installed font has, and
    says which font to install.
    """
    import matplotlib
    from matplotlib import font_manager

    default = font_manager.findfont(font_manager.FontProperties())
    chosen = list(matplotlib.rcParams["font.family"])
    missing = {c for text in texts for c in text if _is_drawn(c)}
    missing -= _font(default, missing).has
    if not missing:
        return chosen
    known = [entry.fname for entry in font_manager.fontManager.ttflist]
    paths = dict.fromkeys([*known, *font_manager.findSystemFonts()])
    fonts = [_font(path, missing) for path in paths]
    while missing:
        # One font for all of them if there is one: two would not match.
        best = min(fonts, key=lambda font: _rank(font, missing))
        if not best.has & missing:
            warnings.warn(_remedy(missing), stacklevel=3)
            break
        if best.path not in known:
            font_manager.fontManager.addfont(best.path)
        chosen.append(best.name)
        missing -= best.has
    return chosen


class _Font(NamedTuple):
    path: str
    name: str  # of its family
    has: set[str]  # those of the wanted characters that it has


def _is_drawn(character: str) -> bool:
    """Returns whether a character needs a glyph: spaces and controls need none."""
    return unicodedata.category(character)[0] not in "ZC"


def _font(path: str, wanted: set[str]) -> _Font:
    from matplotlib.ft2font import FT2Font

    try:
        font = FT2Font(path)
    except (RuntimeError, OSError):  # a format that FreeType cannot read
        return _Font(path, "", set())
    name = font.family_name
    if name.startswith(PLACEHOLDERS):
        return _Font(path, name, set())
    return _Font(path, name, {c for c in wanted if font.get_char_index(ord(c))})


def _rank(font: _Font, missing: set[str]) -> tuple[int, int, str]:
    """Returns a sort key: most characters first, then fonts made for text, then by path."""
    order = [n for n, start in enumerate(PREFERRED) if font.name.startswith(start)]
    return -len(font.has & missing), min(order, default=len(PREFERRED)), font.path


def _remedy(missing: set[str]) -> str:
    shown = ", ".join(sorted(missing)[:5]) + (", ..." if len(missing) > 5 else "")
    scripts = {unicodedata.name(c, "").split(" ")[0].split("-")[0] for c in missing}
    fonts = sorted({REMEDIES.get(script, OTHER_REMEDY) for script in scripts})
    return (
        f"No installed font has {len(missing)} of the characters to draw ({shown}), so boxes will "
        f"stand for them: install {' and '.join(fonts)}, and draw again."
    )
