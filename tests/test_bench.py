import ctypes
import dataclasses
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from test_recipes import CORPUS, PLAN

from seqkd_jax import bench, commands, recipes
from seqkd_jax.__main__ import main
from seqkd_jax.arguments import Bench
from seqkd_jax.base import EOS
from seqkd_jax.bench import FIXED, Row
from seqkd_jax.models.attention_lstm import Config
from seqkd_jax.plan import Timing
from seqkd_jax.recipes import Lab
from seqkd_jax.report.speed import FORMAT, keep_speed, speed_tables
from seqkd_jax.sealed import write_record

QUICK = Timing(repeats=2, steps=1)
COLUMNS = ["row", "unit", "median", "min", "max", "repeats", "gflops", "gemm_share"]
COLUMNS += ["compile_s", "programs", "temp_mb", "peak_mb"]
STAYING = """
import json, sys
with open({starts!r}, "a") as notes:
    notes.write("started")
    for turn, _ in enumerate(sys.stdin, 1):
        line = dict(mode="decode", model="student", batch=2, beam=3, value=turn)
        print(json.dumps(line), flush=True)
    notes.write(", and ended with its input")
"""
PEER = "import json; print('warming up'); print(json.dumps({}))"


@pytest.fixture
def tiny(monkeypatch):
    """Every model small, and the process's settings as they were."""
    config = Config(11, 13, embed=3, hidden=4, layers=1, dropout=0.0)
    monkeypatch.setattr(bench, "MODELS", dict.fromkeys(bench.MODELS, config))
    kept = jax.config.jax_enable_compilation_cache  # type: ignore[attr-defined]
    yield config
    jax.config.update("jax_enable_compilation_cache", kept)


def peer(**line):
    return f'{sys.executable} -c "{PEER.format(line)}"'


def test_flops_are_those_of_a_hand_computation(tiny, monkeypatch):
    """S = T = 16, E = 3, H = 4; each multiplication with its addition is two operations."""
    monkeypatch.setitem(bench.MODELS, "student", dataclasses.replace(tiny, layers=2))
    encoder = 16 * (3 + 4 + 4 + 4) * 16 + 2 * 16 * 4 * 4  # what each layer reads; keys and values
    step = (3 + 4 + 4 + 4 + 4) * 16 + 2 * 4 * 16 + 4 * 4 + 4 * 13  # gates, attention, query, V
    assert bench.flops(Row("decode", "student", 3, 5)) == 2 * 3 * (encoder + 16 * 5 * step)
    forward = 2 * 3 * (encoder + 16 * step)
    assert bench.flops(Row("train", "student", 3)) == 3 * forward
    smaller = (
        2 * 3 * 16 * ((3 + 4) * 16 + 2 * 4 * 4 + (3 + 4 + 4) * 16 + 2 * 4 * 16 + 4 * 4 + 4 * 13)
    )
    assert bench.flops(Row("kd", "student", 3)) == 3 * forward + smaller


def test_the_fixed_work_is_that_of_the_peers():
    sizes = {name: (c.layers, c.hidden, c.embed) for name, c in bench.MODELS.items()}
    assert sizes["teacher"] == (2, 512, 512) and sizes["student"] == (1, 128, 128)
    assert sizes["big"] == (2, 500, 500) and bench.MODELS["big"].tgt_vocab == 50_004
    assert {(r.beam, r.batch) for r in FIXED if r.work == "decode"} == set(bench.DECODING)
    assert len(FIXED) == len({str(row) for row in FIXED}) == 19
    row = Row("train", "student", 64)
    one, two, *_ = bench._random_batches(row)
    assert one.src.shape == one.tgt.shape == (64, 16) and (np.asarray(one.src) > EOS).all()
    assert not np.array_equal(one.src, two.src)
    np.testing.assert_array_equal(one.src, bench._random_batches(row)[0].src)


def test_exactly_16_tokens_are_decoded(tiny):
    found = bench._decoding(Row("decode", "student", 2, 3))()
    ends = np.asarray(found.tokens) == EOS
    assert ends.shape == (2, 1, 16) and ends[..., -1].all() and not ends[..., :-1].any()


