"""A second attention below a layer of the decoder (seq2seq-attn's ``multi_attn``)."""

import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ..base import Array
from ..errors import UsageError
from ..ops.dense import dense
from ..ops.recurrence import Sum
from .attention import zeros_of
from .blocks import FAR_BELOW, Reader
from .draws import uniform


@struct.dataclass
class LowerParams:
    """Weights of a reader with a lower attention."""

    reader: Any
    keys: Array  # W [M, H]


@functools.cache
def lower_attention(reader: Reader, number: int) -> Reader:
    """Returns the reader with x + sum_s softmax_s(context_s . (W x)) context_s in place of x.

    x is what layer ``number`` reads, counted from 1: 2 or more.
    """

    def init(key: Array, hidden: int, width: int, scale: float) -> LowerParams:
        if hidden != width:
            raise UsageError(
                "lower_attention adds encoder outputs to a decoder layer's: both must be equally "
                "wide, and not joined by fast-forward connections."
            )
        of_reader, of_keys = jax.random.split(key)
        return LowerParams(
            reader.init(of_reader, hidden, width, scale), uniform(of_keys, (width, hidden), scale)
        )

    def memory(params: LowerParams, context: Array, mask: Array) -> tuple:
        inner = reader.memory(params.reader, context, mask)
        scores = jnp.where(mask, 0, FAR_BELOW).astype(context.dtype)
        return inner, scores, dense(context, params.keys), context

    def sums(params: LowerParams, memory: tuple) -> tuple[Any, Any]:
        inner, scores, keys, context = memory
        entry, vector = reader.sums(params.reader, inner)
        own = Sum(scores, (keys.T,)), Sum(zeros_of(context), (context,))
        return (entry, *own), vector

    def between(sums: tuple, mask: Array, layer: int, x: Array) -> Array:
        entry, scores, context = sums
        x = reader.between(entry, mask, layer, x)
        if layer + 1 != number:
            return x
        weights = jax.nn.softmax(scores(x).astype(jnp.float32)).astype(x.dtype)
        return x + context(weights)

    return reader._replace(
        init=init,
        memory=memory,
        sums=sums,
        start=lambda memory, start: reader.start(memory[0], start),
        entry=lambda sums, mask, state: reader.entry(sums[0], mask, state),
        between=between,
    )
