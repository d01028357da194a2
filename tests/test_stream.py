import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import HIDDEN, MODEL, TEACHER, TEACHER_HIDDEN, example, largest_difference, params

from seqkd_jax.base import PAD, top_k
from seqkd_jax.losses import (
    at,
    jensen_shannon,
    l2_logits,
    mix,
    nll,
    reverse_kl,
    skew_kl,
    skew_reverse_kl,
    smoothed_nll,
    total_variation,
    weighted,
    with_temperature,
    word_kd,
    word_kl,
)
from seqkd_jax.train import stream
from seqkd_jax.train.stream import TeacherSide, batch_loss, chunk_tokens

TEACHER_PARAMS = params(TEACHER, 1)
LOSSES = {
    "nll": nll,
    "smoothed": smoothed_nll(0.1),
    "word-kd": word_kd,
    "mixed": mix(smoothed_nll(0.2), with_temperature(word_kd, 2.0), 0.3),
    "divergences": weighted(
        (0.3, word_kl),
        (0.4, reverse_kl),
        (1.0, jensen_shannon(0.3)),
        (0.5, skew_kl()),
        (0.6, skew_reverse_kl()),
        (0.7, total_variation),
    ),
    "scheduled": mix(nll, l2_logits, optax.linear_schedule(0.0, 1.0, 10)),
}


def hidden_states(p, batch):
    return HIDDEN(p, batch.src, batch.tgt)


def teacher_states(batch):
    return TEACHER_HIDDEN(TEACHER_PARAMS, batch.src, batch.tgt)


def direct(loss, p, hidden, batch, step):
    """The loss written the plain way, with all of [B, T, V] at once."""

    def project(model, p, hidden):
        return jax.vmap(jax.vmap(model.project, (None, 0)), (None, 0))(p, hidden)

    taught = project(TEACHER, TEACHER_PARAMS, teacher_states(batch))
    of_token = jax.vmap(jax.vmap(at(loss, step)))
    losses = of_token(project(MODEL, p, hidden), batch.tgt, taught)
    return (losses * (batch.tgt != PAD) * batch.weight[:, None]).sum()


@functools.partial(jax.jit, static_argnums=0)
def streamed(loss, p, hidden, batch, step):
    teacher = TeacherSide(TEACHER.project, TEACHER_PARAMS, teacher_states(batch))
    return batch_loss(
        MODEL.project, loss, p, hidden, batch.tgt, batch.weight, step=step, teacher=teacher, chunk=8
    )


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n in ("nll", "word-kd") else [pytest.mark.slow]) for n in LOSSES],
)
def test_streamed_equals_direct_in_value_and_gradient(name):
    loss = LOSSES[name]
    streamed_of = jax.jit(
        jax.value_and_grad(lambda p, h, b, s: streamed(loss, p, h, b, s).sum, (0, 1))
    )
    direct_of = jax.jit(jax.value_and_grad(lambda *a: direct(loss, *a), (0, 1)))

    @settings(deadline=None, max_examples=8)
    @given(st.integers(0, 10_000))
    def check(seed):
        batch, p = example(seed), params(seed=seed % 3)
        hidden, step = hidden_states(p, batch), jnp.int32(seed % 12)
        got, want = streamed_of(p, hidden, batch, step), direct_of(p, hidden, batch, step)
        np.testing.assert_allclose(got[0], want[0], rtol=1e-5)
        assert largest_difference(got[1], want[1]) < 1e-4

    check()


def test_top_k_distributions_are_streamed_like_hidden_states():
    loss, batch, p = LOSSES["divergences"], example(4), params()
    everywhere = functools.partial(jax.vmap, in_axes=(None, 0))

    @jax.jit
    def taught(states):
        logits = everywhere(everywhere(TEACHER.project))(TEACHER_PARAMS, states)
        return jax.vmap(jax.vmap(lambda x: top_k(x, 4)))(logits)

    @functools.partial(jax.jit, static_argnums=0)
    def both(how, p, hidden, taught):
        return jax.value_and_grad(how, (0, 1))(p, hidden, taught)

    def streamed(p, hidden, taught):
        teacher = TeacherSide(stream.identity, None, taught)
        total = batch_loss(
            MODEL.project, loss, p, hidden, batch.tgt, batch.weight, teacher=teacher, chunk=8
        )
        return total.sum

    def direct(p, hidden, taught):
        logits = everywhere(everywhere(MODEL.project))(p, hidden)
        losses = jax.vmap(jax.vmap(loss))(logits, batch.tgt, taught)
        return (losses * (batch.tgt != PAD) * batch.weight[:, None]).sum()

    given = p, hidden_states(p, batch), taught(teacher_states(batch))
    got, want = both(streamed, *given), both(direct, *given)
    np.testing.assert_allclose(got[0], want[0], rtol=1e-5)
    assert largest_difference(got[1], want[1]) < 1e-4


def test_counts_are_weighted_tokens_and_sentences():
    batch, p = example(), params()
    total = streamed(nll, p, hidden_states(p, batch), batch, 0)
    weights = np.broadcast_to(batch.weight[:, None], batch.tgt.shape)
    np.testing.assert_allclose(total.tokens, weights[batch.tgt != PAD].sum(), rtol=1e-6)
    np.testing.assert_allclose(total.sentences, batch.weight.sum(), rtol=1e-6)


def test_a_row_of_weight_zero_counts_nothing_even_if_it_is_not_finite():
    batch, p = example(), params()
    hidden = hidden_states(p, batch)
    weight = batch.weight.copy()
    weight[2] = 0
    batch = batch.replace(weight=weight)
    clean = streamed(nll, p, hidden, batch, 0)
    poisoned = streamed(nll, p, hidden.at[2].set(jnp.nan), batch, 0)
    assert float(clean.sum) == float(poisoned.sum)


def test_padding_costs_no_chunk():
    walked = []

    def project(p, hidden):
        jax.debug.callback(lambda _: walked.append(1), hidden[0])
        return MODEL.project(p, hidden)

    batch, p = example(), params()
    tgt = np.full((6, 40), PAD, np.int32)
    tgt[:, :3] = 5
    hidden = jnp.zeros((6, 40, 8))
    batch_loss(project, nll, p, hidden, tgt, batch.weight, chunk=8)
    jax.effects_barrier()
    assert len(walked) == 24  # 18 tokens fill three chunks of 8, of the thirty there could be


@pytest.mark.parametrize("backend, fitting", [("cpu", 512), ("gpu", 8192), ("tpu", 3072)])
def test_a_chunk_fits_its_budget_or_has_the_fewest_tokens_that_pay(backend, fitting, monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    assert chunk_tokens(vocabulary=4096, tokens=10**6) == fitting
    assert chunk_tokens(vocabulary=10**9, tokens=10**6) == stream.CHUNK_TOKENS
    assert chunk_tokens(vocabulary=10**9, tokens=100) == 104
    assert chunk_tokens(vocabulary=4, tokens=3) == 8


def test_hidden_states_may_be_any_pytree():
    batch, p = example(), params()
    hidden = hidden_states(p, batch)
    paired = batch_loss(
        lambda p, h: MODEL.project(p, h["a"] + h["b"]),
        nll,
        p,
        {"a": hidden / 2, "b": hidden / 2},
        batch.tgt,
        batch.weight,
        chunk=8,
    )
    plain = batch_loss(MODEL.project, nll, p, hidden, batch.tgt, batch.weight, chunk=8)
    np.testing.assert_allclose(paired.sum, plain.sum, rtol=1e-6)
