"""docs/tpu/train.py: the same file on one device, on eight, and in two processes on loopback."""

import subprocess
import sys
from pathlib import Path

import pytest
from test_processes import ended, launch

DOCS = Path(__file__).parent.parent / "docs" / "tpu"
ON_DEVICES = """
import runpy, sys
import conftest, jax
jax.config.update("jax_num_cpu_devices", int(sys.argv.pop(1)))
sys.argv.pop(0)
runpy.run_path(sys.argv[0], run_name="__main__")
"""


@pytest.mark.slow
def test_the_same_script_runs_on_one_device_on_eight_and_in_two_processes(tmp_path):
    tables = []
    for processes, devices in (1, 1), (1, 8), (2, 4):
        folder = tmp_path / f"{processes}x{devices}"
        script = [DOCS / "train.py", "--out", folder, "--pairs", "60"]
        run = launch([sys.executable, "-c", ON_DEVICES, *map(str, [devices, *script])], processes)
        said = ended(run)
        assert [status for status, *_ in said] == [0] * processes, said
        lines = [line for _, out, _ in said for line in out.splitlines() if "BLEU" in line]
        assert [line.split(":")[0] for line in lines] == ["teacher", "baseline", "student"]
        tables.append([line.partition(",")[0] for line in lines])
    assert tables[1] == tables[2]


def test_the_scripts_are_short_and_sound():
    assert len((DOCS / "train.py").read_text().splitlines()) <= 80
    for script in DOCS.glob("*.sh"):
        assert subprocess.run(["sh", "-n", script]).returncode == 0
        assert script.read_text().startswith("#!/bin/sh\n") and script.stat().st_mode & 0o100
