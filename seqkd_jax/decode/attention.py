"""Attention weights of many sentence pairs, in batches of a few fixed shapes."""

import functools
from collections.abc import Callable, Sequence

import jax
import numpy as np
from tqdm import tqdm

from ..base import PAD
from ..data import encode_pairs
from ..data.batches import BATCH_MULTIPLE, SOURCE_LENGTHS
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
    if not pairs:
        return {}
    run, weights = _aligner(trained.network), {}
    encoded = encode_pairs(pairs, trained.src_vocab, trained.tgt_vocab)
    # Few shapes for all lengths, because each is compiled and text may come line by line.
    by_shape: dict[tuple[int, int], list[int]] = {}
    for n, sides in enumerate(zip(encoded.src, encoded.tgt, strict=True)):
        src_len, tgt_len = (_width(len(ids)) for ids in sides)
        by_shape.setdefault((src_len, tgt_len), []).append(n)
    for (src_len, tgt_len), members in by_shape.items():
        for start in range(0, len(members), BATCH_MULTIPLE):
            batch = members[start : start + BATCH_MULTIPLE]
            rows = [*batch, *batch[:1] * (BATCH_MULTIPLE - len(batch))]
            src = np.stack([_padded(encoded.src[n], src_len) for n in rows])
            tgt = np.stack([_padded(encoded.tgt[n], tgt_len) for n in rows])
            for n, attention in zip(batch, run(trained.params, src, tgt), strict=False):
                own = attention[: len(encoded.tgt[n]), : len(encoded.src[n])]
                weights[int(encoded.index[n])] = own
            if bar is not None:
                bar.update(len(batch))
    return weights


def _width(tokens: int) -> int:
    longest = SOURCE_LENGTHS[-1]
    return next((n for n in SOURCE_LENGTHS if n >= tokens), -(-tokens // longest) * longest)


def _padded(ids: np.ndarray, width: int) -> np.ndarray:
    return np.pad(
        ids, ((0, width - len(ids)), *((0, 0) for _ in ids.shape[1:])), constant_values=PAD
    )


@functools.lru_cache(maxsize=8)
def _aligner(network: Network) -> Callable[..., np.ndarray]:
    return pmap_rows(jax.vmap(functools.partial(alignments, network), (None, 0, 0)))
