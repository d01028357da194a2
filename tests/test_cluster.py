"""A corpus decoded by the map of an engine, whose workers may die, into folders and addresses."""

import functools
import json
import multiprocessing
import os
import signal
import sys
import time
import uuid
import warnings
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path

import pytest
from small_folder import write_small

from seqkd_jax import console
from seqkd_jax.__main__ import main
from seqkd_jax.addresses import as_path
from seqkd_jax.data import read_lines, write_lines
from seqkd_jax.decode.cluster import ray_map
from seqkd_jax.decode.corpus import translate_corpus
from seqkd_jax.errors import UsageError
from seqkd_jax.files import lock_folder
from seqkd_jax.model_folder import load_model
from seqkd_jax.settings import Messages, Search

BEAM = Search(beam_size=3, n_best=2, max_extra=3, max_ratio=1.0)
LINES = [" ".join("aß b c d e f g h".split()[n % 5 : n % 7 + 2]) for n in range(40)]
ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def teacher(tmp_path_factory):
    """The folder of a teacher."""
    return write_small(tmp_path_factory.mktemp("teacher"))


@pytest.fixture(scope="module")
def alone(tmp_path_factory, teacher):
    """The shards, and what is read back from them, of a process that decoded the corpus alone."""
    folder = tmp_path_factory.mktemp("alone")
    return decode(folder, load_model(teacher)), shards(folder)


@pytest.fixture
def address():
    return f"memory://{uuid.uuid4().hex}/lists"


def decode(folder, teacher, map=None, lines=LINES, progress=None):
    return translate_corpus(
        folder, teacher, lines, BEAM, map=map, shard_sentences=7, progress=progress
    )


def load(folder):
    """Loads a teacher in a worker, which computes on as many devices as the tests do."""
    import conftest  # noqa: F401

    return load_model(folder)


def shards(folder):
    return {path.name: path.read_bytes() for path in sorted(as_path(folder).glob("shard-*"))}


def backwards(function, items):
    """A map that yields the last result first."""
    return reversed([function(item) for item in items])


@pytest.mark.parametrize("engine", [map, backwards], ids=["builtin", "backwards"])
def test_a_map_makes_the_same_bytes_in_any_order(tmp_path, teacher, alone, engine):
    assert (decode(tmp_path, load_model(teacher), engine), shards(tmp_path)) == alone


def test_threads_share_a_teacher_that_is_loaded_once(tmp_path, teacher, alone):
    loaded = []

    def counted():
        loaded.append(load_model(teacher))
        return loaded[-1]

    decode(tmp_path / "one", counted, map)
    assert len(loaded) == 2  # here, and by the only worker
    with ThreadPoolExecutor(2) as pool:
        decode(tmp_path / "two", load_model(teacher), pool.map)
    assert shards(tmp_path / "one") == shards(tmp_path / "two") == alone[1]


def test_only_missing_shards_are_sent_to_workers(tmp_path, teacher, alone, capsys):
    decode(tmp_path, load_model(teacher), map)
    kept = shards(tmp_path)
    for name in list(kept)[1::2]:
        (tmp_path / name).unlink()
    sent = []

    def counting(function, items):
        return map(function, (sent.append(item.shard) or item for item in items))

    console.speak(Messages(log_json=True))
    decode(tmp_path, load_model(teacher), counting, progress="on")
    console.speak(Messages())
    assert sent == [1, 3, 5] and shards(tmp_path) == kept == alone[1]
    shown = map(json.loads, capsys.readouterr().err.splitlines())
    assert [line["done"] for line in shown if line["event"] == "progress"] == [0, 40]


def test_what_workers_finished_before_one_failed_is_kept(tmp_path, teacher, alone):
    def failing(function, items):
        for item in items:
            if item.shard == 4:
                raise ConnectionError("lost")
            yield function(item)

    with pytest.raises(ConnectionError):
        decode(tmp_path, load_model(teacher), failing)
    assert list(shards(tmp_path)) == list(alone[1])[:4]
    decode(tmp_path, load_model(teacher))
    assert shards(tmp_path) == alone[1]


def test_a_map_that_leaves_shards_out_is_noticed(tmp_path, teacher):
    with pytest.raises(UsageError, match=r"shards \[1, 2, 3, 4, 5\] of 6 are missing"):
        decode(tmp_path, load_model(teacher), lambda f, items: [f(next(iter(items)))])


def test_a_worker_that_loads_another_teacher_is_refused(tmp_path, teacher):
    other = write_small(tmp_path / "other", seed=1)
    folders = [teacher, other]
    with pytest.raises(UsageError, match="another teacher"):
        decode(tmp_path / "lists", lambda: load_model(folders.pop(0)), map)
    assert not shards(tmp_path / "lists")


def test_one_process_at_a_time_gives_out_the_shards_of_a_folder(tmp_path, teacher):
    with lock_folder(tmp_path), pytest.raises(UsageError, match="another process is writing"):
        decode(tmp_path, load_model(teacher), map)


