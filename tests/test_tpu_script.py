"""docs/tpu/train.py: the same file on one device, on eight, and in two processes on loopback."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from test_processes import free_port

import seqkd_jax as skd

TPU = Path(__file__).parent.parent / "docs" / "tpu"


@pytest.mark.slow
def test_the_same_script_runs_on_one_device_on_eight_and_in_two_processes(tmp_path):
    digests = []
    for processes, devices in (1, 1), (1, 8), (2, 4):
        folder = tmp_path / f"{processes}x{devices}"
        command = [TPU / "processes.sh", str(processes), "--out", folder, "--pairs", "60"]
        environment = os.environ | {
            "JAX_NUM_CPU_DEVICES": str(devices),
            "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            "PORT": str(free_port()),
            "PYTHONPATH": str(TPU.parent.parent),
        }
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        lines = [line for line in done.stdout.splitlines() if "BLEU" in line]
        assert [line.split(":")[0] for line in lines] == ["teacher", "baseline", "student"]
        names = ["teacher", "baseline", "seq-kd+word-kd"]
        digests.append([skd.load_model(folder / name).digest for name in names])
    assert digests[1] == digests[2] != digests[0]


def test_the_scripts_are_short_and_sound():
    assert len((TPU / "train.py").read_text().splitlines()) <= 80
    for script in TPU.glob("*.sh"):
        assert subprocess.run(["sh", "-n", script]).returncode == 0
        assert script.read_text().startswith("#!/bin/sh\n") and script.stat().st_mode & 0o100
