"""Encoder-decoders of flax.nnx as a ``Seq2Seq``; ``from_flax`` describes the contract."""

import inspect
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import nnx

from ..base import Array, Params, Seq2Seq, State
from ..errors import UsageError
from .from_flax import MAX_LEN, ModuleRunner, adapt, carries_state


def from_nnx(make: Callable[..., nnx.Module], *, max_len: int = MAX_LEN) -> Seq2Seq:
    """Makes a ``Seq2Seq`` of an nnx module with the methods encode, decode and project.

    Parameters are a plain nested dict of arrays; those of an existing module are
    ``nnx.to_pure_dict(nnx.state(module, nnx.Param))``. Dropout is switched by the module's
    ``train()`` and ``eval()``, and its random streams are reset from each key. The module's method
    ``init_cache(batch, max_len)`` creates its ``nnx.Cache`` variables; after that call, and only
    then, ``decode`` is called with one token at a time.

    Example:
        class Translator(nnx.Module):
            def __init__(self, vocab, *, rngs):
                self.words = nnx.Embed(vocab, 32, rngs=rngs)
                self.positions = nnx.Embed(64, 32, rngs=rngs)
                self.self_attention = nnx.MultiHeadAttention(4, 32, dropout_rate=0.1, rngs=rngs)
                self.cross_attention = nnx.MultiHeadAttention(4, 32, dropout_rate=0.1, rngs=rngs)
                self.cached = False

            def init_cache(self, batch, max_len):
                self.cached, self.length = True, nnx.Cache(jnp.int32(0))
                self.self_attention.init_cache((batch, max_len, 32))

            def encode(self, src):
                return self.words(src), (src != 0)[:, None, None]

            def decode(self, memory, tgt):
                mask, positions = nnx.make_causal_mask(tgt), jnp.arange(tgt.shape[1])
                if self.cached:
                    mask, positions = None, self.length[None]
                    self.length[...] += 1
                x = self.words(tgt) + self.positions(positions)[None]
                x += self.self_attention(x, mask=mask, decode=self.cached)
                return x + self.cross_attention(x, memory[0], mask=memory[1], decode=False)

            def project(self, hidden):
                return self.words.attend(hidden)

        model = skd.from_nnx(lambda rngs: Translator(20, rngs=rngs), max_len=64)
        params = model.init(jax.random.key(0))
        found = skd.translate(model, params, [np.array([5, 9, 4])])[0]  # tokens [1, T]

    Args:
      make: builds a module that fulfils the contract of ``from_flax``; called with
        ``rngs=nnx.Rngs(key)``.
      max_len: the maximum number of tokens in the cache, EOS included. Later hidden vectors are
        nan, so a search drops longer hypotheses.

    Raises:
      UsageError: ``make`` does not build a module, or the module lacks a method, has variables
        other than ``nnx.Param`` and random streams, or the shapes of its results do not fit
        together.
    """
    shapes = nnx.eval_shape(lambda: _build(make, nnx.Rngs(0)))
    name = type(shapes).__name__
    has_cache = callable(getattr(shapes, "init_cache", None))
    state = carries_state(shapes, has_cache, "a method init_cache(batch, max_len)")
    graph, _, streams, others = nnx.split(shapes, nnx.Param, nnx.RngState, ...)
    for path, variable in nnx.to_flat_state(others):
        raise UsageError(
            f"{name}.{'.'.join(map(str, path))} is a {type(variable).__name__}, which training "
            "does not update and checkpoints do not store; only nnx.Param and random streams "
            "are supported, and nnx.Cache after init_cache has been called."
        )
    streams = nnx.to_pure_dict(streams)

    def init(key: Array) -> Params:
        return nnx.to_pure_dict(nnx.state(_build(make, nnx.Rngs(key)), nnx.Param))

    def merge(params: Params, key: Array | None) -> Any:
        module = nnx.merge(graph, params, _reset(streams, key))
        module.eval() if key is None else module.train()
        return module

    def apply(params: Params, function: Callable, *args: Any, key: Array | None = None) -> Any:
        return function(merge(params, key), *args)

    def merge_with_cache(params: Params) -> Any:
        module = merge(params, None)
        module.init_cache(1, max_len)
        return module

    def new_cache(params: Params, memory: Any) -> State:
        del memory
        return nnx.to_pure_dict(nnx.state(merge_with_cache(params), nnx.Cache))

    def apply_cached(
        params: Params, cache: State, function: Callable, *args: Any
    ) -> tuple[Any, State]:
        module = merge_with_cache(params)
        nnx.update(module, cache)
        out = function(module, *args)
        return out, nnx.to_pure_dict(nnx.state(module, nnx.Cache))

    return adapt(ModuleRunner(init, apply, new_cache, apply_cached), state, max_len, name)


def _build(make: Callable[..., nnx.Module], rngs: nnx.Rngs) -> nnx.Module:
    received = f"an object of type {type(make).__name__}"
    if isinstance(make, nnx.Module):
        received = f"a {type(make).__name__} that has been built"
    elif callable(make):
        try:
            inspect.signature(make).bind(rngs=rngs)
        except TypeError as error:
            received = f"a function that cannot be called with rngs= alone ({error})"
        else:
            if isinstance(module := make(rngs=rngs), nnx.Module):
                return module
            received = f"a function that builds an object of type {type(module).__name__}"
    raise UsageError(
        f"from_nnx was given {received}, but expects a function that builds a new nnx.Module "
        "from each key: from_nnx(lambda rngs: Translator(20, rngs=rngs)). The parameters of an "
        "existing module are nnx.to_pure_dict(nnx.state(module, nnx.Param))."
    )


def _reset(streams: Any, key: Array | None) -> Any:
    """Resets the random streams, each to a key of its own derived from ``key``."""
    key = jax.random.key(0) if key is None else key
    leaves, tree = jax.tree.flatten(streams)
    return tree.unflatten(
        [
            jax.random.split(jax.random.fold_in(key, n), leaf.shape)
            if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)
            else jnp.zeros(leaf.shape, leaf.dtype)
            for n, leaf in enumerate(leaves)
        ]
    )