@pytest.mark.parametrize("engine", [None, map], ids=["alone", "map"])
def test_an_address_holds_the_same_bytes_as_a_folder(address, teacher, alone, engine):
    assert (decode(address, load_model(teacher), engine), shards(address)) == alone
    assert {path.name for path in as_path(address).iterdir()} == set(alone[1])  # no locks
    missing = list(alone[1])[2]
    (as_path(address) / missing).unlink()
    decode(address, load_model(teacher), engine)
    assert shards(address) == alone[1]
    with pytest.raises(UsageError, match="another source"):
        decode(address, load_model(teacher), engine, LINES[::-1])


@pytest.mark.parametrize("scheme", ["file", "local"])
def test_an_address_of_a_local_folder_is_that_folder(tmp_path, teacher, alone, scheme):
    decode(f"{scheme}://{tmp_path}/deep/down", load_model(teacher))
    assert shards(tmp_path / "deep/down") == alone[1]


@pytest.mark.slow
def test_processes_load_the_teacher_from_its_folder(tmp_path, teacher, alone):
    with ProcessPoolExecutor(2, multiprocessing.get_context("spawn")) as pool:
        with pytest.raises(UsageError, match="give a function that loads it"):
            decode(tmp_path, load_model(teacher), pool.map)
        decode(tmp_path, functools.partial(load, teacher), pool.map)
    assert shards(tmp_path) == alone[1]


def test_an_engine_is_refused_where_it_has_no_effect(tmp_path, teacher, capsys):
    write_lines(tmp_path / "text", LINES)
    given = ["distill", "--source", f"{tmp_path}/text", "--out", f"{tmp_path}/out"]
    assert main([*given, str(teacher), "--workers", "2"]) == 2
    assert "--workers has no effect without --engine ray" in capsys.readouterr().err
    assert main([*given, "--nbest", f"{tmp_path}/lists", "--engine", "ray"]) == 2
    assert "leave out" in capsys.readouterr().err


def test_an_engine_that_is_not_installed_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match="pip install ray"):
        list(ray_map(str, [1]))


# Ray.


@pytest.fixture(scope="module")
def ray():
    """Ray, with a cluster of two processes on this machine, which sees what tests import."""
    ray = pytest.importorskip("ray", reason="Ray is not installed (the extra ray)")
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # JAX, of a fork that Ray makes to start a program
        ray.init(
            address="local",
            num_cpus=2,
            include_dashboard=False,
            logging_level="error",
            log_to_driver=False,
            runtime_env={"env_vars": {"PYTHONPATH": paths, "JAX_PLATFORMS": "cpu"}},
        )
    yield ray
    ray.shutdown()


def dies_once(marker, function, item):
    """Applies a function; the first process that gets here is killed at the second shard."""
    result = function(item)
    if item.shard == 1 and not marker.exists():
        marker.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return result


@pytest.mark.slow
def test_the_work_of_a_killed_worker_is_done_by_another(ray, tmp_path, teacher, alone):
    marker, kept = tmp_path / "killed", []

    def engine(function, items):
        dying = functools.partial(dies_once, marker, function)
        for result in ray_map(dying, items, workers=2):
            kept.append(result[0])
            yield result

    decode(tmp_path / "lists", functools.partial(load, teacher), engine)
    assert marker.exists() and sorted(kept) == [0, 1, 2, 3, 4, 5]
    assert shards(tmp_path / "lists") == alone[1]


def dies(item):
    os.kill(os.getpid(), signal.SIGKILL)


def fails(item):
    raise UsageError(f"{item} is wrong")


def both(folder, item):
    """Waits until two processes have been here."""
    (folder / str(os.getpid())).touch()
    while len(list(folder.iterdir())) < 2:
        time.sleep(0.1)
    return item


@pytest.mark.slow
def test_ray_maps_like_the_builtin(ray, tmp_path):
    wait = functools.partial(both, tmp_path)
    assert sorted(ray_map(wait, iter(range(30)), workers=2)) == list(range(30))
    assert list(ray_map(str, [])) == []
    with pytest.raises(UsageError, match=r"^\d is wrong$"):
        list(ray_map(fails, range(3)))
    with pytest.raises(UsageError, match="3 workers died"):
        list(ray_map(dies, range(3), workers=1))
    some = ray_map(str, range(100), workers=2)
    next(some)
    some.close()  # ends its workers, or the next would wait for room
    assert list(ray_map(str, [7], num_cpus=2)) == ["7"]


@pytest.mark.slow
def test_the_command_decodes_on_a_cluster_as_it_does_alone(ray, tmp_path, teacher, capsys):
    write_lines(tmp_path / "text", LINES)
    given = ["distill", str(teacher), "--source", f"{tmp_path}/text", "--max-extra", "3"]
    assert main([*given, "--out", f"{tmp_path}/one"]) == 0
    assert main([*given, "--out", f"{tmp_path}/two", "--engine", "ray"]) == 0
    assert read_lines(tmp_path / "one/train.tgt") == read_lines(tmp_path / "two/train.tgt")
    assert ray.is_initialized()  # a cluster that the caller made stays
