"""README and docs say what is so: tables, links, names, commands, code."""

import re
import shlex
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
from small_folder import write_small

import seqkd_jax
from seqkd_jax.parsing import parse
from seqkd_jax.plans import write_plan
from seqkd_jax.report.documents import TABLE, fill_tables
from seqkd_jax.settings import Plan

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
PAGES = [
    ROOT / "README.md",
    ROOT / "CHANGELOG.md",
    *(p for p in sorted((ROOT / "docs").rglob("*.md")) if "_build" not in p.parts),
]
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```", re.DOTALL | re.MULTILINE)


LONG = ("experiments.md-6", "teachers.md-8", "serving.md-1")  # blocks that train or export models


def blocks(language: str):
    """The blocks of code in a language, each with its page and number; long ones are slow tests."""
    for page in PAGES:
        for number, (kind, code) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8"))):
            if kind == language:
                name = f"{page.name}-{number}"
                yield pytest.param(code, id=name, marks=[pytest.mark.slow] if name in LONG else [])


def commands(code: str):
    """The calls of ``seqkd`` in a block of shell, as lists of arguments."""
    for line in code.replace("\\\n", " ").split("\n"):
        for part in re.split(r"&&|\|\|", line):
            words = shlex.split(part, comments=True)
            while words and re.fullmatch(r"\w+=.*", words[0]):  # settings of the environment
                words = words[1:]
            if words and words[0] == "seqkd" and "$" not in part:
                cut = [n for n, word in enumerate(words) if word in ("<", ">", "|")]
                yield words[1 : cut[0] if cut else None]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_tables_are_those_of_the_results_that_were_measured(page):
    text = page.read_text(encoding="utf-8")
    assert fill_tables(text, page.parent) == text, f"python -m seqkd_jax.report {page}"


def test_there_are_tables():
    assert sum(len(TABLE.findall(page.read_text(encoding="utf-8"))) for page in PAGES) >= 7


def test_the_code_names_what_there_is():
    text = "".join(p.read_text("utf-8") for p in PAGES)
    names = sorted(set(re.findall(r"\bskd\.(\w+(?:\.\w+)*)", text)))
    assert {name.split(".")[0] for name in names} <= set(seqkd_jax.__all__)
    # In a process of its own, in which no other test has imported a module.
    code = f"import seqkd_jax as skd\nfor name in {names}: eval(f'skd.{{name}}')"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_and_paths_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    links = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    results = re.findall(r"<!-- \w+: ([^>]+\.json) -->", text)
    for path in [*links, *(path for paths in results for path in paths.split())]:
        assert (page.parent / path).exists(), path


def test_links_into_the_repository_lead_somewhere():
    files = [*PAGES, *(ROOT / "notebooks").glob("*.ipynb")]
    text = "".join(file.read_text(encoding="utf-8") for file in files)
    paths = set(re.findall(r"seqkd-jax/seqkd_jax/blob/main/([\w./-]+\w)", text))
    assert len(paths) > 10
    for path in paths:
        assert (ROOT / path).exists(), path


def test_readme_is_short():
    assert len(README.encode()) <= 9 << 10


@pytest.mark.parametrize("code", list(blocks("sh")))
def test_commands_are_understood(code, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for arguments in commands(code):
        if "--settings" in arguments:  # the only file that is read before the work begins
            settings = Path(arguments[arguments.index("--settings") + 1])
            settings.parent.mkdir(parents=True, exist_ok=True)
            write_plan(settings, Plan())
        assert parse(arguments) is not None


def test_commands_are_found():
    found = [words[0] for code in blocks("sh") for words in commands(code.values[0])]
    assert {"demo", "run", "train", "distill", "translate", "evaluate", "bench"} <= set(found)


@pytest.mark.parametrize("code", list(blocks("python")))
def test_code_runs(code, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README", "exec"), {"__name__": "readme"})


@pytest.mark.slow
def test_the_student_of_the_demo_is_used_as_the_first_page_shows(monkeypatch, tmp_path, capsys):
    write_small(tmp_path / "runs" / "demo" / "seq-kd")
    monkeypatch.chdir(tmp_path)
    blocks = BLOCK.findall((ROOT / "docs" / "start.md").read_text(encoding="utf-8"))
    (code,) = (code for kind, code in blocks if kind == "py")
    exec(compile(code, "start", "exec"), {"__name__": "start"})
    assert float(capsys.readouterr().out.split()[-1]) > 1


def test_records_go_to_other_programs_as_the_page_shows():
    text = (ROOT / "docs" / "experiments.md").read_text(encoding="utf-8")
    (code,) = (code for kind, code in BLOCK.findall(text) if kind == "py")
    (before,) = (c for kind, c in BLOCK.findall(text) if kind == "python" and "def flat" in c)
    found: list = []
    writer = SimpleNamespace(add_scalar=lambda *given: found.append(given))
    wandb = SimpleNamespace(log=found.append)
    record = {"run": "a", "step": 50, "train": {"loss": 1.5, "tokens": 3}}
    names = {"record": record, "writer": writer, "wandb": wandb}
    exec(before.partition("exp = ")[0] + code, names)
    assert found == [("a/train/loss", 1.5, 50), {"a/train/loss": 1.5}]
