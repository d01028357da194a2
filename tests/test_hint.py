import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import MODEL, TEACHER, example, largest_difference, params

from seqkd_jax.base import top_k
from seqkd_jax.contrib.hint import (
    OutputsWithHidden,
    WithRegressor,
    hinted,
    on_hidden,
    on_logits,
    with_hidden_output,
)
from seqkd_jax.losses import (
    mix,
    nll,
    weighted,
    with_temperature,
    word_kd,
)
from seqkd_jax.models.ensemble import ensemble, mean_of_logits
from seqkd_jax.parallel import pmap_step, replicate, shard
from seqkd_jax.train.state import init_state
from seqkd_jax.train.steps import make_eval_step, make_train_step

H, WIDTH = 8, 7  # of the student and of the teacher
STUDENT, GUIDE = hinted(MODEL, WIDTH), with_hidden_output(TEACHER)
TAUGHT_BY = params(TEACHER, 1)
LOSS = weighted((1.0, on_logits(mix(nll, with_temperature(word_kd, 2.0), 0.5))), (0.3, on_hidden()))


def with_regressor(seed=0):
    rng = np.random.default_rng(seed)
    kernel = rng.normal(0, 1, (H, WIDTH)).astype(np.float32)
    return WithRegressor(params(), jnp.asarray(kernel), jnp.full(WIDTH, 0.2))


def states(model, p, batch):
    return np.asarray(jax.jit(jax.vmap(model.hidden, (None, 0, 0)))(p, batch.src, batch.tgt))


@pytest.mark.slow
def test_hint_loss_is_the_squared_distance_written_out():
    batch, p = example(), with_regressor()
    total = jax.jit(make_eval_step(STUDENT, on_hidden(), teacher=GUIDE))(p, batch, TAUGHT_BY)
    mine = states(MODEL, params(), batch) @ np.asarray(p.kernel) + 0.2
    distance = ((mine - states(TEACHER, TAUGHT_BY, batch)) ** 2).sum(-1) / 2
    want = (distance * (batch.tgt != 0) * batch.weight[:, None]).sum()
    np.testing.assert_allclose(total.sum, want, rtol=1e-5)


def test_the_parts_add_up_and_logits_are_those_of_the_model_alone():
    batch, p = example(), with_regressor()

    def value(model, loss, teacher, p):
        return float(jax.jit(make_eval_step(model, loss, teacher=teacher))(p, batch, TAUGHT_BY).sum)

    plain = mix(nll, with_temperature(word_kd, 2.0), 0.5)
    alone = value(MODEL, plain, TEACHER, params())
    np.testing.assert_allclose(value(STUDENT, on_logits(plain), TEACHER, p), alone, rtol=1e-5)
    hint = value(STUDENT, on_hidden(), GUIDE, p)
    np.testing.assert_allclose(value(STUDENT, LOSS, GUIDE, p), alone + 0.3 * hint, rtol=1e-5)


@pytest.mark.slow
def test_the_gradient_is_that_of_all_logits_at_once():
    batch, p = example(2), with_regressor(1)
    teacher = states(TEACHER, TAUGHT_BY, batch)

    def direct(p):
        hidden = jax.vmap(MODEL.hidden, (None, 0, 0))(p.model, batch.src, batch.tgt)
        difference = hidden @ p.kernel + p.bias[None, None] - teacher
        losses = 0.5 * (difference**2).sum(-1)
        return (losses * (batch.tgt != 0) * batch.weight[:, None]).sum()

    step = make_eval_step(STUDENT, on_hidden(), teacher=GUIDE)
    got = jax.jit(jax.grad(lambda p: step(p, batch, TAUGHT_BY).sum))(p)
    want = jax.jit(jax.grad(direct))(p)
    assert largest_difference(got, want) < 1e-3
    assert not np.any(got.model.generator.kernel)  # the hint alone moves no word


@pytest.mark.slow
def test_the_hint_alone_trains_the_student_on_any_number_of_devices():
    tx = optax.adam(1e-2)
    step = make_train_step(STUDENT, tx, on_hidden(), teacher=GUIDE)
    one = init_state(STUDENT, tx, jax.random.key(0), with_regressor())
    many, on_one, on_many = replicate(one), jax.jit(step), pmap_step(step)
    losses = []
    for seed in [0, 1] * 6:
        batch = example(seed)
        one, metrics = on_one(one, batch, jax.random.key(1), TAUGHT_BY)
        many, _ = on_many(many, shard(batch), jax.random.key(1), TAUGHT_BY)
        losses.append(float(metrics["loss"]))
    assert largest_difference(one.params, many.params) < 1e-5
    assert sum(losses[-2:]) < 0.8 * sum(losses[:2])
    # What is kept is the model's own parameters.
    assert jax.tree.structure(one.params.model) == jax.tree.structure(params())
    before = params().generator
    assert largest_difference(one.params.model.generator, before) == 0


def test_a_new_student_draws_its_own_parameters_and_a_regressor():
    p = jax.jit(STUDENT.init)(jax.random.key(0))
    assert p.kernel.shape == (H, WIDTH) and jax.tree.structure(p.model) == jax.tree.structure(
        params()
    )
    np.testing.assert_allclose(p.kernel.std() * np.sqrt(H), 1, atol=0.3)


def test_an_ensemble_guides_with_all_its_states():
    both = with_hidden_output(ensemble([TEACHER, MODEL]))
    hidden = (jnp.arange(7.0), jnp.arange(8.0))
    shown = jax.jit(both.project)((TAUGHT_BY, params()), hidden)
    np.testing.assert_array_equal(shown.hidden, [*range(7), *range(8)])


def test_an_ensemble_may_take_the_mean_of_logits():
    both = ensemble([TEACHER, MODEL], join=mean_of_logits)
    hidden = (jnp.arange(7.0) / 7, jnp.arange(8.0) / 8)
    p = (TAUGHT_BY, params())
    got = jax.nn.softmax(both.project(p, hidden))
    members = zip((TEACHER, MODEL), p, hidden, strict=True)
    probabilities = [np.asarray(jax.nn.softmax(m.project(q, h))) for m, q, h in members]
    want = np.sqrt(probabilities[0] * probabilities[1])
    np.testing.assert_allclose(got, want / want.sum(), rtol=1e-4, atol=1e-7)


def test_mistakes_are_named():
    both = OutputsWithHidden(jnp.zeros(5), jnp.zeros(3))
    with pytest.raises(ValueError, match=r"with_hidden_output\(teacher\)"):
        on_hidden()(both, 1, top_k(jnp.zeros(5), 2))
    with pytest.raises(ValueError, match=r"width 3.* hinted\(student, width=4\)"):
        on_hidden()(both, 1, OutputsWithHidden(jnp.zeros(5), jnp.zeros(4)))
    for loss in on_hidden(), on_logits(nll):
        with pytest.raises(ValueError, match="student with a hint"):
            loss(jnp.zeros(5), 1, both)
    with pytest.raises(ValueError, match="width is 0"):
        hinted(MODEL, 0)
    # A hinting teacher is a teacher of logits, too, dense or not.
    taught = OutputsWithHidden(top_k(jnp.arange(5.0), 2), jnp.zeros(3))
    want = word_kd(both.logits, 1, taught.logits)
    np.testing.assert_allclose(on_logits(word_kd)(both, 1, taught), want)
