import functools

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from small import TEACHER, TEACHER_HIDDEN, batched, example, largest_difference, params

from seqkd_jax.base import BOS, EOS, PAD
from seqkd_jax.losses import word_kd
from seqkd_jax.parallel import pmap_step, replicate, shard
from seqkd_jax.train.loop import fit
from seqkd_jax.train.on_policy import drawn_at, greedy, sample_targets, translations
from seqkd_jax.train.state import clipped_adam, init_state
from seqkd_jax.train.steps import make_train_step
from seqkd_jax.trained import params_digest

MODEL = TEACHER  # the smaller of the two compiles sooner; the teacher has other parameters
KEY = jax.random.key(7)
TX = clipped_adam(1e-2)
STEP = make_train_step(MODEL, TX, word_kd, teacher=TEACHER)
TEACHER_PARAMS = params(TEACHER, 1)
PLAIN = jax.jit(STEP)


@functools.cache
def stepping(share=1.0, draw=None, microbatches=1):
    step = make_train_step(MODEL, TX, word_kd, teacher=TEACHER, microbatches=microbatches)
    return sample_targets(step, MODEL, share, draw or drawn_at(1.0))


OFTEN = jax.jit(stepping(0.7))
GRADIENTS = jax.jit(STEP.gradients)
GREEDY = jax.jit(lambda p, batch: translations(MODEL, p, batch, KEY, greedy))
DRAWN = jax.jit(lambda p, batch, key: translations(MODEL, p, batch, key))


def start():
    return init_state(MODEL, TX, jax.random.key(0), params(MODEL))


def batch_and_drawn(seed=0):
    """A batch, and the targets that an on-policy step of it draws, taken from its gradients."""
    batch, seen = example(seed), []

    def spy(state, batch, key, teacher_params, sentences):
        seen.append(batch.tgt)
        return STEP.gradients(state, batch, key, teacher_params, sentences)

    step = sample_targets(type(STEP)(spy, STEP.update), MODEL)
    outputs = jax.jit(lambda *args: (step.gradients(*args), seen.pop()))(
        start(), batch, KEY, TEACHER_PARAMS
    )
    return batch, outputs[0], np.asarray(outputs[1])


def test_the_gradient_is_that_of_training_on_the_samples_as_data():
    batch, (gradient, total), drawn = batch_and_drawn()
    assert (drawn != batch.tgt).any()
    on_data = GRADIENTS(start(), batch.replace(tgt=drawn), KEY, TEACHER_PARAMS)
    assert largest_difference((gradient, total), on_data) < 1e-6
    tokens = ((drawn != PAD) * batch.weight[:, None]).sum()
    np.testing.assert_allclose(total.tokens, tokens, rtol=1e-6)


def test_samples_end_in_eos_and_padding_and_change_with_step_key_and_sentence():
    batch, _, drawn = batch_and_drawn()
    others = [np.asarray(DRAWN(params(MODEL), batch, jax.random.key(n))) for n in range(8)]
    for row in np.concatenate([drawn, *others]).tolist():
        end = row.index(EOS)
        assert all(token == PAD for token in row[end + 1 :])
        assert not {PAD, BOS} & set(row[:end])
    assert len({other.tobytes() for other in others}) == 8
    same = batch.replace(src=np.repeat(batch.src[:1], 6, 0), weight=np.ones(6, np.float32))
    assert len({row.tobytes() for row in np.asarray(DRAWN(params(MODEL), same, KEY))}) > 1


def test_a_row_that_only_fills_the_batch_ends_at_once():
    batch = example()
    batch = batch.replace(weight=np.array([1, 0, 1, 0, 1, 1], np.float32))
    drawn = np.asarray(DRAWN(params(MODEL), batch, KEY))
    assert drawn[1].tolist() == drawn[3].tolist() == [EOS] + [PAD] * (drawn.shape[1] - 1)


