"""Other connections between layers than the paper's, and other joins of encoder and decoder.

skip          a layer reads h of the one below plus h of the one below that (seq2seq-attn's
              ``res_net``; does not add up)
residual      a layer's output is its h plus what it read: the sum adds up to the top

``deep_att.fast_forward`` is another.
"""

import functools
from collections.abc import Sequence

import jax
import jax.numpy as jnp

from ..base import Array
from ..ops.dense import dense
from .blocks import Bridge, Carry, Columns, Connections, LayerOutput
from .draws import uniform
from .layers import from_states, summed


@functools.cache
def plain() -> Connections:
    """A layer reads the one below it."""
    return Connections()


@functools.cache
def skip() -> Connections:
    """A layer reads the sum of the two below it."""

    def read(below: Sequence[LayerOutput]) -> Array:
        return below[-1].h + below[-2].h if len(below) > 1 else below[-1].h

    return Connections(read=read)


@functools.cache
def residual() -> Connections:
    """A layer offers its h plus what it read, from the second layer on."""

    def output(below: Sequence[LayerOutput], products: Array, h: Array) -> LayerOutput:
        return LayerOutput(products, h + below[-1].h if below else h)

    return Connections(output=output)


@functools.cache
def concatenated() -> Columns:
    """The second column reads right to left; outputs and states stand side by side."""
    return Columns(
        summed().reverse,
        lambda tops: jnp.concatenate([v for kind in zip(*tops, strict=True) for v in kind], -1),
        lambda sides: jax.tree.map(lambda *x: jnp.concatenate(x), *sides),
    )


@functools.cache
def mapped_states() -> Bridge:
    """``from_states`` where widths differ: a matrix between each two layers."""

    def init(
        key: Array, finals: Sequence[Carry], layers: int, hidden: int, scale: float
    ) -> tuple[dict[str, Array], ...]:
        shape = (finals[0][1].shape[0], hidden)
        pairs = [jax.random.split(k) for k in jax.random.split(key, len(finals[-layers:]))]
        return tuple(
            {n: uniform(k, shape, scale) for n, k in zip("ch", pair, strict=True)} for pair in pairs
        )

    def start(
        params: tuple[dict[str, Array], ...], finals: Sequence[Carry], zero: Carry, layers: int
    ) -> tuple[Carry, ...]:
        beside = zip(finals[-layers:], params, strict=True)
        mapped = [(dense(c, w["c"]), dense(h, w["h"])) for (c, h), w in beside]
        return from_states().start((), mapped, zero, layers)

    return Bridge(init, start)
