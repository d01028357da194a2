"""Weight sharing as in Deep Compression: each array has at most 2^bits different values.

    shared = share_weights(params, bits=5)
    student = shared_model(model, shared)                            trains ``shared.codebooks``
    params = expand_shared_weights(shared.codes, shared.codebooks)   the model's own parameters

Code 0 of every array stands for the number 0: pruned weights stay 0.

Source: Han, Mao & Dally 2016, section 3.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..base import Params, Seq2Seq
from ..coded import Shared
from ..errors import UsageError
from .reparametrise import reparametrised


def share_weights(params: Params, bits: int = 5) -> Shared:
    """Clusters the non-zero weights of each array into 2^bits - 1 values by k-means.

    Lossless for arrays that have no more distinct weights than that.

    Raises:
      UsageError: ``bits`` is not between 1 and 8, or an array is not finite float32.
    """
    if not 1 <= bits <= 8:
        raise UsageError(f"bits is {bits}; a code has 1 to 8 bits.")

    def share_array(path: Any, w: Any) -> tuple[np.ndarray, np.ndarray]:
        w = np.asarray(w)
        if w.dtype != np.float32 or not np.isfinite(w).all():
            name = jax.tree_util.keystr(path)
            raise UsageError(
                f"params{name}: only finite float32 can be compressed, but the array is "
                f"{'not finite' if w.dtype == np.float32 else w.dtype}."
            )
        # Checkpoints cannot store empty arrays: if all weights are pruned, one unused value.
        values = kmeans(w[w != 0], 2**bits - 1) if w.any() else np.zeros(1, np.float32)
        codes = 1 + np.searchsorted(_borders(values), w.astype(np.float64))
        return values, np.where(w != 0, codes, 0).astype(np.uint8)

    leaves = jax.tree_util.tree_map_with_path(share_array, params)
    codebooks, codes = jax.tree.transpose(
        jax.tree.structure(params), jax.tree.structure((0, 0)), leaves
    )
    return Shared(codebooks, codes)


def expand_shared_weights(codes: Params, codebooks: Params) -> Params:
    """Returns the parameters; a value's gradient is the sum over the weights that share it."""

    def expand_array(codes: Any, values: Any) -> Any:
        table = jnp.concatenate([jnp.zeros(1, jnp.float32), values])
        return table[jnp.asarray(codes, jnp.int32)]

    return jax.tree.map(expand_array, codes, codebooks)


def shared_model(model: Seq2Seq, shared: Shared) -> Seq2Seq:
    """Returns the model with the codebooks as its parameters: the codes are not trained."""
    return reparametrised(
        model,
        lambda codebooks: expand_shared_weights(shared.codes, codebooks),
        lambda _: jax.tree.map(jnp.asarray, shared.codebooks),
    )


def kmeans(values: np.ndarray, k: int) -> np.ndarray:
    """Returns at most k centroids of numbers [n], ascending, float32: Lloyd's algorithm converged.

    The initial centroids are equally spaced (the paper's linear initialisation); centroids of empty
    clusters are dropped. If there are at most k distinct numbers, they are the centroids.
    """
    distinct = np.unique(values)
    if len(distinct) <= k:
        return distinct
    ordered = np.sort(values).astype(np.float64)
    sums = np.concatenate([[0.0], np.cumsum(ordered)])
    centroids = np.linspace(ordered[0], ordered[-1], k)
    cuts = np.zeros(k + 1, np.int64)
    while True:
        previous, cuts = cuts, np.searchsorted(ordered, _borders(centroids))
        cuts = np.concatenate([[0], cuts, [len(ordered)]])
        counts = np.diff(cuts)
        if np.array_equal(previous, cuts):
            return centroids[counts > 0].astype(np.float32)
        centroids = np.where(counts, np.diff(sums[cuts]) / np.maximum(counts, 1), centroids)


def _borders(centroids: np.ndarray) -> np.ndarray:
    """Returns the midpoints between neighbouring centroids, [k - 1] float64."""
    centroids = centroids.astype(np.float64)
    return (centroids[1:] + centroids[:-1]) / 2
