"""Attention weights of many sentence pairs."""

import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np
from tqdm import tqdm

from ..data import batches, encode_pairs, plan_buckets
from ..models.inspection import alignments
from ..models.network import Network
from ..parallel import pmap_rows
from ..trained import TrainedModel


def attention_weights(
    trained: TrainedModel, pairs: Sequence[tuple[str, str]], bar: tqdm | None = None
) -> dict[int, np.ndarray]:
    """Returns the attention weights [T, S] of predicting targets from sources, by pair.

    The last row is that of EOS. Pairs with an empty side have none.

    Args:
      trained: an attention LSTM.
      pairs: (source, target) lines.
      bar: a progress bar that counts pairs.

    Raises:
      UsageError: the model is an ensemble, is no attention LSTM, or has no attention.
    """
    run, weights = aligner(trained.network), {}
    encoded = encode_pairs(pairs, trained.src_vocab, trained.tgt_vocab)
    if not encoded.src:
        return weights
    lengths = {
        int(index): (len(tgt), len(src))
        for index, src, tgt in zip(encoded.index, encoded.src, encoded.tgt, strict=True)
    }
    # One shape: padding costs less here than the compilation of another.
    shape = plan_buckets(encoded, tokens_per_batch=2048, buckets=1)
    for batch in batches(encoded, shape, seed=0, epoch=None):
        found = run(trained.params, batch.src, batch.tgt)
        for index, attention in zip(batch.index.tolist(), found, strict=True):
            if index >= 0:
                target, source = lengths[index]
                weights[index] = attention[:target, :source]
        if bar is not None:
            bar.update(int((batch.index >= 0).sum()))
    return weights


@functools.lru_cache(maxsize=8)
def aligner(network: Network) -> Callable[..., np.ndarray]:
    """Compiles ``models.inspection.alignments`` for all devices and many pairs [B, T, S]."""
    return pmap_rows(jax.vmap(functools.partial(alignments, network), (None, 0, 0)))
