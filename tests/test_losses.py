import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqkd_jax.errors import UsageError
from seqkd_jax.losses import (
    Scheduled,
    at,
    l2_logits,
    mix,
    nll,
    smoothed_nll,
    weighted,
    with_temperature,
    word_kd,
)

V = 7
VECTOR = st.lists(st.floats(-20, 20, width=32), min_size=V, max_size=V).map(
    lambda x: jnp.array(x, jnp.float32)
)
TARGET = st.integers(0, V - 1)


@settings(deadline=None, max_examples=50)
@given(VECTOR, TARGET)
def test_nll_is_optax_cross_entropy(logits, target):
    want = optax.softmax_cross_entropy_with_integer_labels(logits, jnp.int32(target))
    np.testing.assert_allclose(nll(logits, target), want, atol=1e-5)


@settings(deadline=None, max_examples=50)
@given(VECTOR, TARGET, st.floats(0, 1))
def test_smoothing_is_optax_cross_entropy_to_smoothed_labels(logits, target, epsilon):
    labels = optax.smooth_labels(jax.nn.one_hot(target, V), epsilon)
    want = optax.softmax_cross_entropy(logits, labels)
    np.testing.assert_allclose(smoothed_nll(epsilon)(logits, target), want, atol=1e-4)


@settings(deadline=None, max_examples=50)
@given(VECTOR, VECTOR, TARGET)
def test_word_kd_is_optax_cross_entropy_to_the_teacher(logits, teacher, target):
    want = optax.softmax_cross_entropy(logits, jax.nn.softmax(teacher))
    np.testing.assert_allclose(word_kd(logits, target, teacher), want, atol=1e-4)


@settings(deadline=None, max_examples=50)
@given(VECTOR, TARGET)
def test_a_one_hot_teacher_makes_word_kd_the_nll(logits, target):
    teacher = 200.0 * jax.nn.one_hot(target, V)
    np.testing.assert_allclose(word_kd(logits, target, teacher), nll(logits, target), atol=1e-4)


@pytest.mark.parametrize("loss", [word_kd, l2_logits, with_temperature(word_kd, 3.0)])
def test_a_teacher_equal_to_the_student_gives_no_gradient(loss):
    logits = jax.random.normal(jax.random.key(0), (V,)) * 3
    gradient = jax.grad(loss)(logits, 2, logits)
    np.testing.assert_allclose(gradient, np.zeros(V), atol=1e-6)


def test_no_gradient_reaches_the_teacher():
    logits, teacher = jax.random.normal(jax.random.key(0), (2, V))
    for loss in word_kd, l2_logits:
        assert not jax.grad(loss, 2)(logits, 1, teacher).any()


@settings(deadline=None, max_examples=30)
@given(VECTOR, VECTOR, st.floats(0.5, 8))
def test_the_gradient_of_softened_word_kd_is_hintons(logits, teacher, t):
    gradient = jax.grad(with_temperature(word_kd, t))(logits, 0, teacher)
    want = t * (jax.nn.softmax(logits / t) - jax.nn.softmax(teacher / t))
    np.testing.assert_allclose(gradient, want, atol=1e-4)


def test_at_high_temperature_softened_word_kd_matches_centred_logits():
    logits, teacher = jax.random.normal(jax.random.key(0), (2, V))
    soft = jax.grad(with_temperature(word_kd, 1000.0))(logits, 0, teacher)
    np.testing.assert_allclose(V * soft, jax.grad(l2_logits)(logits, 0, teacher), atol=2e-2)


def test_l2_does_not_see_a_constant():
    logits, teacher = jax.random.normal(jax.random.key(0), (2, V))
    shifted = l2_logits(logits + 5, 0, teacher - 3)
    np.testing.assert_allclose(shifted, l2_logits(logits, 0, teacher), rtol=1e-4)


@pytest.mark.parametrize("alpha", [-0.1, 1.5, float("nan")])
def test_a_weight_outside_of_its_range_is_refused(alpha):
    with pytest.raises(UsageError, match="alpha is .* from 0 to 1"):
        mix(nll, word_kd, alpha)


@settings(deadline=None, max_examples=50)
@given(VECTOR, VECTOR, TARGET, st.floats(0, 1))
def test_mix_is_the_weighted_sum(logits, teacher, target, alpha):
    got = mix(nll, word_kd, alpha)(logits, target, teacher)
    want = (1 - alpha) * nll(logits, target) + alpha * word_kd(logits, target, teacher)
    np.testing.assert_allclose(got, want, atol=1e-4)


def test_the_weight_of_mix_may_be_traced():
    logits = jnp.zeros((2, 4))
    loss = jax.jit(lambda alpha: mix(nll, word_kd, alpha)(logits[0], 1, logits[1]))
    np.testing.assert_allclose(loss(0.25), np.log(4), rtol=1e-6)


def test_the_ends_of_mix_are_its_parts():
    logits, teacher = jax.random.normal(jax.random.key(0), (2, V))
    assert mix(nll, word_kd, 0.0)(logits, 3, teacher) == nll(logits, 3)
    assert mix(nll, word_kd, 1.0)(logits, 3, teacher) == word_kd(logits, 3, teacher)


def test_weights_follow_a_schedule():
    logits, teacher = jax.random.normal(jax.random.key(0), (2, V))
    alpha = optax.linear_schedule(0.0, 1.0, 10)
    loss = with_temperature(weighted((1.0, mix(nll, word_kd, alpha)), (0.5, l2_logits)), 1.0)
    assert isinstance(loss, Scheduled)
    for step in 0, 4, 10, 99:
        now = mix(nll, word_kd, float(alpha(step)))
        want = now(logits, 1, teacher) + 0.5 * l2_logits(logits, 1, teacher)
        np.testing.assert_allclose(at(loss, jnp.int32(step))(logits, 1, teacher), want, rtol=1e-5)


@pytest.mark.parametrize("loss", [nll, smoothed_nll(0.1), word_kd, l2_logits])
def test_losses_are_computed_in_float32(loss):
    logits, teacher = jax.random.normal(jax.random.key(0), (2, V)).astype(jnp.bfloat16)
    assert loss(logits, 1, teacher).dtype == jnp.float32


@pytest.mark.parametrize("loss", [word_kd, l2_logits, mix(nll, word_kd, 0.5)])
def test_a_missing_teacher_is_named(loss):
    with pytest.raises(ValueError, match="there is none"):
        loss(jnp.zeros(V), 1)


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="epsilon"):
        smoothed_nll(1.5)
    with pytest.raises(ValueError, match="temperature"):
        with_temperature(nll, 0.0)
