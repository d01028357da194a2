"""The documentation site: ``sphinx-build -W -q docs docs/_build/html`` makes it from these pages.

Notebooks and the list of changes lie outside of this folder. Notebooks are copied into it for the
build; links to other files outside lead to the repository.
"""

import dataclasses
import inspect
import itertools
import json
import re
import sys
import textwrap
from pathlib import Path

from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform
from sphinx.util.nodes import make_refnode

import seqkd_jax

DOCS = Path(__file__).parent
REPOSITORY = "https://github.com/seqkd-jax/seqkd_jax"

project = "seqkd_jax"
author = "The seqkd_jax authors"
copyright = "the seqkd_jax authors, Apache-2.0"
version = release = seqkd_jax.__version__

extensions = [
    "sphinx.ext.autodoc",
    "sphinx.ext.napoleon",
    "sphinx.ext.linkcode",
    "myst_nb",
]
exclude_patterns = ["_build", "jupyter_execute"]

myst_enable_extensions = ["dollarmath", "amsmath", "deflist"]
myst_heading_anchors = 3
nb_execution_mode = "off"  # notebooks are shown with the outputs that they keep

napoleon_numpy_docstring = False
napoleon_use_rtype = False
autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
toc_object_entries_show_parents = "hide"

html_theme = "sphinx_book_theme"
html_title = "seqkd_jax"
html_extra_path = ["llms.txt"]
html_copy_source = False
html_theme_options = {
    "repository_url": REPOSITORY,
    "repository_branch": "main",
    "path_to_docs": "",
    "use_repository_button": True,
    "use_download_button": False,
    "launch_buttons": {"colab_url": "https://colab.research.google.com"},
    "navbar_persistent": [],  # the search is at the side
    "show_toc_level": 2,
}


def copy_notebooks(folder: Path) -> None:
    """Copies the notebooks into a folder; their code is marked as Python."""
    folder.mkdir(exist_ok=True)
    for old in folder.glob("*.ipynb"):
        old.unlink()
    for path in (DOCS.parent / "notebooks").glob("*.ipynb"):
        notebook = json.loads(path.read_text(encoding="utf-8"))
        notebook["metadata"]["language_info"] = {"name": "python", "pygments_lexer": "python"}
        (folder / path.name).write_text(json.dumps(notebook), encoding="utf-8")


def lead_outside(app, name: str, source: list[str]) -> None:
    """Rewrites links of a page to files outside of this folder."""
    if name.startswith("notebooks/"):
        return
    text = source[0].replace("](../notebooks/", "](notebooks/")
    source[0] = re.sub(r"\]\(\.\./(?!notebooks/)", f"]({REPOSITORY}/blob/main/", text)


def mark_code(app, what, name, obj, options, lines: list[str]) -> None:
    """Marks code and tables of a docstring as literal, and escapes the signs of markup."""
    marked: list[str] = []
    code = section = False
    for blank, group in itertools.groupby(lines, lambda line: not line.strip()):
        block = list(group)
        indented = block[0].startswith("    ")
        if blank or block[0].startswith(">>>"):
            marked += block
            continue
        code, section = code and indented, section and indented
        if code:
            marked += block
        elif block[0] == "Example:":
            marked += ["Example::", "", *block[1:]]
            code = True
        elif (indented and not section) or any(re.search(r"\S {3,}\S", x) for x in block):
            marked += ["::", "", *("    " + line for line in block)]
            code = True
        else:
            marked += map(escaped, block)
            section = bool(re.match(r"(Args|Returns|Yields|Raises):$", block[0]))
    lines[:] = marked


def escaped(line: str) -> str:
    """Returns a line in which signs that are no markup are escaped."""
    bullet, text = re.match(r"(\s*[*-] )?(.*)", line).groups()
    parts = re.split(r"(``.+?``|`.+?`)", text)
    parts[::2] = [re.sub(r"[*|]|(?<=\w)_(?!\w)", r"\\\g<0>", part) for part in parts[::2]]
    return (bullet or "") + "".join(parts)


