"""Low-rank matrices: products of two factors, of which both or only one are learned.

    factored = factorize(params, lambda name, w: svd(w, 8) if "recurrent" in name else None)
    student = reparametrised(model, multiply_factors, lambda key: factored)   learns both factors

    learned, to_params = with_fixed_left(factored)
    student = reparametrised(model, to_params, lambda key: learned)           learns the right one

Predicted parameters (Denil et al. 2013): W = U V, where V are a few rows of W and U predicts all
rows from them by kernel ridge regression. U depends on the kernel only, so it can be fixed before W
is learned.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..base import Array, Params
from ..errors import UsageError


class Factors(NamedTuple):
    """A matrix [n, m], represented as left @ right."""

    left: Any  # [n, a]
    right: Any  # [a, m]


def squared_exponential(positions: np.ndarray, width: float) -> np.ndarray:
    """Returns the kernel exp(-|p_i - p_j|^2 / (2 width^2)), [n, n], of rows at positions [n, d]."""
    positions = np.asarray(positions, np.float64)
    squared_distances = np.square(positions[:, None] - positions[None]).sum(-1)
    return np.exp(-squared_distances / (2 * width**2))


def empirical_covariance(activations: np.ndarray) -> np.ndarray:
    """Returns the covariance [n, n] of a layer's inputs [observations, n], as a kernel."""
    return np.cov(np.asarray(activations, np.float64), rowvar=False, bias=True).reshape(
        2 * (np.shape(activations)[1],)
    )


def choose_rows(kernel: np.ndarray, count: int) -> np.ndarray:
    """Chooses rows that predict the others best, greedily, [count].

    Each is the row with the largest variance given the rows before it (pivoted Cholesky).
    """
    kernel = np.asarray(kernel, np.float64)
    variances = np.diag(kernel).copy()
    factor = np.zeros((len(kernel), count))
    rows = np.zeros(count, np.int64)
    for n in range(count):
        rows[n] = row = int(variances.argmax())
        residual = kernel[:, row] - factor[:, :n] @ factor[row, :n]
        factor[:, n] = residual / np.sqrt(max(variances[row], np.finfo(np.float64).tiny))
        variances = variances - np.square(factor[:, n])
        variances[rows[: n + 1]] = -np.inf
    return rows


def predict_from_rows(
    w: Array, kernel: np.ndarray, keep: float, *, ridge: float = 1e-3, rows: Any = None
) -> Factors:
    """Returns U V with V some rows of w, and U = k_rows^T (K_rows + ridge I)^-1 from the kernel.

    Args:
      w: [n, m].
      kernel: [n, n], between the rows of ``w``.
      keep: fraction of the rows in V, at least one row.
      ridge: relative to the mean of the kernel's diagonal.
      rows: the rows in V; None for ``choose_rows``.

    Raises:
      UsageError: the kernel is of another size, or ``keep`` is not above 0 and at most 1.

    Source: Denil et al. 2013, section 3.2.
    """
    n = np.shape(w)[0]
    if np.shape(kernel) != (n, n):
        raise UsageError(f"kernel has shape {np.shape(kernel)}, but the matrix has {n} rows.")
    if not 0 < keep <= 1:
        raise UsageError(
            f"keep is {keep}; the fraction of rows to keep must be above 0 and at most 1."
        )
    kernel = np.asarray(kernel, np.float64)
    if rows is None:
        rows = choose_rows(kernel, max(1, round(keep * n)))
    regularised = kernel[np.ix_(rows, rows)] + ridge * np.diag(kernel).mean() * np.eye(len(rows))
    left = np.linalg.solve(regularised, kernel[rows]).T
    return Factors(left.astype(np.float32), np.asarray(w)[rows])


def svd(w: Array, rank: int) -> Factors:
    """Returns the product of rank ``rank`` that is closest to w [n, m] (Eckart & Young 1936)."""
    left, scales, right = np.linalg.svd(np.asarray(w, np.float64), full_matrices=False)
    root = np.sqrt(scales[:rank])
    left, right = left[:, :rank] * root, root[:, None] * right[:rank]
    return Factors(left.astype(np.float32), right.astype(np.float32))


def random_left(w: Array, rank: int, key: Array) -> Factors:
    """Returns U drawn from a Gaussian, and V such that U V is closest to w [n, m]."""
    left = np.asarray(jax.random.normal(key, (np.shape(w)[0], rank)), np.float64) / np.sqrt(rank)
    right = np.linalg.lstsq(left, np.asarray(w, np.float64), rcond=None)[0]
    return Factors(left.astype(np.float32), right.astype(np.float32))


def factorize(params: Params, method: Callable[[str, Array], Factors | None]) -> Params:
    """Replaces each array by ``method(name, array)``, unless that is None.

    Raises:
      UsageError: a product does not have the array's shape.
    """

    def factorize_array(path: Any, w: Array) -> Any:
        name = jax.tree_util.keystr(path)
        factors = method(name, w)
        if factors is None:
            return w
        shape = (*np.shape(factors.left)[:1], *np.shape(factors.right)[1:])
        if shape != np.shape(w):
            raise UsageError(
                f"params{name}: the product has shape {shape}, but the array has {np.shape(w)}."
            )
        return factors

    return jax.tree_util.tree_map_with_path(factorize_array, params)


def multiply_factors(factored: Params) -> Params:
    """Returns the parameters with all pairs of factors multiplied; other arrays are unchanged."""
    return jax.tree.map(_product, factored, is_leaf=_are_factors)


def with_fixed_left(factored: Params) -> tuple[Params, Callable[[Params], Params]]:
    """Separates the learned arrays, right factors and unfactored arrays, from the left factors.

    Returns:
      The learned arrays, and the function that maps them to parameters. The left factors are closed
      over and get no gradient.
    """
    learned = jax.tree.map(
        lambda x: x.right if isinstance(x, Factors) else x, factored, is_leaf=_are_factors
    )
    left = jax.tree.map(
        lambda x: x.left if isinstance(x, Factors) else None, factored, is_leaf=_are_factors
    )

    def to_params(learned: Params) -> Params:
        leaves, tree = jax.tree.flatten(learned)
        left_leaves = tree.flatten_up_to(left)
        return tree.unflatten(
            [
                w if u is None else _product(Factors(u, w))
                for u, w in zip(left_leaves, leaves, strict=True)
            ]
        )

    return learned, to_params


def _are_factors(x: Any) -> bool:
    return isinstance(x, Factors)


def _product(x: Any) -> Any:
    return jnp.asarray(x.left) @ x.right if isinstance(x, Factors) else x
