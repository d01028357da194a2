"""The floor plan of README.md, held by the imports themselves."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import seqkd_jax

ROOT = Path(seqkd_jax.__file__).parent
FLOORS = {
    "errors": 0,
    "stopping": 0,
    "ranges": 0,
    "files": 0,
    "sealed": 0,
    "output": 0,
    "base": 0,
    "plan": 0,
    "ops": 1,
    "models": 2,
    "search": 2,
    "losses": 2,
    "bleu": 2,
    "data": 2,
    "train": 3,
    "distill": 3,
    "compress": 3,
    "scoring": 3,
    "evaluate": 3,
    "report": 4,
    "peer": 4,
    "recipes": 5,
    "bench": 5,
    "commands": 6,
    "arguments": 1,
    "__main__": 7,
}
APART = {"models", "search", "losses", "bleu"}  # these never import each other
MODULES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


def room(module: str) -> str:
    return module.removeprefix("seqkd_jax.").split(".")[0]


def imports(path: Path):
    """Names of this library's rooms that a file imports, absolute or relative."""
    package = ("seqkd_jax", *path.relative_to(ROOT).parts[:-1])
    for node in ast.walk(ast.parse(path.read_text())):
        if not isinstance(node, ast.ImportFrom):
            continue
        if node.level:
            base = package[: len(package) - node.level + 1]
            names = (
                [".".join([*base, node.module])]
                if node.module
                else [".".join([*base, alias.name]) for alias in node.names]
            )
            yield from map(room, names)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_to_a_floor_below(path):
    here = room(".".join(path.relative_to(ROOT).with_suffix("").parts))
    for other in set(imports(path)) - {here}:
        assert FLOORS[other] <= FLOORS[here], f"{path} imports {other}, from a floor above"
        assert not {here, other} <= APART, f"{path} imports {other}, which is apart"


@pytest.mark.parametrize("word", ["jax.jit", "jax.pmap", "vmap"])
def test_compilation_and_maps_over_sentences_stay_above_the_models(word):
    # Over the K hypotheses of a beam, sentences that take turns in their search, and positions.
    allowed = {"beam.py", "network.py"} if word == "vmap" else set()
    for path in MODULES:
        low = FLOORS[room(path.relative_to(ROOT).with_suffix("").parts[0])] < 3
        code = "\n".join(
            ast.unparse(node)
            for node in ast.parse(path.read_text()).body
            if not isinstance(node, ast.Expr)
        )
        if low and path.name not in allowed:
            assert f"{word}(" not in code, f"{path} uses {word}"


def test_one_file_knows_pmap():
    users = [p.name for p in MODULES if "jax.pmap(" in p.read_text()]
    assert users == ["parallel.py"]


def test_files_are_one_subject():
    for path in MODULES:
        assert len(path.read_text().splitlines()) <= 420, path


def test_help_does_not_load_jax():
    code = (
        "import sys\nfrom seqkd_jax.__main__ import main\n"
        "try:\n    main(['--help'])\nexcept SystemExit:\n    pass\n"
        "sys.exit('jax' in sys.modules)"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_every_public_name_can_be_loaded():
    for name in seqkd_jax.__all__:
        assert getattr(seqkd_jax, name) is not None
