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
from seqkd_jax.processes import HEARTBEAT
from seqkd_jax.processes import start as start_processes
from seqkd_jax.train.checkpoint import Checkpoints

pytestmark = pytest.mark.slow

TESTS = Path(__file__).parent
PROGRAM, COMMAND = TESTS / "in_processes.py", TESTS / "command_on_devices.py"


def free_port():
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def launch(arguments, processes, named=True, manager=None):
    """Starts a program in some processes, which find each other by their last three arguments.

    Args:
      arguments: the program and its own arguments.
      processes: their number.
      named: whether the last three arguments have names.
      manager: (n, processes, port) -> the variables that a cluster's manager sets for process n; it
        takes the place of the last three arguments.
    """
    port = free_port()
    names = ("--coordinator", "--processes", "--process") if named else ("", "", "")
    run = []
    for n in range(processes):
        hosts = zip(names, (f"127.0.0.1:{port}", str(processes), str(n)), strict=True)
        hosts = [word for pair in hosts for word in pair if word] if processes > 1 else []
        variables = {"PYTHONPATH": f"{TESTS.parent}:{TESTS}"}
        run.append(
            subprocess.Popen(
                [*arguments, *(["found"] if manager else hosts)],
                env=os.environ | variables | (manager(n, processes, port) if manager else {}),
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
        )
    return run


def slurm(n, processes, port):
    one = {"PROCID": n, "LOCALID": n, "NTASKS": processes, "STEP_NODELIST": "localhost"}
    one |= {"JOB_ID": 7, "STEP_NUM_NODES": 1}
    return {f"SLURM_{k}": str(v) for k, v in one.items()} | {"JAX_COORDINATOR_PORT": str(port)}


def open_mpi(n, processes, port):
    one = {"WORLD_RANK": n, "WORLD_LOCAL_RANK": n, "WORLD_SIZE": processes}
    of_all = {"OMPI_MCA_orte_hnp_uri": "1531576320.0;tcp://127.0.0.1:34911"}
    of_all |= {"JAX_COORDINATOR_PORT": str(port)}
    return {f"OMPI_COMM_{k}": str(v) for k, v in one.items()} | of_all


def start(folder, processes, devices, epochs=3, seconds=0.0, manager=None):
    """Starts a run of some processes with some devices each; a step takes some seconds at least."""
    folders = ":".join(map(str, folder if isinstance(folder, list) else [folder]))
    arguments = [sys.executable, PROGRAM, *map(str, (folders, devices, epochs, seconds))]
    return launch(arguments, processes, named=False, manager=manager)


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


@pytest.mark.parametrize("manager", [slurm, open_mpi])
def test_processes_are_found_by_the_variables_of_a_clusters_manager(tmp_path, whole, manager):
    assert result(start(tmp_path, 2, 2, manager=manager)) == whole


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


def say_that_one_has_died(survivors):
    for status, _, errors in survivors:
        assert status and "run the same command again in all processes" in errors.lower()
        assert "this is a bug" not in errors


@pytest.mark.parametrize(("processes", "victim"), [(2, 1), (4, 0), (4, 2)])
def test_survivors_say_that_one_has_died_and_the_run_resumes(tmp_path, whole, processes, victim):
    run = start(tmp_path, processes, 4 // processes, seconds=0.3)
    after(run[victim], "step", 8)
    run[victim].kill()
    said = ended(run)
    del said[victim]
    say_that_one_has_died(said)
    again = 6 - processes  # two instead of four, and four instead of two
    assert result(start(tmp_path, again, 4 // again)) == whole


@pytest.mark.parametrize("victim", [0, 1])
def test_survivors_wait_less_than_a_minute_for_one_that_hangs(tmp_path, whole, victim):
    assert HEARTBEAT < 60  # seconds
    run = start(tmp_path, 2, 2, seconds=0.3)
    after(run[victim], "step", 8)
    run[victim].send_signal(signal.SIGSTOP)
    said = ended(run[1 - victim : 2 - victim])
    run[victim].kill()
    ended(run[victim : victim + 1])
    say_that_one_has_died(said)
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
