"""A decoder step, and the loop over a target that is known."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from ..base import Array, shift_right
from .attention import (
    Memory,
    add_lower_context,
    attend,
    attention_sums,
    attention_weights,
    attentional,
    lower_sums,
    lower_weights,
)
from .cells import (
    Affine,
    Carry,
    Layer,
    Sums,
    Weights,
    affine,
    drop,
    dropout_mask,
    layer_sums,
    next_carry,
    recurrence,
)
from .config import Config
from .dense import dense
from .embedding import embed
from .encoder import encode
from .stack import Level, read_below, rise
from .translator import Decoder, DecoderState, Translator


def teacher_forced(
    config: Config,
    params: Translator,
    src: Array,
    tgt: Array,
    key: Array | None,
    spelling: np.ndarray | None,
) -> tuple[Array, Any]:
    """Predicts every word of ``tgt`` from those before it: hidden [T, H] and weights [T, S].

    Without input feeding no step needs the attention of another: that of all positions is
    computed at once after the scan.
    """
    decoder, steps = params.decoder, tgt.shape[0]
    words = embed(decoder.embedding, shift_right(tgt), spelling)
    masks = encode_key = None
    if key is not None:
        encode_key, mask_key, embed_key = jax.random.split(key, 3)
        words = drop(embed_key, config.embed_dropout, words)
        if config.dropout:
            shape = (steps, config.layers, config.hidden)
            masks = dropout_mask(mask_key, config.dropout, shape, words.dtype)
    memory, state = encode(config, params, src, encode_key)
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
    last = None if masks is None else masks[:, -1]
    hidden, above = _finish(
        config, affine(matrices, rows, product=dense), memory.mask, hidden, jnp.arange(steps), last
    )
    return hidden, above if config.above else attended


def step(
    config: Config, decoder: Decoder, memory: Memory, state: DecoderState, word: Array
) -> tuple[Array, DecoderState]:
    """Reads one word, as its vector [E]: the hidden vector [H] and the new state."""
    matrices = _weights(config, decoder, memory)
    sums = _sums(config, decoder, memory, dense(word, decoder.layers[0].inputs))
    matrices |= attention_weights(config, decoder.attention, memory)
    sums |= attention_sums(config, decoder.attention, memory)
    state, hidden, _ = _advance(config, decoder, affine(matrices, sums), memory.mask, state)
    return hidden, state


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
