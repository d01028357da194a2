"""The parameters of an attention LSTM: what there is, and how it starts."""

import dataclasses
import functools
from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from ..base import Array
from ..errors import UsageError
from .attention import Attention, init_attention
from .cells import Carry, Layer, uniform
from .config import Config
from .embedding import Rich, init_embedding
from .stack import init_stack

# Of the largest array that is made beside the parameters; a table's share of a step is then small.
TABLE_BYTES = 128 << 20


@struct.dataclass
class Encoder:
    """Word embeddings and one stack per column."""

    embedding: Array | Rich  # [source vocabulary, E]; [..., 4H] in ``fixed``
    forward: tuple[Layer, ...]
    backward: tuple[Layer, ...]  # empty for one direction


@struct.dataclass
class Decoder:
    """Word embeddings, what layer 1 reads besides words, the stack, attention and bridge."""

    embedding: Array | Rich  # [V, E]; [V, 4H] in ``fixed``
    feed: Any  # [R, 4H], for h~ of the step before, or for a context; () where nothing is read
    layers: tuple[Layer, ...]
    attention: Attention
    bridge: tuple[dict[str, Array], ...]  # c and h [encoder's width, H], where widths differ


@struct.dataclass
class Generator:
    """The projection to the vocabulary."""

    kernel: Array  # [H, V]; in ``fixed`` it may be [H + 1, V]
    bias: Array | tuple[()]  # [V]; () where it is the last row of the kernel


@struct.dataclass
class Translator:
    """All parameters of one attention LSTM."""

    encoder: Encoder
    decoder: Decoder
    generator: Generator


@struct.dataclass
class DecoderState:
    """What one hypothesis carries from step to step."""

    layers: tuple[Carry, ...]  # (c, h) of each
    feed: Any  # [H], h~ of the step before; () where no step reads it
    position: Array  # [] float32, words read; local attention asks for it


def init_translator(config: Config, key: Array) -> Translator:
    """Draws parameters from U(-init_scale, init_scale); see ``init_layer`` and ``init_stack``."""
    hidden, scale, layers = config.hidden, config.init_scale, config.encoder_layers
    bridged = 0
    if config.parts.bridge == "state" and config.final_width != hidden:
        bridged = min(config.layers, layers)
    keys = iter(jax.random.split(key, 2 * layers + config.layers + 6 + bridged))

    inputs = config.inputs

    def column() -> tuple[Layer, ...]:
        own = [next(keys) for _ in range(layers)]
        return init_stack(config, own, config.src_width, config.encoder_hidden)

    def pair(key: Array) -> dict[str, Array]:
        shape = (config.final_width, hidden)
        halves = zip("ch", jax.random.split(key), strict=True)
        return {name: uniform(k, shape, scale) for name, k in halves}

    encoder = Encoder(
        embedding=init_embedding(
            config, next(keys), config.src_vocab, inputs.src_characters, inputs.features
        ),
        forward=column(),
        backward=column() if config.bidirectional else (),
    )
    read = config.read_width
    return Translator(
        encoder=encoder,
        decoder=Decoder(
            embedding=init_embedding(
                config, next(keys), config.tgt_vocab, inputs.tgt_characters, ()
            ),
            feed=uniform(next(keys), (read, 4 * hidden), scale) if read else (),
            layers=init_stack(
                config, [next(keys) for _ in range(config.layers)], config.tgt_width, hidden
            ),
            attention=init_attention(config, next(keys)),
            bridge=tuple(pair(next(keys)) for _ in range(bridged)),
        ),
        generator=Generator(
            kernel=uniform(next(keys), (hidden, config.tgt_vocab), scale),
            bias=uniform(next(keys), (config.tgt_vocab,), scale),
        ),
    )


def fixed(params: Translator, words: int | None, dtype: jnp.dtype, *, block: int) -> Translator:
    """Returns parameters that do the same and are read faster (``Seq2Seq.fixed``).

    The first layer's share of its gates, x @ inputs, is made once for every word: word vectors
    [V, E] become a table [V, 4H], ``inputs`` becomes (), and a step takes a row where it had a
    product. The bias of the projection may go into its matrix (``_one_matrix``).

    Args:
      params: of an attention LSTM.
      words: about how many will be read. None for many.
      dtype: of the model.
      block: V may be filled up to a multiple of it.

    Returns:
      The parameters; all as they are if fewer words will be read than a vocabulary has. Otherwise
      encoders of two columns, features and characters stay; so does the projection on other
      backends than CPUs and in other types than float32, and what would need more than
      ``TABLE_BYTES``.
    """
    if not isinstance(params, Translator):
        return params  # for the functions of the model to refuse

    def side(embedding: Any, layers: tuple[Layer, ...]) -> tuple[Any, tuple[Layer, ...]]:
        first, *rest = layers
        if isinstance(embedding, Rich) or isinstance(first.inputs, tuple):
            return embedding, layers
        if len(embedding) * first.inputs.shape[1] * dtype.itemsize > TABLE_BYTES:
            return embedding, layers
        vectors, matrix = (jnp.asarray(x, dtype) for x in (embedding, first.inputs))
        return vectors @ matrix, (dataclasses.replace(first, inputs=()), *rest)

    encoder, decoder = params.encoder, params.decoder
    sides = encoder.embedding, decoder.embedding
    if words is not None and words < max(0 if isinstance(x, Rich) else len(x) for x in sides):
        return params
    if not encoder.backward:
        table, column = side(encoder.embedding, encoder.forward)
        encoder = dataclasses.replace(encoder, embedding=table, forward=column)
    table, layers = side(decoder.embedding, decoder.layers)
    decoder = dataclasses.replace(decoder, embedding=table, layers=layers)
    return Translator(encoder, decoder, _one_matrix(params.generator, block, dtype))


