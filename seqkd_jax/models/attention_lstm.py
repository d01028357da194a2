"""The attention LSTM of Luong et al. (2015) as Kim & Rush (2016) used it. One sentence.

encoder   stacked LSTM over the source, one direction or two (summed)
bridge    every decoder layer starts from the encoder's final state of that layer
decoder   stacked LSTM; layer 1 reads [embedding of the last word ; h~ of the step before]
output    h~ = tanh(W_c [attention context ; h]),  logits = W_o h~ + b_o

Each of these is a choice of ``plan.Parts``: other attentions or none, other cells and connections
between layers, an encoder of two columns, a decoder that attends below its stack.
"""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct

from ..base import BOS, EOS, PAD, Array, Seq2Seq, shift_right
from .attention import (
    Attention,
    Memory,
    add_lower_context,
    attend,
    attention_sums,
    attention_weights,
    attentional,
    init_attention,
    lower_sums,
    lower_weights,
    remember,
)
from .cells import (
    Affine,
    Carry,
    Layer,
    Sums,
    Weights,
    affine,
    dropout_mask,
    layer_sums,
    next_carry,
    recurrence,
    uniform,
)
from .config import Config as Config
from .config import check
from .dense import dense
from .stack import Level, init_stack, read_below, rise, run_stack


@struct.dataclass
class Encoder:
    """Word embeddings and one stack per column."""

    embedding: Array  # [source vocabulary, E]
    forward: tuple[Layer, ...]
    backward: tuple[Layer, ...]  # empty for one direction


@struct.dataclass
class Decoder:
    """Word embeddings, what layer 1 reads besides words, the stack, attention and bridge."""

    embedding: Array  # [V, E]
    feed: Any  # [R, 4H], for h~ of the step before, or for a context; () where nothing is read
    layers: tuple[Layer, ...]
    attention: Attention
    bridge: tuple[dict[str, Array], ...]  # c and h [encoder's width, H], where widths differ


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
    """What one hypothesis carries from step to step."""

    layers: tuple[Carry, ...]  # (c, h) of each
    feed: Any  # [H], h~ of the step before; () where no step reads it
    position: Array  # [] float32, words read; local attention asks for it


@functools.lru_cache(maxsize=64)
def attention_lstm(config: Config) -> Seq2Seq:
    """Builds the five pure functions of the attention LSTM; equal settings give the same ones.

    Shapes: src [S] and tgt [T] are ids filled with PAD; hidden vectors are h~ [H]; logits [V].
    Dropout happens exactly when a key is passed (sites of Zaremba et al. 2014, and h~).
    Parameters are a ``Translator``. Raises ValueError for parts that do not fit together.

    Source: Luong et al. 2015, section 3; Kim & Rush 2016, section 4.
    """
    check(config)
    dtype = jnp.dtype(config.dtype)

    def cast(params: Translator) -> Translator:
        return jax.tree.map(lambda p: p.astype(dtype), params)

    def encode(params: Translator, src: Array, key: Array | None = None):
        return _encode(config, cast(params), src, key)

    def step(params: Translator, memory: Memory, state: DecoderState, token: Array):
        decoder = cast(params).decoder
        word = decoder.embedding[token] @ decoder.layers[0].inputs
        weights = _weights(config, decoder, memory)
        weights |= attention_weights(config, decoder.attention, memory)
        sums = _sums(config, decoder, memory, word)
        sums |= attention_sums(config, decoder.attention, memory)
        state, hidden, _ = _advance(config, decoder, affine(weights, sums), memory.mask, state)
        return hidden, state

    def hidden(params: Translator, src: Array, tgt: Array, key: Array | None = None) -> Array:
        return _teacher_forced(config, cast(params), src, tgt, key)[0]

    def project(params: Translator, hidden: Array) -> Array:
        kernel = params.generator.kernel.astype(dtype)
        return dense(hidden.astype(dtype), kernel, jnp.float32) + params.generator.bias

    return Seq2Seq(lambda key: _init(config, key), encode, step, hidden, project)


