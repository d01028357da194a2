"""Programs are compiled for a TPU ahead of time; none is needed. Slow: pytest -m slow."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import example

from seqkd_jax.distill.translate import translator
from seqkd_jax.losses import mix, nll, word_kd
from seqkd_jax.models.attention_lstm import Config, attention_lstm
from seqkd_jax.plan import Search
from seqkd_jax.train.parallel import pmap_step
from seqkd_jax.train.state import clipped_adam, init_state
from seqkd_jax.train.steps import make_train_step

pytestmark = pytest.mark.slow
DEVICES, ROWS = 8, 16


def model(dtype, hidden):
    return attention_lstm(Config(500, 700, embed=hidden, hidden=hidden, layers=2, dtype=dtype))


@pytest.fixture
def programs(monkeypatch):
    """What ``pmap`` makes, for eight TPU devices; in the order in which it is made."""
    pytest.importorskip("libtpu", reason="pip install libtpu: programs for TPU are not compiled")
    from jax.experimental import topologies

    topology = topologies.get_topology_desc(platform="tpu", topology_name="v5e:2x4")
    pmap, made = jax.pmap, []

    def for_tpu(function, *args, **kwargs):
        made.append(pmap(function, *args, **kwargs | {"devices": topology.devices}))
        return made[-1]

    monkeypatch.setattr(jax, "pmap", for_tpu)
    return made


def shapes(tree):
    return jax.tree.map(lambda x: jax.ShapeDtypeStruct(jnp.shape(x), x.dtype), tree)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_a_training_step_with_a_teacher_compiles_for_eight_devices(programs, dtype):
    student, teacher = model(dtype, 128), model(dtype, 256)
    tx = clipped_adam()
    pmap_step(make_train_step(student, tx, mix(nll, word_kd, 0.5), teacher=teacher))
    key = jax.random.key(0)
    state = jax.eval_shape(lambda: init_state(student, tx, key))
    batch = shapes(example(rows=ROWS, src_len=16, tgt_len=16))
    batch = jax.tree.map(lambda x: jax.ShapeDtypeStruct((DEVICES, *x.shape), x.dtype), batch)
    lowered = programs[-1].lower(state, batch, key, jax.eval_shape(teacher.init, key))
    assert "all-reduce" in lowered.compile().as_text()


@pytest.mark.parametrize("beam_size", [1, 5])
def test_a_search_compiles_for_eight_devices_and_none_waits_for_another(programs, beam_size):
    teacher = model("bfloat16", 256)
    translator(teacher, Search(beam_size=beam_size), 24, places=ROWS // 2)
    params = jax.eval_shape(teacher.init, jax.random.key(0))
    sources = jax.ShapeDtypeStruct((DEVICES, ROWS, 16), np.int32)
    limits = jax.ShapeDtypeStruct((DEVICES, ROWS), np.int32)
    text = programs[-1].lower(params, (sources, limits)).compile().as_text()
    assert "all-reduce" not in text and "all-gather" not in text