def _one_matrix(generator: Generator, block: int, dtype: jnp.dtype) -> Generator:
    """Writes the bias as one more row of the kernel, for hidden vectors with a 1 at their end.

    XLA for CPUs adds a bias in a pass of its own over all logits, and a search that reads them in
    blocks copies them unless V is a multiple of ``block``; columns of -inf make it one. Done on
    CPUs and in float32 alone: others round what they multiply, the bias with it.
    """
    rows, words = generator.kernel.shape
    joined = isinstance(generator.bias, tuple)
    more = -words % block
    large = 4 * (rows + 1) * (words + more) > TABLE_BYTES
    if jax.default_backend() != "cpu" or dtype != jnp.float32 or large or (joined and not more):
        return generator
    return Generator(_joined(generator.kernel, generator.bias, more), ())


@functools.partial(jax.jit, static_argnames="more")
def _joined(kernel: Array, bias: Array | tuple[()], more: int) -> Array:
    if not isinstance(bias, tuple):
        kernel = jnp.concatenate([kernel, bias[None]])
    unlikely = jnp.zeros((len(kernel), more), kernel.dtype).at[-1].set(-jnp.inf)
    return jnp.concatenate([kernel, unlikely], axis=1)


def restrict(params: Translator, ids: Array) -> Translator:
    """Returns parameters for only the target words ``ids`` [C], which become words 0 to C - 1."""
    decoder, generator = params.decoder, params.generator
    if isinstance(decoder.embedding, Rich):
        raise UsageError("A shortlist needs word vectors, and this decoder reads characters.")
    return dataclasses.replace(
        params,
        decoder=dataclasses.replace(decoder, embedding=decoder.embedding[ids]),
        generator=jax.tree.map(lambda x: x[..., ids], generator),
    )


def with_vectors(
    params: Translator, side: str, ids: Array | np.ndarray, vectors: Array | np.ndarray
) -> Translator:
    """Returns parameters with other word vectors [N, E] for the words ``ids`` [N] of one side.

        params = with_vectors(model.init(key), "encoder", *read_vectors("vectors.txt", src_vocab))
        parts = {"trained": clipped_adam(1e-3), "frozen": optax.set_to_zero()}
        tx = optax.partition(parts, trained(params, ["encoder"]))     # kept as they are

    Args:
      params: of an attention LSTM.
      side: "encoder" or "decoder".
      ids: of the words.
      vectors: as wide as the model's own.

    Raises:
      UsageError: the width differs, or the side has no word vectors.
    """
    part = getattr(params, side)
    rich = isinstance(part.embedding, Rich)
    words = part.embedding.words if rich else part.embedding
    if not isinstance(words, Array | np.ndarray):
        raise UsageError(f"The {side} reads characters; it has no word vectors to replace.")
    if vectors.shape[1] != words.shape[1]:
        raise UsageError(
            f"Vectors of width {vectors.shape[1]} for embeddings of width {words.shape[1]}: train "
            f"with embed={vectors.shape[1]}."
        )
    words = jnp.asarray(words).at[ids].set(vectors)
    embedding = dataclasses.replace(part.embedding, words=words) if rich else words
    return dataclasses.replace(params, **{side: dataclasses.replace(part, embedding=embedding)})


def trained(params: Translator, frozen: Sequence[str]) -> Translator:
    """Returns "trained" or "frozen" for each array: frozen are the embeddings of the sides named.

    A pytree of labels for ``optax.partition``. The two columns of an encoder share its embedding,
    so that no part of it moves.
    """

    def label(path: tuple, _: Array) -> str:
        side, part = (getattr(key, "name", None) for key in path[:2])
        return "frozen" if part == "embedding" and side in frozen else "trained"

    return jax.tree_util.tree_map_with_path(label, params)
