import contextlib
import errno
import os
import re
import resource
import signal
import subprocess
import sys
import textwrap
import threading
import time
import uuid
from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest
import test_fit
from small_lab import CORPUS, SHORT, SIZE, WORDS

from seqkd_jax import program, stopping
from seqkd_jax.data import write_lines
from seqkd_jax.model_folder import load_model
from seqkd_jax.train.checkpoint import Checkpoints
from seqkd_jax.trained import params_digest

ROOT = Path(stopping.__file__).parent.parent
PER_EPOCH = test_fit.PER_EPOCH


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A run that nobody stopped."""
    return test_fit.run(tmp_path_factory.mktemp("whole"))


@pytest.fixture
def interruptible():
    """Python's own handler of SIGINT, which a job in a script's background starts without."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


class Sender:
    """Sends this process one signal, at a step of training or in a validation."""

    def __init__(self, number, at_step=None, at_validation=None):
        self.number, self.at_step, self.at_validation = number, at_step, at_validation
        self.steps = self.validations = 0

    def batches(self, epoch, first):
        for batch in test_fit.batches(epoch, first):
            self.steps += 1
            if self.steps == self.at_step:
                signal.raise_signal(self.number)
            yield batch

    def validate(self, params):
        self.validations += 1
        if self.validations == self.at_validation:
            signal.raise_signal(self.number)
        return test_fit.improving(params)


@pytest.mark.parametrize(
    "number, when",
    [
        (signal.SIGTERM, {"at_step": 1}),
        pytest.param(signal.SIGINT, {"at_step": 3}, marks=pytest.mark.slow),
        pytest.param(signal.SIGTERM, {"at_step": PER_EPOCH}, marks=pytest.mark.slow),
        (signal.SIGTERM, {"at_validation": 1}),  # while the state before it is being written
        (signal.SIGINT, {"at_validation": 2}),
    ],
)
def test_a_signal_stops_a_run_with_all_its_steps_saved(tmp_path, whole, number, when):
    sender = Sender(number, **when)
    with pytest.raises(stopping.Stopped) as stopped, stopping.handlers():
        test_fit.run(
            tmp_path, batches=sender.batches, validate=sender.validate, checkpoint_every=100
        )
    assert stopped.value.status == 128 + number
    with Checkpoints(tmp_path / "checkpoints") as checkpoints:
        state, _ = checkpoints.restore(test_fit.start())
    assert int(state.step) == sender.steps
    resumed = test_fit.run(tmp_path, checkpoint_every=100)
    assert params_digest(resumed.params) == params_digest(whole.params)
    assert resumed.validations == whole.validations
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 3  # each validation once


def test_without_handlers_ctrl_c_is_an_interrupt_as_everywhere(tmp_path, whole, interruptible):
    """In a notebook: nothing hangs, and the run goes on."""
    sender = Sender(signal.SIGINT, at_validation=1)
    with pytest.raises(KeyboardInterrupt) as stopped:
        test_fit.run(tmp_path, validate=sender.validate)
    assert type(stopped.value) is KeyboardInterrupt
    assert params_digest(test_fit.run(tmp_path).params) == params_digest(whole.params)


def test_ctrl_c_while_a_checkpoint_is_written_neither_hangs_nor_loses_it(tmp_path, interruptible):
    """A state large enough that the signal arrives while files are being written."""
    large = test_fit.start()
    large = large.replace(opt_state={"large": jnp.zeros((1 << 22,))})
    main = threading.main_thread().ident

    def send():
        while not list(tmp_path.glob("*.orbax-checkpoint-tmp*")):
            time.sleep(0.001)
        signal.pthread_kill(main, signal.SIGINT)

    sender = threading.Thread(target=send)
    with pytest.raises(KeyboardInterrupt), Checkpoints(tmp_path) as checkpoints:
        sender.start()
        checkpoints.save(large, {})
        checkpoints.finish()
        sender.join()
    with Checkpoints(tmp_path) as checkpoints:
        assert checkpoints.restore(large) is not None
    assert [t.name for t in threading.enumerate() if "checkpoint" in t.name] == []


