"""Layers one above the other, and what one reads from those below it.

plain         x = h of the layer below
skip          ... plus h of the one below that (seq2seq-attn's ``res_net``; does not add up)
residual      a layer's output is its h plus what it read: the sum adds up to the top
fast-forward  x = [first half of f below ; h below], f = W x, gates = f + U h + b:
              a path without nonlinearity from layer to layer (Zhou et al. 2016, section 3.1)
"""

from dataclasses import replace
from typing import NamedTuple

import jax
import jax.numpy as jnp

from ..base import Array
from .cells import Carry, Layer, dropout_mask, init_layer, run_layer
from .config import Config
from .dense import dense


class Level(NamedTuple):
    """What a layer offers those above it."""

    f: Array  # [..., 4H], the products of its input
    h: Array  # [..., H]


def init_stack(config: Config, keys: list[Array], width: int, hidden: int) -> tuple[Layer, ...]:
    """Draws a layer for each key; the lowest reads ``width`` numbers.

    The half of f that goes on starts unchanged in its successor's first half: a product of random
    matrices, one a layer, would leave little of a word at the top.
    """
    above = 3 * hidden if config.fast_forward else hidden
    widths = [width] + [above] * (len(keys) - 1)
    cell, scale = config.parts.cell, config.init_scale
    layers = [init_layer(k, w, hidden, scale, cell) for k, w in zip(keys, widths, strict=True)]
    if config.fast_forward:
        half = 2 * hidden
        layers[1:] = [
            replace(layer, inputs=layer.inputs.at[:half, :half].set(jnp.eye(half)))
            for layer in layers[1:]
        ]
    return tuple(layers)


def read_below(config: Config, below: list[Level], mask: Array | None = None) -> Array:
    """Returns what a layer reads from those below it; ``mask`` is dropout's, of h alone."""
    top = below[-1]
    skips = config.parts.connections == "skip" and len(below) > 1
    h = top.h + below[-2].h if skips else top.h
    h = h if mask is None else h * mask
    if config.fast_forward:
        return jnp.concatenate([top.f[..., : top.f.shape[-1] // 2], h], axis=-1)
    return h


def rise(config: Config, below: list[Level], f: Array, h: Array) -> Level:
    """Returns what a layer with these products and this h offers."""
    if config.parts.connections == "residual" and below:
        h = h + below[-1].h
    return Level(f, h)


def run_stack(
    config: Config,
    layers: tuple[Layer, ...],
    xs: Array,
    mask: Array,
    key: Array | None,
    reverse: tuple[bool, ...],
) -> tuple[Level, tuple[Carry, ...]]:
    """Runs an encoder's column over a sentence.

    Args:
      config: the model's shape.
      layers: the lowest first.
      xs: [S, E], inputs of the lowest.
      mask: [S], true at words.
      key: of dropout between layers; None for none.
      reverse: of each layer, whether it reads from right to left.

    Returns:
      The top's ``Level`` [S, ...] and the final state of each layer.
    """
    levels: list[Level] = []
    finals = []
    for number, layer in enumerate(layers):
        if number > 0:
            drop = None
            if key is not None and config.dropout:
                shape = levels[-1].h.shape
                drop = dropout_mask(
                    jax.random.fold_in(key, number), config.dropout, shape, xs.dtype
                )
            xs = read_below(config, levels, drop)
        f = dense(xs, layer.inputs)
        h, final = run_layer(layer, f, mask, reverse=reverse[number])
        levels.append(rise(config, levels, f, h))
        finals.append(final)
    return levels[-1], tuple(finals)
