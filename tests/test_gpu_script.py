"""docs/gpu, the measurements of a GPU, in small on the CPU."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

HERE = Path(__file__).parent
SCRIPT = HERE.parent / "docs" / "gpu"


def test_the_tests_that_it_runs_are_there():
    named = re.findall(r'"(test_\w+\.py)::(test_\w+)"', (SCRIPT / "beside.py").read_text())
    assert len(named) > 3
    for file, function in named:
        assert f"def {function}(" in (HERE / file).read_text(), (file, function)


@pytest.mark.slow
def test_each_part_says_what_it_measured(tmp_path):
    parts = ["machine", "shares", "profile", "compile"]
    command = [sys.executable, str(SCRIPT), "--small", "--out", str(tmp_path / "gpu.json")]
    done = subprocess.run([*command, "--parts", *parts], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "All was done." in done.stdout, done.stdout
    for part in ("best rate, memory", "train-student-b4", "kernels_a_step", "the programs kept"):
        assert part in done.stdout