def test_greedy_targets_are_the_best_words_one_by_one():
    batch, p = example(), params(MODEL)
    found = np.asarray(GREEDY(p, batch))
    logits_of = batched(lambda p, h: jax.vmap(MODEL.project, (None, 0))(p, h))
    everything = np.array(logits_of(p, TEACHER_HIDDEN(p, batch.src, found)))
    for row, logits in zip(found, everything, strict=True):
        length = row.tolist().index(EOS) + 1
        logits = logits[:length]
        logits[:, [PAD, BOS]] = -np.inf
        best = logits.argmax(1)
        if length == len(row):  # where one more token fits, that is EOS
            best[-1] = EOS
        np.testing.assert_array_equal(row[:length], best)
    assert drawn_at(0) is greedy


@pytest.mark.slow
def test_without_a_share_it_is_ordinary_training_bit_for_bit():
    never = jax.jit(stepping(0.0))
    one, two = start(), start()
    for seed in range(3):
        one, metrics = PLAIN(one, example(seed), KEY, TEACHER_PARAMS)
        two, same = never(two, example(seed), KEY, TEACHER_PARAMS)
        assert largest_difference(metrics, same) == 0
    assert params_digest(one.params) == params_digest(two.params)
    assert largest_difference(one.opt_state, two.opt_state) == 0


def test_a_share_of_the_batches_is_replaced_as_the_schedule_says():
    step = jax.jit(stepping(optax.linear_schedule(0.0, 1.0, 40)).gradients)
    batch, state = example(), start()
    replaced = []
    for number in range(80):
        state = state.replace(step=jnp.int32(number))
        a = step(state, batch, KEY, TEACHER_PARAMS)[1]
        b = GRADIENTS(state, batch, KEY, TEACHER_PARAMS)[1]
        replaced.append(float(a.sum) != float(b.sum))
    assert not replaced[0] and all(replaced[40:])
    assert 10 <= sum(replaced[:40]) <= 30  # 20 expected, standard deviation 2.6


@pytest.mark.slow
def test_four_devices_equal_one_and_microbatches_change_nothing():
    one, many, parts = start(), replicate(start()), start()
    on_many, in_parts = pmap_step(stepping(0.7)), jax.jit(stepping(0.7, microbatches=3))
    for seed in range(6):
        batch = example(seed)  # six rows do not divide by four
        one, metrics = OFTEN(one, batch, KEY, TEACHER_PARAMS)
        many, of_many = on_many(many, shard(batch), KEY, TEACHER_PARAMS)
        parts, of_parts = in_parts(parts, batch, KEY, TEACHER_PARAMS)
        assert largest_difference(metrics, of_many) < 1e-4
        assert largest_difference(metrics, of_parts) < 1e-4
    assert largest_difference(one.params, many.params) < 1e-5
    assert largest_difference(one.params, parts.params) < 1e-5


class Stop(Exception):
    pass


@pytest.mark.slow
@pytest.mark.parametrize("when", [3, 4])
def test_a_run_that_was_stopped_ends_with_the_same_bits(tmp_path, when):
    def run(folder, last):
        def batches(epoch, first):
            for n in range(first, 3):
                if 3 * epoch + n == last:
                    raise Stop
                yield example(3 * epoch + n)

        return fit(
            folder,
            stepping(0.7),
            start(),
            batches=batches,
            batches_per_epoch=3,
            validate=lambda p: {"perplexity": 3.0, "score": float(np.abs(p.generator.bias).sum())},
            epochs=2,
            key=KEY,
            teacher_params=TEACHER_PARAMS,
            checkpoint_every=2,
        )

    whole = run(tmp_path / "whole", None)
    with pytest.raises(Stop):
        run(tmp_path / "stopped", when)
    resumed = run(tmp_path / "stopped", None)
    assert params_digest(resumed.params) == params_digest(whole.params)


@pytest.mark.slow
def test_the_student_comes_to_speak_like_the_teacher_on_its_own_prefixes():
    """The KL divergence at the student's own beginnings falls; the batch's targets are noise."""
    state, losses = start(), []
    for _ in range(60):
        state, metrics = OFTEN(state, example(), KEY, TEACHER_PARAMS)
        losses.append(float(metrics["loss"]))
    assert np.mean(losses[-10:]) < np.mean(losses[:10]) - 0.05


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="share is 1.5"):
        sample_targets(STEP, MODEL, 1.5)
    with pytest.raises(ValueError, match="t is -1"):
        drawn_at(-1)
