"""The model of ``small`` with two layers and both directions, for tests of the model itself."""

import dataclasses

import small
from small import batched

from seqkd_jax.models.attention_lstm import attention_lstm

CONFIG = dataclasses.replace(small.CONFIG, layers=2, bidirectional=True)
MODEL = attention_lstm(CONFIG)
HIDDEN = batched(MODEL.hidden)


def params(model=MODEL, seed: int = 0):
    return small.params(model, seed)
