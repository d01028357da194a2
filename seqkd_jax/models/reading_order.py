"""A model that reads its source in another order, or between symbols."""

import functools
from typing import NamedTuple

import jax.numpy as jnp

from ..base import BOS, EOS, PAD, Array, Params, Seq2Seq, offering, specialized


class Order(NamedTuple):
    """How a model reads a source."""

    reverse: bool = False  # the last word first (Sutskever et al. 2014, section 3.3)
    symbols: bool = False  # between BOS and EOS

    def positions(self, src: Array) -> Array:
        """Where each position of ``src`` [S] is read; padding keeps its position."""
        positions, words = jnp.arange(len(src)), _is_word(src).sum()
        if self.reverse:
            positions = jnp.where(positions < words, words - 1 - positions, positions)
        return positions + 1 if self.symbols else positions

    def arrange(self, src: Array) -> Array:
        """The ids as they are read, [S] or, with symbols, [S + 2]."""
        if self == Order():
            return src
        size = len(src) + (2 if self.symbols else 0)
        arranged = jnp.zeros((size, *src.shape[1:]), src.dtype).at[self.positions(src)].set(src)
        if self.symbols:
            arranged = arranged.at[0].set(BOS).at[_is_word(src).sum() + 1].set(EOS)
        return arranged


def _is_word(src: Array) -> Array:
    return (src if src.ndim == 1 else src[:, 0]) != PAD


@functools.lru_cache(maxsize=64)
def reordered(model: Seq2Seq, order: Order) -> Seq2Seq:
    """Returns the model as one that reads every source in this order; parameters are unchanged."""
    if order == Order():
        return model

    def encode(params: Params, src: Array, key: Array | None = None):
        return model.encode(params, order.arrange(src), key)

    def hidden(params: Params, src: Array, tgt: Array, key: Array | None = None):
        return model.hidden(params, order.arrange(src), tgt, key)

    def specialize(params: Params, words: int | None, multiple: int) -> tuple[Seq2Seq, Params]:
        faster, params = specialized(model, params, words, multiple)
        return reordered(faster, order), params

    return offering(model._replace(encode=encode, hidden=hidden), specialize)
