"""A second attention below a layer of the decoder (seq2seq-attn's ``multi_attn``)."""

from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ..base import Array
from ..errors import UsageError
from ..ops.dense import dense
from ..ops.recurrence import Sum, product, zero_sum
from .blocks import NEG_INF, Reader, cached
from .draws import uniform


@struct.dataclass
class LowerParams:
    """Parameters of a reader with a lower attention."""

    reader: Any  # of the reader itself
    keys: Array  # W [M, H]


@cached
def lower_attention(reader: Reader, number: int) -> Reader:
    """Returns the reader with a second attention, on the input x of decoder layer ``number``.

    The layer reads x + sum_s softmax_s(context_s . (W x)) context_s. Layers are counted from 1;
    ``number`` is at least 2.

    Raises:
      UsageError: ``init`` gets encoder and decoder outputs of different widths.
    """

    def init(key: Array, hidden: int, width: int, scale: float) -> LowerParams:
        if hidden != width:
            raise UsageError(
                "lower_attention adds encoder outputs to the output of a decoder layer: both must "
                "have the same width, and fast-forward connections are not supported."
            )
        reader_key, keys_key = jax.random.split(key)
        return LowerParams(
            reader.init(reader_key, hidden, width, scale), uniform(keys_key, (width, hidden), scale)
        )

    def memory(params: LowerParams, context: Array, mask: Array) -> tuple:
        inner = reader.memory(params.reader, context, mask)
        mask_scores = jnp.where(mask, zero_sum(len(mask), context), NEG_INF)
        return inner, mask_scores, dense(context, params.keys), context

    def sums(params: LowerParams, memory: tuple) -> tuple[Any, Any]:
        inner, mask_scores, keys, context = memory
        entry, vector = reader.sums(params.reader, inner)
        return (entry, Sum(mask_scores, (keys.T,)), product(context)), vector

    def between(sums: tuple, mask: Array, layer: int, x: Array) -> Array:
        entry, scores, weighted_context = sums
        x = reader.between(entry, mask, layer, x)
        if layer + 1 != number:
            return x
        weights = jax.nn.softmax(scores(x))
        return x + weighted_context(weights)

    return reader._replace(
        init=init,
        memory=memory,
        sums=sums,
        start=lambda memory, start: reader.start(memory[0], start),
        entry=lambda sums, mask, state: reader.entry(sums[0], mask, state),
        between=between,
    )
