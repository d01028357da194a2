import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import MODEL, example, largest_difference, params

from seqkd_jax.compress.reparametrise import reparametrised
from seqkd_jax.contrib.low_rank import (
    Factors,
    choose_rows,
    empirical_covariance,
    factorize,
    multiply_factors,
    predict_from_rows,
    random_left,
    squared_exponential,
    svd,
    with_fixed_left,
)
from seqkd_jax.evaluation import count_parameters
from seqkd_jax.train.state import clipped_adam, init_state
from seqkd_jax.train.steps import make_train_step


def error(w, factors):
    return np.linalg.norm(w - multiply_factors(factors)) / np.linalg.norm(w)


def smooth(rng, n=100, columns=30):
    """Columns that are smooth functions of the row's place."""
    x = np.linspace(0, 1, n)[:, None]
    phase, pace = rng.uniform(0, 7, columns), rng.uniform(1, 9, columns)
    return np.sin(pace * x + phase).astype(np.float32)


@pytest.mark.parametrize("kind", ["positions", "activations"])
def test_all_rows_and_no_ridge_give_the_matrix_back(kind):
    rng = np.random.default_rng(0)
    w = rng.normal(size=(12, 5)).astype(np.float32)
    if kind == "positions":
        kernel = squared_exponential(np.arange(12)[:, None], 1.0)
    else:
        kernel = empirical_covariance(rng.normal(size=(200, 12)))
    factors = predict_from_rows(w, kernel, 1.0, ridge=1e-12)
    assert error(w, factors) < 1e-4
    assert sorted(choose_rows(kernel, 12)) == list(range(12))


def test_smooth_columns_are_predicted_from_a_tenth_of_their_rows():
    w = smooth(np.random.default_rng(0))
    kernel = squared_exponential(np.arange(100)[:, None], 15.0)
    from_rows = error(w, predict_from_rows(w, kernel, 0.1))
    assert from_rows < 0.05
    assert error(w, random_left(w, 10, jax.random.key(0))) > 10 * from_rows
    drawn = np.random.default_rng(1).choice(100, 10, replace=False)
    assert from_rows < error(w, predict_from_rows(w, kernel, 0.1, rows=drawn))


def test_rows_are_predicted_from_activations_that_go_together():
    """Kernel ridge regression written out: each row of W as a function of the chosen ones."""
    rng = np.random.default_rng(0)
    kernel = empirical_covariance(rng.normal(size=(300, 4)) @ rng.normal(size=(4, 9)))
    w, rows, ridge = rng.normal(size=(9, 3)).astype(np.float32), np.array([1, 4, 7]), 0.1
    scale = ridge * np.trace(kernel) / 9
    want = np.zeros((9, 3))
    for i in range(9):
        k = np.array([kernel[i, r] for r in rows])
        gram = np.array([[kernel[a, b] + scale * (a == b) for b in rows] for a in rows])
        want[i] = k @ np.linalg.inv(gram) @ w[rows]
    got = multiply_factors(predict_from_rows(w, kernel, 1 / 3, ridge=ridge, rows=rows))
    np.testing.assert_allclose(got, want, atol=1e-4)
    data = rng.normal(size=(50, 3))
    np.testing.assert_allclose(empirical_covariance(data), np.cov(data.T, bias=True))


def test_chosen_rows_are_the_most_uncertain():
    """Brute force: the row of the largest variance given those before it."""
    rng = np.random.default_rng(3)
    root = rng.normal(size=(8, 8))
    kernel, rows = root @ root.T, []
    for _ in range(5):
        given = kernel[np.ix_(rows, rows)]
        rest = kernel - kernel[:, rows] @ np.linalg.inv(given) @ kernel[rows] if rows else kernel
        rows.append(int(np.diag(rest).argmax()))
    assert choose_rows(kernel, 5).tolist() == rows


def test_svd_is_the_closest_product_of_its_rank():
    w = np.random.default_rng(0).normal(size=(9, 6)).astype(np.float32)
    scales = np.linalg.svd(w, compute_uv=False)
    for rank in 1, 3, 6:
        factors = svd(w, rank)
        assert factors.left.shape == (9, rank) and factors.right.shape == (rank, 6)
        left = np.linalg.norm(w - multiply_factors(factors))
        np.testing.assert_allclose(left, np.linalg.norm(scales[rank:]), atol=1e-5)


def halved(name, w):
    if np.ndim(w) == 2 and "embedding" not in name:
        kernel = squared_exponential(np.arange(len(w))[:, None], 2.0)
        return predict_from_rows(w, kernel, 0.5)
    return None


def gradients(model, tree):
    tx = clipped_adam()
    state = init_state(model, tx, jax.random.key(0), tree)
    return jax.jit(make_train_step(model, tx).gradients)(state, example(), jax.random.key(1))[0]


@pytest.mark.slow
def test_only_the_right_factors_learn():
    """The gradient of V is U^T times that of W."""
    factored = factorize(params(), halved)
    learned, to_params = with_fixed_left(factored)
    assert count_parameters(learned) < count_parameters(params())
    assert largest_difference(to_params(learned), multiply_factors(factored)) == 0
    of_right = gradients(reparametrised(MODEL, to_params, lambda key: learned), learned)
    of_weights = gradients(MODEL, multiply_factors(factored))
    is_factors = lambda x: isinstance(x, Factors)  # noqa: E731
    want = jax.tree.map(
        lambda f, g: f.left.T @ g if is_factors(f) else g, factored, of_weights, is_leaf=is_factors
    )
    assert largest_difference(of_right, want) < 1e-4


@pytest.mark.slow
def test_a_model_of_two_learned_factors_trains():
    factored = factorize(params(), lambda name, w: svd(w, 2) if "recurrent" in name else None)
    model, tx = reparametrised(MODEL, multiply_factors, lambda key: factored), clipped_adam(0.02)
    step = jax.jit(make_train_step(model, tx))
    state = init_state(model, tx, jax.random.key(0))
    losses = []
    for _ in range(8):
        state, metrics = step(state, example(), jax.random.key(1))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0]
    w = multiply_factors(state.params).encoder.forward[0].recurrent
    assert np.linalg.matrix_rank(np.asarray(w), tol=1e-4) == 2
    batch = example()
    one = model.hidden(state.params, batch.src[0], batch.tgt[0])
    other = MODEL.hidden(multiply_factors(state.params), batch.src[0], batch.tgt[0])
    np.testing.assert_allclose(one, other, atol=1e-5)
    memory, carried = model.encode(state.params, batch.src[0])
    hidden, _ = model.step(state.params, memory, carried, jnp.int32(2))
    np.testing.assert_allclose(hidden, one[0], atol=1e-5)


def test_what_does_not_fit_is_named():
    w = np.ones((4, 3), np.float32)
    with pytest.raises(ValueError, match=r"kernel has shape \(3, 3\), .* has 4 rows"):
        predict_from_rows(w, np.eye(3), 0.5)
    with pytest.raises(ValueError, match="keep is 0"):
        predict_from_rows(w, np.eye(4), 0)
    with pytest.raises(ValueError, match=r"\['w'\]: the product has shape \(3, 4\), .* \(4, 3\)"):
        factorize({"w": w}, lambda name, w: svd(w.T, 2))
