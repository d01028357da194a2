"""An attention LSTM whose parameters will not change, as a faster model: for searches and teachers.

    for_search(model, params)        of ``search``: logits may be filled up with -inf
    for_teaching(model, params)      of ``base``: the same logits

The first layer's share of its gates, x @ inputs, is made once for every word: word vectors [V, E]
become a table [V, 4H], and a step takes a row where it had a product. The bias of the projection
becomes one more row of its matrix, for hidden vectors with a 1 at their end.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ..base import Array, Params, Seq2Seq
from ..errors import UsageError
from ..ops.dense import dense
from .blocks import Words
from .embedding import CompositeEmbedding
from .network import Network, seq2seq
from .params import AttentionLSTMParams, Decoder, Encoder, Generator, Recurrent

# Of the largest array that is made beside the parameters; a table's share of a step is then small.
TABLE_BYTES = 128 << 20


@struct.dataclass
class TableEncoder:
    """An encoder of one column that reads the products of words."""

    table: Array  # [source vocabulary, 4H]
    forward: tuple[Recurrent, ...]  # the first has no matrix for its input

    @property
    def columns(self) -> tuple[tuple[Recurrent, ...], ...]:
        """The one column."""
        return (self.forward,)


@struct.dataclass
class TableDecoder:
    """A decoder that reads the products of words; all else is that of ``Decoder``."""

    table: Array  # [V, 4H]
    feed: tuple[Array, ...]
    layers: tuple[Recurrent, ...]  # the first has no matrix for its input
    attention: Any
    bridge: Any


@struct.dataclass
class OneMatrix:
    """A projection whose bias is the last row of its matrix."""

    matrix: Array  # [H + 1, V], or wider: then filled up with columns whose logits are -inf


@struct.dataclass
class InferenceParams:
    """Parameters that will not change: of each part the faster kind, if it has one."""

    encoder: Encoder | TableEncoder
    decoder: Decoder | TableDecoder
    generator: Generator | OneMatrix


def specialize(
    net: Network,
    model: Seq2Seq,
    params: Params,
    words: int | None,
    multiple: int,
    table_bytes: int = TABLE_BYTES,
) -> tuple[Seq2Seq, Params]:
    """Returns a model that does the same and is read faster, and its parameters.

    Args:
      net: what the model is made of.
      model: an attention LSTM.
      params: of it.
      words: about how many will be read. None for many.
      multiple: V may be filled up to a multiple of it, with words of probability 0.
      table_bytes: the most that is made for one array.

    Returns:
      Both as they are if fewer words will be read than a vocabulary has. Otherwise encoders of two
      columns, features and characters stay; so does the projection on other backends than CPUs and
      in other types than float32, and what would need more than ``table_bytes``.
    """
    if not isinstance(params, AttentionLSTMParams):
        return model, params  # for the functions of the model to refuse
    encoder, decoder = params.encoder, params.decoder
    sides = [
        x for x in (encoder.embedding, decoder.embedding) if not isinstance(x, CompositeEmbedding)
    ]
    if words is not None and words < max(map(len, sides), default=0):
        return model, params
    dtype = jnp.dtype(net.config.dtype)
    of_source = None if encoder.backward else _table(encoder, encoder.forward, dtype, table_bytes)
    of_target = _table(decoder, decoder.layers, dtype, table_bytes)
    matrix = _one_matrix(params.generator, multiple, dtype, table_bytes)
    made = InferenceParams(
        encoder=encoder
        if of_source is None
        else TableEncoder(of_source, _without_inputs(encoder.forward)),
        decoder=decoder
        if of_target is None
        else TableDecoder(
            of_target,
            decoder.feed,
            _without_inputs(decoder.layers),
            decoder.attention,
            decoder.bridge,
        ),
        generator=params.generator if matrix is None else OneMatrix(matrix),
    )
    which = tuple(x is not None for x in (of_source, of_target, matrix))
    return _faster(net, which, model.init, multiple), made


def _table(
    side: Encoder | Decoder, layers: tuple, dtype: jnp.dtype, table_bytes: int
) -> Array | None:
    """The products [V, 4H] of all words with the first layer's matrix; None if too many."""
    embedding, inputs = side.embedding, layers[0].inputs
    if isinstance(embedding, CompositeEmbedding):
        return None
    if len(embedding) * inputs.shape[1] * dtype.itemsize > table_bytes:
        return None
    return jnp.asarray(embedding, dtype) @ jnp.asarray(inputs, dtype)


