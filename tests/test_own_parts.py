"""A user's own attention, cell and loss: written here, trained and searched with, nothing else."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import SRC_VOCAB, TGT_VOCAB, example, largest_difference
from small_folder import SRC, TGT

from seqkd_jax.base import EOS, for_teaching
from seqkd_jax.decode.translation import translate
from seqkd_jax.errors import UsageError
from seqkd_jax.model_folder import load_model
from seqkd_jax.models.attention_lstm import Config, attention_lstm, model_of, network
from seqkd_jax.models.attentions import local_p
from seqkd_jax.models.blocks import Attention, Cell
from seqkd_jax.models.draws import uniform
from seqkd_jax.models.inspection import alignments
from seqkd_jax.models.params import Layer
from seqkd_jax.ops.recurrence import Sum
from seqkd_jax.recipes import compress
from seqkd_jax.settings import Search
from seqkd_jax.train.state import clipped_adam, init_state
from seqkd_jax.train.steps import make_train_step
from seqkd_jax.trained import TrainedModel

CONFIG = Config(SRC_VOCAB, TGT_VOCAB, embed=6, hidden=8, layers=2, dropout=0.1)
SEARCH = Search(beam_size=3, n_best=2, max_len=8)


@functools.cache
def cosine(sharpness: float = 8.0) -> Attention:
    """score_s = sharpness * cos(W context_s, h)"""

    def unit(x):
        return x * jax.lax.rsqrt((x * x).sum(-1, keepdims=True) + 1e-6)

    def init(key, hidden, width, scale):
        return uniform(key, (width, hidden), scale)

    def memory(w, context):
        return unit(context @ w)

    def sums(w, keys):
        return Sum(jnp.zeros(len(keys), keys.dtype), (keys.T,))

    def scores(keys, h):
        return sharpness * keys(unit(h))

    return Attention(init, memory, sums, scores)


@functools.cache
def coupled() -> Cell:
    """An LSTM of three gates: what the cell forgets, it takes in (Greff et al. 2017)."""

    def init(key, width, hidden, scale):
        keys = jax.random.split(key, 3)
        shapes = (hidden, 3 * hidden), (3 * hidden,), (width, 3 * hidden)
        recurrent, bias, inputs = (uniform(k, s, scale) for k, s in zip(keys, shapes, strict=True))
        return Layer(recurrent, bias, cell=(), inputs=inputs)

    def step(own, carry, gates):
        f, o, g = jnp.split(gates, 3)
        f = jax.nn.sigmoid(f)
        c = f * carry[0] + (1 - f) * jnp.tanh(g)
        return c, jax.nn.sigmoid(o) * jnp.tanh(c)

    return Cell(init, step)


def focal(logits, target, teacher_logits):
    """-(1 - p)^2 log p (Lin et al. 2017)."""
    log_p = jax.nn.log_softmax(logits)[target]
    return -((1 - jnp.exp(log_p)) ** 2) * log_p


def test_own_parts_are_trained_and_searched_with():
    parts = {"attention": cosine(), "cell": coupled()}
    model, tx, batch = attention_lstm(CONFIG, **parts), clipped_adam(2e-2), example()
    assert model is attention_lstm(CONFIG, **parts)
    step, state = (
        jax.jit(make_train_step(model, tx, focal)),
        init_state(model, tx, jax.random.key(0)),
    )
    losses = []
    for _ in range(30):
        state, metrics = step(state, batch, jax.random.key(1))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.8 * losses[0]
    sources = [row[row != 0] for row in batch.src]
    for found in translate(model, state.params, sources, SEARCH):
        assert (found.tokens == EOS).sum(1).tolist() == [1, 1] and np.isfinite(found.scores).all()
    src, tgt = batch.src[0], batch.tgt[0]
    weights = np.asarray(alignments(network(CONFIG, **parts), state.params, src, tgt))
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    assert not weights[:, src == 0].any()
    faster, read = for_teaching(model, state.params)
    assert read.decoder.table.shape == (TGT_VOCAB, 24)
    hidden = [jax.jit(m.hidden)(p, src, tgt) for m, p in ((model, state.params), (faster, read))]
    np.testing.assert_allclose(*hidden, atol=1e-6)


def test_own_parts_learn_as_stepping_does():
    """The gradient that ``recurrence`` takes out of the loop is that of JAX, also of a window."""
    model = attention_lstm(CONFIG, attention=local_p(cosine(), window=2), cell=coupled())
    params = jax.tree.map(lambda x: 5 * x, jax.jit(model.init)(jax.random.key(0)))
    one = jax.tree.map(lambda x: x[0], example())

    def stepped(params):
        memory, state = model.encode(params, one.src)
        total = 0.0
        for word in [2, *one.tgt[:-1].tolist()]:
            hidden, state = model.step(params, memory, state, jnp.int32(word))
            total += jnp.sin(hidden).sum()
        return total

    def scanned(params):
        return jnp.sin(model.hidden(params, one.src, one.tgt)).sum()

    want, got = (jax.jit(jax.grad(f))(params) for f in (stepped, scanned))
    assert largest_difference(want, got) < 1e-5


def test_a_model_of_own_parts_is_loaded_with_them_and_refused_without(tmp_path):
    parts = {"attention": cosine(), "cell": coupled()}
    config = dataclasses.replace(CONFIG, src_vocab=SRC.size, tgt_vocab=TGT.size)
    net = network(config, **parts)
    model = model_of(net)
    saved = TrainedModel(model, model.init(jax.random.key(0)), SRC, TGT, net)
    compress(tmp_path, saved, 8)
    with pytest.raises(UsageError, match="its own cell, reader"):
        load_model(tmp_path)
    with pytest.raises(UsageError, match="its own cell, reader, not with cell"):
        load_model(tmp_path, cell=coupled())
    loaded = load_model(tmp_path, **parts)
    assert loaded.model is model
    (found,) = translate(loaded.model, loaded.params, [np.array([4, 5, 6], np.int32)], SEARCH)
    assert np.isfinite(found.scores).all()


def test_what_is_no_attention_lstm_is_refused_as_a_mistake(tmp_path):
    other = TrainedModel(attention_lstm(CONFIG), None, SRC, TGT)
    with pytest.raises(UsageError, match="needs a single attention LSTM"):
        compress(tmp_path, dataclasses.replace(other, params={"w": np.ones(3, np.float32)}), 8)
