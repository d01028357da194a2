import ast
import operator
from pathlib import Path
from types import ModuleType

import nbformat
import pytest
from nbclient import NotebookClient

NOTEBOOKS = sorted((Path(__file__).parent.parent / "notebooks").glob("*.ipynb"))


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_runs_from_top_to_bottom(path, tmp_path, monkeypatch):
    monkeypatch.setenv("FAST", "1")
    monkeypatch.setenv("SEQKD_RUNS", str(tmp_path))
    notebook = nbformat.read(path, as_version=4)
    NotebookClient(notebook, timeout=None, resources={"metadata": {"path": path.parent}}).execute()
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert pictures


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_what_a_notebook_takes_from_the_library_is_there(path):
    cells = [c.source for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    lines = "\n".join(cells).splitlines()
    tree = ast.parse("\n".join("pass" if line[:1] in ("!", "%") else line for line in lines))
    taken = {}
    for node in ast.walk(tree):
        source = ast.unparse(node)
        if isinstance(node, ast.Import | ast.ImportFrom) and "seqkd_jax" in source:
            exec(source, taken)
    modules = {name: value for name, value in taken.items() if isinstance(value, ModuleType)}
    assert modules
    for node in ast.walk(tree):
        root, *names = ast.unparse(node).split(".") if isinstance(node, ast.Attribute) else [""]
        if root in modules and all(map(str.isidentifier, names)):
            operator.attrgetter(".".join(names))(modules[root])


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_opens_in_colab_and_leaves_jax_alone(path):
    text = path.read_text(encoding="utf-8")
    assert (
        f"colab.research.google.com/github/seqkd-jax/seqkd_jax/blob/main/notebooks/{path.name}"
        in text
    )
    assert "install -U" not in text and "pip install jax" not in text


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_has_short_cells_and_keeps_its_outputs(path):
    cells = [c for c in nbformat.read(path, as_version=4).cells if c.cell_type == "code"]
    assert max(len(cell.source.splitlines()) for cell in cells) <= 15
    assert any("image/png" in out.get("data", {}) for cell in cells for out in cell.outputs)
