"""Losses that compare with a teacher's distribution, dense or top-k, against scipy and numpy."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.test_util import check_grads
from scipy.special import log_softmax, logsumexp, rel_entr, softmax

from seqkd_jax import base
from seqkd_jax.base import TopK
from seqkd_jax.losses import (
    at,
    jensen_shannon,
    l2_logits,
    mix,
    nll,
    reverse_kl,
    skew_kl,
    skew_reverse_kl,
    total_variation,
    weighted,
    with_temperature,
    word_kd,
    word_kl,
)

V = 7
VECTOR = st.lists(st.floats(-9, 9, width=32), min_size=V, max_size=V).map(
    lambda x: np.array(x, np.float32)
)
quick = settings(deadline=None, max_examples=25)
LOSSES = {
    "word-kd": word_kd,
    "kl": word_kl,
    "reverse": reverse_kl,
    "js": jensen_shannon(0.3),
    "skew": skew_kl(0.2),
    "skew-reverse": skew_reverse_kl(0.2),
    "tv": total_variation,
}
DIVERGENCES = {name: loss for name, loss in LOSSES.items() if name != "word-kd"}
COMPILED = {name: jax.jit(loss) for name, loss in LOSSES.items()}
DIFFERENTIATED = {name: jax.jit(jax.value_and_grad(loss)) for name, loss in LOSSES.items()}
top_k = jax.jit(base.top_k, static_argnums=(1, 2), static_argnames="temperature")


def oracle(name, p, q):
    """The formulas on probabilities, in float64, by scipy's relative entropy."""

    def kl(a, b):
        return rel_entr(a, b).sum()

    match name:
        case "word-kd":
            return kl(q, p) - np.sum(np.where(q > 0, q * np.log(np.where(q > 0, q, 1)), 0))
        case "kl":
            return kl(q, p)
        case "reverse":
            return kl(p, q)
        case "js":
            m = 0.3 * q + 0.7 * p
            return 0.3 * kl(q, m) + 0.7 * kl(p, m)
        case "skew":
            return kl(q, 0.2 * q + 0.8 * p)
        case "skew-reverse":
            return kl(p, 0.2 * p + 0.8 * q)
        case "tv":
            return np.abs(p - q).sum() / 2


def two(seed=0, size=V):
    """Logits of a student and a teacher."""
    return np.random.default_rng(seed).normal(0, 2, (2, size)).astype(np.float32)


