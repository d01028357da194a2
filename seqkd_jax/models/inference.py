"""Faster attention LSTMs for parameters that do not change: for searches and teachers.

    for_search(model, params)        in ``search``: logits may be padded with -inf
    for_teaching(model, params)      in ``base``: the same logits

The first layer's products x @ inputs are computed once for every word: word vectors [V, E]
become a table [V, 4H], and a step looks up a row instead of computing a product. The bias of the
projection becomes another row of its matrix, for hidden vectors with a 1 appended.
"""

import dataclasses
import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ..base import Array, Params, Seq2Seq, platform
from ..errors import UsageError
from ..ops.dense import dense
from .blocks import Embedding, WordLayers
from .network import Network, seq2seq
from .params import AttentionLSTMParams, Decoder, Encoder, Generator, Recurrent, cast_matrices

# The largest array that may be built; beyond it a table would save only a small share of a step.
TABLE_BYTES = 128 << 20


@struct.dataclass
class TableEncoder:
    """An encoder of one column that looks up the input products of words."""

    table: Array  # [source vocabulary, 4H]
    forward: tuple[Recurrent, ...]  # the lowest has no input matrix

    @property
    def columns(self) -> tuple[tuple[Recurrent, ...], ...]:
        """The only column."""
        return (self.forward,)


@struct.dataclass
class TableDecoder:
    """A decoder that looks up the input products of words; other fields as in ``Decoder``."""

    table: Array  # [V, 4H]
    feed: tuple[Array, ...]
    layers: tuple[Recurrent, ...]  # the lowest has no input matrix
    attention: Any
    bridge: Any


@struct.dataclass
class FusedGenerator:
    """A projection whose bias is the last row of its matrix."""

    matrix: Array  # [H + 1, V], or wider: then padded with columns whose logits are -inf


@struct.dataclass
class InferenceParams:
    """Parameters for inference: each part in its faster form, if it has one."""

    encoder: Encoder | TableEncoder
    decoder: Decoder | TableDecoder
    generator: Generator | FusedGenerator


def specialize(
    net: Network,
    model: Seq2Seq,
    params: Params,
    num_words: int | None,
    multiple: int,
    table_bytes: int = TABLE_BYTES,
) -> tuple[Seq2Seq, Params]:
    """Returns a faster, equivalent model and its parameters.

    Args:
      net: the definition of the model.
      model: an attention LSTM.
      params: its parameters.
      num_words: about how many words the model will process; None for many.
      multiple: V may be padded to a multiple of it, with words of probability 0.
      table_bytes: the largest size of a new array.

    Returns:
      The arguments if ``num_words`` is smaller than a vocabulary. Otherwise everything is replaced
      by its faster form except encoders of two columns, those whose tokens are rows of ids, the
      projection on backends other than CPU or in types other than float32, and arrays that would
      need more than ``table_bytes``. What is not replaced is cast to the type of computation.
    """
    if not isinstance(params, AttentionLSTMParams):
        return model, params  # the model's functions will raise
    encoder, decoder, config, blocks = params.encoder, params.decoder, net.config, net.blocks
    if num_words is not None and num_words < max(config.src_vocab, config.tgt_vocab):
        return model, params
    dtype = jnp.dtype(config.dtype)
    src_table = tgt_table = None
    if not encoder.backward and _num_bytes(encoder.forward, config.src_vocab, dtype) <= table_bytes:
        src_table = _table(blocks.src_embedding, encoder, encoder.forward, dtype)
    if _num_bytes(decoder.layers, config.tgt_vocab, dtype) <= table_bytes:
        tgt_table = _table(blocks.tgt_embedding, decoder, decoder.layers, dtype)
    matrix = _fused_matrix(params.generator, multiple, dtype, table_bytes)
    if dtype != jnp.float32:  # cast once here, and not in every call
        encoder, decoder = cast_matrices((encoder, decoder), dtype)
    inference_params = InferenceParams(
        encoder=encoder
        if src_table is None
        else TableEncoder(src_table, _without_inputs(encoder.forward)),
        decoder=decoder
        if tgt_table is None
        else TableDecoder(
            tgt_table,
            decoder.feed,
            _without_inputs(decoder.layers),
            decoder.attention,
            decoder.bridge,
        ),
        generator=_padded(params.generator, multiple, dtype)
        if matrix is None
        else FusedGenerator(matrix),
    )
    replaced = tuple(x is not None for x in (src_table, tgt_table, matrix))
    return _faster(net, replaced, model.init, multiple), inference_params


def _num_bytes(layers: tuple, words: int, dtype: jnp.dtype) -> int:
    return words * layers[0].inputs.shape[1] * dtype.itemsize