def script(body, *arguments):
    code = "import time, os, signal, sys, threading\nfrom seqkd_jax import stopping\n"
    return subprocess.Popen(
        [sys.executable, "-c", code + textwrap.dedent(body), *arguments],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


DEAF = """
with stopping.handlers(grace=float(sys.argv[1])), stopping.deferred():
    print("ready", flush=True)
    time.sleep(600)
"""


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_second_signal_leaves_at_once(number):
    process = script(DEAF, "600")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(number)
    time.sleep(2 * stopping.ONE_SIGNAL)
    assert process.poll() is None
    process.send_signal(number)
    error = process.communicate()[1]
    assert process.returncode == 128 + number
    assert error.strip().splitlines() == [
        "seqkd: stopped at once; run the same command again to resume from what was last saved."
    ]


def test_one_signal_that_is_delivered_twice_is_one():
    """GNU timeout signals its child, and then the group that the child is in."""
    process = script(
        """
        with stopping.handlers(), stopping.deferred():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGTERM)
            print("goes on", flush=True)
        """
    )
    out, error = process.communicate()
    assert out == "goes on\n" and "Stopped: SIGTERM" in error


def test_a_signal_that_a_callback_swallows_is_raised_again():
    """As one that arrives while the garbage collector runs XLA's callback."""

    class Swallowing:
        def __del__(self):
            signal.raise_signal(signal.SIGTERM)

    with pytest.raises(stopping.Stopped), stopping.handlers():
        thing = Swallowing()
        del thing
        for _ in range(1000):
            time.sleep(0.01)


def test_a_swallowed_signal_is_not_sent_after_the_handlers_are_gone():
    seen = []
    before = signal.signal(signal.SIGTERM, lambda number, frame: seen.append(number))
    try:

        class Swallowing:
            def __del__(self):
                signal.raise_signal(signal.SIGTERM)

        with stopping.handlers():
            thing = Swallowing()
            del thing
        time.sleep(4 * stopping.RESEND_AFTER)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert not seen


def test_who_is_not_ready_in_time_is_ended():
    process = script(DEAF, "1")
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGTERM)
    error = process.communicate()[1]
    assert process.returncode == 143 and "not ready to stop after 1 s" in error


def test_handlers_are_put_back():
    before = [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)]
    with stopping.handlers():
        assert signal.getsignal(signal.SIGTERM) not in before
    assert [signal.getsignal(n) for n in (signal.SIGINT, signal.SIGTERM)] == before


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_status_is_that_of_the_signal_whatever_a_library_makes_of_it(number, capsys):
    def interrupted():
        try:
            signal.raise_signal(number)
        except stopping.Stopped:
            raise KeyboardInterrupt from None  # without the number

    assert program.run(interrupted, lambda: "to go on") == 128 + number
    assert capsys.readouterr().err == "seqkd: stopped; run the same command again to go on.\n"


# A disk that is full.


@contextlib.contextmanager
def largest_file(size):
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_checkpoint_that_does_not_fit_is_told_and_not_signed(tmp_path, capfd):
    test_fit.saved(tmp_path, (10,))
    with Checkpoints(tmp_path) as checkpoints, largest_file(3_000):
        checkpoints.save(test_fit.start(), {"step": 0})
        with pytest.raises(OSError, match="2: this checkpoint could not be written") as refused:
            checkpoints.finish()
    assert refused.value.errno == errno.EFBIG
    assert capfd.readouterr().err == ""
    assert sorted(path.name for path in tmp_path.iterdir()) == ["1", "1.sha256"]
    assert test_fit.restored_step(tmp_path) == (10, 10)


@pytest.fixture
def small_disk(tmp_path):
    mounted = ["mount", "-t", "tmpfs", "-o", "size=24m", "seqkd", str(tmp_path)]
    try:
        done = subprocess.run(mounted, capture_output=True)
    except FileNotFoundError:
        pytest.skip("there is no mount")
    if done.returncode:
        pytest.skip(f"no small disk can be mounted: {done.stderr.decode().strip()}")
    yield tmp_path
    subprocess.run(["umount", str(tmp_path)], check=True)


LARGE = {"opt_state": [np.random.default_rng(0).random(1 << 17) for _ in range(8)]}  # 8 MB


