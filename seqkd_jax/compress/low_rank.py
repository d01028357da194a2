"""Matrices as products of two thin ones, both learned or only one.

    factored = factorize(params, lambda name, w: svd(w, 8) if "recurrent" in name else None)
    student = reparametrised(model, multiplied, lambda key: factored)      both sides are learned

    learned, to_params = with_fixed_left(factored)
    student = reparametrised(model, to_params, lambda key: learned)        the right side is learned

Predicted parameters (Denil et al. 2013): W = U V, where V are a few rows of W and U predicts all
its rows from them by kernel ridge regression, so U is known before W is.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..base import Array, Params
from ..errors import UsageError


class Factors(NamedTuple):
    """A matrix [n, m] as left @ right."""

    left: Any  # [n, a]
    right: Any  # [a, m]


def squared_exponential(positions: np.ndarray, width: float) -> np.ndarray:
    """The kernel exp(-|p_i - p_j|^2 / (2 width^2)) of rows that have places [n, d]; [n, n]."""
    positions = np.asarray(positions, np.float64)
    apart = np.square(positions[:, None] - positions[None]).sum(-1)
    return np.exp(-apart / (2 * width**2))


def empirical_covariance(activations: np.ndarray) -> np.ndarray:
    """The kernel of a layer's inputs [observations, n]: their covariance, [n, n]."""
    return np.cov(np.asarray(activations, np.float64), rowvar=False, bias=True).reshape(
        2 * (np.shape(activations)[1],)
    )


def choose_rows(kernel: np.ndarray, count: int) -> np.ndarray:
    """The rows from which the others are predicted best, one by one, [count].

    Each is the one that those before it leave most uncertain (pivoted Cholesky factorisation).
    """
    kernel = np.asarray(kernel, np.float64)
    left = np.diag(kernel).copy()
    factor = np.zeros((len(kernel), count))
    rows = np.zeros(count, np.int64)
    for n in range(count):
        rows[n] = row = int(left.argmax())
        rest = kernel[:, row] - factor[:, :n] @ factor[row, :n]
        factor[:, n] = rest / np.sqrt(max(left[row], np.finfo(np.float64).tiny))
        left = left - np.square(factor[:, n])
        left[rows[: n + 1]] = -np.inf
    return rows


def predicted(
    w: Array, kernel: np.ndarray, keep: float, *, ridge: float = 1e-3, rows: Any = None
) -> Factors:
    """U V with V some rows of w, and U = k_rows^T (K_rows + ridge I)^-1 from the kernel alone.

    Args:
      w: [n, m].
      kernel: [n, n], between the rows of ``w``.
      keep: share of the rows that V has, at least one.
      ridge: in units of the kernel's mean diagonal.
      rows: which; ``choose_rows`` if left out.

    Raises:
      UsageError: the kernel is of another size, or ``keep`` is not above 0 and at most 1.

    Source: Denil et al. 2013, section 3.2.
    """
    n = np.shape(w)[0]
    if np.shape(kernel) != (n, n):
        raise UsageError(f"kernel has shape {np.shape(kernel)}, but the matrix has {n} rows.")
    if not 0 < keep <= 1:
        raise UsageError(
            f"keep is {keep}; the share of rows that stays must be above 0 and at most 1."
        )
    kernel = np.asarray(kernel, np.float64)
    if rows is None:
        rows = choose_rows(kernel, max(1, round(keep * n)))
    among = kernel[np.ix_(rows, rows)] + ridge * np.diag(kernel).mean() * np.eye(len(rows))
    left = np.linalg.solve(among, kernel[rows]).T
    return Factors(left.astype(np.float32), np.asarray(w)[rows])


def svd(w: Array, rank: int) -> Factors:
    """The product of rank ``rank`` that is closest to w [n, m] (Eckart & Young 1936)."""
    left, scales, right = np.linalg.svd(np.asarray(w, np.float64), full_matrices=False)
    root = np.sqrt(scales[:rank])
    left, right = left[:, :rank] * root, root[:, None] * right[:rank]
    return Factors(left.astype(np.float32), right.astype(np.float32))


def random_left(w: Array, rank: int, key: Array) -> Factors:
    """U drawn from a Gaussian, and the V that brings U V closest to w [n, m]."""
    left = np.asarray(jax.random.normal(key, (np.shape(w)[0], rank)), np.float64) / np.sqrt(rank)
    right = np.linalg.lstsq(left, np.asarray(w, np.float64), rcond=None)[0]
    return Factors(left.astype(np.float32), right.astype(np.float32))


def factorize(params: Params, how: Callable[[str, Array], Factors | None]) -> Params:
    """Puts ``how(name, array)`` in the place of each array, where that is not None.

    Raises:
      UsageError: the product is not of the array's shape.
    """

    def one(path: Any, w: Array) -> Any:
        name = jax.tree_util.keystr(path)
        factors = how(name, w)
        if factors is None:
            return w
        shape = (*np.shape(factors.left)[:1], *np.shape(factors.right)[1:])
        if shape != np.shape(w):
            raise UsageError(
                f"params{name}: the product has shape {shape}, but the array has {np.shape(w)}."
            )
        return factors

    return jax.tree_util.tree_map_with_path(one, params)


def multiplied(factored: Params) -> Params:
    """The parameters: each pair of factors multiplied, all else as it is."""
    return jax.tree.map(_product, factored, is_leaf=_are_factors)


def with_fixed_left(factored: Params) -> tuple[Params, Callable[[Params], Params]]:
    """Splits off what is learned, the right factors and all other arrays.

    Returns:
      What is learned, and the function from that to the parameters; the left factors are closed
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
        lefts = tree.flatten_up_to(left)
        return tree.unflatten(
            [
                w if u is None else _product(Factors(u, w))
                for u, w in zip(lefts, leaves, strict=True)
            ]
        )

    return learned, to_params


def _are_factors(x: Any) -> bool:
    return isinstance(x, Factors)


def _product(x: Any) -> Any:
    return jnp.asarray(x.left) @ x.right if isinstance(x, Factors) else x
