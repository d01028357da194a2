"""The attention LSTM of Luong et al. (2015) as Kim & Rush (2016) used it. One sentence.

encoder   stacked LSTM over the source, one direction or two (summed)
bridge    every decoder layer starts from the encoder's final state of that layer
decoder   stacked LSTM; layer 1 reads [embedding of the last word ; h~ of the step before]
output    h~ = tanh(W_c [attention context ; h]),  logits = W_o h~ + b_o

Layers and stacks of them are in ``layers``, the attention in ``attention``; this file puts them
together. Embeddings and the projection, where it meets its vocabularies, are ``words.words_of``.
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..base import PAD, Array, Seq2Seq, shift_right
from ..ops.recurrence import recurrence
from .blocks import Blocks, Carry, DecoderState, DecoderSums, Memory, Words
from .config import Config
from .draws import dropout_mask
from .layers import Stack, run_stack


class Network(NamedTuple):
    """An attention LSTM before it is a ``Seq2Seq``."""

    config: Config
    blocks: Blocks
    words: Words


def read_source(
    net: Network, encoder: Any, src: Array, key: Array | None = None
) -> tuple[Array, list[Carry]]:
    """Runs the encoder's columns over ids src [S]: outputs [S, M], final states of each layer."""
    of_columns, of_embeddings = (None, None) if key is None else jax.random.split(key)
    keys = (None, None) if of_columns is None else tuple(jax.random.split(of_columns))
    products = net.words.source(encoder, src, of_embeddings)
    return run_columns(net, encoder.columns, products, is_word(src), keys)


def run_columns(
    net: Network, columns: Sequence[Any], products: Sequence[Array], mask: Array, keys: Sequence
) -> tuple[Array, list[Carry]]:
    """Runs the columns from the products of their inputs: outputs and final states, joined."""
    cell, connections, _, joint, _ = net.blocks
    stack, tops, finals = Stack(cell, connections, net.config.dropout), [], []
    for number, column in enumerate(columns):
        reverse = [joint.reverse(number, n) for n in range(len(column))]
        top, final = run_stack(stack, column, products[number], mask, keys[number], reverse)
        tops.append(connections.context(top))
        finals.append(final)
    return joint.context(tops), [joint.state(sides) for sides in zip(*finals, strict=True)]


def is_word(src: Array) -> Array:
    """Which tokens [S] or rows [S, C] are words, not padding."""
    return (src if src.ndim == 1 else src[:, 0]) != PAD


def encode(
    net: Network, params: Any, src: Array, key: Array | None = None
) -> tuple[Memory, DecoderState]:
    """Reads the source; the decoder starts from the final state of each layer (``init_dec``)."""
    decoder, reader = params.decoder, net.blocks.reader
    context, finals = read_source(net, params.encoder, src, key)
    mask, zero = is_word(src), jnp.zeros(net.config.hidden, context.dtype)
    memory = Memory(mask, reader.memory(decoder.attention, context, mask))
    carries = net.blocks.bridge.start(decoder.bridge, finals, (zero, zero), net.config.layers)
    feed = (zero,) if reader.feeding else ()
    return memory, DecoderState(layers=carries, feed=feed, position=jnp.float32(0))


def decoder_sums(net: Network, decoder: Any, memory: Memory, word: Array) -> DecoderSums:
    """The sums of steps that read words, by their products [..., G] with layer 1's matrix."""
    reader, connections = net.blocks.reader, net.blocks.connections
    entry, vector = reader.sums(decoder.attention, memory.read)
    first, *rest = decoder.layers
    sums = [connections.sums(first, reader.start(memory.read, word), decoder.feed)]
    for layer in rest:
        sums.append(connections.sums(layer, jnp.zeros_like(layer.bias), (layer.inputs,)))
    own = [layer.cell for layer in decoder.layers]
    return DecoderSums(tuple(zip(sums, own, strict=True)), entry, vector)


