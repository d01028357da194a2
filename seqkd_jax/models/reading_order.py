"""Models that read the source in reverse, or between BOS and EOS."""

import functools
from typing import NamedTuple

import jax.numpy as jnp

from ..base import BOS, EOS, PAD, Array, Params, Seq2Seq, specialized, with_specialize


class Order(NamedTuple):
    """The order in which a model reads its source."""

    reverse: bool = False  # last word first (Sutskever et al. 2014, section 3.3)
    symbols: bool = False  # between BOS and EOS

    def positions(self, src: Array) -> Array:
        """Returns the position in ``arrange(src)`` of each token of ``src`` [S].

        Without symbols padding keeps its position.
        """
        positions, words = jnp.arange(len(src)), is_word(src).sum()
        if self.reverse:
            positions = jnp.where(positions < words, words - 1 - positions, positions)
        return positions + 1 if self.symbols else positions

    def arrange(self, src: Array) -> Array:
        """Returns the ids in the order in which they are read: [S] or, with symbols, [S + 2]."""
        if self == Order():
            return src
        size = len(src) + (2 if self.symbols else 0)
        arranged = jnp.zeros((size, *src.shape[1:]), src.dtype).at[self.positions(src)].set(src)
        if self.symbols:
            arranged = arranged.at[0].set(BOS).at[is_word(src).sum() + 1].set(EOS)
        return arranged


def is_word(src: Array) -> Array:
    """Returns the mask [S] of words in src [S] or [S, C]: False at padding."""
    return (src if src.ndim == 1 else src[:, 0]) != PAD


AS_WRITTEN = Order()


@functools.cache
def reordered(model: Seq2Seq, order: Order) -> Seq2Seq:
    """Returns the model with every source read in this order; its parameters stay the same."""
    if order == Order():
        return model

    def encode(params: Params, src: Array, key: Array | None = None):
        return model.encode(params, order.arrange(src), key)

    def hidden(params: Params, src: Array, tgt: Array, key: Array | None = None):
        return model.hidden(params, order.arrange(src), tgt, key)

    def specialize(params: Params, num_words: int | None, multiple: int) -> tuple[Seq2Seq, Params]:
        faster, params = specialized(model, params, num_words, multiple)
        return reordered(faster, order), params

    return with_specialize(model._replace(encode=encode, hidden=hidden), specialize)