def list_fields(app, what, name, obj, options, lines: list[str]) -> None:
    """Adds the fields of a dataclass or a named tuple, with the comments beside them."""
    named = getattr(obj, "_fields", None) or getattr(obj, "__dataclass_fields__", None)
    if what != "class" or not named:
        return
    comments = field_comments(textwrap.dedent(inspect.getsource(obj)))
    listed = [field for field in named if field in comments]
    lines += ["", *(f"* **{field}**: {escaped(comments[field])}" for field in listed)]


def field_comments(source: str) -> dict[str, str]:
    """Returns the comments of a class above and beside its fields, by field."""
    comments: dict[str, str] = {}
    above: list[str] = []
    for line in source.splitlines():
        code, _, comment = line.partition("#")
        field = re.match(r"    (\w+): ", code)
        if field and (text := " ".join([*above, comment.strip()]).strip()):
            comments[field[1]] = text
        above = [*above, comment.strip()] if not code.strip() and comment else []
    return comments


class Verbatim(str):
    """A text that stands for a value in a signature."""

    __repr__ = str.__str__


def without_ranges(app, what, name, obj, options, signature: str, returned):
    """Leaves the types of settings out of their signature: their ranges would fill pages."""
    if what != "class" or "Annotated[" not in (signature or ""):
        return None
    parameters = [
        p.replace(annotation=p.empty, default=Verbatim(f"{type(p.default).__name__}(...)"))
        if dataclasses.is_dataclass(p.default)
        else p.replace(annotation=p.empty)
        for p in inspect.signature(obj).parameters.values()
    ]
    return str(inspect.Signature(parameters)), None


def skip_aliases(app, what, name, obj, skip: bool, options) -> bool | None:
    """Leaves out the attributes of named tuples, which are listed as fields."""
    return True if (obj.__doc__ or "").startswith("Alias for field number") else None


def linkcode_resolve(domain: str, info: dict[str, str]) -> str | None:
    """Returns the address of the source of a name."""
    found = sys.modules.get(info["module"])
    for part in info["fullname"].split("."):
        found = getattr(found, part, None)
    try:
        found = inspect.unwrap(found)
        path, (source, line) = inspect.getsourcefile(found), inspect.getsourcelines(found)
    except (TypeError, OSError):
        return None
    package = Path(seqkd_jax.__file__).parent
    if package not in Path(path).parents:
        return None
    inside = Path(path).relative_to(package.parent).as_posix()
    return f"{REPOSITORY}/blob/main/{inside}#L{line}-L{line + len(source) - 1}"


class LinkNames(SphinxPostTransform):
    """Links names in code, such as ``losses.mix`` and ``skd.seq_kd``, to the reference."""

    default_priority = 5

    def run(self) -> None:
        """Wraps each such name of a page in a link."""
        known = self.env.domains["py"].objects
        page = self.env.docname
        for code in list(self.document.findall(nodes.literal)):
            text = code.astext().partition("(")[0]
            name = f"seqkd_jax.{re.sub(r'^(skd|seqkd_jax)[.]', '', text)}"
            if "." in text and name in known and not isinstance(code.parent, nodes.reference):
                found = known[name]
                link = (self.app.builder, page, found.docname, found.node_id, code.deepcopy(), name)
                code.replace_self(make_refnode(*link))


def setup(app) -> None:
    """Connects the functions above to Sphinx."""
    app.add_post_transform(LinkNames)
    copy_notebooks(DOCS / "notebooks")
    app.connect("source-read", lead_outside)
    app.connect("autodoc-process-signature", without_ranges)
    app.connect("autodoc-skip-member", skip_aliases)
    app.connect("autodoc-process-docstring", mark_code, priority=400)
    app.connect("autodoc-process-docstring", list_fields, priority=600)