def stack_step(
    net: Network, mask: Array, sums: DecoderSums, state: DecoderState, masks: Array | None
) -> tuple[tuple[Carry, ...], Array, Any]:
    """One step of the decoder's stack: (c, h) of each layer, the top's output [H], weights."""
    cell, connections, reader, *_ = net.blocks
    xs, weights = reader.entry(sums.entry, mask, state)
    outputs, carries = [], []
    for n, ((total, own), carry) in enumerate(zip(sums.layers, state.layers, strict=True)):
        if n:
            x = reader.between(sums.entry, mask, n, connections.read(outputs))
            xs = (x if masks is None else connections.drop(x, masks[n - 1]),)
        products, gates = connections.gates(total, xs, carry[1])
        carries.append(cell.step(own, carry, gates))
        outputs.append(connections.output(outputs, products, carries[-1][1]))
    return tuple(carries), outputs[-1].h, weights


def decoder_step(
    net: Network, mask: Array, sums: DecoderSums, state: DecoderState, masks: Array | None
) -> tuple[DecoderState, tuple[Array, Any]]:
    """One decoder step: the new state, the hidden vector [H] and the attention weights [S].

    ``masks`` are of dropout, for layers 2.. and for the hidden vector, [layers, H]. The
    dropped-out vector is both classified and fed to the next step.
    """
    reader = net.blocks.reader
    carries, h, entered = stack_step(net, mask, sums, state, masks)
    hidden, weights = reader.vector(sums.vector, mask, h, state.position)
    hidden = hidden if masks is None else hidden * masks[-1]
    feed = (hidden,) if reader.feeding else ()
    weights = entered if weights is None else weights
    return DecoderState(carries, feed, state.position + 1), (hidden, weights)


def teacher_forced(
    net: Network, params: Any, src: Array, tgt: Array, key: Array | None = None
) -> tuple[Array, Any]:
    """Predicts every word of ``tgt`` from those before it: hidden [T, H] and weights [T, S].

    Without input feeding no step needs the hidden vector of another: those of all positions are
    computed at once after the loop.
    """
    config, reader, steps = net.config, net.blocks.reader, len(tgt)
    encode_key, mask_key, embed_key = (None,) * 3 if key is None else jax.random.split(key, 3)
    words = net.words.target(params.decoder, shift_right(tgt), embed_key)
    masks = None
    if mask_key is not None and config.dropout:
        shape = (steps, config.layers, config.hidden)
        masks = dropout_mask(mask_key, config.dropout, shape, words.dtype)
    memory, state = encode(net, params, src, encode_key)
    sums = decoder_sums(net, params.decoder, memory, words)

    if reader.feeding:
        return recurrence(partial(decoder_step, net, memory.mask), sums, state, masks)[1]

    def below(sums: DecoderSums, state: DecoderState, masks: Array | None) -> tuple:
        carries, h, weights = stack_step(net, memory.mask, sums, state, masks)
        return DecoderState(carries, (), state.position + 1), (h, weights)

    h, entered = recurrence(below, sums._replace(vector=()), state, masks)[1]
    vector = partial(reader.vector, sums.vector, memory.mask)
    hidden, weights = jax.vmap(vector)(h, jnp.arange(steps))
    hidden = hidden if masks is None else hidden * masks[:, -1]
    return hidden, entered if weights is None else weights


def seq2seq(net: Network, init: Callable[[Array], Any]) -> Seq2Seq:
    """Returns the network's pure functions; parameters are computed with in its dtype."""
    dtype = jnp.dtype(net.config.dtype)

    def cast(params: Any) -> Any:
        return jax.tree.map(lambda p: p.astype(dtype), params)

    def run(params: Any, src: Array, key: Array | None = None):
        return encode(net, cast(params), src, key)

    def step(params: Any, memory: Memory, state: DecoderState, token: Array):
        decoder = cast(params).decoder
        sums = decoder_sums(net, decoder, memory, net.words.target(decoder, token, None))
        state, (hidden, _) = decoder_step(net, memory.mask, sums, state, None)
        return hidden, state

    def hidden(params: Any, src: Array, tgt: Array, key: Array | None = None) -> Array:
        return teacher_forced(net, cast(params), src, tgt, key)[0]

    def project(params: Any, hidden: Array) -> Array:
        return net.words.logits(params.generator, hidden)

    return Seq2Seq(init, run, step, hidden, project)
