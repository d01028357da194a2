"""The notebook beside the packages of Colab and Kaggle: none changes. Slow: pytest -m slow.

``.ci/colab.txt`` has the versions. The environment is built from them with pip, so a package index
is needed.
"""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow
ROOT = Path(__file__).parent.parent
LISTED = ROOT / ".ci" / "colab.txt"
NOTEBOOK = ROOT / "notebooks" / "01_sequence_level_kd.ipynb"
RUN = """
import sys, nbformat
from nbclient import NotebookClient
notebook = nbformat.read(sys.argv[1], as_version=4)
NotebookClient(notebook, timeout=None).execute()
outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
print(*(output["text"] for output in outputs if "text" in output), sep="")
print("pictures:", sum("image/png" in output.get("data", {}) for output in outputs))
"""


def python_of_colab() -> str:
    """Python 3.12, as on Colab, or the one that runs this."""
    known = [*map(str, sorted(Path.home().glob(".pyenv/versions/3.12*/bin/python"))), "python3.12"]
    works = lambda name: not subprocess.run([name, "-c", ""], capture_output=True).returncode  # noqa: E731
    return next(filter(works, filter(shutil.which, known)), sys.executable)


@pytest.fixture(scope="module")
def colab(tmp_path_factory) -> Path:
    """A virtual environment with Colab's packages, among them the plugin for CUDA."""
    folder = tmp_path_factory.mktemp("colab") / "venv"
    subprocess.check_call([python_of_colab(), "-m", "venv", folder])
    pip = [folder / "bin" / "python", "-m", "pip", "install", "-q", "--no-deps", "-r", LISTED]
    subprocess.check_call(pip)
    yield folder
    shutil.rmtree(folder)


def packages(environment: Path) -> set[str]:
    freeze = [environment / "bin" / "python", "-m", "pip", "freeze", "--all"]
    return set(subprocess.check_output(freeze, text=True).lower().replace("_", "-").split("\n"))


def test_the_notebook_runs_beside_the_packages_of_colab_and_changes_none(colab, tmp_path):
    wheel = ["wheel", "-q", "--no-deps", "-w", tmp_path, ROOT]
    subprocess.check_call([sys.executable, "-m", "pip", *wheel])
    before = packages(colab)
    own = ("JAX_", "XLA_", "PYTHON")  # Colab has none of these
    environment = {k: v for k, v in os.environ.items() if not k.startswith(own)}
    environment |= {"FAST": "1", "SEQKD_RUNS": f"{tmp_path}/runs"}
    python = colab / "bin" / "python"
    done = subprocess.run(
        [python, "-c", RUN, NOTEBOOK], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    after = packages(colab)
    assert before <= after and any(line.startswith("seqkd-jax ") for line in after - before)
    assert int(done.stdout.split("pictures:")[1]) >= 4
    if not Path("/dev/nvidia0").exists():
        assert "WARNING: JAX computes on the CPU, although xla_cuda12 is installed" in done.stdout
