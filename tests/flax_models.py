"""Encoder-decoders as users of Flax write them: a Transformer and an LSTM, each in both APIs."""

import functools

import jax
import jax.numpy as jnp
import numpy as np
from flax import linen as nn
from flax import nnx
from small import SRC_VOCAB, TGT_VOCAB

from seqkd_jax.models.from_linen import from_linen
from seqkd_jax.models.from_nnx import from_nnx

LIST = getattr(nnx, "List", list)  # a plain list before Flax 0.12
WIDTH, HEADS, DROPOUT, MAX_LEN = 16, 2, 0.3, 10


def sinusoids(places):
    """The position vectors [T, WIDTH] of Vaswani et al. (2017), section 3.5."""
    rates = 10000.0 ** (-jnp.arange(0, WIDTH, 2) / WIDTH)
    angles = jnp.asarray(places, jnp.float32)[:, None] * rates[None]
    return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=1)


class LinenBlock(nn.Module):
    deterministic: bool
    cached: bool = False

    @nn.compact
    def __call__(self, x, mask, memory=None, memory_mask=None):
        attention = functools.partial(
            nn.MultiHeadDotProductAttention,
            HEADS,
            dropout_rate=DROPOUT,
            deterministic=self.deterministic,
        )
        drop = nn.Dropout(DROPOUT, deterministic=self.deterministic)
        x += drop(attention(decode=self.cached)(nn.LayerNorm()(x), mask=mask))
        if memory is not None:
            x += drop(attention()(nn.LayerNorm()(x), memory, mask=memory_mask))
        return x + drop(nn.Dense(WIDTH)(nn.relu(nn.Dense(WIDTH * 2)(nn.LayerNorm()(x)))))


class LinenTransformer(nn.Module):
    """Sinusoidal positions, pre-norm, one layer a side."""

    deterministic: bool = False
    cached: bool = False

    def setup(self):
        self.src_words, self.words = nn.Embed(SRC_VOCAB, WIDTH), nn.Embed(TGT_VOCAB, WIDTH)
        self.encoder = LinenBlock(self.deterministic)
        self.decoder = LinenBlock(self.deterministic, self.cached)
        self.norm, self.output = nn.LayerNorm(), nn.Dense(TGT_VOCAB)
        if self.cached:
            self.length = self.variable("cache", "length", jnp.int32, 0)

    def encode(self, src):
        mask = (src != 0)[:, None, None]
        x = self.src_words(src) + sinusoids(jnp.arange(src.shape[1]))[None]
        return self.encoder(x, mask), mask

    def decode(self, memory, tgt):
        mask, places = nn.make_causal_mask(tgt), jnp.arange(tgt.shape[1])
        if self.cached:
            mask, places = None, self.length.value[None]
            self.length.value += 1
        x = self.words(tgt) + sinusoids(places)[None]
        return self.norm(self.decoder(x, mask, *memory))

    def project(self, hidden):
        return self.output(hidden)

    def __call__(self, src, tgt):
        return self.project(self.decode(self.encode(src), tgt))


class LinenLSTM(nn.Module):
    """No cache and no dropout: the carry is the state, and decode gives logits."""

    def setup(self):
        self.src_words, self.words = nn.Embed(SRC_VOCAB, WIDTH), nn.Embed(TGT_VOCAB, WIDTH)
        self.reader = nn.RNN(nn.OptimizedLSTMCell(WIDTH), return_carry=True)
        self.cell = nn.OptimizedLSTMCell(WIDTH)
        self.writer = nn.RNN(self.cell)
        self.output = nn.Dense(TGT_VOCAB)

    def encode(self, src):
        return self.reader(self.src_words(src), seq_lengths=(src != 0).sum(1))[0]

    def decode(self, memory, tgt):
        return self.output(self.writer(self.words(tgt), initial_carry=memory))

    def init_state(self, memory):
        return memory

    def step(self, memory, state, token):
        del memory
        state, x = self.cell(state, self.words(token))
        return self.output(x), state

    def __call__(self, src, tgt):
        return self.decode(self.encode(src), tgt)


class NnxBlock(nnx.Module):
    def __init__(self, *, cross, rngs):
        make = functools.partial(
            nnx.MultiHeadAttention, HEADS, WIDTH, dropout_rate=DROPOUT, decode=False, rngs=rngs
        )
        self.norms = LIST([nnx.LayerNorm(WIDTH, rngs=rngs) for _ in range(3 if cross else 2)])
        self.own, self.cross = make(), make() if cross else None
        self.up = nnx.Linear(WIDTH, WIDTH * 2, rngs=rngs)
        self.down = nnx.Linear(WIDTH * 2, WIDTH, rngs=rngs)
        self.drop = nnx.Dropout(DROPOUT, rngs=rngs)

    def __call__(self, x, mask, memory=None, memory_mask=None, cached=False):
        x += self.drop(self.own(self.norms[0](x), mask=mask, decode=cached))
        if self.cross is not None:
            x += self.drop(self.cross(self.norms[2](x), memory, mask=memory_mask))
        return x + self.drop(self.down(nnx.relu(self.up(self.norms[1](x)))))


