"""The attention LSTM of Luong et al. (2015) as Kim & Rush (2016) used it, for one sentence.

encoder   stacked LSTM over the source, in one direction or two (summed)
bridge    every decoder layer starts from the final state of the same encoder layer
decoder   stacked LSTM; layer 1 reads [embedding of the last word ; h~ of the previous step]
output    h~ = tanh(W_c [attention context ; h]),  logits = W_o h~ + b_o
"""

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..base import Array, Seq2Seq, shift_right
from ..ops.recurrence import recurrence, zero_sum
from .blocks import Blocks, Carry, DecoderState, DecoderSums, Memory, WordLayers
from .config import Config
from .draws import dropout_mask
from .layers import run_stack
from .params import cast_params
from .reading_order import Order, is_word


class Network(NamedTuple):
    """The definition of an attention LSTM; ``model_of`` makes a ``Seq2Seq`` of it."""

    config: Config
    blocks: Blocks
    words: WordLayers
    order: Order = Order()  # in which the encoder reads the source


def read_source(
    net: Network, encoder: Any, src: Array, key: Array | None = None
) -> tuple[Array, list[Carry]]:
    """Runs the encoder over ids src [S]: outputs [S, M] and the final state of each layer."""
    columns_key, embed_key = (None, None) if key is None else jax.random.split(key)
    column_keys = (None, None) if columns_key is None else tuple(jax.random.split(columns_key))
    products = net.words.source(encoder, src, embed_key)
    return run_columns(net, encoder.columns, products, is_word(src), column_keys)


def run_columns(
    net: Network, columns: Sequence[Any], products: Sequence[Array], mask: Array, keys: Sequence
) -> tuple[Array, list[Carry]]:
    """Runs the columns, and joins their outputs and final states.

    ``products`` [S, G] are x @ inputs of each column's lowest layer, ``mask`` [S] is True at words.
    """
    cell, connections, _, join, *_ = net.blocks
    run, tops, finals = partial(run_stack, cell, connections, rate=net.config.dropout), [], []
    for n, layers in enumerate(columns):
        reverse = [join.reverse(n, layer) for layer in range(len(layers))]
        top, final = run(layers, products[n], mask, reverse, keys[n])
        tops.append(connections.context(top))
        finals.append(final)
    return join.context(tops), [join.state(states) for states in zip(*finals, strict=True)]


def encode(
    net: Network, params: Any, src: Array, key: Array | None = None
) -> tuple[Memory, DecoderState]:
    """Encodes the source: the memory and the decoder's initial state."""
    decoder, reader = params.decoder, net.blocks.reader
    context, finals = read_source(net, params.encoder, src, key)
    mask, zero = is_word(src), zero_sum(net.config.hidden, context)
    memory = Memory(mask=mask, reader=reader.memory(decoder.attention, context, mask))
    carries = net.blocks.bridge.start(decoder.bridge, finals, (zero, zero), net.config.layers)
    feed = (zero,) if reader.feeding else ()
    return memory, DecoderState(layers=carries, feed=feed, position=jnp.float32(0))


def decoder_sums(net: Network, decoder: Any, memory: Memory, words: Array) -> DecoderSums:
    """Returns the sums of decoder steps: layer 1's products with words are [G], or [T, G]."""
    reader, connections = net.blocks.reader, net.blocks.connections
    entry, vector = reader.sums(decoder.attention, memory.reader)
    lowest, *upper = decoder.layers
    sums = [connections.sums(lowest, reader.start(memory.reader, words), decoder.feed)]
    sums += [connections.sums(x, jnp.zeros_like(x.bias), (x.inputs,)) for x in upper]
    layers = zip(sums, [layer.cell for layer in decoder.layers], strict=True)
    return DecoderSums(tuple(layers), entry, vector)


