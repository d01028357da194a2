import ctypes
import dataclasses
import json
import os
import subprocess
import sys

import jax
import numpy as np
import pytest
from small_lab import CORPUS, PLAN

from seqkd_jax import bench, commands
from seqkd_jax.__main__ import main
from seqkd_jax.arguments import Bench
from seqkd_jax.base import EOS
from seqkd_jax.bench import FIXED, fixed_row
from seqkd_jax.models.attention_lstm import Config
from seqkd_jax.recipes import Experiment
from seqkd_jax.report.speed import FORMAT, keep_speed, speed_tables
from seqkd_jax.sealed import write_record
from seqkd_jax.settings import Timing

QUICK = Timing(repeats=2, steps=1)
COLUMNS = ["row", "unit", "median", "min", "max", "repeats", "gflops"]
COLUMNS += ["compile_s", "programs", "temp_mb", "peak_mb"]
COLUMNS += ["gemm_share"] if jax.default_backend() == "cpu" else []
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
TINY = Config(11, 13, embed=3, hidden=4, layers=1, dropout=0.0)
MODELS = dict.fromkeys(bench.MODELS, TINY)


def peer(**line):
    return f'{sys.executable} -c "{PEER.format(line)}"'


def test_flops_are_those_of_a_hand_computation():
    """S = T = 16, E = 3, H = 4; each multiplication with its addition is two operations."""
    models = {"student": dataclasses.replace(TINY, layers=2), "teacher": TINY}
    encoder = 16 * (3 + 4 + 4 + 4) * 16 + 2 * 16 * 4 * 4  # what each layer reads; keys and values
    step = (3 + 4 + 4 + 4 + 4) * 16 + 2 * 4 * 16 + 4 * 4 + 4 * 13  # gates, attention, query, V
    assert bench.flops(fixed_row("decode", "student", 3, 5, models=models)) == 2 * 3 * (
        encoder + 16 * 5 * step
    )
    forward = 2 * 3 * (encoder + 16 * step)
    assert bench.flops(fixed_row("train", "student", 3, models=models)) == 3 * forward
    smaller = (
        2 * 3 * 16 * ((3 + 4) * 16 + 2 * 4 * 4 + (3 + 4 + 4) * 16 + 2 * 4 * 16 + 4 * 4 + 4 * 13)
    )
    assert bench.flops(fixed_row("kd", "student", 3, models=models)) == 3 * forward + smaller


def test_the_fixed_work_is_that_of_the_peers():
    sizes = {name: (c.layers, c.hidden, c.embed) for name, c in bench.MODELS.items()}
    assert sizes["teacher"] == (2, 512, 512) and sizes["student"] == (1, 128, 128)
    assert sizes["big"] == (2, 500, 500) and bench.MODELS["big"].tgt_vocab == 50_004
    assert {(r.beam, r.batch) for r in FIXED if r.work == "decode"} == set(bench.DECODING)
    assert len(FIXED) == len({str(row) for row in FIXED}) == 19
    row = fixed_row("train", "student", 64)
    one, two, *_ = bench.random_batches(row)
    assert one.src.shape == one.tgt.shape == (64, 16) and (np.asarray(one.src) > EOS).all()
    assert not np.array_equal(one.src, two.src)
    np.testing.assert_array_equal(one.src, bench.random_batches(row)[0].src)


def test_exactly_16_tokens_are_decoded():
    found = bench.step_of(fixed_row("decode", "student", 2, 3, MODELS))()
    ends = np.asarray(found.tokens) == EOS
    assert ends.shape == (2, 1, 16) and ends[..., -1].all() and not ends[..., :-1].any()


@pytest.mark.slow
def test_rows_are_measured_in_all_columns():
    rows = bench.measure_fixed(["kd", "decode-student-k5-b1"], QUICK, MODELS)
    assert [row["row"] for row in rows] == ["kd-student-b64", "decode-student-k5-b1"]
    for row in rows:
        assert set(row) == set(COLUMNS)
        assert len(row["repeats"]) == 2 and row["min"] <= row["median"] <= row["max"]
        assert row["gflops"] > 0 and row.get("gemm_share", 1) > 0 and row["peak_mb"] > 0
        assert row["programs"] >= 1 and row["compile_s"] > 0


def test_the_command_writes_and_prints_what_it_measures(tmp_path, capsys):
    out = tmp_path / "new" / "speed.json"
    arguments = ["--rows", "decode-student-k1-b1", "--repeats", "2", "--steps", "1"]
    assert main(["bench", *arguments, "--out", str(out)]) == 0
    written = json.loads(out.read_text())
    assert {"cpu", "cores", "device", "jax", "version", "commit", "date"} == set(written["machine"])
    (row,) = written["fixed"]
    assert row["row"] in capsys.readouterr().out and set(row) == set(COLUMNS)


