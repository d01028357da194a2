"""Plans: what is counted in a compiled program, and what is told to the user. No TPU compiler."""

import json
import math
import subprocess
import sys
from importlib.util import find_spec

import jax
import jax.numpy as jnp
import pytest
from hypothesis import given
from hypothesis import strategies as st
from small_folder import write_small

from seqkd_jax import bench
from seqkd_jax.errors import UsageError
from seqkd_jax.models.attention_lstm import attention_lstm
from seqkd_jax.plan import (
    CHIPS,
    Kernel,
    kernels,
    largest_batch,
    open_slice,
    roofline,
    search_flops,
    teaching_flops,
    training_flops,
)
from seqkd_jax.report.documents import fill_tables
from seqkd_jax.report.programs import plan_tables
from seqkd_jax.sealed import write_record

FLOAT = jnp.float32


def shapes(*dims):
    return [jax.ShapeDtypeStruct(d, FLOAT) for d in dims]


def compiled(function, *args):
    return jax.jit(function).lower(*args).compile()


@pytest.mark.parametrize("row", bench.FIXED[::3], ids=str)
def test_a_models_own_products_are_those_that_bench_counts_by_formula(row):
    model = attention_lstm(bench.MODELS[row.model])
    if row.beam:
        own = search_flops(model, row.length, row.beam)
    else:
        own = training_flops(model, row.length)
    if row.work == "kd":
        own += teaching_flops(attention_lstm(bench.MODELS["teacher"]), row.length)
    assert row.batch * own == bench.flops(row)


def test_products_outside_loops_are_counted_as_xla_counts_them():
    program = compiled(lambda a, b, c: (a @ b) @ c, *shapes((8, 16), (16, 32), (32, 4)))
    counted = sum(k.flops * k.times for k in kernels(program.as_text()))
    assert counted == 2 * 8 * 16 * 32 + 2 * 8 * 32 * 4


def test_a_loop_counts_as_often_as_it_runs():
    def loop(x, w):
        return jax.lax.scan(lambda x, _: (jnp.tanh(x @ w), None), x, length=7)[0]

    found = kernels(compiled(loop, *shapes((8, 16), (16, 16))).as_text())
    assert sum(k.flops * k.times for k in found) == 7 * 2 * 8 * 16 * 16


@pytest.mark.parametrize("turns", [1, 5])
def test_a_loop_that_ends_by_its_data_counts_as_it_is_told(turns):
    def loop(x, w):
        return jax.lax.while_loop(lambda x: x.sum() < 9, lambda x: jnp.tanh(x @ w), x)

    found = kernels(compiled(loop, *shapes((8, 16), (16, 16))).as_text(), (turns,))
    assert sum(k.flops * k.times for k in found) == turns * 2 * 8 * 16 * 16


# As XLA for TPUs writes them: batched products are convolutions over dilated windows.
LAYOUTS = """HloModule m

%sliced (p: f32[50,64,512], i: s32[]) -> f32[1,64,512] {
  %p = f32[50,64,512]{2,1,0:T(8,128)} parameter(0)
  %i = s32[]{:T(128)} parameter(1)
  %zero = s32[]{:T(128)} constant(0)
  ROOT %d = f32[1,64,512]{2,1,0:T(8,128)} dynamic-slice(%p, %i, %zero, %zero)
}

ENTRY %main (a: f32[50,64,512], b: bf16[500,2000], c: bf16[64,500], i: s32[]) -> f32[64,512] {
  %a = f32[50,64,512]{2,1,0:T(8,128)} parameter(0)
  %b = bf16[500,2000]{1,0:T(8,128)(2,1)S(1)} parameter(1)
  %c = bf16[64,500]{1,0:T(8,128)(2,1)} parameter(2)
  %i = s32[]{:T(128)S(6)} parameter(3)
  %gates = bf16[64,2000]{1,0:S(1)} convolution(%c, %b), dim_labels=bf_io->bf, metadata={op_name="g"}
  %slice = f32[1,64,512]{2,1,0:T(8,128)S(1)} fusion(%a, %i), calls=%sliced, {"estimated_cycles":"9"}
  %psum = f32[64,512]{1,0:T(8,128)S(1)} all-reduce(%slice), replica_groups={{0,1}}, to_apply=%add
  ROOT %copy = f32[64,512]{1,0:T(8,128)} copy(%psum)
}
"""


def test_memory_is_counted_as_it_is_stored_and_only_outside_the_chip():
    gates, read, psum, copy = kernels(LAYOUTS)
    assert (gates.flops, gates.operation) == (2 * 64 * 500 * 2000, "g")
    assert gates.num_bytes == 2 * 64 * 512  # 500 columns are stored as 512; W stays in the chip
    assert (read.num_bytes, read.cycles) == (4 * 64 * 512, 9)  # one row of the 50
    assert (psum.sent, psum.num_bytes) == (4 * 64 * 512, 0)
    assert copy.num_bytes == 4 * 64 * 512  # written, but not read


def test_convolutions_are_the_products_of_their_windows():
    batched = "bf16[64,50,500] convolution(%x, %y), window={size=64 stride=63 lhs_dilate=64}"
    text = f"""ENTRY %main (x: f32[64,50,512], y: f32[64,512,500]) -> f32[64,50,500] {{
  %x = bf16[64,50,512] parameter(0)
  %y = bf16[64,512,500] parameter(1)
  ROOT %z = {batched}, dim_labels=0bf_0io->0bf
}}"""
    (found,) = kernels(text)
    assert found.flops == 2 * 64 * 50 * 512 * 500


