import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from small import example
from small_deep import CONFIG, MODEL, params

from seqkd_jax.compress.prune import (
    apply_mask,
    class_blind,
    class_distribution,
    class_uniform,
    masked,
    module_of,
    no_embedding,
    prune_gradually,
)
from seqkd_jax.models.attention_lstm import attention_lstm
from seqkd_jax.train.checkpoint import Checkpoints
from seqkd_jax.train.loop import fit
from seqkd_jax.train.state import clipped_adam, decayed_sgd, init_state
from seqkd_jax.train.steps import make_train_step

FLOATS = st.floats(-3, 3, width=16).map(lambda x: round(4 * x) / 4)  # with many ties
ARRAYS = hnp.arrays(np.float32, hnp.array_shapes(max_dims=2, max_side=6), elements=FLOATS)
TREES = st.fixed_dictionaries({"a": st.fixed_dictionaries({"w": ARRAYS, "b": ARRAYS}), "c": ARRAYS})
SCHEMES = [class_blind, class_uniform, class_distribution]


def flat(tree):
    return np.concatenate([np.asarray(x).ravel() for x in jax.tree.leaves(tree)])


def expected(size, ratio):
    """Half up; drawn ratios are fractions of 16, so products are exact."""
    return int(ratio * size + 0.5)


@settings(deadline=None, max_examples=100)
@given(TREES, st.integers(0, 16))
def test_class_blind_prunes_the_given_share_and_the_smallest(tree, sixteenths):
    ratio = sixteenths / 16
    keep, size = flat(class_blind(tree, ratio)), np.abs(flat(tree))
    assert (~keep).sum() == expected(size.size, ratio)
    if keep.any() and not keep.all():
        assert size[~keep].max() <= size[keep].min()
        ties = np.flatnonzero(size == size[keep].min())
        assert (np.diff(keep[ties].astype(int)) >= 0).all()  # of equal ones the first go


@settings(deadline=None, max_examples=100)
@given(TREES, st.integers(0, 16))
def test_class_uniform_prunes_the_given_share_of_each_class(tree, sixteenths):
    ratio = sixteenths / 16
    mask = class_uniform(tree, ratio)
    for name in "a", "c":
        keep, size = flat(mask[name]), np.abs(flat(tree[name]))
        assert (~keep).sum() == expected(size.size, ratio)
        if keep.any() and not keep.all():
            assert size[~keep].max() <= size[keep].min()


@settings(deadline=None, max_examples=100)
@given(TREES, st.integers(0, 16))
def test_class_distribution_has_one_lambda(tree, sixteenths):
    """There is a lambda such that a weight goes if it is below lambda deviations of its class."""
    ratio = sixteenths / 16
    mask = class_distribution(tree, ratio)
    assert (~flat(mask)).sum() == expected(flat(tree).size, ratio)
    low, high = 0.0, np.inf
    for name in "a", "c":
        keep, size = flat(mask[name]), np.abs(flat(tree[name]).astype(np.float64))
        deviation = np.std(flat(tree[name]).astype(np.float64))
        if deviation:
            low = max(low, (size[~keep] / deviation).max(initial=0))
            high = min(high, (size[keep] / deviation).min(initial=np.inf))
    assert low <= high * (1 + 1e-6)


def test_the_class_schemes_differ_where_classes_do():
    rng = np.random.default_rng(0)
    tree = {"a": rng.normal(size=1000), "b": 10 * rng.normal(size=1000)}
    tree = jax.tree.map(np.float32, tree)
    share = {s.__name__: [float((~m).mean()) for m in s(tree, 0.5).values()] for s in SCHEMES}
    assert share["class_blind"][0] > 0.85 and share["class_uniform"] == [0.5, 0.5]
    np.testing.assert_allclose(share["class_distribution"], [0.5, 0.5], atol=0.05)


def test_classes_of_the_attention_lstm_are_its_modules():
    names = [
        jax.tree_util.keystr(path) for path, _ in jax.tree_util.tree_flatten_with_path(params())[0]
    ]
    classes = {module_of(name) for name in names}
    assert {".encoder.embedding", ".encoder.forward[1]", ".decoder.embedding"} <= classes
    assert {".decoder.layers[0]", ".decoder.attention", ".generator"} <= classes


def test_embeddings_are_kept_if_asked():
    mask = class_blind(params(), 0.9, prunable=no_embedding)
    assert mask.encoder.embedding.all() and mask.decoder.embedding.all()
    others = mask.generator, mask.encoder.forward, mask.decoder.layers
    assert 0.85 < 1 - flat(others).mean() < 0.95


@pytest.mark.parametrize("scheme", SCHEMES)
@settings(deadline=None, max_examples=30)
@given(TREES, st.integers(0, 16), st.integers(0, 16))
def test_a_mask_never_gives_a_weight_back(scheme, tree, first, second):
    before = class_blind(tree, first / 16)
    after = scheme(apply_mask(tree, before), second / 16, mask=before)
    assert not (flat(after) & ~flat(before)).any()
    if scheme is not class_uniform and second >= first:
        assert (~flat(after)).sum() == expected(flat(tree).size, second / 16)


