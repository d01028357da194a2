"""The documentation site: its links, the names that its pages mention, and its reference.

``sphinx-build -W`` itself is in .ci/run. The addresses of other sites are not asked for here.
"""

import importlib.util
import inspect
import re
import sys
from pathlib import Path

import pytest
from test_readme import PAGES, ROOT
from test_shape_of_the_house import NAMES

import seqkd_jax

DOCS = ROOT / "docs"
SITE = [page for page in PAGES if DOCS in page.parents]
CODE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\((?!https?:)([^)#\s]*)#?([^)\s]*)\)")


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as GitHub and MyST make them."""
    text = CODE.sub("", page.read_text(encoding="utf-8"))
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_a_page_and_to_a_heading(page):
    for path, anchor in LINK.findall(CODE.sub("", page.read_text(encoding="utf-8"))):
        target = page.parent / path if path else page
        assert target.exists(), path
        assert not anchor or anchor in anchors(target), f"{path}#{anchor}"


def test_every_page_is_in_the_contents():
    listed = set()
    for page in SITE:
        for block in re.findall(r"```\{toctree\}(.*?)```", page.read_text("utf-8"), re.DOTALL):
            names = [line for line in block.split("\n") if line and not line.startswith(":")]
            listed |= {(page.parent / f"{name}.md").resolve() for name in names}
    assert {page.resolve() for page in SITE} - listed == {(DOCS / "index.md").resolve()}


def test_no_page_has_the_name_of_one_that_sphinx_makes():
    assert not {"search", "genindex", "py-modindex"} & {page.stem for page in DOCS.glob("*.md")}


def test_llms_txt_names_the_pages_of_the_site():
    named = re.findall(r"\]\(([^)]+)\.html\)", (DOCS / "llms.txt").read_text("utf-8"))
    assert named and all((DOCS / f"{name}.md").exists() for name in named)


def value_of(name: str):
    """The value of a dotted name in the library; raises AttributeError if there is none."""
    value = seqkd_jax
    for n, part in enumerate(parts := name.split(".")):
        module = ".".join(parts[: n + 1])
        value = importlib.import_module(f"seqkd_jax.{module}") if module in NAMES else value
        value = value if module in NAMES else getattr(value, part)
    return value


def test_names_on_pages_exist():
    rooms = {name.split(".")[0] for name in NAMES}
    found = set()
    for page in SITE:
        text = CODE.sub("", page.read_text(encoding="utf-8"))
        for name in re.findall(r"(?<!`)`(?:skd\.)?([a-z_]\w*(?:\.\w+)+)[`(]", text):
            if name.split(".")[0] in rooms and not name.endswith((".py", ".json")):
                found.add(name)
    assert len(found) > 60
    for name in sorted(found):
        assert value_of(name) is not None, name


def reference() -> str:
    return "".join(page.read_text("utf-8") for page in (DOCS / "api").glob("*.md"))


def test_the_reference_has_every_public_name():
    listed = set(
        re.findall(r"^\.\. auto(?:class|function|data):: seqkd_jax\.(\w+)$", reference(), re.M)
    )
    rooms = {name for name in seqkd_jax.__all__ if inspect.ismodule(getattr(seqkd_jax, name))}
    assert listed == set(seqkd_jax.__all__) - rooms
    modules = set(re.findall(r"^\.\. automodule:: seqkd_jax\.(\S+)$", reference(), re.M))
    assert rooms <= modules <= set(NAMES)


@pytest.fixture(scope="module")
def conf():
    pytest.importorskip("sphinx")
    spec = importlib.util.spec_from_file_location("conf", DOCS / "conf.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_docstrings_become_markup_with_code_marked_and_signs_escaped(conf):
    lines = [
        "Returns |a| * b of ``x*y``.",
        "",
        "    code(*args)",
        "",
        "skip    a table",
        "",
        "Args:",
    ]
    lines += ["  *parts: each", "", "Example:", "    first", "", "    second"]
    conf.mark_code(None, "function", "f", None, None, lines)
    assert lines == [
        r"Returns \|a\| \* b of ``x*y``.",
        "",
        "::",
        "",
        "        code(*args)",
        "",
        "::",
        "",
        "    skip    a table",
        "",
        "Args:",
        r"  \*parts: each",
        "",
        "Example::",
        "",
        "    first",
        "",
        "    second",
    ]


def test_the_comments_beside_fields_are_their_descriptions(conf):
    lines = []
    conf.list_fields(None, "class", "Search", seqkd_jax.Search, None, lines)
    assert "* **n_best**: Translations returned for each sentence, at most the beam size." in lines
    assert any(line.startswith("* **length_rule**: What log-probabilities") for line in lines)


def test_signatures_of_settings_show_defaults_without_ranges(conf):
    signature, _ = conf.without_ranges(
        None, "class", "Plan", seqkd_jax.Plan, None, "(a: Annotated[int, Range()])", None
    )
    assert signature.startswith("(teacher_size=Size(...), student_size=Size(...), ")
    assert "kd_weight=0.5" in signature and "Range" not in signature


def test_links_out_of_the_pages_lead_to_the_repository(conf):
    source = ["[a](../LICENSE) [b](../notebooks/01.ipynb) [c](losses.md)"]
    conf.lead_outside(None, "index", source)
    assert source == [
        f"[a]({conf.REPOSITORY}/blob/main/LICENSE) [b](notebooks/01.ipynb) [c](losses.md)"
    ]


def test_names_lead_to_their_source(conf):
    module, name = "seqkd_jax.losses", "mix"
    assert module in sys.modules or importlib.import_module(module)
    address = conf.linkcode_resolve("py", {"module": module, "fullname": name})
    assert re.search(r"/seqkd_jax/losses/combine\.py#L\d+-L\d+$", address)
