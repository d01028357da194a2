"""No file brings a reader down: see fuzz.py."""

import importlib.util
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest
from fuzz import SEEDS, readers, try_input
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

READERS = readers()
NAMES = sorted(READERS)


@pytest.mark.parametrize("name", NAMES)
def test_valid_files_are_read(name, tmp_path):
    reader = READERS[name]
    (folder := tmp_path / "seeds").mkdir()
    first = reader.seeds(folder)[0 if name != "vectors-npz" else 1]
    path = tmp_path / reader.name
    path.write_bytes(reader.wrap(first))
    reader.read(path)


@pytest.mark.parametrize("name", NAMES)
def test_inputs_that_once_failed_are_named(name, tmp_path):
    for path in sorted((SEEDS / name).glob("*")):
        try_input(READERS[name], tmp_path, path.read_bytes())


@pytest.mark.parametrize("name", NAMES)
def test_damaged_files_are_named(name, tmp_path):
    """A few hundred changes to valid files, the same each time."""
    reader, dice = READERS[name], random.Random(name)
    (folder := tmp_path / "seeds").mkdir()
    seeds = reader.seeds(folder)
    for _ in range(150):
        data = bytearray(dice.choice(seeds)[:20_000])
        for _ in range(dice.randint(1, 3)):
            at = dice.randrange(len(data) + 1)
            match dice.randrange(5):
                case 0:
                    data[at : at + 1] = bytes([dice.randrange(256)])
                case 1:
                    del data[at : at + dice.randint(1, 30)]
                case 2:
                    data[at:at] = dice.choice([b"[" * 3000, b"Infinity", b"1e999", b"-1", b"null"])
                case 3:
                    data[at:at] = data[: dice.randint(0, 30)]
                case 4:
                    data[at : at + 1] = dice.choice([b"9" * 20, b'"', b"{", b"}", b",", b"\n"])
        try_input(reader, tmp_path, bytes(data))


@pytest.mark.slow
@pytest.mark.parametrize("name", NAMES)
@settings(
    max_examples=10_000,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture],
    derandomize=True,
)
@given(data=st.binary(max_size=400))
def test_any_bytes_are_read_or_named(name, tmp_path, data):
    try_input(READERS[name], tmp_path, data)


@pytest.mark.slow
@pytest.mark.skipif(not importlib.util.find_spec("atheris"), reason="atheris is not installed")
@pytest.mark.parametrize("name", NAMES)
def test_inputs_guided_by_coverage_are_read_or_named(name, tmp_path):
    command = [sys.executable, str(Path(__file__).parent / "fuzz.py"), name, "10000"]
    environment = os.environ | {"TMPDIR": str(tmp_path)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-6000:]