def test_rounds_of_pruning_reach_the_last_ratio():
    seen = []

    def retrain(tree, mask, ratio):
        seen.append((ratio, flat(mask).mean()))
        return jax.tree.map(lambda w, m: np.where(m, w + 1, 0), tree, mask)

    tree = {"w": np.arange(1, 11, dtype=np.float32)}
    pruned, mask = prune_gradually(
        tree, (0.2, 0.5), lambda p, r, m: class_blind(p, r, mask=m), retrain
    )
    assert seen == [(0.2, 0.8), (0.5, 0.5)]
    np.testing.assert_array_equal(pruned["w"], [0] * 5 + [8, 9, 10, 11, 12])
    with pytest.raises(ValueError, match="must rise"):
        prune_gradually(tree, (0.5, 0.2), class_blind, retrain)


def test_what_makes_no_sense_is_named():
    with pytest.raises(ValueError, match="ratio is 80"):
        class_blind(params(), 80)
    with pytest.raises(ValueError, match="nothing to prune"):
        class_blind(params(), 0.8, prunable=lambda name: False)
    with pytest.raises(ValueError, match=r"\['w'\]: a saliency is negative or not a number"):
        class_blind({"w": np.array([np.nan, 1.0])}, 0.5)
    with pytest.raises(
        ValueError, match=r"mask\['w'\] has shape \(2,\), but the weights have \(3,\)"
    ):
        masked(optax.sgd(1.0), {"w": np.ones(2, bool)}).init({"w": jnp.ones(3)})


# Training under a mask.

MASK = class_blind(params(), 0.8)
OPTIMISERS = {
    "adam": lambda: clipped_adam(0.05),
    "sgd": lambda: decayed_sgd(1.0),
    "adamw": lambda: optax.adamw(0.05),  # moves weights without a gradient
    "momentum": lambda: optax.sgd(0.5, momentum=0.9),
}


def pruned_weights(tree):
    return np.concatenate(
        [
            np.asarray(w)[~m]
            for w, m in zip(jax.tree.leaves(tree), jax.tree.leaves(MASK), strict=True)
        ]
    )


@pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n == "adamw" else [pytest.mark.slow]) for n in OPTIMISERS],
)
def test_pruned_weights_are_exactly_zero_after_every_update(name):
    tx = masked(OPTIMISERS[name](), MASK)
    step = make_train_step(MODEL, tx)
    run = jax.jit(lambda state, batch: step(state, batch, jax.random.key(3))[0])
    state = init_state(MODEL, tx, jax.random.key(0), params())  # not even pruned before
    assert pruned_weights(state.params).any()
    for seed in range(4):
        state = run(state, example(seed % 2))
        assert not pruned_weights(state.params).any()
    moved = jax.tree.map(lambda a, b: np.asarray(a != b), state.params, params())
    assert flat(jax.tree.map(np.logical_and, moved, MASK)).mean() > 0.1


def test_what_was_pruned_does_not_count_in_the_norm_that_is_clipped():
    tree, keep = {"w": jnp.array([3.0, 4.0])}, {"w": np.array([True, False])}
    tx = masked(optax.chain(optax.clip_by_global_norm(1.5), optax.sgd(1.0)), keep)
    updates, _ = tx.update({"w": jnp.array([3.0, 1e9])}, tx.init(tree), tree)
    np.testing.assert_array_equal(updates["w"], [-1.5, -4.0])


@pytest.mark.slow
def test_the_whole_mask_changes_nothing():
    tree, gradient = params(), jax.tree.map(lambda w: 0.3 * w + 0.1, params())
    plain, under = clipped_adam(0.1), masked(clipped_adam(0.1), jax.tree.map(jnp.ones_like, MASK))
    a, _ = plain.update(gradient, plain.init(tree), tree)
    b, _ = under.update(gradient, under.init(tree), tree)
    np.testing.assert_array_equal(flat(a), flat(b))


class Stopped(Exception):
    pass


@pytest.mark.slow
def test_a_resumed_run_keeps_the_mask_in_every_checkpoint(tmp_path):
    model = attention_lstm(dataclasses.replace(CONFIG, dropout=0.0))
    data = [example(seed) for seed in range(4)]

    def run(folder, stop=None):
        tx = masked(clipped_adam(0.05), MASK)

        def batches(epoch, start):
            for number in range(start, len(data)):
                if (epoch, number) == stop:
                    raise Stopped
                yield data[number]

        return fit(
            folder,
            make_train_step(model, tx),
            init_state(model, tx, jax.random.key(0), apply_mask(params(), MASK)),
            batches=batches,
            batches_per_epoch=len(data),
            validate=lambda p: {"score": float(p.generator.bias.sum()), "perplexity": 1.0},
            epochs=2,
            key=jax.random.key(1),
            checkpoint_every=2,
        )

    whole = run(tmp_path / "whole")
    with pytest.raises(Stopped):
        run(tmp_path / "killed", stop=(1, 3))
    resumed = run(tmp_path / "killed")
    np.testing.assert_array_equal(flat(whole.params), flat(resumed.params))
    assert not pruned_weights(resumed.params).any()
    like = init_state(model, masked(clipped_adam(0.05), MASK), jax.random.key(0), params())
    steps = sorted((tmp_path / "killed" / "checkpoints").glob("*.sha256"))
    assert len(steps) >= 2
    with Checkpoints(tmp_path / "killed" / "checkpoints") as checkpoints:
        for path in steps:
            saved = checkpoints.restore_params(int(path.stem), params())
            assert not pruned_weights(saved).any()
        state, _ = checkpoints.restore(like)
        np.testing.assert_array_equal(flat(state.opt_state.mask), flat(MASK))
