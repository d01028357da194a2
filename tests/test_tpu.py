"""Programs are compiled for a TPU ahead of time; none is needed. Slow: pytest -m slow."""

import os
import subprocess
import sys

import jax
import pytest

import seqkd_jax as skd
from seqkd_jax import plan
from seqkd_jax.models.attention_lstm import Config, attention_lstm
from seqkd_jax.report.programs import kept_plans

pytestmark = pytest.mark.slow
WORK = plan.Work(batch=16, length=16, beam_size=5)


def model(dtype, hidden):
    return attention_lstm(Config(500, 700, embed=hidden, hidden=hidden, layers=2, dtype=dtype))


@pytest.fixture(scope="session")
def where():
    pytest.importorskip("libtpu", reason="pip install libtpu: programs for TPU are not compiled")
    return plan.open_slice("v5e:2x4")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_training_step_with_a_teacher_compiles_for_eight_devices(where, dtype):
    student = model(dtype, 128)
    record = plan.plan(plan.word_kd_training(student, model(dtype, 256)), WORK, where)
    assert record["fits"] == "yes" and 0 < record["hbm_gib"] < record["of_gib"]
    # Every gradient is summed over devices, and hardly anything else.
    shapes = jax.eval_shape(lambda: student.init(jax.random.key(0)))
    gradient = 4 * sum(x.size for x in jax.tree.leaves(shapes))
    assert gradient <= 1e6 * record["sent_mb"] < 1.01 * gradient
    # Attention is computed outside the matrix units; nothing else is left out or done twice.
    assert 0.85 < record["tflop"] / record["own_tflop"] < 1.1


@pytest.mark.parametrize("beam_size", [1, 5])
def test_a_search_compiles_for_eight_devices_and_none_waits_for_another(where, beam_size):
    work = WORK._replace(beam_size=beam_size)
    record = plan.plan(plan.search(model("bfloat16", 256)), work, where)
    assert record["fits"] == "yes" and record["sent_mb"] == 0
    assert 0.85 < record["tflop"] / record["own_tflop"] < 1.1


def test_what_does_not_fit_is_found_out(where):
    work = plan.Work(batch=1 << 17, length=16)
    record = plan.plan(plan.training(model("float32", 256)), work, where)
    assert record["fits"] == "no" and "hbm_gib" not in record


def test_the_command_needs_no_tpu_and_keeps_its_table(where, tmp_path):
    out = tmp_path / "plan.json"
    command = [sys.executable, "-m", "seqkd_jax", "plan", "--programs", "train", "--batch", "8"]
    command += ["--hidden", "32", "--embed", "32", "--vocabulary-size", "100", "--length", "8"]
    command += ["--no-largest", "--out", str(out)]
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("JAX_", "XLA_", "TPU_"))}
    done = subprocess.run(command, env=clean, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "train 2x32" in done.stdout and "Compiled, not run" in done.stdout
    (record,) = kept_plans(out)["plans"]
    assert record["topology"] == "v5e:2x4" and record["fits"] == "yes"
    assert record["library"]["version"] == skd.__version__
    refused = subprocess.run(
        [*command, "--topology", "v5e:3x5"], env=clean, capture_output=True, text=True
    )
    assert refused.returncode == 2 and "v5e:3x5" in refused.stderr


@pytest.mark.parametrize("chip", plan.CHIPS.values(), ids=plan.CHIPS)
def test_every_chip_has_a_slice_of_eight_devices(where, chip):
    assert len(plan.open_slice(chip.slice_of_8).devices) == 8
