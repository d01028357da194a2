"""Weight sharing of Deep Compression: each array keeps 2^bits values and says which goes where.

    shared = share_weights(params, bits=5)
    student = shared_model(model, shared)            trains the values, ``shared.codebooks``
    params = expand(shared.codes, shared.codebooks)  the model's own parameters again

Value 0 of every array is the number 0: it is what was pruned, and stays.

Source: Han, Mao & Dally 2016, section 3.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..base import Params, Seq2Seq
from ..errors import UsageError
from .reparametrise import reparametrised


class Shared(NamedTuple):
    """Parameters as values that many weights share."""

    codebooks: Params  # like the parameters, each [k] float32, rising, k < 2^bits
    codes: Params  # like the parameters, uint8: 0 for the number 0, c for value c - 1


def share_weights(params: Params, bits: int = 5) -> Shared:
    """Clusters the weights of each array that are not 0 into 2^bits - 1 values by k-means.

    An array with no more different weights than that loses nothing.

    Raises:
      UsageError: ``bits`` is not between 1 and 8, or an array is not of finite float32.
    """
    if not 1 <= bits <= 8:
        raise UsageError(f"bits is {bits}; a code has 1 to 8 bits.")

    def one(path: Any, w: Any) -> tuple[np.ndarray, np.ndarray]:
        w = np.asarray(w)
        if w.dtype != np.float32 or not np.isfinite(w).all():
            name = jax.tree_util.keystr(path)
            raise UsageError(
                f"params{name}: only finite float32 can be compressed, and this is "
                f"{'not finite' if w.dtype == np.float32 else w.dtype}."
            )
        # Checkpoints hold no empty array: where all was pruned, one value that nobody has.
        values = kmeans(w[w != 0], 2**bits - 1) if w.any() else np.zeros(1, np.float32)
        codes = 1 + np.searchsorted(_borders(values), w.astype(np.float64))
        return values, np.where(w != 0, codes, 0).astype(np.uint8)

    leaves = jax.tree_util.tree_map_with_path(one, params)
    codebooks, codes = jax.tree.transpose(
        jax.tree.structure(params), jax.tree.structure((0, 0)), leaves
    )
    return Shared(codebooks, codes)


def expand(codes: Params, codebooks: Params) -> Params:
    """The parameters; a value's gradient is the sum over the weights that share it."""

    def one(codes: Any, values: Any) -> Any:
        table = jnp.concatenate([jnp.zeros(1, jnp.float32), values])
        return table[jnp.asarray(codes, jnp.int32)]

    return jax.tree.map(one, codes, codebooks)


def shared_model(model: Seq2Seq, shared: Shared) -> Seq2Seq:
    """A model whose parameters are the codebooks: training moves the values, the codes stay."""
    return reparametrised(
        model,
        lambda codebooks: expand(shared.codes, codebooks),
        lambda _: jax.tree.map(jnp.asarray, shared.codebooks),
    )


def kmeans(values: np.ndarray, k: int) -> np.ndarray:
    """Centroids of numbers [n], at most k, rising: Lloyd's algorithm run to its end, float32.

    It starts from k numbers equally far apart (the paper's linear initialisation), and centroids
    that nothing is closest to are left out. Numbers of no more than k kinds are their own.
    """
    different = np.unique(values)
    if len(different) <= k:
        return different
    ordered = np.sort(values).astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centroids = np.linspace(ordered[0], ordered[-1], k)
    cuts = np.zeros(k + 1, np.int64)
    while True:
        before, cuts = cuts, np.searchsorted(ordered, _borders(centroids))
        cuts = np.concatenate([[0], cuts, [len(ordered)]])
        counts = np.diff(cuts)
        if np.array_equal(before, cuts):
            return centroids[counts > 0].astype(np.float32)
        centroids = np.where(counts, np.diff(sums[cuts]) / np.maximum(counts, 1), centroids)


def _borders(centroids: np.ndarray) -> np.ndarray:
    """Between which numbers each centroid is the closest, [k - 1] float64."""
    centroids = centroids.astype(np.float64)
    return (centroids[1:] + centroids[:-1]) / 2
