"""The floor plan of docs/design.md, held by the imports themselves."""

import ast
import re
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import jax
import jax.numpy as jnp
import pytest

import seqkd_jax
from seqkd_jax import Config, attention_lstm

ROOT = Path(seqkd_jax.__file__).parent
FLOORS = {
    0: (
        "errors stopping program ranges addresses files sealed output base settings tokens coded "
        "exported provenance plans onnx_student console progress"
    ),
    1: "ops",
    2: "models search losses bleu chrf compiled",
    3: "data parallel processes trained",
    4: "decode train",
    5: "distill compress contrib scoring tensors",
    6: "build model_folder evaluation",
    7: "report export onnx_export card diagnosis",
    8: "recipes bench plan arguments parsing",
    9: "commands",
    10: "__main__",
}
FLOOR_OF = {room: floor for floor, rooms in FLOORS.items() for room in rooms.split()}
APART = {"models", "search", "losses", "bleu", "chrf"}  # these never import each other
MODULES = sorted(p for p in ROOT.rglob("*.py") if p != ROOT / "__init__.py")


def name_of(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def room(module: str) -> str:
    return module.split(".")[0]


NAMES = {name_of(path): path for path in MODULES}


def imports(path: Path) -> set[str]:
    """Modules of this library that a file imports, in whatever form and at whatever place."""
    package = ("seqkd_jax", *path.relative_to(ROOT).parts[:-1])
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = [*package[: len(package) - node.level + 1]] if node.level else []
            base += node.module.split(".") if node.module else []
            found |= {".".join(base)} | {".".join([*base, alias.name]) for alias in node.names}
    own = {name.removeprefix("seqkd_jax.") for name in found if name.startswith("seqkd_jax.")}
    return {name for name in own if name in NAMES} - {name_of(path)}


def test_the_plan_has_all_rooms_and_no_others():
    assert set(map(room, NAMES)) == set(FLOOR_OF)


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_point_to_a_floor_below(path):
    here = room(name_of(path))
    for other in {room(name) for name in imports(path)} - {here}:
        assert FLOOR_OF[other] <= FLOOR_OF[here], f"{path} imports {other}, from a floor above"
        assert not {here, other} <= APART, f"{path} imports {other}, which is apart"


@pytest.mark.parametrize("of", ["rooms", "files"])
def test_nothing_imports_in_a_circle(of):
    graph: dict[str, set[str]] = {}
    for name, path in NAMES.items():
        # A package's __init__ only lists the names of its files.
        if of == "files" and path.name == "__init__.py":
            continue
        here = room(name) if of == "rooms" else name
        others = {room(other) if of == "rooms" else other for other in imports(path)} - {here}
        graph.setdefault(here, set()).update(others)
    try:
        tuple(TopologicalSorter(graph).static_order())
    except CycleError as error:
        pytest.fail(f"a circle of {of}: {' -> '.join(error.args[1])}")


def test_the_core_does_not_import_contrib():
    users = {room(name) for name, path in NAMES.items() for i in imports(path) if "contrib" in i}
    assert users <= {"contrib", "build", "recipes", "commands"}


def names_used(path: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        found |= {getattr(node, "attr", None), getattr(node, "id", None)} - {None}
        if isinstance(node, ast.Import | ast.ImportFrom):  # also under another name
            found |= {part for alias in node.names for part in alias.name.split(".")}
    return found


@pytest.mark.parametrize("word", ["jit", "pmap", "vmap"])
def test_compilation_and_maps_over_sentences_stay_above_the_models(word):
    # Over the K hypotheses of a beam, sentences that take turns in their search, and positions.
    # An exported file holds programs; nothing else of it is compiled.
    exceptions = {"vmap": {"search/beam.py", "models/network.py"}, "jit": {"exported.py"}}
    allowed = exceptions.get(word, set())
    for name, path in NAMES.items():
        low = FLOOR_OF[room(name)] < 3 and room(name) != "ops"
        if low and str(path.relative_to(ROOT)) not in allowed:
            assert word not in names_used(path), f"{path} uses {word}"


def test_one_file_knows_pmap():
    users = [str(p.relative_to(ROOT)) for p in MODULES if "pmap" in names_used(p)]
    assert users == ["parallel.py"]


def test_only_ops_touches_the_inside_of_jax():
    for name, path in NAMES.items():
        text = path.read_text()
        if room(name) != "ops":
            assert "jax.extend" not in text and "jax.interpreters" not in text, path


def test_files_are_one_subject():
    for path in MODULES:
        assert len(path.read_text().splitlines()) <= 420, path


def test_the_papers_model_is_read_in_three_files():
    files = [ROOT / "models" / f"{name}.py" for name in ("network", "layers", "attention")]
    assert sum(len(path.read_text().splitlines()) for path in files) <= 400
    ran = set()

    def note(frame, event, _):
        path = Path(frame.f_code.co_filename)
        if event == "call" and path.parent == ROOT / "models":
            ran.add(path)

    model = attention_lstm(Config(9, 9, embed=4, hidden=4, layers=2, bidirectional=True))
    p = jax.eval_shape(model.init, jax.random.key(0))
    src, tgt = jnp.array([5, 4]), jnp.array([6, 3])

    def translate(p, key):
        memory, state = model.encode(p, src)
        hidden, _ = model.step(p, memory, state, jnp.array(6))
        return model.project(p, hidden), model.hidden(p, src, tgt, key)

    sys.setprofile(note)
    try:
        jax.eval_shape(translate, p, jax.random.key(0))
    finally:
        sys.setprofile(None)
    # Beside them there are types with their defaults, containers of arrays, random numbers, and
    # the mask of words; a model reads its source as it is written.
    beside = {ROOT / "models" / f"{n}.py" for n in "blocks params draws reading_order".split()}
    assert set(files) <= ran <= {*files, *beside}


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


def test_the_top_level_has_at_most_50_names():
    assert len(seqkd_jax.__all__) <= 50
    assert all(hasattr(seqkd_jax, name) for name in seqkd_jax.__all__)


def test_no_two_kinds_of_files_share_a_name():
    found = []
    for path in MODULES:
        for node in ast.parse(path.read_text()).body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant):
                found.append(node.value.value)
    formats = [name for name in found if re.fullmatch(r"seqkd-[a-z0-9-]+-\d+", str(name))]
    assert len(formats) > 5 and len(set(formats)) == len(formats)
