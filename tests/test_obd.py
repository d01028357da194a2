import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import MODEL, example, largest_difference, params

from seqkd_jax.base import EOS, PAD, Example, Seq2Seq
from seqkd_jax.compress.prune import class_blind
from seqkd_jax.contrib.obd import fisher_diagonal, saliencies
from seqkd_jax.losses import nll

WORDS = 6  # PAD, UNK, BOS, EOS and two words


def tiny():
    """Logits linear in the parameters: of the last word, and of the source's first word."""

    def init(key):
        return {"word": jax.random.normal(key, (WORDS, WORDS)), "src": jnp.ones((WORDS, WORDS))}

    def encode(params, src, key=None):
        return params["src"][src[0]], jnp.float32(0)

    def step(params, memory, state, token):
        return params["word"][token] + memory, state

    def hidden(params, src, tgt, key=None):
        memory, state = encode(params, src)
        read = jnp.concatenate([jnp.array([2]), tgt[:-1]])
        return jax.vmap(lambda token: step(params, memory, state, token)[0])(read)

    return Seq2Seq(init, encode, step, hidden, lambda params, hidden: hidden)


def log_prob(model, params, src, tgt):
    hidden = model.hidden(params, src, tgt)
    losses = jax.vmap(lambda h, t: nll(model.project(params, h), t))(hidden, tgt)
    return -jnp.where(tgt != PAD, losses, 0).sum()


@pytest.mark.slow
def test_without_a_key_it_is_the_mean_of_squared_gradients_of_the_data():
    batch = example()
    found = fisher_diagonal(MODEL, params(), [batch, example(1)])
    gradient = jax.jit(jax.grad(lambda p, s, t: log_prob(MODEL, p, s, t)))
    sums, count = jax.tree.map(np.zeros_like, params()), 0.0
    for b in batch, example(1):
        for src, tgt, weight in zip(b.src, b.tgt, b.weight, strict=True):
            g = gradient(params(), src, tgt)
            sums = jax.tree.map(lambda s, g, w=weight: s + w * np.square(g), sums, g)
            count += weight
    want = jax.tree.map(lambda s: s / count, sums)
    assert largest_difference(found, want) < 1e-4 * max(map(np.max, jax.tree.leaves(want)))


def test_rows_that_only_fill_a_batch_do_not_count():
    batch = example()
    filled = batch.replace(weight=np.where(np.arange(6) < 4, batch.weight, 0).astype(np.float32))
    first = jax.tree.map(lambda x: x[:4], batch)
    found = fisher_diagonal(MODEL, params(), [filled])
    np.testing.assert_allclose(
        found.generator.bias, fisher_diagonal(MODEL, params(), [first]).generator.bias, rtol=1e-4
    )


@pytest.mark.slow
def test_drawn_targets_give_the_diagonal_of_the_exact_hessian():
    """Of the expected loss under the model itself, summed over all sentences of up to 4 tokens.

    Logits are linear in these parameters, so there the Fisher matrix is the Hessian.
    """
    model, rows = tiny(), 8192
    tree = model.init(jax.random.key(1))
    src = np.array([4, EOS], np.int32)
    sentences = []
    for length in range(4):
        for words in itertools.product([1, 4, 5], repeat=length):
            sentences.append([*words, EOS] + [PAD] * (3 - length))
    tgt = jnp.array(sentences, jnp.int32)

    # The search that draws leaves out PAD and BOS and forces EOS at the limit: so does this.
    def probability(tree, tgt):
        total, logits = 0.0, model.hidden(tree, src, tgt)
        allowed = jnp.array([False, True, False, True, True, True])
        drawn = jax.nn.log_softmax(jnp.where(allowed, logits, -jnp.inf))
        for t in range(3):
            total += jnp.where(tgt[t] != PAD, drawn[t, tgt[t]], 0)
        return jnp.exp(total)

    weights = jax.vmap(probability, (None, 0))(tree, tgt)
    np.testing.assert_allclose(weights.sum(), 1, atol=1e-5)
    batch = Example(
        src=np.tile(src, (rows, 1)),
        tgt=np.tile(np.array([4, EOS], np.int32), (rows, 1)),
        weight=np.ones(rows, np.float32),
        index=np.arange(rows, dtype=np.int32),
    )
    found = fisher_diagonal(model, tree, [batch], key=jax.random.key(0))
    gradients = jax.vmap(lambda t: jax.grad(lambda p: log_prob(model, p, src, t))(tree))(tgt)
    fisher = jax.tree.map(lambda g: jnp.einsum("n,n...->...", weights, jnp.square(g)), gradients)
    largest = max(float(f.max()) for f in jax.tree.leaves(fisher))
    assert largest_difference(found, fisher) < 0.05 * largest


@pytest.mark.slow
def test_the_fisher_matrix_of_one_word_is_its_exact_hessian():
    """Where the target is one word drawn from all, expectation by enumeration."""
    model = tiny()
    tree, src = model.init(jax.random.key(2)), np.array([4], np.int32)

    def loss(tree, target):
        return nll(model.hidden(tree, src, jnp.array([EOS]))[0], target)

    weights = jax.nn.softmax(model.hidden(tree, src, jnp.array([EOS]))[0])
    squares = [jax.tree.map(jnp.square, jax.grad(loss)(tree, t)) for t in range(WORDS)]
    fisher = jax.tree.map(lambda *g: sum(w * x for w, x in zip(weights, g, strict=True)), *squares)
    hessian = jax.hessian(loss)(tree, 4)
    for name in tree:
        size = tree[name].size
        diagonal = np.diag(np.reshape(hessian[name][name], (size, size)))
        np.testing.assert_allclose(np.ravel(fisher[name]), diagonal, atol=1e-5)


def test_on_a_quadratic_the_saliency_is_what_a_deletion_costs():
    rng = np.random.default_rng(0)
    h, u = rng.uniform(0.1, 5, 7), rng.normal(size=7)

    def loss(x):  # the minimum is at u
        return 0.5 * np.sum(h * (x - u) ** 2)

    cost = [loss(np.where(np.arange(7) == k, 0, u)) for k in range(7)]
    np.testing.assert_allclose(saliencies({"u": u}, {"u": h})["u"], cost, rtol=1e-5)


def test_a_small_weight_of_much_curvature_outlives_a_large_one():
    tree, h = {"w": np.array([1.0, 0.5])}, {"w": np.array([1.0, 100.0])}
    assert class_blind(tree, 0.5)["w"].tolist() == [True, False]
    assert class_blind(tree, 0.5, saliency=saliencies(tree, h))["w"].tolist() == [False, True]