def test_a_peer_is_measured_beside_its_own_row():
    line = {"system": "slow", "mode": "decode", "model": "student", "batch": 2, "beam": 3}
    (row,) = bench.measure_against(peer(**line, value=0.5), QUICK, MODELS)
    assert row["row"] == "decode-student-k3-b2" and row["peer"] == "slow"
    assert row["peer_repeats"] == [0.5, 0.5] and row["peer_line"] == line | {"value": 0.5}
    np.testing.assert_allclose(row["ratio"], row["median"] / 0.5)
    quarter = (row["max"] - row["min"]) / 4  # of two repeats
    np.testing.assert_allclose(row["lower_quartile"], (row["min"] + quarter) / 0.5)
    np.testing.assert_allclose(row["upper_quartile"], (row["max"] - quarter) / 0.5)
    assert set(COLUMNS) < set(row)


def test_a_peer_that_stays_is_started_once(tmp_path):
    """It counts the lines that it is given, and notes each start."""
    script, starts = tmp_path / "peer.py", tmp_path / "starts"
    script.write_text(STAYING.format(starts=str(starts)))
    command, timing = f"{sys.executable} {script}", Timing(repeats=3, steps=1)
    (row,) = bench.measure_against(command, timing, MODELS)
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


def test_a_peer_that_cannot_be_compared_is_refused(capfd):
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


def test_an_unknown_row_is_refused_before_a_folder_is_made(tmp_path, capsys):
    given = ["bench", "--rows", "k6", "--out", str(tmp_path / "never" / "speed.json")]
    for kind in [], ["--real"]:
        assert main([*given, *kind]) == 2
        assert "There is no row 'k6'" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("beside", [["--table2"], ["--against", "python peer.py"]])
def test_rows_beside_what_is_measured_whole_are_refused(beside, capsys):
    assert main(["bench", "--rows", "kd", *beside]) != 0
    assert "Leave --rows out" in capsys.readouterr().err


def test_students_are_compared_with_the_teacher_of_table_2():
    teacher, student, small, *short = bench.measure_table2(QUICK, MODELS, length=16)
    assert teacher["ratio"] == 1 and student["lower_quartile"] <= student["upper_quartile"]
    np.testing.assert_allclose(student["ratio"], student["median"] / teacher["median"])
    np.testing.assert_allclose(
        [student["paper_ratio"], small["paper_ratio"]], [8.1, 13.2], atol=0.05
    )
    assert [row["row"] for row in short] == [f"{row['row']}, shortlist" for row in (student, small)]


@pytest.mark.slow
def test_real_text_is_trained_on_and_decoded(monkeypatch):
    corpus = dataclasses.replace(CORPUS, train=CORPUS.train[:12])
    monkeypatch.delenv("SEQKD_DATA", raising=False)
    train, greedy, beam = bench.measure_real(
        ["grammar-student"],
        Timing(repeats=1, steps=2),
        lambda _, folder: Experiment(folder, corpus, PLAN),
    )
    assert train["row"] == "train-grammar-student" and train["median"] > 0
    # Sentences of one length, 12 of them in two batches of 8 rows.
    assert train["padding"] == 0.25 and 0 < train["input"] < 1
    assert greedy["row"] == "decode-grammar-student-k1" and greedy["unit"] == "sentences/s"
    assert beam["median"] > 0 and beam["programs"] >= 1


LARGE_BLOCKS = """
import contextlib, ctypes, resource, threading
from seqkd_jax import commands
with contextlib.suppress(ValueError):  # some versions of JAX refuse "cuda" where there is no GPU
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


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc's allocator alone")
def test_commands_keep_the_large_blocks_that_threads_free():
    first, second = numbers(LARGE_BLOCKS, "cpu")
    assert first >= 64  # huge pages at least
    assert second < first / 8


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc's allocator alone")
def test_freed_memory_is_left_to_glibc_where_an_accelerator_may_compute():
    first, second = numbers(LARGE_BLOCKS, "cuda,cpu")
    assert second > first / 2


HEAPS = """
import ctypes, threading
from seqkd_jax import commands
commands.prepare(compile_only=COMPILE_ONLY)
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.open_memstream.restype = ctypes.c_void_p, ctypes.c_void_p
libc.malloc_info.argtypes, libc.fclose.argtypes = [ctypes.c_int, ctypes.c_void_p], [ctypes.c_void_p]

def heaps():
    text, size = ctypes.c_char_p(), ctypes.c_size_t()
    file = libc.open_memstream(ctypes.byref(text), ctypes.byref(size))
    libc.malloc_info(0, file)
    libc.fclose(file)
    return text.value.count(b"<heap nr=")

def hold():
    libc.malloc(1 << 16)
    together.wait()

before, together = heaps(), threading.Barrier(9)
for _ in range(8):
    threading.Thread(target=hold).start()
together.wait()
print(before, heaps())
"""


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "mallopt"), reason="glibc's allocator alone")
def test_threads_share_a_heap_except_where_compiling_is_all_that_is_done():
    before, after = numbers(HEAPS.replace("COMPILE_ONLY", "False"), "cpu")
    assert after == before
    before, after = numbers(HEAPS.replace("COMPILE_ONLY", "True"), "cpu")
    assert after > before


def numbers(script, platforms):
    run, env = [sys.executable, "-c", script], dict(os.environ, JAX_PLATFORMS=platforms)
    return list(map(int, subprocess.check_output(run, env=env, text=True).split()))
