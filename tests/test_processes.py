"""Several real processes on this machine: they meet on loopback and add up through gloo."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from test_stopping import command

from seqkd_jax.files import lock_folder
from seqkd_jax.processes import start as start_processes
from seqkd_jax.train.checkpoint import Checkpoints

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parent
PROGRAM, COMMAND = TESTS / "in_processes.py", TESTS / "command_on_devices.py"


def launch(arguments, processes, named=True):
    """Starts a program in some processes, which find each other by their last three arguments."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    names = ("--coordinator", "--processes", "--process") if named else ("", "", "")
    run = []
    for n in range(processes):
        hosts = zip(names, (f"127.0.0.1:{port}", str(processes), str(n)), strict=True)
        hosts = [word for pair in hosts for word in pair if word] if processes > 1 else []
        run.append(
            subprocess.Popen(
                [*arguments, *hosts],
                env=os.environ | {"PYTHONPATH": f"{TESTS.parent}:{TESTS}"},
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return run


def start(folder, processes, devices, epochs=3, seconds=0.0):
    """Starts a run of some processes with some devices each; a step takes some seconds at least."""
    folders = ":".join(map(str, folder if isinstance(folder, list) else [folder]))
    arguments = [sys.executable, PROGRAM, *map(str, (folders, devices, epochs, seconds))]
    return launch(arguments, processes, named=False)


def ended(run):
    """Waits for all processes of a run; returns their (status, output, errors)."""
    return [(p.returncode, *said) for p in run for said in [p.communicate()]]


def result(run):
    """The last line of the output, which is the same in all processes."""
    said = ended(run)
    assert [status for status, *_ in said] == [0] * len(run), said
    lines = {out.splitlines()[-1] for _, out, _ in said}
    assert len(lines) == 1
    return lines.pop()


def after(run, word, times):
    """Waits until a process has said a word some times."""
    while times:
        line = b""
        while not line.endswith(b"\n"):
            byte = os.read(run.stdout.fileno(), 1)  # ``readline`` would hide more from ``ended``
            assert byte, run.communicate()
            line += byte
        times -= line == f"{word}\n".encode()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """The outcome of a run of one process with four devices, which nobody stopped."""
    return result(start(tmp_path_factory.mktemp("whole"), 1, 4))


@pytest.mark.parametrize("processes", [2, 4])
def test_the_same_devices_in_more_processes_end_with_the_same_bits(tmp_path, whole, processes):
    assert result(start(tmp_path, processes, 4 // processes)) == whole
    assert len((tmp_path / "metrics.jsonl").read_text().splitlines()) == 3


def saved_step(folder):
    with Checkpoints(folder / "checkpoints") as checkpoints:
        return checkpoints.newest()[1].step


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_to_one_process_stops_all_after_the_same_step(tmp_path, whole, number):
    run = start(tmp_path, 2, 2, seconds=0.3)
    after(run[1], "step", 8)
    run[1].send_signal(number)
    said = ended(run)
    assert [status for status, *_ in said] == [128 + number] * 2
    steps = [out.count("step\n") for _, out, _ in said]
    assert [steps[0], steps[1] + 8] == [saved_step(tmp_path)] * 2  # 8 lines are read above
    for _, _, errors in said:
        assert "seqkd: stopped; run the same command again to resume." in errors
        assert "Traceback" not in errors and "this process was ended" not in errors
    assert result(start(tmp_path, 4, 1)) == whole


def test_a_signal_during_validation_stops_all_of_them(tmp_path, whole):
    run = start(tmp_path, 2, 2, seconds=0.3)
    after(run[0], "validating", 1)
    run[0].send_signal(signal.SIGTERM)
    assert [status for status, *_ in ended(run)] == [143] * 2
    assert saved_step(tmp_path) == 5
    assert result(start(tmp_path, 1, 4)) == whole


@pytest.mark.parametrize("victim", [0, 2])
def test_survivors_say_that_one_has_died_and_the_run_resumes(tmp_path, whole, victim):
    run = start(tmp_path, 4, 1, seconds=0.3)
    after(run[victim], "step", 8)
    run[victim].kill()
    said = ended(run)
    del said[victim]
    for status, _, errors in said:
        assert status and "run the same command again in all processes" in errors.lower()
        assert "this is a bug" not in errors
    assert result(start(tmp_path, 2, 2)) == whole


def test_one_that_fails_ends_the_others_at_once_and_says_why(tmp_path):
    with lock_folder(tmp_path):
        said = ended(start(tmp_path, 2, 1))
    assert [status for status, *_ in said] == [2, 1]
    why = "another process is writing to this folder"
    assert why in said[0][2]
    assert f"seqkd: process 0 has failed: {tmp_path}: {why}" in said[1][2]


def test_processes_without_a_common_disk_are_told_so(tmp_path):
    folders = [tmp_path / "one", tmp_path / "other"]
    said = ended(start(folders, 2, 1))
    assert said[1][0] == 2 and "Give all processes the same folder" in said[1][2]


def test_a_command_trains_in_two_processes_as_in_one(tmp_path):
    lines = []
    for processes, devices in (1, 2), (2, 1):
        folder = tmp_path / str(processes)
        folder.mkdir()
        arguments = [*map(str, command(folder)), "--epochs", "2"]
        run = launch([sys.executable, COMMAND, str(devices), *arguments], processes)
        said = ended(run)
        assert [status for status, *_ in said] == [0] * processes, said
        lines.append([line for _, out, _ in said for line in out.splitlines() if ": " in line])
        lines[-1] = [line.partition(": ")[2] for line in lines[-1] if "trained" in line]
    assert len(lines[0]) == len(lines[1]) == 1  # process 0 alone prints
    assert lines[0] == lines[1]  # the same digest of parameters


def test_numbers_of_processes_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="--process is 2, but there are 2 processes"):
        start_processes("127.0.0.1:1", 2, 2)
    with pytest.raises(ValueError, match="all three; given here: --coordinator"):
        start_processes("127.0.0.1:1")
    start_processes(processes=1)  # stays alone
