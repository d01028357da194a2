"""Files, text and models at addresses of fsspec, which are those of a folder to everything else."""

import uuid
from pathlib import Path

import pytest
from small_folder import write_small

from seqkd_jax.__main__ import main
from seqkd_jax.addresses import as_path, is_local
from seqkd_jax.data import read_lines, read_pairs, write_lines
from seqkd_jax.data.encode import IN_MEMORY, folder_for
from seqkd_jax.data.lines import ParallelLines, open_lines
from seqkd_jax.data.store import kept
from seqkd_jax.data.waiting import open_text, waiting_lines
from seqkd_jax.decode.nbest import NBest, open_nbest, write_shard
from seqkd_jax.distill.teacher_cache import open_teacher_cache
from seqkd_jax.errors import UsageError
from seqkd_jax.files import atomic_write, check_writable, make_folder, read_file, sha256, writing
from seqkd_jax.model_folder import load_model

LINES = ["süß \U0001f600", "", "b\u2028c", "\ufeffx", "y\r"]


@pytest.fixture(params=["memory", "local"])
def address(request, tmp_path):
    """An address in a store of objects, and one of fsspec's own local files."""
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}"
    return f"local://{tmp_path}"


def names(address):
    return sorted(path.name for path in as_path(address).iterdir())


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_text_is_written_and_read_as_on_a_disk(address, tmp_path, name):
    write_lines(f"{address}/{name}", LINES)
    write_lines(tmp_path / f"here-{name}", LINES)
    path = f"{address}/{name}"
    assert read_lines(path) == read_lines(as_path(path)) == LINES
    assert read_file(path) == (tmp_path / f"here-{name}").read_bytes()
    assert sha256(path) == sha256(tmp_path / f"here-{name}")
    with open_text(path) as (file, called):
        assert sum(waiting_lines(file, called, 2), []) == LINES
        assert called == path


def test_a_table_is_read_from_an_address(address):
    atomic_write(f"{address}/t.tsv", b"a\tb\nc\td\n")
    assert read_pairs(f"{address}/t.tsv") == [("a", "b"), ("c", "d")]
    write_lines(f"{address}/a", ["x", "y"])
    write_lines(f"{address}/b", ["x", "z"])
    assert read_pairs(f"{address}/a", f"{address}/b") == [("x", "x"), ("y", "z")]
    with pytest.raises(UsageError, match="as source and as target"):
        read_pairs(f"{address}/a", as_path(f"{address}/a"))


@pytest.mark.parametrize("name", ["a.txt", "a.txt.gz"])
def test_the_lines_of_a_text_at_an_address_are_those_of_a_file(address, name):
    lines = [f"{n} ü" for n in range(1000)]
    write_lines(f"{address}/{name}", lines)
    opened = open_lines(f"{address}/{name}")
    assert opened == lines and opened[700:703] == lines[700:703]
    write_lines(f"{address}/{name}", ["other"])
    assert opened == lines  # a copy
    with pytest.raises(FileNotFoundError, match=f"{address}/none: no such file"):
        open_lines(f"{address}/none")
    with pytest.raises(UsageError, match=f"{address}: a folder"):
        open_lines(address)


def test_lists_at_an_address_are_a_stream(address, tmp_path):
    lists = [NBest(n, (f"t{n}",)) for n in range(6)]
    for folder in (address, tmp_path):
        for shard in range(2):
            part = lists[3 * shard : 3 * shard + 3]
            write_shard(folder, shard, 2, {"teacher_digest": "t"}, part)
    opened = open_nbest(address)
    assert opened == open_nbest(tmp_path) == lists and opened.header == {"teacher_digest": "t"}
    (as_path(address) / "shard-00001-of-00002.jsonl.gz").unlink()
    assert opened[2] == lists[2]
    with pytest.raises(FileNotFoundError):
        opened[3]
    with pytest.raises(UsageError, match=r"shards \[1\] of 2 are missing"):
        open_nbest(address)
    write_lines(f"{address}/moses.gz", ["0 ||| a b ||| f= -1 ||| -1", "1 ||| c ||| f= -2 ||| -2"])
    assert [n.texts for n in open_nbest(f"{address}/moses.gz")] == [("a b",), ("c",)]


def test_large_corpora_are_kept_encoded_on_a_disk_only(address, tmp_path):
    pairs = ParallelLines(["a"] * (IN_MEMORY + 1), ["b"] * (IN_MEMORY + 1))
    assert folder_for(pairs, tmp_path) == tmp_path and folder_for(pairs, address) is None
    with pytest.raises(UsageError, match="must be on a disk"):
        kept(f"{address}/encoded", {}, lambda: [])


def test_what_fails_half_written_is_not_put_there(address):
    atomic_write(f"{address}/old", b"old")
    with pytest.raises(KeyboardInterrupt), writing(f"{address}/old") as file:
        file.write(b"new")
        raise KeyboardInterrupt
    assert read_file(f"{address}/old") == b"old"


def test_what_is_in_the_way_or_missing_is_named(address):
    make_folder(f"{address}/a/b")
    assert names(f"{address}/a/b") == []
    atomic_write(f"{address}/file", b"")
    with pytest.raises(UsageError, match=f"{address}/file/x: a file has this name"):
        make_folder(f"{address}/file/x")
    for do in check_writable, read_file:
        with pytest.raises(UsageError, match=f"{address}/a: a folder"):
            do(f"{address}/a")
    with pytest.raises(FileNotFoundError, match=f"{address}/none: no such file"):
        read_file(f"{address}/none")
    with pytest.raises(UsageError, match="5 bytes, and at most 4"):
        atomic_write(f"{address}/five", b"12345")
        read_file(f"{address}/five", 4)


def test_paths_that_are_no_addresses_are_local(tmp_path):
    assert as_path("a/b") == Path("a/b") and as_path(Path("C:/a")) == Path("C:/a")
    assert as_path(f"file://{tmp_path}/a%20b") == tmp_path / "a b"
    assert is_local(as_path("file:///a")) and not is_local(as_path("memory://a"))
    with pytest.raises(UsageError, match="gs://bucket/x, give it as a string"):
        as_path(Path("gs://bucket/x"))
    with pytest.raises(UsageError, match="nobody://x: addresses like this cannot be used"):
        as_path("nobody://x")


def test_a_store_that_cannot_be_reached_is_an_error_of_files(monkeypatch):
    class Lost(Exception):
        pass

    path = as_path(f"memory://{uuid.uuid4().hex}/a")

    def lost(*_, **__):
        raise Lost("no route")

    monkeypatch.setattr(type(path.fs), "info", lost)
    monkeypatch.setattr(type(path.fs), "put_file", lost)
    for do in read_file, check_writable, lambda path: atomic_write(path, b""):
        with pytest.raises(OSError, match=f"{path}.*no route"):
            do(path)


def test_a_model_translates_from_an_address(address, tmp_path, capsys):
    write_small(f"{address}/model")
    assert load_model(f"{address}/model").digest == load_model(write_small(tmp_path / "m")).digest
    write_lines(f"{address}/text", ["aß b", "c"])
    command = ["translate", f"{address}/model", "--source", f"{address}/text", "--max-extra", "2"]
    assert main([*command, "--out", f"{address}/out.gz"]) == 0
    assert main(command) == 0
    assert capsys.readouterr().out.splitlines() == read_lines(f"{address}/out.gz")


def test_a_cache_that_is_mapped_into_memory_must_be_on_a_disk(address):
    with pytest.raises(UsageError, match="must be on a disk"):
        open_teacher_cache(f"{address}/cache")
