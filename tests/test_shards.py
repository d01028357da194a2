"""What killed workers leave in a folder of shards, while others may be alive."""

import contextlib

import pytest

from seqkd_jax.decode.shards import process_shards
from seqkd_jax.files import _temporary_file, atomic_write, clear_temporary, make_folder, writing
from seqkd_jax.progress import Bar


def work(folder, shards=3):
    """Writes shards that are missing; gives the numbers of those that were."""
    made = []

    def path(number):
        return folder / f"{number}.txt"

    def make(number):
        made.append(number)
        atomic_write(path(number), b"whole")

    def done():
        return {n for n in range(shards) if path(n).exists()}

    with Bar(desc=None, total=shards) as bar:
        process_shards(folder, shards, path, done, make, bar, 1)
    return made


def killed(folder):
    """What a killed worker leaves: a file under a temporary name that nobody has open."""
    with _temporary_file(folder) as file:
        file.write(b"half a sha")
        return folder / file.name


def test_leftovers_of_the_dead_are_cleared_and_the_living_keep_theirs(tmp_path):
    dead = killed(tmp_path)
    (tmp_path / ".notes.tmp").write_bytes(b"of somebody else")
    with contextlib.ExitStack() as living:
        file = living.enter_context(writing(tmp_path / "theirs"))
        file.write(b"half")
        assert work(tmp_path) == [0, 1, 2]
        assert not dead.exists()
        file.write(b" and half")
    assert (tmp_path / "theirs").read_bytes() == b"half and half"
    assert work(tmp_path) == []
    left = {p.name for p in tmp_path.iterdir() if not p.name.endswith(".lock")}
    assert left == {"0.txt", "1.txt", "2.txt", "theirs", ".notes.tmp"}


@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError, OSError(28, "No space left")])
def test_what_fails_half_written_leaves_nothing(tmp_path, error):
    (tmp_path / "old").write_bytes(b"old")
    with pytest.raises(BaseException) as raised, writing(tmp_path / "old") as file:
        file.write(b"new")
        raise error
    assert isinstance(raised.value, error if isinstance(error, type) else OSError)
    if isinstance(error, OSError):
        assert raised.value.filename == str(tmp_path / "old")
    assert [(p.name, p.read_bytes()) for p in tmp_path.iterdir()] == [("old", b"old")]


def test_an_error_of_another_file_keeps_its_name(tmp_path):
    with pytest.raises(FileNotFoundError) as raised, writing(tmp_path / "out"):
        (tmp_path / "in").read_bytes()
    assert raised.value.filename == str(tmp_path / "in")


def test_a_folder_is_made_and_cleared(tmp_path):
    dead = killed(make_folder(tmp_path / "a" / "b"))
    make_folder(tmp_path / "a" / "b")
    assert not dead.exists()
    clear_temporary(tmp_path / "none")
