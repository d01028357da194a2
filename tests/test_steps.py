from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import CONFIG, MODEL, TEACHER, TEACHER_CONFIG, example, largest_difference, params

from seqkd_jax.base import Total
from seqkd_jax.contrib.sutskever import half_epoch_sgd
from seqkd_jax.errors import UsageError
from seqkd_jax.losses import mix, nll, word_kd
from seqkd_jax.models.attention_lstm import attention_lstm
from seqkd_jax.parallel import (
    device_mesh,
    jit_step,
    place,
    place_batch,
    pmap_rows,
    pmap_step,
    pmap_total,
    replicate,
    shard,
)
from seqkd_jax.recipes.sharing import optimizer
from seqkd_jax.settings import Training
from seqkd_jax.train.state import (
    clipped_adam,
    decayed_sgd,
    init_state,
    warm_adam,
    warm_cosine,
)
from seqkd_jax.train.steps import make_eval_step, make_train_step

KEY = jax.random.key(7)
TX = clipped_adam(1e-2)
STEP = make_train_step(MODEL, TX, nll)
JITTED = jax.jit(STEP)
TEACHER_PARAMS = params(TEACHER, 1)


def start():
    return init_state(MODEL, TX, jax.random.key(0), params())


@pytest.mark.parametrize(
    "wrong", [{"rate": -1.0}, {"clip": -5.0}, {"rate": float("nan")}, {"rate": float("inf")}]
)
def test_an_optimiser_that_climbs_is_refused(wrong):
    with pytest.raises(UsageError, match="give a finite number of at least 0"):
        clipped_adam(**wrong)


def test_four_devices_equal_one_over_twenty_steps_of_uneven_sentences():
    step = make_train_step(MODEL, TX, mix(nll, word_kd, 0.5), teacher=TEACHER)
    one, many = start(), replicate(start())
    on_one, on_many = jax.jit(step), pmap_step(step)
    for seed in range(20):
        batch = example(seed)  # six rows do not divide by four
        one, metrics = on_one(one, batch, KEY, TEACHER_PARAMS)
        many, metrics_many = on_many(many, shard(batch), KEY, TEACHER_PARAMS)
    assert largest_difference(one.params, many.params) < 1e-6
    assert largest_difference(metrics, metrics_many) < 1e-5
    assert jax.tree.leaves(many.params)[0].shape == jax.tree.leaves(one.params)[0].shape


