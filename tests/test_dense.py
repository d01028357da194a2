"""Product and bias with gradients of their own against JAX's, whichever way transformed."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax.sharding import Mesh, PartitionSpec
from small import largest_difference

from seqkd_jax.ops.dense import biased, dense


def drawn(*shape, seed=0, dtype=jnp.float32):
    return jax.random.normal(jax.random.key(seed), shape, dtype)


def plus(x, b):
    return x + b.reshape((1,) * (x.ndim - 1) + (-1,))


def loss(product):
    return lambda x, w: jnp.sin(product(x, w)).sum()


@settings(max_examples=4, deadline=None)
@given(
    leading=st.lists(st.integers(1, 3), max_size=3),
    sizes=st.tuples(st.integers(1, 4), st.integers(1, 4)),
)
def test_value_gradients_and_directional_derivatives(leading, sizes):
    x, w = drawn(*leading, sizes[0]), drawn(*sizes, seed=1)
    np.testing.assert_allclose(dense(x, w), x @ w, atol=1e-6)
    for transform in (jax.grad, jax.hessian):
        ours, theirs = (jax.jit(transform(loss(f), (0, 1))) for f in (dense, jnp.matmul))
        assert largest_difference(ours(x, w), theirs(x, w)) < 2e-5
    ours, theirs = (jax.jvp(f, (x, w), (2 * x, w + 1)) for f in (dense, jnp.matmul))
    assert largest_difference(ours, theirs) < 1e-5


@pytest.mark.slow
@settings(max_examples=4, deadline=None)
@given(leading=st.lists(st.integers(1, 3), max_size=3), size=st.integers(1, 4))
def test_a_bias_in_value_gradients_and_directional_derivatives(leading, size):
    x, b = drawn(*leading, size), drawn(size, seed=1)
    np.testing.assert_array_equal(biased(x, b), plus(x, b))
    for transform in (jax.grad, jax.hessian):
        for which in (0, 1, (0, 1)):
            ours, theirs = (jax.jit(transform(loss(f), which)) for f in (biased, plus))
            assert largest_difference(ours(x, b), theirs(x, b)) < 2e-5
    ours, theirs = (jax.jvp(f, (x, b), (2 * x, b + 1)) for f in (biased, plus))
    assert largest_difference(ours, theirs) < 1e-5


@pytest.mark.parametrize("axes", [(0, None), (1, None), (2, None), (None, 1), (1, 0), (2, 1)])
def test_a_bias_under_vmap_along_any_axis(axes):
    shapes = [[2, 3], [3]]
    for shape, axis in zip(shapes, axes, strict=True):
        if axis is not None:
            shape.insert(axis, 4)
    x, b = drawn(*shapes[0]), drawn(*shapes[1], seed=1)
    ours, theirs = (jax.vmap(f, axes) for f in (biased, plus))
    np.testing.assert_array_equal(ours(x, b), theirs(x, b))
    inside, outside = (
        [jax.vmap(jax.grad(loss(f), (0, 1)), axes)(x, b) for f in (biased, plus)],
        [jax.grad(loss(jax.vmap(f, axes)), (0, 1))(x, b) for f in (biased, plus)],
    )
    assert largest_difference(*inside) < 1e-5
    assert largest_difference(*outside) < 1e-5


def test_the_gradient_of_a_bias_is_a_product_over_all_sentences():
    x, b = drawn(6, 5, 3), drawn(3, seed=1)
    batched = lambda x, b: jax.vmap(biased, (0, None))(x, b)  # noqa: E731
    jaxpr = str(jax.make_jaxpr(jax.grad(loss(batched), 1))(x, b))
    assert "dot_general" in jaxpr and "reduce_sum[axes=(0, 1) " not in jaxpr


@pytest.mark.parametrize("axes", [(0, None), (1, None), (2, None), (None, 1), (1, 2), (2, 0)])
def test_under_vmap_along_any_axis(axes):
    shapes = [[2, 3], [3, 5]]
    for shape, axis in zip(shapes, axes, strict=True):
        if axis is not None:
            shape.insert(axis, 4)
    x, w = drawn(*shapes[0]), drawn(*shapes[1], seed=1)
    ours, theirs = (jax.vmap(f, axes) for f in (dense, jnp.matmul))
    np.testing.assert_allclose(ours(x, w), theirs(x, w), atol=1e-6)
    inside, outside = (
        [jax.vmap(jax.grad(loss(f), (0, 1)), axes)(x, w) for f in (dense, jnp.matmul)],
        [jax.grad(loss(jax.vmap(f, axes)), (0, 1))(x, w) for f in (dense, jnp.matmul)],
    )
    assert largest_difference(*inside) < 1e-5
    assert largest_difference(*outside) < 1e-5


def test_the_gradient_of_a_matrix_is_one_product_over_all_sentences():
    x, w = drawn(6, 5, 3), drawn(3, 4, seed=1)
    batched = lambda x, w: jax.vmap(dense, (0, None))(x, w)  # noqa: E731
    jaxpr = str(jax.make_jaxpr(jax.grad(loss(batched), 1))(x, w))
    assert "f32[3,30]" in jaxpr
    assert "f32[6,3,4]" not in jaxpr


def test_low_precision_is_summed_in_the_dtype_that_is_asked_for():
    x, w = drawn(7, 64, dtype=jnp.bfloat16), drawn(64, 5, seed=1, dtype=jnp.bfloat16)
    assert dense(x, w).dtype == jnp.bfloat16
    out = dense(x, w, jnp.float32)
    want = np.asarray(x, np.float32) @ np.asarray(w, np.float32)
    np.testing.assert_allclose(out, want, rtol=1e-5, atol=1e-5)
    of_x, of_w = jax.grad(lambda x, w: dense(x, w, jnp.float32).sum(), (0, 1))(x, w)
    assert of_x.dtype == of_w.dtype == jnp.bfloat16


@pytest.mark.parametrize("own, other, shape", [(dense, jnp.matmul, (3, 5)), (biased, plus, (3,))])
@pytest.mark.parametrize(
    "checked, varying",
    [(True, False), (True, True), pytest.param(False, False, marks=pytest.mark.slow)],
)
def test_inside_shard_map(checked, varying, own, other, shape):
    if varying and not hasattr(jax.lax, "pcast"):
        pytest.skip("this version of JAX has no pcast")
    x, w = drawn(8, 3), drawn(*shape, seed=1)
    mesh, split, same = Mesh(jax.devices(), "d"), PartitionSpec("d"), PartitionSpec()

    def total(x, w):
        # Where both sides differ between devices the checks let our own gradients work.
        w = jax.lax.pcast(w, "d", to="varying") if varying else w
        return jax.lax.psum(loss(own)(x, w), "d")

    mapped = jax.shard_map(
        total, mesh=mesh, in_specs=(split, same), out_specs=same, check_vma=checked
    )
    ours, theirs = (jax.grad(f, (0, 1))(x, w) for f in (mapped, loss(other)))
    assert largest_difference(ours, theirs) < 1e-5
