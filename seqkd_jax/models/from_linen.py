"""Encoder-decoders of flax.linen as a ``Seq2Seq``; the contract is in ``from_flax``."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import linen as nn

from ..base import EOS, Array, Params, Seq2Seq, State
from ..errors import UsageError
from .from_flax import MAX_LEN, Runs, adapt, carries_state, decode, everything


def from_linen(module: nn.Module, *, max_len: int = MAX_LEN) -> Seq2Seq:
    """Makes a ``Seq2Seq`` of a linen module that has encode, decode and project.

    Parameters are the module's collection "params": what ``module.init`` gives, or a checkpoint.
    Two fields of the module are set for it, where it has them: ``deterministic`` is False while
    dropout acts (random stream "dropout"), ``cached`` is True while it decodes token by token.
    Its cache is what it makes when it is given [B, max_len] tokens, and starts from zeros.

    Example:
        class Translator(nn.Module):
            vocab: int
            deterministic: bool = True
            cached: bool = False

            def setup(self):
                self.words, self.places = nn.Embed(self.vocab, 32), nn.Embed(64, 32)
                heads = dict(num_heads=4, dropout_rate=0.1, deterministic=self.deterministic)
                self.own = nn.MultiHeadDotProductAttention(decode=self.cached, **heads)
                self.cross = nn.MultiHeadDotProductAttention(**heads)
                if self.cached:
                    self.length = self.variable("cache", "length", jnp.int32, 0)

            def encode(self, src):
                return self.words(src), (src != 0)[:, None, None]

            def decode(self, memory, tgt):
                mask, place = nn.make_causal_mask(tgt), jnp.arange(tgt.shape[1])
                if self.cached:
                    mask, place = None, self.length.value[None]
                    self.length.value += 1
                x = self.words(tgt) + self.places(place)[None]
                x += self.own(x, mask=mask)
                return x + self.cross(x, memory[0], mask=memory[1])

            def project(self, hidden):
                return self.words.attend(hidden)

        model = skd.from_linen(Translator(vocab=20), max_len=64)
        params = model.init(jax.random.key(0))
        found = skd.translate(model, params, [np.array([5, 9, 4])])[0]  # tokens [1, T]

    Args:
      module: see ``from_flax``.
      max_len: the most tokens that the cache holds, EOS counted. After these the hidden vectors
        are nan, so that a search drops hypotheses that are longer.

    Raises:
      UsageError: it is no linen module, lacks a method, or has collections other than "params"
        and "cache"; or its results do not fit together.
    """
    if not isinstance(module, nn.Module):
        given = (
            module.__name__
            if isinstance(module, type)
            else f"an object of type {type(module).__name__}"
        )
        raise UsageError(
            f"from_linen was given {given}, but expects an instance of a flax.linen module, as "
            "in from_linen(Translator(vocab=20))."
        )
    fields = {"deterministic", "cached"} & set(module.__dataclass_fields__)
    name = type(module).__name__
    state = carries_state(module, "cached" in fields, 'a field "cached: bool = False"')

    def flagged(**flags: Any) -> nn.Module:
        return module.clone(**{k: v for k, v in flags.items() if k in fields})

    def init(key: Array) -> Params:
        words = jnp.full((1, 2), EOS)
        made = flagged(deterministic=True, cached=False).init(key, words, words, method=everything)
        if others := sorted(made.keys() - {"params", "cache"}):
            raise UsageError(
                f"{name} has the collection {others[0]!r}, which training does not update and "
                "checkpoints do not hold; only params and cache may be there."
            )
        return nn.unbox(made.get("params", {}))

    def plain(params: Params, function: Callable, *args: Any, key: Array | None = None) -> Any:
        bare = flagged(deterministic=key is None, cached=False)
        rngs = None if key is None else {"dropout": key}
        return bare.apply({"params": params}, *args, rngs=rngs, method=function)

    def cached(params: Params, cache: State, function: Callable, *args: Any) -> tuple[Any, State]:
        variables = {"params": params, "cache": cache}
        bare = flagged(deterministic=True, cached=True)
        out, after = bare.apply(variables, *args, method=function, mutable=["cache"])
        return out, after.get("cache", {})

    def new_cache(params: Params, memory: Any) -> State:
        tokens = jnp.zeros((1, max_len), jnp.int32)
        # Shapes alone: some modules count this call among those that write, some do not.
        whole = jax.eval_shape(lambda p, m: cached(p, {}, decode, m, tokens)[1], params, memory)
        return jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), whole)

    return adapt(Runs(init, plain, new_cache, cached), state, max_len, name)