def test_a_disk_that_fills_up_spares_the_checkpoints_before(small_disk, capfd):
    folder = small_disk / "checkpoints"
    with pytest.raises(OSError, match="could not be written") as refused:
        with Checkpoints(folder) as checkpoints:
            for n in range(1, 9):
                state = test_fit.start().replace(step=jnp.int32(n), **LARGE)
                checkpoints.save(state, {"step": n}, keep=range(1, n))
    assert refused.value.errno == errno.ENOSPC
    assert capfd.readouterr().err == ""
    whole = [str(m) for m in range(1, n - 1)]
    left = {path.name for path in folder.iterdir()}
    assert len(whole) > 1 and left == {*whole, *(f"{m}.sha256" for m in whole)}
    with Checkpoints(folder) as checkpoints:
        assert checkpoints.restore(state)[1] == {"step": n - 2}


def test_a_disk_that_others_fill_while_a_checkpoint_is_written(small_disk, capfd):
    """There was room when the save began: Orbax's own threads meet the end of it."""
    folder = small_disk / "checkpoints"
    test_fit.saved(folder, (10,))

    def fill():
        while not list(folder.glob("*.orbax-checkpoint-tmp*")):
            time.sleep(0.001)
        with contextlib.suppress(OSError), open(small_disk / "filling", "wb", 0) as file:
            disk = os.statvfs(small_disk)  # all at once, and then what is left
            os.posix_fallocate(file.fileno(), 0, disk.f_bavail * disk.f_bsize)
            while file.write(bytes(1 << 16)):
                pass

    filling = threading.Thread(target=fill)
    filling.start()
    large, told = test_fit.start().replace(**LARGE), None
    with Checkpoints(folder) as checkpoints:
        checkpoints.save(large, {"step": 0})
        try:
            checkpoints.finish()
        except OSError as error:
            told = error
    filling.join()
    assert capfd.readouterr().err == ""
    if told is None:  # all was written before the disk was full: it must be whole
        with Checkpoints(folder) as checkpoints:
            assert checkpoints.restore(large)[1] == {"step": 0}
        return
    assert told.errno == errno.ENOSPC and "2: this checkpoint could not be written" in str(told)
    assert [path.name for path in folder.glob("*.sha256")] == ["1.sha256"]
    assert test_fit.restored_step(folder) == (10, 10)
    assert sorted(path.name for path in folder.iterdir()) == ["1", "1.sha256"]


def test_what_killed_processes_left_is_cleared_by_the_next_start(tmp_path):
    run = tmp_path / "checkpoints"
    for leftover in (run / "7.orbax-checkpoint-tmp", run / "8.orbax-checkpoint-tmp-123"):
        leftover.mkdir(parents=True)
    (tmp_path / f".{uuid.uuid4().hex}.tmp").write_bytes(b"half a file")
    test_fit.run(tmp_path, epochs=1)
    assert not list(run.glob("*tmp*")) and not list(tmp_path.glob(".*.tmp"))


# The command line.


def test_a_signal_waits_while_modules_are_imported(tmp_path):
    """A C module that imports NumPy prints what is raised meanwhile, and raises ImportError."""
    body = """
        import os, signal, sys, traceback

        class ImportOfC:
            def find_spec(self, name, *_):
                if name == "jax":
                    try:
                        os.kill(os.getpid(), signal.SIGTERM)
                        for _ in range(1000):
                            pass  # the handler runs between two instructions
                    except KeyboardInterrupt:
                        traceback.print_exc()
                        raise ImportError("numpy._core.multiarray failed to import") from None

        sys.meta_path.insert(0, ImportOfC())
        from seqkd_jax import __main__

        status = __main__.main(["translate", sys.argv[1], "--source", sys.argv[1]])
        sys.exit(status if "jax" in sys.modules else "jax was not imported")
        """
    process = script(body, tmp_path)
    error = process.communicate()[1]
    assert process.returncode == 143, error
    assert error == "seqkd: stopped; run the same command again to start over.\n"


def command(folder, *more):
    for part in ("train", "valid"):
        write_lines(folder / f"{part}.tsv", ["\t".join(pair) for pair in getattr(CORPUS, part)])
    text = ["--train", f"{folder}/train.tsv", "--valid", f"{folder}/valid.tsv"]
    return [*("train", *text, *SIZE, *SHORT, *WORDS, "--out"), f"{folder}/model", *more]