def test_the_roofline_overlaps_within_a_loop_and_adds_up_loops_and_collectives():
    chip = CHIPS["v5e"]
    second = int(chip.flops), int(chip.hbm_rate), int(chip.wire_rate)

    def kernel(loop, flops=0, num_bytes=0, sent=0):
        return Kernel("k", loop, 1, flops, num_bytes, sent, 0, "")

    one = [kernel("a", flops=second[0]), kernel("a", num_bytes=second[1] // 2)]
    found = roofline(one, chip, 8)
    assert math.isclose(found["roofline_ms"], 1000, rel_tol=1e-6) and found["bound"] == "products"
    more = [*one, kernel("b", num_bytes=3 * second[1]), kernel("a", sent=second[2])]
    found = roofline(more, chip, 8)
    assert math.isclose(found["roofline_ms"], 1000 + 3000 + 2 * 7 / 8 * 1000, rel_tol=1e-6)
    assert found["bound"] == "memory"


@given(st.integers(0, 10**9), st.integers(1, 10**8), st.integers(1, 10**10), st.integers(1, 200))
def test_the_largest_batch_fits_and_little_more_would(fixed, of_one, capacity, start):
    asked = []

    def num_bytes(batch):
        assert batch not in asked
        asked.append(batch)
        used = fixed + of_one * batch + of_one * (batch % 7)
        return used if used <= capacity else None

    best = largest_batch(num_bytes, start, capacity)
    fits = [batch for batch in asked if fixed + of_one * batch + of_one * (batch % 7) <= capacity]
    assert best == max(fits, default=0)
    too_large = min((batch for batch in asked if batch not in fits), default=math.inf)
    assert best < too_large <= max(best * 1.125, best + 8) and len(asked) < 30


def test_a_topology_that_nobody_knows_is_refused():
    for name in ("v5e", "h100:2x4", ""):
        with pytest.raises(UsageError, match="v5e:2x4"):
            open_slice(name)


@pytest.mark.skipif(find_spec("libtpu") is not None, reason="libtpu is installed")
def test_without_its_compiler_the_remedy_is_told():
    with pytest.raises(UsageError, match=r"pip install 'jax\[tpu\]'"):
        open_slice("v5e:2x4")


def test_mistakes_are_told_before_anything_is_compiled(tmp_path):
    small = write_small(tmp_path / "small")
    mistakes = {
        "model_hidden": ["--model", str(small), "--hidden", "32"],
        "teacher_hidden": ["--teacher", str(small), "--teacher-size.hidden", "32"],
        "vocabularies": ["--teacher", str(small), "--programs", "word-kd"],
        "no_model": ["--model", str(tmp_path)],
        "characters": ["--parts.target-characters"],
        "topology": ["--topology", "v5e", "--model", str(small), "--programs", "search"],
    }
    code = (
        "import json, sys\nfrom seqkd_jax.__main__ import main\n"
        "for a in json.loads(sys.argv[1]): print(main(['plan', *a]), file=sys.stderr)"
    )
    command = [sys.executable, "-c", code, json.dumps(list(mistakes.values()))]
    done = subprocess.run(command, capture_output=True, text=True)
    # Each command also names the devices, once it is known that nothing stands against it.
    lines = [x for x in done.stderr.splitlines() if not x.startswith("seqkd: cpu:")]
    told = dict(zip(mistakes, lines[::2], strict=True))
    assert lines[1::2] == ["2"] * len(mistakes), done.stderr
    assert "--model brings the shape" in told["model_hidden"]
    assert "--teacher-size.hidden" in told["teacher_hidden"]
    assert "50,004" in told["vocabularies"]
    assert "no trained model" in told["no_model"]
    assert "--model" in told["characters"] and "v5e:2x4" in told["topology"]


def test_tables_of_plans_are_filled_in(tmp_path):
    record = {"topology": "v5e:2x4", "row": "train 2x500", "batch": 64, "length": 50}
    record |= {"fits": "yes", "hbm_gib": 1.25, "tflop": 0.5, "roofline_ms": 12.5}
    library = {"version": "9.9", "commit": "c0ffee", "jax": "1"}
    other = record | {"topology": "v4:2x2x2", "fits": "no", "library": library}
    made = {"jax": "1", "libtpu": "2"}
    write_record(
        tmp_path / "plan.json", "seqkd-programs-1", {"made_with": made, "plans": [record, other]}
    )
    shown = fill_tables("<!-- plan: plan.json -->\n<!-- end -->\n", tmp_path)
    assert "compiled, not run: jax 1, libtpu 2" in shown and "train 2x500" in shown
    assert "\nseqkd_jax 9.9 (c0ffee), jax 1\n" in shown
    assert shown.count("roofline, ms") == 2  # a table for each slice
    assert plan_tables(tmp_path / "plan.json") in shown
    write_record(tmp_path / "other.json", "seqkd-programs-1", {"made_with": made})
    with pytest.raises(UsageError, match="not a file of plans"):
        plan_tables(tmp_path / "other.json")