def _without_inputs(layers: tuple) -> tuple[Recurrent, ...]:
    first, *rest = layers
    return (Recurrent(first.recurrent, first.bias, first.cell), *rest)


def _one_matrix(
    generator: Generator, multiple: int, dtype: jnp.dtype, table_bytes: int
) -> Array | None:
    """Writes the bias as one more row of the kernel.

    XLA for CPUs adds a bias in a pass of its own over all logits, and a search that reads them in
    blocks copies them unless V is a multiple of a block; columns of -inf make it one. Done on CPUs
    and in float32 alone: others round what they multiply, the bias with it.
    """
    rows, words = generator.kernel.shape
    more = -words % multiple
    large = 4 * (rows + 1) * (words + more) > table_bytes
    if jax.default_backend() != "cpu" or dtype != jnp.float32 or large:
        return None
    kernel, bias = jnp.asarray(generator.kernel), jnp.asarray(generator.bias)
    unlikely = jnp.zeros((rows + 1, more), kernel.dtype).at[-1].set(-jnp.inf)
    return jnp.concatenate([jnp.concatenate([kernel, bias[None]]), unlikely], axis=1)


@functools.lru_cache(maxsize=64)
def _faster(
    net: Network, which: tuple[bool, ...], init: Callable[[Array], Params], multiple: int
) -> Seq2Seq:
    """The model whose encoder, decoder and generator are of the faster kinds, or not."""
    of_source, of_target, one_matrix = which

    def refuse_dropout(key: Array | None) -> None:
        if key is not None:
            raise UsageError("A model made for searching or teaching cannot be trained.")

    def source(encoder: TableEncoder, src: Array, key: Array | None) -> tuple[Array, ...]:
        refuse_dropout(key)
        return (encoder.table[src],)

    def target(decoder: TableDecoder, tokens: Array, key: Array | None) -> Array:
        refuse_dropout(key)
        return decoder.table[tokens]

    def logits(generator: OneMatrix, hidden: Array) -> Array:
        one = jnp.ones((*hidden.shape[:-1], 1), hidden.dtype)
        return dense(jnp.concatenate([hidden, one], axis=-1), generator.matrix, jnp.float32)

    words = Words(
        source if of_source else net.words.source,
        target if of_target else net.words.target,
        logits if one_matrix else net.words.logits,
    )

    def init_faster(key: Array) -> Params:
        return specialize(net, model, init(key), None, multiple)[1]

    model = seq2seq(net._replace(words=words), init_faster)
    return model


def restrict(
    params: AttentionLSTMParams | InferenceParams, ids: Array
) -> AttentionLSTMParams | InferenceParams:
    """Returns parameters for only the target words ``ids`` [C], which become words 0 to C - 1."""
    decoder = params.decoder
    if isinstance(decoder, TableDecoder):
        decoder = dataclasses.replace(decoder, table=decoder.table[ids])
    elif isinstance(decoder.embedding, CompositeEmbedding):
        raise UsageError("A shortlist needs word vectors, but this decoder reads characters.")
    else:
        decoder = dataclasses.replace(decoder, embedding=decoder.embedding[ids])
    generator = jax.tree.map(lambda x: x[..., ids], params.generator)
    return dataclasses.replace(params, decoder=decoder, generator=generator)
