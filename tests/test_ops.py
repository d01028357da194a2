"""What is fast and odd equals the lines of its docstrings, in value and gradient."""

import re
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import largest_difference

import seqkd_jax
from seqkd_jax.models.layers import lstm_equations
from seqkd_jax.ops.lstm import lstm_cell
from seqkd_jax.ops.recurrence import Sum, recurrence


def drawn(*shape, seed=0):
    return jax.random.normal(jax.random.key(seed), shape)


def test_the_cells_are_one_in_value_and_gradient():
    carry, gates = (drawn(5), drawn(5, seed=1)), drawn(20, seed=2)
    seen = drawn(2, 5, seed=3)

    def loss(cell):
        def of(carry, gates):
            c, h = cell(carry, gates)
            return (jnp.sin(c) * seen[0] + h * h * seen[1]).sum()

        return jax.value_and_grad(of, (0, 1))

    np.testing.assert_allclose(lstm_cell(carry, gates), lstm_equations(carry, gates), atol=1e-7)
    assert (
        largest_difference(loss(lstm_cell)(carry, gates), loss(lstm_equations)(carry, gates)) < 1e-6
    )
    each = [jax.vmap(loss(cell), ((0, None), None)) for cell in (lstm_cell, lstm_equations)]
    many = drawn(3, 5, seed=4), carry[1]
    assert largest_difference(*(f(many, gates) for f in each)) < 1e-6


@pytest.mark.parametrize("reverse", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_a_recurrence_is_a_scan_in_value_and_gradient(reverse):
    """Nested sums, one with a row for each step and one without, and a constant."""
    sums = {
        "first": (Sum(drawn(6, 4), (drawn(3, 4, seed=1), drawn(4, 4, seed=2))), drawn(4, seed=3)),
        "second": Sum(drawn(3, seed=4), (drawn(4, 3, seed=5),)),
    }
    carry, xs = (drawn(3, seed=6), drawn(4, seed=7)), drawn(6, 4, seed=8)

    def step(sums, carry, x):
        total, scale = sums["first"]
        h = jnp.tanh(total(*carry) * scale + x)
        y = jnp.tanh(sums["second"](h))
        return (y, h), (h, y * y)

    def scanned(sums, carry, xs):
        total, scale = sums["first"]

        def advance(carry, now):
            row, x = now
            return step({**sums, "first": (total._replace(start=row), scale)}, carry, x)

        return jax.lax.scan(advance, carry, (total.start, xs), reverse=reverse)

    def ours(sums, carry, xs):
        return recurrence(step, sums, carry, xs, reverse=reverse)

    def loss(run):
        return lambda *a: sum(jnp.sin(x).sum() for x in jax.tree.leaves(run(*a, xs)))

    assert largest_difference(ours(sums, carry, xs), scanned(sums, carry, xs)) < 1e-6
    got, want = (jax.grad(loss(run), (0, 1))(sums, carry) for run in (ours, scanned))
    assert largest_difference(got, want) < 2e-5
    # Of several sentences with the same matrices the gradient is one product.
    many = jax.tree.map(lambda x: jnp.stack([x, 0.5 * x]), carry)
    got, want = (
        jax.grad(lambda s, r=run: jax.vmap(lambda c: loss(r)(s, c))(many).sum())(sums)
        for run in (ours, scanned)
    )
    assert largest_difference(got, want) < 2e-5


def test_a_sum_is_its_line():
    y = Sum(drawn(4), (drawn(3, 4, seed=1), drawn(2, 4, seed=2)))
    v, w = drawn(3, seed=3), drawn(2, seed=4)
    np.testing.assert_allclose(y(v, w), y.start + v @ y.weights[0] + w @ y.weights[1], atol=1e-6)
    with pytest.raises(ValueError, match="zip"):
        y(v)


def test_only_ops_touches_what_breaks_with_a_release_of_jax():
    root = Path(seqkd_jax.__file__).parent
    odd = re.compile(r"jax\.(extend|interpreters|_src)")
    users = {p.relative_to(root).parts[0] for p in root.rglob("*.py") if odd.search(p.read_text())}
    assert users <= {"ops", "processes.py"}  # JAX has no public name for its key-value store