def stack_step(
    net: Network, mask: Array, sums: DecoderSums, state: DecoderState, masks: Array | None
) -> tuple[tuple[Carry, ...], Array, Any]:
    """Runs one step of the decoder's stack: (c, h) of each layer, the top's output [H], weights.

    The weights [S] are those of the reader's ``entry``, or None.
    """
    cell, connections, reader, *_ = net.blocks
    xs, weights = reader.entry(sums.entry, mask, state)
    outputs, carries = [], []
    layers = zip(sums.layers, state.layers, strict=True)
    for n, ((layer_sums, cell_params), carry) in enumerate(layers):
        if n:
            x = reader.between(sums.entry, mask, n, connections.read(outputs))
            xs = (x if masks is None else connections.drop(x, masks[n - 1]),)
        products, gates = connections.gates(layer_sums, xs, carry[1])
        carries.append(cell.step(cell_params, carry, gates))
        outputs.append(connections.output(outputs, products, carries[-1][1]))
    return tuple(carries), outputs[-1].h, weights


def decoder_step(
    net: Network, mask: Array, sums: DecoderSums, state: DecoderState, masks: Array | None
) -> tuple[DecoderState, tuple[Array, Any]]:
    """Runs one decoder step: the new state, the hidden vector [H] and the attention weights [S].

    ``masks`` [layers, H] are dropout masks for the inputs of layers 2.. and for the hidden vector,
    which is both projected to logits and fed to the next step after dropout.
    """
    reader = net.blocks.reader
    carries, h, entry_weights = stack_step(net, mask, sums, state, masks)
    hidden, weights = reader.vector(sums.vector, mask, h, state.position)
    hidden = hidden if masks is None else hidden * masks[-1]
    feed = (hidden,) if reader.feeding else ()
    weights = entry_weights if weights is None else weights
    return DecoderState(carries, feed, state.position + 1), (hidden, weights)


def teacher_forced(
    net: Network, params: Any, src: Array, tgt: Array, key: Array | None = None
) -> tuple[Array, Any]:
    """Predicts each word of ``tgt`` from the words before it: hidden [T, H] and weights [T, S].

    Without input feeding no step depends on an earlier hidden vector, so the hidden vectors of all
    positions are computed together after the loop.
    """
    config, reader, steps = net.config, net.blocks.reader, len(tgt)
    encode_key, mask_key, embed_key = (None,) * 3 if key is None else jax.random.split(key, 3)
    words, masks = net.words.target(params.decoder, shift_right(tgt), embed_key), None
    if mask_key is not None and config.dropout:
        shape = (steps, config.layers, config.hidden)
        masks = dropout_mask(mask_key, config.dropout, shape, words.dtype)
    memory, state = encode(net, params, src, encode_key)
    sums = decoder_sums(net, params.decoder, memory, words)

    if reader.feeding:
        return recurrence(partial(decoder_step, net, memory.mask), sums, state, masks)[1]

    def stack_only(sums: DecoderSums, state: DecoderState, masks: Array | None) -> tuple:
        carries, h, weights = stack_step(net, memory.mask, sums, state, masks)
        return DecoderState(carries, (), state.position + 1), (h, weights)

    h, entry_weights = recurrence(stack_only, sums._replace(vector=()), state, masks)[1]
    vector = partial(reader.vector, sums.vector, memory.mask)
    hidden, weights = jax.vmap(vector)(h, jnp.arange(steps))
    hidden = hidden if masks is None else hidden * masks[:, -1]
    return hidden, entry_weights if weights is None else weights


def seq2seq(net: Network, init: Callable[[Array], Any]) -> Seq2Seq:
    """Returns the network as pure functions, which cast parameters to the config's dtype."""
    cast = partial(cast_params, dtype=net.config.dtype)

    def encode_source(params: Any, src: Array, key: Array | None = None):
        return encode(net, cast(params), src, key)

    def step(params: Any, memory: Memory, state: DecoderState, token: Array):
        decoder = cast(params).decoder
        sums = decoder_sums(net, decoder, memory, net.words.target(decoder, token, None))
        state, (hidden, _) = decoder_step(net, memory.mask, sums, state, None)
        return hidden.astype(net.config.dtype), state

    def hidden(params: Any, src: Array, tgt: Array, key: Array | None = None) -> Array:
        return teacher_forced(net, cast(params), src, tgt, key)[0].astype(net.config.dtype)

    def project(params: Any, hidden: Array) -> Array:
        return net.words.logits(params.generator, hidden)

    return Seq2Seq(init, encode_source, step, hidden, project)
