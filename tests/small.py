"""Small models, batches and seeds that the tests share, so that programs are compiled once."""

import functools
import tracemalloc

import jax
import jax.numpy as jnp
import numpy as np

from seqkd_jax.base import EOS, PAD, Example
from seqkd_jax.models.attention_lstm import Config, attention_lstm

SRC_VOCAB, TGT_VOCAB = 11, 13
CONFIG = Config(SRC_VOCAB, TGT_VOCAB, embed=6, hidden=8, layers=1, dropout=0.3)
MODEL = attention_lstm(CONFIG)
TEACHER_CONFIG = Config(SRC_VOCAB, TGT_VOCAB, embed=5, hidden=7, layers=1)
TEACHER = attention_lstm(TEACHER_CONFIG)


@functools.cache
def _init(model):
    # An identity stays one: its product over layers would have no bounds.
    larger = lambda x: jnp.where(x == 1, x, 8 * x)  # noqa: E731
    return jax.jit(lambda key: jax.tree.map(larger, model.init(key)))


@functools.cache
def params(model=MODEL, seed: int = 0):
    """Parameters large enough that softmax is far from uniform."""
    return _init(model)(jax.random.key(seed))


def batched(function):
    """Compiles a function of (params, row...) for many rows at once."""

    @jax.jit
    def run(params, *rows):
        return jax.vmap(function, (None, *(0 for _ in rows)))(params, *rows)

    return run


HIDDEN = batched(MODEL.hidden)
TEACHER_HIDDEN = batched(TEACHER.hidden)


def sentences(rng: np.random.Generator, rows: int, length: int, vocabulary: int, end: bool):
    """Ids [rows, length] of random lengths from 1, padded; ``end`` closes each with EOS."""
    ids = rng.integers(4, vocabulary, (rows, length)).astype(np.int32)
    for row in ids:
        words = rng.integers(1, length + 1)
        row[words:] = PAD
        if end:
            row[words - 1] = EOS
    return ids


def example(seed: int = 0, rows: int = 6, src_len: int = 5, tgt_len: int = 6) -> Example:
    """A batch of uneven sentences with uneven weights."""
    rng = np.random.default_rng(seed)
    return Example(
        src=sentences(rng, rows, src_len, SRC_VOCAB, end=False),
        tgt=sentences(rng, rows, tgt_len, TGT_VOCAB, end=True),
        weight=rng.uniform(0.5, 2.0, rows).astype(np.float32),
        index=np.arange(rows, dtype=np.int32),
    )


def largest_difference(a, b) -> float:
    """Largest absolute difference between two pytrees."""
    return max(
        float(np.max(np.abs(np.asarray(x, np.float64) - np.asarray(y, np.float64)), initial=0))
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


def most_memory(function):
    """The most bytes that a function has allocated by Python at a time."""
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