def alignments(config: Config, params: Translator, src: Array, tgt: Array) -> Array:
    """Returns the attention weights [T, S] while ``tgt`` is predicted from ``src`` (float32).

    Columns are the words as they stand in ``src``. Raises ValueError without an attention.
    """
    if config.parts.attention == "none":
        raise ValueError('This model has attention="none": there are no weights to look at.')
    weights = _teacher_forced(config, params, src, tgt, None)[1]
    return weights[:, _place(config, src)]


def restrict(params: Translator, ids: Array) -> Translator:
    """Returns parameters for only the target words ``ids`` [C], which become words 0 to C - 1."""
    decoder, generator = params.decoder, params.generator
    return dataclasses.replace(
        params,
        decoder=dataclasses.replace(decoder, embedding=decoder.embedding[ids]),
        generator=Generator(generator.kernel[:, ids], generator.bias[ids]),
    )


def _init(config: Config, key: Array) -> Translator:
    hidden, scale, layers = config.hidden, config.init_scale, config.encoder_layers
    bridged = 0
    if config.parts.bridge == "state" and config.final_width != hidden:
        bridged = min(config.layers, layers)
    keys = iter(jax.random.split(key, 2 * layers + config.layers + 6 + bridged))

    def column() -> tuple[Layer, ...]:
        return init_stack(
            config, [next(keys) for _ in range(layers)], config.embed, config.encoder_hidden
        )

    def embedding(size: int) -> Array:
        return uniform(next(keys), (size, config.embed), scale).at[PAD].set(0)

    def pair(key: Array) -> dict[str, Array]:
        shape = (config.final_width, hidden)
        halves = zip("ch", jax.random.split(key), strict=True)
        return {name: uniform(k, shape, scale) for name, k in halves}

    encoder = Encoder(
        embedding=embedding(config.src_vocab),
        forward=column(),
        backward=column() if config.bidirectional else (),
    )
    words, read = embedding(config.tgt_vocab), config.read_width
    return Translator(
        encoder=encoder,
        decoder=Decoder(
            embedding=words,
            feed=uniform(next(keys), (read, 4 * hidden), scale) if read else (),
            layers=init_stack(
                config, [next(keys) for _ in range(config.layers)], config.embed, hidden
            ),
            attention=init_attention(config, next(keys)),
            bridge=tuple(pair(next(keys)) for _ in range(bridged)),
        ),
        generator=Generator(
            kernel=uniform(next(keys), (hidden, config.tgt_vocab), scale),
            bias=uniform(next(keys), (config.tgt_vocab,), scale),
        ),
    )


def _place(config: Config, src: Array) -> Array:
    """Where the encoder reads each position of ``src`` [S]; padding keeps its place."""
    places, words = jnp.arange(len(src)), (src != PAD).sum()
    if config.parts.reverse_source:
        places = jnp.where(places < words, words - 1 - places, places)
    return places + 1 if config.parts.start_symbols else places


def _arranged(config: Config, src: Array) -> Array:
    """The ids as the encoder reads them: reversed, between BOS and EOS, or as they are."""
    size = len(src) + (2 if config.parts.start_symbols else 0)
    arranged = jnp.zeros(size, src.dtype).at[_place(config, src)].set(src)
    if config.parts.start_symbols:
        arranged = arranged.at[0].set(BOS).at[(src != PAD).sum() + 1].set(EOS)
    return arranged


def _encode(
    config: Config, params: Translator, src: Array, key: Array | None
) -> tuple[Memory, DecoderState]:
    """Reads the source; the decoder starts from the final state of each layer (``init_dec``)."""
    parts, encoder = config.parts, params.encoder
    src = _arranged(config, src) if parts.reverse_source or parts.start_symbols else src
    mask = src != PAD
    xs = encoder.embedding[src]
    if key is not None:
        key, embed_key = jax.random.split(key)
        xs = _drop(embed_key, config.embed_dropout, xs)
    keys = (None, None) if key is None else jax.random.split(key)
    tops, finals = [], []
    for number, column in enumerate(c for c in (encoder.forward, encoder.backward) if c):
        turns = parts.join == "interleaved"
        reverse = tuple((n * turns + number) % 2 == 1 for n in range(len(column)))
        top, final = run_stack(config, column, xs, mask, keys[number], reverse)
        tops.append(top)
        finals.append(final)
    memory = remember(config, params.decoder.attention, _join(config, tops), mask)
    carries = _bridge(config, params.decoder, finals, xs.dtype)
    feed = jnp.zeros(config.hidden, xs.dtype) if config.feeding else ()
    return memory, DecoderState(layers=carries, feed=feed, position=jnp.float32(0))


