"""Connections between layers, columns of the encoder, and bridges to the decoder.

skip        a layer reads h of the layer below plus h of the layer below that (seq2seq-attn's
            ``res_net``); the sum does not accumulate
residual    a layer's output is its h plus its input: the sum accumulates to the top

See also ``contrib.deep_att.fast_forward``.
"""

from collections.abc import Sequence

import jax
import jax.numpy as jnp
from flax import struct

from ..base import Array
from ..ops.dense import dense
from .blocks import Bridge, Carry, Columns, Connections, LayerOutput, cached
from .draws import uniform
from .layers import from_states, summed


@cached
def plain() -> Connections:
    """Returns connections where each layer reads h of the layer below."""
    return Connections()


@cached
def skip() -> Connections:
    """Returns connections where each layer reads the sum of h of the two layers below."""

    def read(below: Sequence[LayerOutput]) -> Array:
        return below[-1].h + below[-2].h if len(below) > 1 else below[-1].h

    return Connections(read=read)


@cached
def residual() -> Connections:
    """Returns connections where, from layer 2 on, a layer's output is its h plus its input."""

    def output(below: Sequence[LayerOutput], products: Array, h: Array) -> LayerOutput:
        return LayerOutput(products, h + below[-1].h if below else h)

    return Connections(output=output)


@cached
def concatenated() -> Columns:
    """Returns columns whose outputs and states are concatenated; the second reads right to left."""
    return Columns(
        summed().reverse,
        lambda tops: jnp.concatenate([v for pair in zip(*tops, strict=True) for v in pair], -1),
        lambda states: jax.tree.map(lambda *x: jnp.concatenate(x), *states),
    )


@struct.dataclass
class StateMap:
    """Matrices between states of different widths."""

    c: Array  # [M, H]
    h: Array  # [M, H]


@cached
def mapped_states() -> Bridge:
    """Returns ``from_states`` for encoder and decoder of different widths: matrices map states."""

    def init(
        key: Array, finals: Sequence[Carry], layers: int, hidden: int, scale: float
    ) -> tuple[StateMap, ...]:
        shape = (finals[0][1].shape[0], hidden)
        pairs = [jax.random.split(k) for k in jax.random.split(key, len(finals[-layers:]))]
        return tuple(StateMap(*(uniform(k, shape, scale) for k in pair)) for pair in pairs)

    def start(
        params: tuple[StateMap, ...], finals: Sequence[Carry], zero: Carry, layers: int
    ) -> tuple[Carry, ...]:
        paired = zip(finals[-layers:], params, strict=True)
        mapped = [(dense(c, w.c, c.dtype), dense(h, w.h, h.dtype)) for (c, h), w in paired]
        return from_states().start((), mapped, zero, layers)

    return Bridge(init, start)
