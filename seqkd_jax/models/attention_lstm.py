"""The attention LSTM of Luong et al. (2015) as Kim & Rush (2016) used it. One sentence.

encoder   stacked LSTM over the source, one direction or two (summed)
bridge    every decoder layer starts from the encoder's final state of that layer
decoder   stacked LSTM; layer 1 reads [embedding of the last word ; h~ of the step before]
output    h~ = tanh(W_c [attention context ; h]),  logits = W_o h~ + b_o
"""

import dataclasses
import functools
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import struct

from ..base import PAD, Array, Seq2Seq, shift_right
from .attention import (
    Attention,
    Memory,
    attend,
    attention_sums,
    attention_weights,
    init_attention,
    remember,
)
from .cells import (
    LSTM,
    Affine,
    Carry,
    Sums,
    Weights,
    affine,
    dropout_mask,
    init_lstm,
    lstm_cell,
    lstm_layer,
    recurrence,
    uniform,
)
from .dense import dense


@dataclass(frozen=True)
class Config:
    """The shape of one attention LSTM.

    The defaults are the paper's: one direction, no residual connections, dropout between layers
    and on the attentional vector, all parameters drawn from U(-0.1, 0.1).
    """

    src_vocab: int  # source vocabulary size, special tokens included
    tgt_vocab: int  # V
    embed: int = 500  # E
    hidden: int = 500  # H
    layers: int = 2  # of encoder and decoder each
    bidirectional: bool = False  # a second encoder reads right to left; outputs are summed
    residual: bool = False  # layer l > 2 reads h of layer l-1 plus h of layer l-2
    dropout: float = 0.3  # input of every layer above the first, and h~
    embed_dropout: float = 0.0  # embeddings of both sides; the paper has none
    init_scale: float = 0.1  # parameters start in U(-init_scale, init_scale)
    dtype: str = "float32"  # of computation; parameters and logits are float32


@struct.dataclass
class Encoder:
    """Word embeddings and one stack per direction."""

    embedding: Array  # [source vocabulary, E]
    forward: tuple[LSTM, ...]
    backward: tuple[LSTM, ...]  # empty for one direction


@struct.dataclass
class Decoder:
    """Word embeddings, the input-feeding weights of layer 1, the stack, and attention."""

    embedding: Array  # [V, E]
    feed: Array  # [H, 4H]
    layers: tuple[LSTM, ...]
    attention: Attention


@struct.dataclass
class Generator:
    """The projection to the vocabulary."""

    kernel: Array  # [H, V]
    bias: Array  # [V]


@struct.dataclass
class Translator:
    """All parameters of one attention LSTM."""

    encoder: Encoder
    decoder: Decoder
    generator: Generator


@struct.dataclass
class DecoderState:
    """What one hypothesis carries: (c, h) of each layer and the last attentional vector."""

    layers: tuple[Carry, ...]
    feed: Array  # [H]


@functools.lru_cache(maxsize=64)
def attention_lstm(config: Config) -> Seq2Seq:
    """Builds the five pure functions of the attention LSTM; equal settings give the same ones.

    Shapes: src [S] and tgt [T] are ids filled with PAD; hidden vectors are h~ [H]; logits [V].
    Dropout happens exactly when a key is passed (sites of Zaremba et al. 2014, and h~).
    Parameters are a ``Translator``.

    Source: Luong et al. 2015, section 3; Kim & Rush 2016, section 4.
    """
    dtype = jnp.dtype(config.dtype)

    def cast(params: Translator) -> Translator:
        return jax.tree.map(lambda p: p.astype(dtype), params)

    def encode(params: Translator, src: Array, key: Array | None = None):
        return _encode(config, cast(params), src, key)

    def step(params: Translator, memory: Memory, state: DecoderState, token: Array):
        decoder = cast(params).decoder
        first = decoder.layers[0]
        sums = _sums(decoder, memory, decoder.embedding[token] @ first.inputs + first.bias)
        state, _ = _advance(config, affine(_weights(decoder, memory), sums), state)
        return state.feed, state

    def hidden(params: Translator, src: Array, tgt: Array, key: Array | None = None) -> Array:
        return _teacher_forced(config, cast(params), src, tgt, key)[0]

    def project(params: Translator, hidden: Array) -> Array:
        kernel = params.generator.kernel.astype(dtype)
        return dense(hidden.astype(dtype), kernel, jnp.float32) + params.generator.bias

    return Seq2Seq(lambda key: _init(config, key), encode, step, hidden, project)


def alignments(config: Config, params: Translator, src: Array, tgt: Array) -> Array:
    """Returns the attention weights [T, S] while ``tgt`` is predicted from ``src`` (float32)."""
    return _teacher_forced(config, params, src, tgt, None)[1]


def restrict(params: Translator, ids: Array) -> Translator:
    """Returns parameters for only the target words ``ids`` [C], which become words 0 to C - 1."""
    decoder, generator = params.decoder, params.generator
    return dataclasses.replace(
        params,
        decoder=dataclasses.replace(decoder, embedding=decoder.embedding[ids]),
        generator=Generator(generator.kernel[:, ids], generator.bias[ids]),
    )