@pytest.mark.parametrize("name", LOSSES)
@quick
@given(VECTOR, VECTOR)
def test_values_are_those_of_the_formulas(name, logits, teacher):
    p, q = softmax(logits.astype(np.float64)), softmax(teacher.astype(np.float64))
    got = COMPILED[name](logits, 0, teacher)
    np.testing.assert_allclose(got, oracle(name, p, q), rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("name", LOSSES)
@quick
@given(VECTOR, VECTOR, st.integers(1, V - 1))
def test_top_k_compares_the_listed_tokens_and_the_rest_as_one(name, logits, teacher, k):
    p, q = softmax(logits.astype(np.float64)), softmax(teacher.astype(np.float64))
    taught = top_k(jnp.asarray(teacher), k)
    ids = np.asarray(taught.ids)
    merged = [np.append(x[ids], np.delete(x, ids).sum()) for x in (p, q)]
    got = COMPILED[name](logits, 0, taught)
    np.testing.assert_allclose(got, oracle(name, *merged), rtol=1e-4, atol=2e-6)


@pytest.mark.parametrize("name", LOSSES)
@pytest.mark.parametrize(
    "k",
    [pytest.param(1, marks=pytest.mark.slow), 3, pytest.param(V, marks=pytest.mark.slow), None],
    ids=lambda k: f"k{k}",
)
def test_gradients_are_those_of_finite_differences(name, k):
    logits, teacher = map(jnp.asarray, two(3))
    taught = teacher if k is None else top_k(teacher, k)
    loss = COMPILED[name]
    check_grads(lambda x: loss(x, 0, taught), (logits,), 1, modes=["rev"], eps=3e-3, rtol=1e-2)


@pytest.mark.parametrize("name", LOSSES)
@quick
@given(VECTOR, VECTOR)
def test_at_k_equal_to_v_top_k_is_the_dense_loss_and_gradient(name, logits, teacher):
    both = functools.partial(DIFFERENTIATED[name], logits, 0)
    dense, listed = both(teacher), both(top_k(jnp.asarray(teacher), V))
    np.testing.assert_allclose(dense[0], listed[0], rtol=1e-5, atol=2e-6)
    np.testing.assert_allclose(dense[1], listed[1], rtol=1e-4, atol=5e-6)


@pytest.mark.parametrize("name", DIVERGENCES)
@quick
@given(VECTOR, VECTOR)
def test_a_divergence_grows_with_what_is_told_apart(name, logits, teacher):
    """Data processing: merging events never enlarges it; equal distributions have none."""
    loss = COMPILED[name]
    coarse = [float(loss(logits, 0, top_k(jnp.asarray(teacher), k))) for k in (1, 2, 5, V)]
    assert all(a <= b + 1e-5 for a, b in zip([0.0, *coarse], coarse, strict=False))


@pytest.mark.parametrize("name", DIVERGENCES)
def test_equal_distributions_have_no_divergence_and_no_gradient(name):
    logits = jnp.asarray(two()[0])
    for taught in logits + 3, top_k(logits, 3), top_k(logits, V):
        value, gradient = DIFFERENTIATED[name](logits, 0, taught)
        np.testing.assert_allclose(value, 0, atol=1e-6)
        if name != "tv":  # where its gradient jumps
            np.testing.assert_allclose(gradient, 0, atol=1e-6)


def test_kl_has_the_gradient_of_word_kd():
    logits, teacher = two()
    for taught in teacher, top_k(jnp.asarray(teacher), 3):
        kl, kd = (DIFFERENTIATED[n](logits, 0, taught)[1] for n in ("kl", "word-kd"))
        np.testing.assert_allclose(kl, kd, atol=1e-6)


def test_the_ends_of_jensen_shannon_are_the_two_kl():
    logits, teacher = two(1)
    for small in 1e-3, 1e-2:
        forward = jensen_shannon(small)(logits, 0, teacher) / small
        backward = jensen_shannon(1 - small)(logits, 0, teacher) / small
        np.testing.assert_allclose(forward, word_kl(logits, 0, teacher), rtol=20 * small)
        np.testing.assert_allclose(backward, reverse_kl(logits, 0, teacher), rtol=20 * small)


@quick
@given(VECTOR, VECTOR)
def test_bounds(logits, teacher):
    value = {name: float(loss(logits, 0, teacher)) for name, loss in COMPILED.items()}
    assert value["js"] <= -0.3 * np.log(0.3) - 0.7 * np.log(0.7) + 1e-6
    assert max(value["skew"], value["skew-reverse"]) <= -np.log(0.2) + 1e-6
    assert value["tv"] <= 1 + 1e-6
    assert value["tv"] <= np.sqrt(max(0, value["kl"]) / 2) + 1e-3  # Pinsker


def test_without_skew_the_skewed_are_plain_and_near_one_they_vanish():
    logits, teacher = two(2)
    assert skew_kl(0.0)(logits, 0, teacher) == word_kl(logits, 0, teacher)
    assert skew_reverse_kl(0.0)(logits, 0, teacher) == reverse_kl(logits, 0, teacher)
    for loss in skew_kl, skew_reverse_kl:
        assert abs(loss(1 - 1e-4)(logits, 0, teacher)) < 1e-5


@pytest.mark.parametrize("name", ["kl", "reverse", "js", "skew"])
def test_at_high_temperature_divergences_match_centred_logits(name):
    """Each f-divergence is f''(1)/2 of the chi-square near equality; so is l2 over V, scaled."""
    scale = {"kl": 1, "reverse": 1, "js": 0.3 * 0.7, "skew": 0.8**2}[name]
    logits, teacher = two(4)
    soft = jax.grad(with_temperature(LOSSES[name], 100.0))(logits, 0, teacher)
    hard = jax.grad(l2_logits)(logits, 0, teacher)
    np.testing.assert_allclose(V * soft, scale * hard, atol=0.08 * abs(hard).max())


def test_mixtures_and_schedules_take_them_like_any_loss():
    logits, teacher = two()
    taught = top_k(jnp.asarray(teacher), 4)
    loss = weighted((optax.linear_schedule(0.0, 1.0, 10), jensen_shannon()), (0.5, reverse_kl))
    loss = mix(nll, loss, 0.25)
    for step in 0, 5:
        got = at(loss, jnp.int32(step))(logits, 1, taught)
        want = step / 10 * jensen_shannon()(logits, 1, taught) + 0.5 * reverse_kl(logits, 1, taught)
        np.testing.assert_allclose(got, 0.75 * nll(logits, 1) + 0.25 * want, rtol=1e-5)


@quick
@given(VECTOR, st.integers(1, V), st.sampled_from((0.5, 3.0)))
def test_top_k_is_exact(logits, k, temperature):
    found = top_k(jnp.asarray(logits), k, temperature)
    log_q = log_softmax(logits.astype(np.float64) / temperature)
    assert len(set(found.ids.tolist())) == k
    np.testing.assert_allclose(found.log_probs, -np.sort(-log_q)[:k], rtol=1e-5, atol=1e-5)
    np.testing.assert_allclose(found.log_probs, log_q[found.ids], rtol=1e-5, atol=1e-5)
    others = np.delete(log_q, found.ids)
    rest = logsumexp(others) if others.size else -np.inf
    np.testing.assert_allclose(found.rest, rest, rtol=1e-5, atol=1e-5)


def test_the_mass_of_a_tiny_rest_is_not_rounded_away():
    logits = np.zeros(V, np.float32)
    logits[2] = 40
    rest = top_k(jnp.asarray(logits), 1).rest  # 6 exp(-40): 1 minus the listed would give 0
    np.testing.assert_allclose(rest, np.log(6) - 40, rtol=1e-6)


def test_a_temperature_must_be_that_of_the_list():
    logits, teacher = map(jnp.asarray, two())
    warm = top_k(teacher, V, temperature=2.0)
    got = with_temperature(word_kl, 2.0)(logits, 0, warm)
    np.testing.assert_allclose(got, with_temperature(word_kl, 2.0)(logits, 0, teacher), rtol=1e-5)
    for loss, taught in [(word_kl, warm), (with_temperature(word_kd, 2.0), top_k(teacher, 3))]:
        with pytest.raises(ValueError, match="temperature [12], but the loss asks for [21]"):
            loss(logits, 0, taught)


def test_what_cannot_be_compared_is_refused():
    logits, teacher = map(jnp.asarray, two())
    with pytest.raises(ValueError, match="needs all logits"):
        l2_logits(logits, 0, top_k(teacher, 3))
    for loss in LOSSES.values():
        with pytest.raises(ValueError, match="there is none"):
            loss(logits, 0)
    for k in 0, V + 1:
        with pytest.raises(ValueError, match=f"k is {k}"):
            top_k(teacher, k)
    for make in skew_kl, skew_reverse_kl, jensen_shannon:
        for value in -0.1, 1.0:
            with pytest.raises(ValueError, match="always 0"):
                make(value)


def test_extreme_logits_stay_finite():
    logits = jnp.array([200.0, -300, 0, 0, 0, 0, 0])
    teacher = jnp.array([-jnp.inf, 50, -400, 0, 0, 0, 0])
    for name in set(LOSSES) - {"reverse"}:
        for taught in teacher, top_k(teacher, 2), top_k(teacher, V):
            value, gradient = DIFFERENTIATED[name](logits, 0, taught)
            assert np.isfinite(value) and np.isfinite(gradient).all(), name


def test_no_gradient_reaches_the_teacher():
    logits, teacher = map(jnp.asarray, two())
    for loss in LOSSES.values():
        assert not jax.grad(loss, 2)(logits, 0, teacher).any()

        def of_mass(rest, loss=loss):
            taught = top_k(teacher, 3)
            return loss(logits, 0, TopK(taught.ids, taught.log_probs, rest))

        assert jax.grad(of_mass)(jnp.float32(-1.0)) == 0


@pytest.mark.parametrize("name", LOSSES)
def test_losses_are_computed_in_float32(name):
    logits, teacher = jnp.asarray(two()).astype(jnp.bfloat16)
    assert LOSSES[name](logits, 1, teacher).dtype == jnp.float32
    assert LOSSES[name](logits, 1, top_k(teacher, 2)).dtype == jnp.float32