def test_a_row_is_measured_in_all_columns_and_written(tiny, tmp_path, capsys):
    out = tmp_path / "new" / "speed.json"
    arguments = ["--rows", "kd", "decode-student-k5-b1", "--repeats", "2", "--steps", "1"]
    assert main(["bench", *arguments, "--out", str(out)]) == 0
    shown = capsys.readouterr().out
    written = json.loads(out.read_text())
    assert {"cpu", "cores", "device", "jax", "date"} == set(written["machine"])
    names = [row["row"] for row in written["fixed"]]
    assert names == ["kd-student-b64", "decode-student-k5-b1"]
    for row in written["fixed"]:
        assert set(row) == set(COLUMNS) and row["row"] in shown
        assert len(row["repeats"]) == 2 and row["min"] <= row["median"] <= row["max"]
        assert row["gflops"] > 0 and row["gemm_share"] > 0 and row["peak_mb"] > 0
        assert row["programs"] >= 1 and row["compile_s"] > 0


def test_a_peer_is_measured_beside_its_own_row(tiny):
    line = {"system": "slow", "mode": "decode", "model": "student", "batch": 2, "beam": 3}
    (row,) = bench.measure_against(peer(**line, value=0.5), QUICK)
    assert row["row"] == "decode-student-k3-b2" and row["peer"] == "slow"
    assert row["peer_repeats"] == [0.5, 0.5] and row["peer_line"] == line | {"value": 0.5}
    np.testing.assert_allclose(row["ratio"], row["median"] / 0.5)
    quarter = (row["max"] - row["min"]) / 4  # of two repeats
    np.testing.assert_allclose(row["lower_quartile"], (row["min"] + quarter) / 0.5)
    np.testing.assert_allclose(row["upper_quartile"], (row["max"] - quarter) / 0.5)
    assert set(COLUMNS) < set(row)


def test_a_peer_that_stays_is_started_once(tiny, tmp_path):
    """It counts the lines that it is given, and notes each start."""
    script, starts = tmp_path / "peer.py", tmp_path / "starts"
    script.write_text(STAYING.format(starts=str(starts)))
    (row,) = bench.measure_against(f"{sys.executable} {script}", Timing(repeats=3, steps=1))
    assert row["peer_line"]["value"] == 1 and row["peer_repeats"] == [2, 3, 4]
    np.testing.assert_allclose(row["ratio"], row["median"] / 3)
    assert starts.read_text() == "started, and ended with its input"


def test_a_file_of_measurements_is_added_to(tmp_path):
    path = tmp_path / "new" / "speed.json"
    rows = [{"row": "a", "peer": peer, "median": 1.5, "repeats": [1.5]} for peer in ("x", "y")]
    keep_speed(path, "against", rows)
    keep_speed(path, "table2", [{"row": "a", "paper_ratio": 8.1}])
    keep_speed(path, "against", [rows[1] | {"median": 2.5}, rows[0] | {"row": "b"}])
    kept = json.loads(path.read_text())
    assert [(r["row"], r["peer"], r["median"]) for r in kept["against"]] == [
        ("a", "x", 1.5),
        ("a", "y", 2.5),
        ("b", "x", 1.5),
    ]
    shown = speed_tables(path)
    assert "paper ratio" in shown and "repeats" not in shown and kept["machine"]["cpu"] in shown

    kept["machine"]["jax"] = "0.0.1"
    write_record(path, FORMAT, kept)
    with pytest.raises(ValueError, match="another jax; only measurements from one machine"):
        keep_speed(path, "against", rows)
    with pytest.raises(ValueError, match="another jax"):  # before the hour of measuring, too
        commands.bench(Bench(out=path, against=("never run",)))
    path.write_text("[]")
    with pytest.raises(ValueError, match=r"speed\.json: not a file of this library"):
        keep_speed(path, "against", rows)


def test_a_peer_that_cannot_be_compared_is_refused(tiny, capfd):
    with pytest.raises(ValueError, match=r"value \(exit status 3\); its output is above"):
        bench.measure_against(
            f"{sys.executable} -c \"import sys; print('broken', file=sys.stderr); sys.exit(3)\"",
            QUICK,
        )
    assert "broken" in capfd.readouterr().err
    with pytest.raises(ValueError, match="'kd-big'; the rows are: train-student, kd-student"):
        bench.measure_against(peer(mode="kd", model="big", batch=64, beam=0, value=1), QUICK)