def _join(config: Config, tops: list[Level]) -> Array:
    """The encoder's output [S, M] from the tops of its columns."""
    if config.summed:
        return sum((top.h for top in tops[1:]), start=tops[0].h)
    sides = [top.h for top in tops] + [top.f for top in tops if config.fast_forward]
    return jnp.concatenate(sides, axis=-1)


def _bridge(
    config: Config, decoder: Decoder, finals: list[tuple[Carry, ...]], dtype: jnp.dtype
) -> tuple[Carry, ...]:
    """The state that each decoder layer starts from: that of the encoder's layer beside it.

    Layers are paired from the top down; one without a partner starts from zero.
    """
    zero = jnp.zeros(config.hidden, dtype), jnp.zeros(config.hidden, dtype)
    if config.parts.bridge == "zero":
        return (zero,) * config.layers
    joined: list[Carry] = []
    for layer in list(zip(*finals, strict=True))[-config.layers :]:
        if config.summed:
            joined.append(jax.tree.map(lambda *sides: sum(sides[1:], start=sides[0]), *layer))
        else:
            joined.append(jax.tree.map(lambda *sides: jnp.concatenate(sides), *layer))
    if decoder.bridge:
        widths = zip(joined, decoder.bridge, strict=True)
        joined = [(dense(c, w["c"]), dense(h, w["h"])) for (c, h), w in widths]
    return (zero,) * (config.layers - len(joined)) + tuple(joined)


def _drop(key: Array, rate: float, x: Array) -> Array:
    return x * dropout_mask(key, rate, x.shape, x.dtype) if rate else x


def _weights(config: Config, decoder: Decoder, memory: Memory) -> Weights:
    """The matrices of a step of the stack: what layer l reads from below and from itself."""
    first, *rest = decoder.layers
    read: tuple[Array, ...] = (decoder.feed,) if config.reads else ()
    below = {"0": read} | {str(n): (layer.inputs,) for n, layer in enumerate(rest, 1)}
    itself = {str(n): (layer.recurrent,) for n, layer in enumerate(decoder.layers)}
    weights: Weights = lower_weights(memory) if config.parts.lower_attention else {}
    for n in below:
        if config.fast_forward:
            weights |= {f"below{n}": below[n], f"gates{n}": itself[n]}
        else:
            weights[f"gates{n}"] = below[n] + itself[n]
    return weights


def _sums(config: Config, decoder: Decoder, memory: Memory, word: Array) -> Sums:
    """What the sums of a step start from; ``word`` [..., 4H] is the word's share of layer 1."""
    sums: Sums = lower_sums(memory) if config.parts.lower_attention else {}
    row = (1,) * (word.ndim - 1) + (-1,)
    if config.read_width and not config.reads:
        word = word + (memory.values @ decoder.feed).reshape(row)  # the same in every step
    for n, layer in enumerate(decoder.layers):
        below = jnp.zeros_like(layer.bias) if n else word
        if config.fast_forward:
            sums |= {f"below{n}": below, f"gates{n}": layer.bias}
        else:
            sums[f"gates{n}"] = layer.bias if n else word + layer.bias.reshape(row)
        sums |= layer_sums(layer, f"gates{n}")
    return sums


def _stack_step(
    config: Config,
    layers: tuple[Layer, ...],
    affine: Affine,
    carries: tuple[Carry, ...],
    read: tuple[Array, ...],
    masks: Array | None,
) -> tuple[tuple[Carry, ...], Array]:
    """One step of the decoder's stack: new (c, h) of each layer, and the top's output [H]."""
    levels: list[Level] = []
    after = []
    for n, (layer, carry) in enumerate(zip(layers, carries, strict=True)):
        if n:
            drop = None if masks is None else masks[n - 1]
            if config.parts.lower_attention == n + 1:
                x = add_lower_context(affine, read_below(config, levels))
                read = (x if drop is None else x * drop,)
            else:
                read = (read_below(config, levels, drop),)
        if config.fast_forward:
            f = affine(f"below{n}", *read)
            gates = f + affine(f"gates{n}", carry[1])
        else:
            f = gates = affine(f"gates{n}", *read, carry[1])
        after.append(next_carry(layer, affine, f"gates{n}", carry, gates))
        levels.append(rise(config, levels, f, after[-1][1]))
    return tuple(after), levels[-1].h


