"""Puts the page together: one HTML file that needs no network.

What people have written is in one block of JSON, which scripts set as text and never as HTML. A
content security policy names the digests of the page's own scripts and styles, so that a browser
runs nothing else even if that should fail.
"""

import base64
import hashlib
import html
import json
import re
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from ...addresses import PathLike, as_path
from ...files import atomic_write
from ...sealed import check_output_file
from .content import page_content
from .kept import read_run, require_comparable

# uPlot draws the pictures: 51 KB with axes, zoom and values under the pointer, maintained since
# 2019, MIT. Plotly and Vega with the same would be 20 to 60 times as large, and every page holds
# its own copy.
STYLES = ("uPlot.min.css", "page.css")
SCRIPTS = ("uPlot.iife.min.js", "text.js", "table.js", "pictures.js", "sentences.js", "page.js")
SLOT = re.compile(r"<!--(\w+)-->")


def write_page(path: PathLike, folders: Sequence[PathLike], sentences: int | None = 1000) -> Path:
    """Writes a page that compares the rows of runs; see ``assemble``.

    Args:
      path: the file to write.
      folders: of runs that have the same test set.
      sentences: number of test sentences that can be looked at, the first ones; None for all.

    Returns:
      The path.

    Raises:
      FileNotFoundError: a folder has no results.
      UsageError: a file is damaged, or the runs cannot be compared.
    """
    path = as_path(path)
    check_output_file(path)
    runs = [read_run(folder) for folder in folders]
    require_comparable(runs)
    text = assemble(page_content(runs, sentences))
    atomic_write(path, text.encode(errors="replace"))  # names of files need not be Unicode
    return path


def assemble(content: dict[str, Any]) -> str:
    """Returns the page as HTML; ``content`` is that of ``page_content``.

    >>> "</script><b>" in assemble({"title": "</script><b>"})
    False
    """
    styles, scripts = (list(map(_own_file, names)) for names in (STYLES, SCRIPTS))
    policy = (
        f"default-src 'none'; script-src {_digests(scripts)}; style-src {_digests(styles)}; "
        "base-uri 'none'; form-action 'none'"
    )
    parts = {
        "title": html.escape(content["title"]),
        "policy": html.escape(policy),
        "styles": "".join(f"<style>{text}</style>\n" for text in styles),
        "licence": f"<!-- uPlot:\n{_own_file('uPlot.LICENSE')}\n-->",
        "content": json_block(content),
        "scripts": "".join(f"<script>{text}</script>\n" for text in scripts),
    }
    # In one pass, so that nothing is looked for in what has been put in.
    return SLOT.sub(lambda slot: parts[slot[1]], _own_file("page.html"))


def json_block(content: Any) -> str:
    """Returns JSON that neither ends nor comments out the element of HTML that it stands in."""
    text = json.dumps(content, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")


def _own_file(name: str) -> str:
    return resources.files(__name__.rpartition(".")[0]).joinpath(name).read_text(encoding="utf-8")


def _digests(texts: Sequence[str]) -> str:
    """Returns the sources of a policy that allows these texts and no others."""
    digests = (hashlib.sha256(text.encode()).digest() for text in texts)
    return " ".join(f"'sha256-{base64.b64encode(digest).decode()}'" for digest in digests)
