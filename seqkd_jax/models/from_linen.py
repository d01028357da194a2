"""Encoder-decoders of flax.linen as a ``Seq2Seq``; ``from_flax`` describes the contract."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ..base import EOS, Array, Params, Seq2Seq, State
from ..errors import UsageError
from .from_flax import MAX_LEN, ModuleRunner, adapt, carries_state, decode, run_all


def from_linen(module: nn.Module, *, max_len: int = MAX_LEN) -> Seq2Seq:
    """Makes a ``Seq2Seq`` of a linen module with the methods encode, decode and project.

    Parameters are the module's collection "params", from ``module.init`` or a checkpoint. Two
    fields are set on modules that have them: ``deterministic`` is False while dropout is applied
    (random stream "dropout"), ``cached`` is True while the module decodes token by token. The
    cache has the shapes that ``decode`` creates for [B, max_len] tokens and starts from zeros.

    Example:
        class Translator(nn.Module):
            vocab: int
            deterministic: bool = True
            cached: bool = False

            def setup(self):
                self.words, self.positions = nn.Embed(self.vocab, 32), nn.Embed(64, 32)
                options = dict(num_heads=4, dropout_rate=0.1, deterministic=self.deterministic)
                self.self_attention = nn.MultiHeadDotProductAttention(decode=self.cached, **options)
                self.cross_attention = nn.MultiHeadDotProductAttention(**options)
                if self.cached:
                    self.length = self.variable("cache", "length", jnp.int32, 0)

            def encode(self, src):
                return self.words(src), (src != 0)[:, None, None]

            def decode(self, memory, tgt):
                mask, positions = nn.make_causal_mask(tgt), jnp.arange(tgt.shape[1])
                if self.cached:
                    mask, positions = None, self.length.value[None]
                    self.length.value += 1
                x = self.words(tgt) + self.positions(positions)[None]
                x += self.self_attention(x, mask=mask)
                return x + self.cross_attention(x, memory[0], mask=memory[1])

            def project(self, hidden):
                return self.words.attend(hidden)

        model = skd.from_linen(Translator(vocab=20), max_len=64)
        params = model.init(jax.random.key(0))
        found = skd.translate(model, params, [np.array([5, 9, 4])])[0]  # tokens [1, T]

    Args:
      module: fulfils the contract of ``from_flax``.
      max_len: the maximum number of tokens in the cache, EOS included. Later hidden vectors are
        nan, so a search drops longer hypotheses.

    Raises:
      UsageError: ``module`` is not a linen module, lacks a method, has collections other than
        "params" and "cache", or the shapes of its results do not fit together.
    """
    if not isinstance(module, nn.Module):
        received = (
            module.__name__
            if isinstance(module, type)
            else f"an object of type {type(module).__name__}"
        )
        raise UsageError(
            f"from_linen was given {received}, but expects an instance of a flax.linen module, as "
            "in from_linen(Translator(vocab=20))."
        )
    fields = {"deterministic", "cached"} & set(module.__dataclass_fields__)
    name = type(module).__name__
    state = carries_state(module, "cached" in fields, 'a field "cached: bool = False"')

    def configure(**flags: Any) -> nn.Module:
        return module.clone(**{k: v for k, v in flags.items() if k in fields})

    def init(key: Array) -> Params:
        ids = jnp.full((1, 2), EOS)
        variables = configure(deterministic=True, cached=False).init(key, ids, ids, method=run_all)
        if others := sorted(variables.keys() - {"params", "cache"}):
            raise UsageError(
                f"{name} has the collection {others[0]!r}, which training does not update and "
                "checkpoints do not store; only params and cache are supported."
            )
        return nn.unbox(variables.get("params", {}))

    def apply(params: Params, function: Callable, *args: Any, key: Array | None = None) -> Any:
        configured = configure(deterministic=key is None, cached=False)
        rngs = None if key is None else {"dropout": key}
        return configured.apply({"params": params}, *args, rngs=rngs, method=function)

    def apply_cached(
        params: Params, cache: State, function: Callable, *args: Any
    ) -> tuple[Any, State]:
        variables = {"params": params, "cache": cache}
        configured = configure(deterministic=True, cached=True)
        out, updated = configured.apply(variables, *args, method=function, mutable=["cache"])
        return out, updated.get("cache", {})

    def new_cache(params: Params, memory: Any) -> State:
        tokens = jnp.zeros((1, max_len), jnp.int32)

        def first_cache(params: Params, memory: Any) -> State:
            return apply_cached(params, {}, decode, memory, tokens)[1]

        # Only the shapes: in some modules this call already writes to the cache, in others not.
        shapes = jax.eval_shape(first_cache, params, memory)
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)

    return adapt(ModuleRunner(init, apply, new_cache, apply_cached), state, max_len, name)