class NnxTransformer(nnx.Module):
    """Learned positions, pre-norm, one layer a side."""

    def __init__(self, *, rngs):
        self.src_words = nnx.Embed(SRC_VOCAB, WIDTH, rngs=rngs)
        self.words = nnx.Embed(TGT_VOCAB, WIDTH, rngs=rngs)
        self.places = nnx.Embed(MAX_LEN, WIDTH, rngs=rngs)
        self.encoder = NnxBlock(cross=False, rngs=rngs)
        self.decoder = NnxBlock(cross=True, rngs=rngs)
        self.norm = nnx.LayerNorm(WIDTH, rngs=rngs)
        self.output = nnx.Linear(WIDTH, TGT_VOCAB, rngs=rngs)
        self.cached = False

    def init_cache(self, batch, max_len):
        self.cached, self.length = True, nnx.Cache(jnp.int32(0))
        self.decoder.own.init_cache((batch, max_len, WIDTH))

    def encode(self, src):
        mask = (src != 0)[:, None, None]
        x = self.src_words(src) + self.places(jnp.arange(src.shape[1]))[None]
        return self.encoder(x, mask), mask

    def decode(self, memory, tgt):
        mask, places = nnx.make_causal_mask(tgt), jnp.arange(tgt.shape[1])
        if self.cached:
            mask, places = None, self.length[None]
            self.length[...] += 1
        x = self.words(tgt) + self.places(places)[None]
        return self.norm(self.decoder(x, mask, *memory, cached=self.cached))

    def project(self, hidden):
        return self.output(hidden)

    def __call__(self, src, tgt):
        return self.project(self.decode(self.encode(src), tgt))


class NnxLSTM(nnx.Module):
    """As ``LinenLSTM``, with dropout and a projection."""

    def __init__(self, *, rngs):
        self.src_words = nnx.Embed(SRC_VOCAB, WIDTH, rngs=rngs)
        self.words = nnx.Embed(TGT_VOCAB, WIDTH, rngs=rngs)
        cell = nnx.OptimizedLSTMCell(WIDTH, WIDTH, rngs=rngs)
        self.reader = nnx.RNN(cell, return_carry=True, rngs=rngs)
        self.cell = nnx.OptimizedLSTMCell(WIDTH, WIDTH, rngs=rngs)
        self.writer = nnx.RNN(self.cell, rngs=rngs)
        self.drop = nnx.Dropout(DROPOUT, rngs=rngs)
        self.output = nnx.Linear(WIDTH, TGT_VOCAB, rngs=rngs)

    def encode(self, src):
        return self.reader(self.src_words(src), seq_lengths=(src != 0).sum(1))[0]

    def decode(self, memory, tgt):
        return self.drop(self.writer(self.words(tgt), initial_carry=memory))

    def init_state(self, memory):
        return memory

    def step(self, memory, state, token):
        del memory
        state, x = self.cell(state, self.words(token))
        return self.drop(x), state

    def project(self, hidden):
        return self.output(hidden)

    def __call__(self, src, tgt):
        return self.project(self.decode(self.encode(src), tgt))


MODELS = {
    "linen": from_linen(LinenTransformer(), max_len=MAX_LEN),
    "linen-lstm": from_linen(LinenLSTM()),
    "nnx": from_nnx(NnxTransformer, max_len=MAX_LEN),
    "nnx-lstm": from_nnx(NnxLSTM),
}


@functools.cache
def flax_params(name: str):
    """Parameters far from their symmetric start, so that places and words matter."""
    drawn = jax.jit(MODELS[name].init)(jax.random.key(3))
    rng = np.random.default_rng(0)
    return jax.tree.map(lambda x: x + rng.normal(size=x.shape).astype(np.float32) / 4, drawn)


@functools.cache
def in_batches(name: str):
    """The module called by itself, on a batch: (params, src [B, S], read [B, T]) -> [B, T, V]."""
    if name.startswith("linen"):
        module = LinenTransformer(deterministic=True) if name == "linen" else LinenLSTM()
        return jax.jit(lambda params, *words: module.apply({"params": params}, *words))
    module = (NnxTransformer if name == "nnx" else NnxLSTM)(rngs=nnx.Rngs(0))

    def call(params, *words):
        changed = nnx.clone(module)
        nnx.update(changed, params)
        changed.eval()
        return changed(*words)

    return jax.jit(call)