@pytest.mark.slow
def test_a_mesh_that_splits_vocabularies_trains_as_pmap_does():
    """Embeddings and projections are split over ``model``, rows over ``data``."""
    sizes = (SRC, TGT) = 12, 14
    student = attention_lstm(replace(CONFIG, src_vocab=SRC, tgt_vocab=TGT))
    teacher = attention_lstm(replace(TEACHER_CONFIG, src_vocab=SRC, tgt_vocab=TGT))
    step = make_train_step(student, TX, mix(nll, word_kd, 0.5), teacher=teacher)
    state = init_state(student, TX, jax.random.key(0), params(student))
    mesh, guide = device_mesh(model=2), params(teacher, 1)
    split, guide_split = place(state, mesh, sizes), place(guide, mesh, sizes)
    whole, on_mesh, on_all = replicate(state), jit_step(step, mesh), pmap_step(step)
    for seed in range(20):
        batch = example(seed)
        split, metrics = on_mesh(split, place_batch(batch, mesh), KEY, guide_split)
        whole, metrics_of_whole = on_all(whole, shard(batch), KEY, guide)
    assert largest_difference(split.params, whole.params) < 1e-6
    assert largest_difference(metrics, metrics_of_whole) < 1e-5
    halves = [split.params.generator.kernel, split.opt_state[1][0].mu.decoder.embedding]
    assert [x.sharding.shard_shape(x.shape) for x in halves] == [(8, TGT // 2), (TGT // 2, 6)]


def test_a_mesh_that_does_not_fit_is_refused():
    with pytest.raises(ValueError, match="model is 3, which does not divide the 4 devices"):
        device_mesh(model=3)
    with pytest.raises(ValueError, match="A vocabulary of 13 entries cannot be split evenly"):
        place(params(), device_mesh(model=2), (13,))


def test_microbatches_change_nothing():
    split = make_train_step(MODEL, TX, nll, microbatches=3)
    batch = example()
    whole, metrics = JITTED(start(), batch, KEY)
    parts, metrics_of_parts = jax.jit(split)(start(), batch, KEY)
    assert largest_difference(whole.params, parts.params) < 1e-6
    assert largest_difference(metrics, metrics_of_parts) < 1e-5


def test_microbatches_that_do_not_divide_the_batch_are_refused():
    split = make_train_step(MODEL, TX, nll, microbatches=4)
    state = init_state(MODEL, TX, jax.random.key(0), params())
    with pytest.raises(
        ValueError, match="microbatches is 4, which does not divide the 6 .* one of 1, 2, 3, 6"
    ):
        split.gradients(state, example(), jax.random.key(1))


def test_the_loss_is_divided_by_sentences_and_reported_by_token():
    model = MODEL
    tx = optax.sgd(1.0)
    batch = example(rows=2)
    state = init_state(model, tx, jax.random.key(0), params())
    after, metrics = jax.jit(make_train_step(model, tx, nll))(state, batch, KEY)
    keys = [jax.random.fold_in(jax.random.fold_in(KEY, 0), i) for i in batch.index]

    def loss(p):
        total = 0.0
        for src, tgt, weight, key in zip(batch.src, batch.tgt, batch.weight, keys, strict=True):
            logits = jax.vmap(model.project, (None, 0))(p, model.hidden(p, src, tgt, key))
            losses = optax.softmax_cross_entropy_with_integer_labels(logits, tgt)
            total += (losses * (tgt != 0)).sum() * weight
        return total / batch.weight.sum()

    value, gradient = jax.jit(jax.value_and_grad(loss))(state.params)
    want = jax.tree.map(jnp.subtract, state.params, gradient)
    assert largest_difference(after.params, want) < 1e-5
    tokens = ((batch.tgt != 0) * batch.weight[:, None]).sum()
    np.testing.assert_allclose(metrics["loss"], value * batch.weight.sum() / tokens, rtol=1e-5)


def test_the_same_sentence_gets_the_same_dropout_in_any_company():
    batch = example()
    order = np.array([3, 1, 5, 0, 4, 2])
    shuffled = jax.tree.map(lambda x: x[order], batch)
    gradients = jax.jit(STEP.gradients)
    a, _ = gradients(start(), batch, KEY)
    b, _ = gradients(start(), shuffled, KEY)
    assert largest_difference(a, b) < 1e-4


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_loss_that_is_not_finite_moves_nothing(value):
    state = start()
    bad = example()
    weight = bad.weight.copy()
    weight[3] = value
    after, metrics = JITTED(state, bad.replace(weight=weight), KEY)
    assert not metrics["finite"]
    assert largest_difference(after.params, state.params) == 0
    assert largest_difference(after.opt_state, state.opt_state) == 0


def test_one_bad_sentence_on_one_device_moves_nothing_on_any():
    bad = example()
    weight = bad.weight.copy()
    weight[0] = np.nan
    after, metrics = pmap_step(STEP)(replicate(start()), shard(bad.replace(weight=weight)), KEY)
    assert not metrics["finite"]
    assert largest_difference(after.params, start().params) == 0


def test_a_step_with_a_teacher_asks_for_its_parameters():
    step = make_train_step(MODEL, TX, word_kd, teacher=TEACHER)
    with pytest.raises(ValueError, match="teacher's parameters"):
        step(start(), example(), KEY)


def test_evaluation_adds_up_over_devices_and_has_no_dropout():
    batch, p = example(), params()
    evaluate = make_eval_step(MODEL)
    one = jax.jit(evaluate)(p, batch)
    many = pmap_total(evaluate)(p, shard(batch))
    assert isinstance(many, Total)
    assert largest_difference(one, many) < 1e-3
    assert largest_difference(one, jax.jit(evaluate)(p, batch)) == 0


def test_rows_come_back_in_order_from_any_number_of_devices():
    double = pmap_rows(lambda p, x, y: {"sum": p * x.sum(1) + y})
    for rows in 1, 3, 4, 9:
        x, y = np.arange(rows * 2.0).reshape(rows, 2), np.arange(rows)
        np.testing.assert_allclose(double(np.float64(2.0), x, y)["sum"], 2 * x.sum(1) + y)


def test_a_rate_may_be_traced():
    grads = {"w": jnp.ones(2)}

    @jax.jit
    def update(rate):
        tx = clipped_adam(rate)
        return tx.update(grads, tx.init(grads))[0]["w"]

    np.testing.assert_allclose(update(0.5), -0.5, rtol=1e-5)


def test_a_batch_without_an_axis_of_devices_is_refused():
    with pytest.raises(UsageError, match="give shard"):
        pmap_step(STEP)(replicate(start()), example(), KEY)


def test_sharding_fills_with_rows_of_no_weight():
    batch = example()
    split, devices = shard(batch), jax.device_count()
    assert split.src.shape == (devices, -(-6 // devices), 5)
    np.testing.assert_array_equal(split.weight.reshape(-1)[:6], batch.weight)
    np.testing.assert_array_equal(split.weight.reshape(-1)[6:], 0)


def test_the_rate_rises_to_its_height_and_falls_to_nothing():
    rate = warm_cosine(0.4, steps=20, warmup=4)
    np.testing.assert_allclose([rate(n) for n in range(5)], [0, 0.1, 0.2, 0.3, 0.4], rtol=1e-6)
    np.testing.assert_allclose([rate(12), rate(20)], [0.2, 0], atol=1e-7)  # half way, and the end
    at_once = warm_cosine(0.4, steps=20)
    np.testing.assert_allclose([at_once(0), at_once(10), at_once(20)], [0.4, 0.2, 0], atol=1e-7)
    short = warm_cosine(0.4, steps=2, warmup=4)
    np.testing.assert_allclose([short(1), short(2)], [0.1, 0.2], rtol=1e-6)
    peers = optax.linear_schedule(0.0, 0.4, 4), optax.cosine_decay_schedule(0.4, 16)
    peer = optax.join_schedules(peers, [4])
    np.testing.assert_allclose(
        [rate(n) for n in range(25)], [peer(n) for n in range(25)], atol=1e-6
    )


@pytest.mark.parametrize(
    "name, plain",
    [
        ("adam", lambda t, steps: warm_adam(t.rate, steps, t.warmup, t.clip)),
        ("half-epoch-sgd", lambda t, steps: half_epoch_sgd(steps // 2, t.rate, clip=t.clip)),
        ("sgd", lambda t, steps: decayed_sgd(t.rate, t.clip)),
    ],
)
def test_the_settings_of_a_run_reach_its_optimiser_and_not_its_program(name, plain):
    """Updates are those of the optimiser itself, whose numbers are in the program."""

    def run(tx):
        state, moves, p = tx.init(jnp.ones(2)), [], jnp.ones(2)
        extra = {"epoch": jnp.int32(0), "perplexity": jnp.float32(jnp.inf)}
        update = jax.jit(optax.with_extra_args_support(tx).update)
        program = update.lower(p, state, p, **extra).as_text()
        for n in range(9):  # some are clipped
            move, state = update(jnp.float32([n, 0.5]), state, p, **extra)
            moves.append(move)
        return program, np.array(moves)

    programs = set()
    for training, steps in (
        (Training(epochs=2, optimizer=name, rate=0.5, warmup=2, clip=2.0), 8),
        (Training(epochs=2, optimizer=name, rate=0.2, clip=2.0), 6),
    ):
        program, moves = run(optimizer(training, steps, steps // training.epochs))
        programs.add(program)
        np.testing.assert_allclose(moves, run(plain(training, steps))[1], rtol=1e-5, atol=1e-8)
    assert len(programs) == 1


def test_sgd_decays_as_the_papers_latch_does():
    """Epochs 1-9 at rate 1; a rising perplexity, or epoch 9, closes the latch for good."""

    def rates(perplexities):
        tx = decayed_sgd(1.0, clip=1e9)
        p = jnp.ones(())
        state, seen = tx.init(p), []
        for epoch, perplexity in enumerate([np.inf, *perplexities]):
            for _ in range(2):  # two steps an epoch: the rule acts once
                updates, state = tx.update(
                    jnp.ones(()),
                    state,
                    p,
                    epoch=jnp.int32(epoch),
                    perplexity=jnp.float32(perplexity),
                )
                seen.append(-float(updates))
        return seen[::2]

    assert rates(range(20, 8, -1)) == [1.0] * 9 + [0.5, 0.25, 0.125, 0.0625]
    assert rates([9, 8, 8.5, 7, 6]) == [1.0, 1.0, 1.0, 0.5, 0.25, 0.125]
    assert rates([9, 8, 8, 7]) == [1.0] * 5  # equal is not higher


def test_sgd_halves_every_half_epoch_after_the_fifth():
    """Sutskever et al. 2014: 0.7 for five epochs, then half of it after each half epoch."""
    tx = half_epoch_sgd(steps_per_epoch=10, clip=1e9)
    state, rates = tx.init(jnp.ones(())), []
    for _ in range(75):
        update, state = tx.update(jnp.ones(()), state)
        rates.append(-float(update))
    np.testing.assert_allclose(rates[:50], 0.7, rtol=1e-6)
    want = [0.35] * 5 + [0.175] * 5 + [0.0875] * 5 + [0.04375] * 5 + [0.021875] * 5
    np.testing.assert_allclose(rates[50:], want, rtol=1e-6)


def test_a_moving_average_is_that_of_the_iterates_which_move_as_without_it():
    step = jax.jit(make_train_step(MODEL, TX, ema=0.9))
    state = init_state(MODEL, TX, jax.random.key(0), params(), averaged=True)
    plain, average = start(), params()
    for n in range(15):
        state, metrics = step(state, example(n), KEY)
        plain, expected = JITTED(plain, example(n), KEY)
        decay = min(0.9, (n + 1) / (n + 10))
        average = jax.tree.map(lambda a, p, d=decay: d * a + (1 - d) * p, average, plain.params)
        assert float(metrics["loss"]) == pytest.approx(float(expected["loss"]), rel=1e-5)
    assert largest_difference(state.iterate, plain.params) < 1e-5
    assert largest_difference(state.params, average) < 1e-5
    assert largest_difference(state.params, plain.params) > 1e-3


def test_a_step_that_is_not_finite_does_not_enter_the_average():
    step = jax.jit(make_train_step(MODEL, TX, ema=0.9))
    state = init_state(MODEL, TX, jax.random.key(0), params(), averaged=True)
    broken = example(0)
    broken = replace(broken, weight=jnp.full_like(broken.weight, jnp.nan))
    after, metrics = step(state, broken, KEY)
    assert not metrics["finite"] and int(after.step) == 1
    assert largest_difference(after.params, state.params) == 0
    assert largest_difference(after.iterate, state.iterate) == 0