def _table(
    embedding: Embedding, side: Encoder | Decoder, layers: tuple, dtype: jnp.dtype
) -> Array | None:
    """Returns the first layer's products [V, 4H] for all words; None if a token is a row of ids."""
    if embedding.table is None:
        return None
    cast = jax.tree.map(lambda p: jnp.asarray(p, dtype), (side.embedding, layers[0].inputs))
    return embedding.table(cast[0]) @ cast[1]


def _without_inputs(layers: tuple) -> tuple[Recurrent, ...]:
    lowest, *upper = layers
    return (Recurrent(lowest.recurrent, lowest.bias, lowest.cell), *upper)


def _fused_matrix(
    generator: Generator, multiple: int, dtype: jnp.dtype, table_bytes: int
) -> Array | None:
    """Returns the kernel with the bias as its last row, or None where that does not pay.

    XLA for CPUs adds a bias in a separate pass over all logits, and a search that reads them in
    blocks copies them unless V is a multiple of the block size; columns of -inf make it one. Only
    on CPUs and in float32: otherwise the product would round its operands, and so the bias.
    """
    hidden, words = generator.kernel.shape
    padding = -words % multiple
    too_large = 4 * (hidden + 1) * (words + padding) > table_bytes
    if platform() != "cpu" or dtype != jnp.float32 or too_large:
        return None
    kernel, bias = jnp.asarray(generator.kernel), jnp.asarray(generator.bias)
    padding_columns = jnp.zeros((hidden + 1, padding), kernel.dtype).at[-1].set(-jnp.inf)
    return jnp.concatenate([jnp.concatenate([kernel, bias[None]]), padding_columns], axis=1)


def _padded(generator: Generator, multiple: int, dtype: jnp.dtype) -> Generator:
    """Returns the projection in the type of computation.

    On TPUs it is padded with words whose logits are -inf: a search reads the logits in blocks.
    """
    padding = -generator.kernel.shape[1] % multiple if platform() == "tpu" else 0
    if not padding and dtype == generator.kernel.dtype:
        return generator
    kernel = jnp.pad(jnp.asarray(generator.kernel, dtype), ((0, 0), (0, padding)))
    return Generator(kernel, jnp.pad(generator.bias, (0, padding), constant_values=-jnp.inf))


@functools.cache
def _faster(
    net: Network, replaced: tuple[bool, ...], init: Callable[[Array], Params], multiple: int
) -> Seq2Seq:
    """Returns the model for parameters whose encoder, decoder and generator are replaced or not."""
    encoder_replaced, decoder_replaced, generator_replaced = replaced

    def refuse_dropout(key: Array | None) -> None:
        if key is not None:
            raise UsageError("A model for searching or teaching cannot be trained.")

    def source(encoder: TableEncoder, src: Array, key: Array | None) -> tuple[Array, ...]:
        refuse_dropout(key)
        return (encoder.table[src],)

    def target(decoder: TableDecoder, tokens: Array, key: Array | None) -> Array:
        refuse_dropout(key)
        return decoder.table[tokens]

    def logits(generator: FusedGenerator, hidden: Array) -> Array:
        ones = jnp.ones((*hidden.shape[:-1], 1), hidden.dtype)
        return dense(jnp.concatenate([hidden, ones], axis=-1), generator.matrix, jnp.float32)

    words = WordLayers(
        source if encoder_replaced else net.words.source,
        target if decoder_replaced else net.words.target,
        logits if generator_replaced else net.words.logits,
    )

    def init_faster(key: Array) -> Params:
        return specialize(net, model, init(key), None, multiple)[1]

    model = seq2seq(net._replace(words=words), init_faster)
    return model


def restrict(
    params: AttentionLSTMParams | InferenceParams, ids: Array
) -> AttentionLSTMParams | InferenceParams:
    """Returns parameters for the target words ``ids`` [C] only, which become words 0 to C - 1.

    Raises:
      UsageError: the decoder's embedding has no vectors of words.
    """
    decoder = params.decoder
    if isinstance(decoder, TableDecoder):
        decoder = dataclasses.replace(decoder, table=decoder.table[ids])
    elif not isinstance(decoder.embedding, jax.Array | np.ndarray):
        raise UsageError(
            "A shortlist needs target word vectors, but the embedding of this decoder has none."
        )
    else:
        decoder = dataclasses.replace(decoder, embedding=decoder.embedding[ids])
    generator = jax.tree.map(lambda x: x[..., ids], params.generator)
    return dataclasses.replace(params, decoder=decoder, generator=generator)
