"""From a source sentence to what the decoder attends to and starts from."""

import jax
import jax.numpy as jnp

from ..base import BOS, EOS, PAD, Array
from ..errors import UsageError
from .attention import Memory, remember
from .cells import Carry, drop
from .config import Config
from .dense import dense
from .embedding import embed
from .stack import Level, run_stack
from .translator import Decoder, DecoderState, Encoder, Translator


def place(config: Config, src: Array) -> Array:
    """Where the encoder reads each position of ``src`` [S]; padding keeps its place."""
    places, words = jnp.arange(len(src)), _is_word(src).sum()
    if config.parts.reverse_source:
        places = jnp.where(places < words, words - 1 - places, places)
    return places + 1 if config.parts.start_symbols else places


def _arranged(config: Config, src: Array) -> Array:
    """The ids as the encoder reads them: reversed, between BOS and EOS, or as they are."""
    size = len(src) + (2 if config.parts.start_symbols else 0)
    arranged = jnp.zeros((size, *src.shape[1:]), src.dtype).at[place(config, src)].set(src)
    if config.parts.start_symbols:
        arranged = arranged.at[0].set(BOS).at[_is_word(src).sum() + 1].set(EOS)
    return arranged


def _is_word(src: Array) -> Array:
    """Which tokens [S] or rows [S, C] are words, not padding."""
    return (src if src.ndim == 1 else src[:, 0]) != PAD


def encode(
    config: Config, params: Translator, src: Array, key: Array | None
) -> tuple[Memory, DecoderState]:
    """Reads the source; the decoder starts from the final state of each layer (``init_dec``).

    Raises UsageError if there is a key and parameters are those of ``Seq2Seq.fixed``.
    """
    stacks = params.encoder.forward, params.decoder.layers
    if key is not None and any(isinstance(stack[0].inputs, tuple) for stack in stacks):
        raise UsageError("Parameters made by ``Seq2Seq.fixed`` are not for training.")
    context, finals, mask = read(config, params.encoder, src, key)
    memory = remember(config, params.decoder.attention, context, mask)
    carries = _bridge(config, params.decoder, finals, context.dtype)
    feed = jnp.zeros(config.hidden, context.dtype) if config.feeding else ()
    return memory, DecoderState(layers=carries, feed=feed, position=jnp.float32(0))


def read(
    config: Config, encoder: Encoder, src: Array, key: Array | None = None
) -> tuple[Array, list[tuple[Carry, ...]], Array]:
    """Runs the encoder's columns over ids src [S], in the order that it reads them.

    Returns:
      Outputs [S, M] (S + 2 with start symbols), the final state of each layer of each column, and
      the mask [S], true at words.
    """
    parts = config.parts
    src = _arranged(config, src) if parts.reverse_source or parts.start_symbols else src
    mask = _is_word(src)
    xs = embed(encoder.embedding, src)
    if key is not None:
        key, embed_key = jax.random.split(key)
        xs = drop(embed_key, config.embed_dropout, xs)
    keys = (None, None) if key is None else jax.random.split(key)
    tops, finals = [], []
    for number, column in enumerate(c for c in (encoder.forward, encoder.backward) if c):
        turns = parts.join == "interleaved"
        reverse = tuple((n * turns + number) % 2 == 1 for n in range(len(column)))
        top, final = run_stack(config, column, xs, mask, keys[number], reverse)
        tops.append(top)
        finals.append(final)
    return _join(config, tops), finals, mask


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