def started(arguments, *before):
    return subprocess.Popen(
        [*before, sys.executable, "-m", "seqkd_jax", *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def said(error):
    """Returns what a command said on standard error, without the line that names its devices."""
    lines = [line for line in error.splitlines() if line.startswith("seqkd: ")]
    assert lines[0].startswith("seqkd: cpu: 1 x cpu")
    return lines[1:]


LONG = ("--epochs", "15")


def completed(folder, *more):
    """Returns the digest of what a command trains when nobody stops it."""
    process = started(command(folder, *more))
    error = process.communicate()[1]
    assert process.returncode == 0, error
    return load_model(folder / "model").digest


@pytest.fixture(scope="module")
def digest_of_long(tmp_path_factory):
    return completed(tmp_path_factory.mktemp("long"), *LONG)


@pytest.mark.slow
@pytest.mark.parametrize(
    "number, sign",
    [
        (signal.SIGTERM, "metrics.jsonl"),
        (signal.SIGINT, "checkpoints/*tmp*"),
        (signal.SIGTERM, "checkpoints/*.sha256"),
    ],
    ids=["compiling", "saving", "training"],
)
def test_a_command_that_is_stopped_says_so_in_one_line_and_resumes(
    tmp_path, number, sign, digest_of_long
):
    process = started(command(tmp_path, *LONG))
    while not list((tmp_path / "model").glob(sign)) and process.poll() is None:
        time.sleep(0.001)
    process.send_signal(number)
    error = process.communicate()[1]
    assert process.returncode == 128 + number
    assert "Traceback" not in error
    assert said(error) == ["seqkd: stopped; run the same command again to resume."]
    assert completed(tmp_path, *LONG) == digest_of_long


@pytest.mark.slow
def test_a_command_whose_disk_is_full_says_so_in_one_line(tmp_path):
    limited = ["sh", "-c", 'ulimit -f 40; exec "$@"', "sh"]
    process = started(command(tmp_path, "--hidden", "64"), *limited)
    error = process.communicate()[1]
    assert process.returncode == 2 and "Traceback" not in error
    (line,) = said(error)
    assert "could not be written (File too large)" in line
    assert not list((tmp_path / "model" / "checkpoints").iterdir())


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("trained")
    assert completed(folder)
    return folder / "model"


def handles_sigterm(pid: int) -> bool:
    """Whether a process has a handler of its own for SIGTERM."""
    status = Path(f"/proc/{pid}/status").read_text()
    caught = int(re.search(r"SigCgt:\s*(\w+)", status)[1], 16)
    return bool(caught >> (signal.SIGTERM - 1) & 1)


@pytest.mark.slow
@pytest.mark.parametrize("name", ["distill", "cache", "evaluate", "translate"])
@pytest.mark.parametrize("seconds", [1.0, 6.0])
def test_any_command_stops_with_the_status_of_the_signal(tmp_path, model, name, seconds):
    """While Python imports, XLA compiles or threads of XLA compute: no crash, no traceback."""
    draws = np.random.default_rng(0).choice(["cat", "eats", "fish"], (100_000, 16))
    write_lines(tmp_path / "src", map(" ".join, draws))
    write_lines(tmp_path / "tgt", map(" ".join, draws))
    both = ["--source", tmp_path / "src", "--target", tmp_path / "tgt"]
    given = {
        "distill": [*both[:2], "--out", tmp_path / "out"],
        "cache": [*both, "--out", tmp_path / "out"],
        "evaluate": [*both[:2], "--reference", tmp_path / "tgt"],
        "translate": [*both[:2], "--out", tmp_path / "out.txt"],
    }[name]
    process = started([name, model, *given])
    while sys.platform == "linux" and process.poll() is None and not handles_sigterm(process.pid):
        time.sleep(0.01)  # Python itself has not started yet
    time.sleep(seconds)
    process.send_signal(signal.SIGTERM)
    _, error = process.communicate()
    assert process.returncode == 143, error
    assert "stopped; run the same command again" in error and "Traceback" not in error