def _init(config: Config, key: Array) -> Translator:
    width, hidden, scale = config.embed, config.hidden, config.init_scale
    keys = iter(jax.random.split(key, 3 * config.layers + 6))

    def stack() -> tuple[LSTM, ...]:
        widths = [width] + [hidden] * (config.layers - 1)
        return tuple(init_lstm(next(keys), w, hidden, scale) for w in widths)

    def embedding(size: int) -> Array:
        return uniform(next(keys), (size, width), scale).at[PAD].set(0)

    return Translator(
        encoder=Encoder(
            embedding=embedding(config.src_vocab),
            forward=stack(),
            backward=stack() if config.bidirectional else (),
        ),
        decoder=Decoder(
            embedding=embedding(config.tgt_vocab),
            feed=uniform(next(keys), (hidden, 4 * hidden), scale),
            layers=stack(),
            attention=init_attention(next(keys), hidden, scale),
        ),
        generator=Generator(
            kernel=uniform(next(keys), (hidden, config.tgt_vocab), scale),
            bias=uniform(next(keys), (config.tgt_vocab,), scale),
        ),
    )


def _encode(
    config: Config, params: Translator, src: Array, key: Array | None
) -> tuple[Memory, DecoderState]:
    """Reads the source; the decoder starts from the final state of each layer (``init_dec``)."""
    mask = src != PAD
    encoder = params.encoder
    xs = encoder.embedding[src]
    if key is not None:
        key, embed_key = jax.random.split(key)
        xs = _drop(embed_key, config.embed_dropout, xs)
    keys = (None, None) if key is None else jax.random.split(key)
    context, final = _stack(config, encoder.forward, xs, mask, keys[0], reverse=False)
    if encoder.backward:
        other, final_other = _stack(config, encoder.backward, xs, mask, keys[1], reverse=True)
        context, final = jax.tree.map(jnp.add, (context, final), (other, final_other))
    memory = remember(params.decoder.attention, context, mask)
    return memory, DecoderState(layers=final, feed=jnp.zeros_like(final[0][1]))


def _stack(
    config: Config,
    layers: tuple[LSTM, ...],
    xs: Array,
    mask: Array,
    key: Array | None,
    *,
    reverse: bool,
) -> tuple[Array, tuple[Carry, ...]]:
    """Runs the layers one above the other: outputs of the top [S, H], final state of each."""
    outputs, finals = [], []
    for number, layer in enumerate(layers):
        if number > 0:
            xs = _between(config, outputs)
            if key is not None:
                xs = _drop(jax.random.fold_in(key, number), config.dropout, xs)
        output, final = lstm_layer(layer, xs, mask, reverse=reverse)
        outputs.append(output)
        finals.append(final)
    return outputs[-1], tuple(finals)


def _between(config: Config, below: list[Array]) -> Array:
    """What a layer reads from those below it; the residual sum does not accumulate."""
    if config.residual and len(below) > 1:
        return below[-1] + below[-2]
    return below[-1]


def _drop(key: Array, rate: float, x: Array) -> Array:
    return x * dropout_mask(key, rate, x.shape, x.dtype) if rate else x


def _weights(decoder: Decoder, memory: Memory) -> Weights:
    """The matrices of a decoder step: what layer l reads from below and from itself; attention."""
    first, *rest = decoder.layers
    gates = {"gates0": (decoder.feed, first.recurrent)}
    gates |= {f"gates{n}": (layer.inputs, layer.recurrent) for n, layer in enumerate(rest, 1)}
    return gates | attention_weights(decoder.attention, memory)


def _sums(decoder: Decoder, memory: Memory, word: Array) -> Sums:
    """What the sums of a decoder step start from; ``word`` is the word's share, bias included."""
    gates = {f"gates{n}": layer.bias for n, layer in enumerate(decoder.layers)}
    return gates | {"gates0": word} | attention_sums(memory)


def _advance(
    config: Config, affine: Affine, state: DecoderState, masks: Array | None = None
) -> tuple[DecoderState, Array]:
    """One decoder step.

    Args:
      config: the model's shape.
      affine: over ``_weights`` and ``_sums``.
      state: of the step before.
      masks: dropout masks for layers 2.. and for h~, [layers, H]; None for no dropout.

    Returns:
      The new state, whose ``feed`` is h~ [H], and the attention weights [S].
    """
    outputs, carries = [], []
    for number, carry in enumerate(state.layers):
        x = _between(config, outputs) if outputs else state.feed
        if outputs and masks is not None:
            x = x * masks[number - 1]
        carries.append(lstm_cell(carry, affine(f"gates{number}", x, carry[1])))
        outputs.append(carries[-1][1])
    feed, weights = attend(affine, outputs[-1])
    # The dropped-out vector is both classified and fed to the next step.
    feed = feed if masks is None else feed * masks[-1]
    return DecoderState(layers=tuple(carries), feed=feed), weights


def _teacher_forced(
    config: Config, params: Translator, src: Array, tgt: Array, key: Array | None
) -> tuple[Array, Array]:
    """Predicts every word of ``tgt`` from those before it: h~ [T, H] and weights [T, S]."""
    decoder = params.decoder
    words = decoder.embedding[shift_right(tgt)]
    masks = encode_key = None
    if key is not None:
        encode_key, mask_key, embed_key = jax.random.split(key, 3)
        words = _drop(embed_key, config.embed_dropout, words)
        if config.dropout:
            shape = (tgt.shape[0], config.layers, config.hidden)
            masks = dropout_mask(mask_key, config.dropout, shape, words.dtype)
    memory, state = _encode(config, params, src, encode_key)

    def step(affine: Affine, state: DecoderState, masks: Array | None):
        state, weights = _advance(config, affine, state, masks)
        return state, (state.feed, weights)

    first = decoder.layers[0]
    sums = _sums(decoder, memory, dense(words, first.inputs) + first.bias[None])
    return recurrence(step, _weights(decoder, memory), state, sums, masks)[1]