def test_unknown_rows_are_named_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'k6'; the rows are: train-student-b64, .*-k35-b32\."):
        bench.measure_fixed(["student", "k6"], QUICK)
    with pytest.raises(ValueError, match="'student-b64'; the rows are: grammar-student, "):
        bench.measure_real(["student-b64"], QUICK)


def test_students_are_compared_with_the_teacher_of_table_2(tiny, monkeypatch):
    monkeypatch.setattr(bench, "PAPER_LENGTH", 16)
    teacher, student, small, *short = bench.measure_table2(QUICK)
    assert teacher["ratio"] == 1 and student["lower_quartile"] <= student["upper_quartile"]
    np.testing.assert_allclose(student["ratio"], student["median"] / teacher["median"])
    np.testing.assert_allclose(
        [student["paper_ratio"], small["paper_ratio"]], [8.1, 13.2], atol=0.05
    )
    assert [row["row"] for row in short] == [f"{row['row']}, shortlist" for row in (student, small)]


def test_real_text_is_trained_on_and_decoded(monkeypatch):
    corpus = dataclasses.replace(CORPUS, train=CORPUS.train[:12])
    monkeypatch.setattr(recipes, "lab", lambda _, folder: Lab(folder, corpus, PLAN))
    monkeypatch.delenv("SEQKD_DATA", raising=False)
    train, greedy, beam = bench.measure_real(["grammar-student"], Timing(repeats=1, steps=2))
    assert train["row"] == "train-grammar-student" and train["median"] > 0
    # Sentences of one length, 12 of them in two batches of 8 rows.
    assert train["padding"] == 0.25 and 0 < train["input"] < 1
    assert greedy["row"] == "decode-grammar-student-k1" and greedy["unit"] == "sentences/s"
    assert beam["median"] > 0 and beam["programs"] >= 1


LARGE_BLOCKS = """
import ctypes, resource, threading
from seqkd_jax import commands
commands.prepare()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
libc.memset.argtypes = [ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t]

def once():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    block = libc.malloc(128 << 20)
    libc.memset(block, 1, 128 << 20)
    libc.free(block)
    faults.append(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)

faults = []
for _ in range(2):
    thread = threading.Thread(target=once)
    thread.start()
    thread.join()
print(*faults)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc's allocator alone")
def test_commands_keep_the_large_blocks_that_threads_free():
    first, second = numbers(LARGE_BLOCKS, "cpu")
    assert first >= 64  # huge pages at least
    assert second < first / 8


LEFTOVERS = """
import ctypes, random
import jax
from seqkd_jax import commands
commands.prepare()
commands.prepare()
from seqkd_jax.commands.heap import COMPILED, LOWERED, _Counts
libc = ctypes.PyDLL(None)
libc.malloc.restype, libc.free.argtypes = ctypes.c_void_p, [ctypes.c_void_p]
libc.mallinfo2.restype = _Counts

def free():
    counts = libc.mallinfo2()
    shown.append(counts.fordblks - counts.keepcost)

shown = []
blocks = [libc.malloc(random.randrange(100, 40_000)) for _ in range(5000)]
for block in blocks[::2]:
    libc.free(block)
free()
turns = (COMPILED, 0.2), (COMPILED, 2.0), (LOWERED, 0.01), (LOWERED, 0.1), (COMPILED, 0.2)
for event, seconds in turns:
    jax.monitoring.record_event_duration_secs(event, seconds)
    free()
print(*shown)
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc's allocator alone")
def test_what_a_compiler_leaves_is_set_aside_until_the_next_has_its_turn():
    before, quick, large, small_comes, large_comes, again = numbers(LEFTOVERS, "cpu")
    assert before > 40e6 and abs(quick - before) < before / 10  # a small program leaves little
    assert large < before / 10 and small_comes < before / 10
    assert abs(large_comes - before) < before / 10 and again < before / 10


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallinfo2"), reason="glibc's allocator alone")
def test_the_heap_is_left_alone_where_an_accelerator_may_compute():
    before, _, large, *_ = numbers(LEFTOVERS, "cuda,cpu")
    assert before > 40e6 and abs(large - before) < before / 10


def numbers(script, platforms):
    run, env = [sys.executable, "-c", script], dict(os.environ, JAX_PLATFORMS=platforms)
    return list(map(int, subprocess.check_output(run, env=env, text=True).split()))