def _advance(
    config: Config,
    decoder: Decoder,
    affine: Affine,
    mask: Array,
    state: DecoderState,
    masks: Array | None = None,
    finish: bool = True,
) -> tuple[DecoderState, Array, Any]:
    """One decoder step.

    Args:
      config: the model's shape.
      decoder: its parameters; products with matrices go through ``affine``.
      affine: over ``_weights`` and ``_sums``, and those of the attention.
      mask: [S], true at words.
      state: of the step before.
      masks: dropout masks for layers 2.. and for the output, [layers, H]; None for no dropout.
      finish: whether to go on from the stack's output to the hidden vector.

    Returns:
      The new state, the hidden vector [H] (the top's output, if not finished), and the attention
      weights [S] if any were looked at.
    """
    weights: Any = ()
    read: tuple[Array, ...] = (state.feed,) if config.feeding else ()
    if config.reads and not config.feeding:
        below = state.layers[0][1]
        weights = attend(config, affine, mask, below, state.position)
        read = (affine("context", weights.astype(below.dtype)),)
    carries, h = _stack_step(config, decoder.layers, affine, state.layers, read, masks)
    if finish:
        drop = None if masks is None else masks[-1]
        h, above = _finish(config, affine, mask, h, state.position, drop)
        weights = above if config.above else weights
    # The dropped-out vector is both classified and fed to the next step.
    feed = h if config.feeding else ()
    return DecoderState(carries, feed, state.position + 1), h, weights


def _finish(
    config: Config, affine: Affine, mask: Array, h: Array, position: Array, drop: Array | None
) -> tuple[Array, Any]:
    """From the stack's output [..., H] to the hidden vector, and the attention weights [..., S]."""
    weights: Any = ()
    if config.above:
        weights = attend(config, affine, mask, h, position)
        h = attentional(affine, weights, h)
    return (h if drop is None else h * drop), weights


def _teacher_forced(
    config: Config, params: Translator, src: Array, tgt: Array, key: Array | None
) -> tuple[Array, Any]:
    """Predicts every word of ``tgt`` from those before it: hidden [T, H] and weights [T, S].

    Without input feeding no step needs the attention of another: that of all positions is
    computed at once after the scan.
    """
    decoder, steps = params.decoder, tgt.shape[0]
    words = decoder.embedding[shift_right(tgt)]
    masks = encode_key = None
    if key is not None:
        encode_key, mask_key, embed_key = jax.random.split(key, 3)
        words = _drop(embed_key, config.embed_dropout, words)
        if config.dropout:
            shape = (steps, config.layers, config.hidden)
            masks = dropout_mask(mask_key, config.dropout, shape, words.dtype)
    memory, state = _encode(config, params, src, encode_key)
    matrices = attention_weights(config, decoder.attention, memory)
    starts = attention_sums(config, decoder.attention, memory)

    def step(affine: Affine, state: DecoderState, masks: Array | None):
        state, *out = _advance(
            config, decoder, affine, memory.mask, state, masks, finish=config.feeding
        )
        return state, tuple(out)

    weights = _weights(config, decoder, memory)
    sums = _sums(config, decoder, memory, dense(words, decoder.layers[0].inputs))
    if config.reads:
        weights, sums = weights | matrices, sums | starts
    hidden, attended = recurrence(step, weights, state, sums, masks)[1]
    if config.feeding:
        return hidden, attended
    rows = {name: jnp.broadcast_to(x, (steps, *x.shape)) for name, x in starts.items()}
    drop = None if masks is None else masks[:, -1]
    hidden, above = _finish(
        config, affine(matrices, rows, product=dense), memory.mask, hidden, jnp.arange(steps), drop
    )
    return hidden, above if config.above else attended
