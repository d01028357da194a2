"""What a module of Flax must have to become a ``Seq2Seq``; see ``from_linen`` and ``from_nnx``.

It is written for batches, as modules usually are. The adaptor gives it a batch of one; the maps
over sentences come later, around it. It has the methods

    encode(src [B, S]) -> memory              any pytree of [B, ...] arrays
    decode(memory, tgt [B, T]) -> [B, T, H]   tgt begins with BOS; place t has read tgt[:, :t + 1]
    project(hidden [B, T, H]) -> [B, T, V]    left out where decode returns logits itself

Ids are filled with PAD, 0, and masks are the module's own: ``memory`` holds ``src != 0`` for all
that reads the source, the causal mask of ``decode`` keeps what fills the target from being read.
The places of words are its own as well. Dropout acts exactly when a key is passed.

What a hypothesis carries while sentences are searched for is either a cache or a state:

    cache   ``decode`` is given one token [B, 1] at a time, and what it keeps of those before lies
            in the collection "cache" of linen, in variables ``nnx.Cache`` of nnx.
    state   ``init_state(memory) -> state`` and
            ``step(memory, state, token [B]) -> (hidden [B, H], state)`` say what it is: any pytree
            of [B, ...] arrays, such as the carry of an RNN.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..base import EOS, Array, Params, Seq2Seq, State, shift_right
from ..errors import UsageError

MAX_LEN = 200  # as long as ``Search`` looks for translations


class Runs(NamedTuple):
    """How modules of one kind are run; ``function`` is given a module and then ``args``."""

    init: Callable[[Array], Params]  # (key) -> params
    plain: Callable[..., Any]  # (params, function, *args, key=None) -> what it returns
    new_cache: Callable[[Params, Any], State]  # (params, memory) -> cache
    cached: Callable[..., tuple[Any, State]]  # (params, cache, function, *args) -> the same, cache


def encode(module: Any, src: Array) -> Any:
    """Calls the module's encoder."""
    return module.encode(src)


def decode(module: Any, memory: Any, tgt: Array) -> Any:
    """Calls the module's decoder."""
    return module.decode(memory, tgt)


def project(module: Any, hidden: Any) -> Array:
    """Calls the module's projection, if it has one."""
    return module.project(hidden) if hasattr(module, "project") else hidden


def everything(module: Any, src: Array, tgt: Array) -> Array:
    """Calls all that has parameters."""
    return project(module, decode(module, encode(module, src), tgt))


def carries_state(module: Any, has_cache: bool, cache: str) -> bool:
    """Whether a module steps by a state of its own and not by its cache.

    Raises UsageError if it has neither, or no encoder or decoder; ``cache`` names what it lacks.
    """
    has = {
        name: callable(getattr(module, name, None))
        for name in ("encode", "decode", "init_state", "step")
    }
    name = type(module).__name__
    for method in ("encode", "decode"):
        if not has[method]:
            raise UsageError(
                f"{name} has no method {method}; see help(seqkd_jax.models.from_flax)."
            )
    if not (has_cache or has["init_state"] and has["step"]):
        raise UsageError(
            f"{name} cannot decode token by token: it needs {cache}, or the methods init_state "
            "and step; see help(seqkd_jax.models.from_flax)."
        )
    return has["init_state"] and has["step"]


def adapt(runs: Runs, own_state: bool, max_len: int, name: str) -> Seq2Seq:
    """Takes the batch axis off a module that fulfils the contract.

    Args:
      runs: how it is run.
      own_state: as ``carries_state`` says.
      max_len: tokens that a cache holds.
      name: of the module, for errors.

    Raises:
      UsageError: the results of the module's methods do not fit together.
    """

    def of_one(params: Params, src: Array, key: Array | None = None) -> tuple[Any, State]:
        memory = runs.plain(params, encode, jnp.asarray(src)[None], key=key)
        if own_state:
            return memory, runs.plain(params, lambda module, m: module.init_state(m), memory)
        return memory, (runs.new_cache(params, memory), jnp.int32(0))

    def step(params: Params, memory: Any, state: State, token: Array) -> tuple[Any, State]:
        token = jnp.asarray(token)[None]
        if own_state:
            go = lambda module, *args: module.step(*args)  # noqa: E731
            hidden, state = runs.plain(params, go, memory, state, token)
            return _first(hidden), state
        cache, length = state
        hidden, cache = runs.cached(params, cache, decode, memory, token[None])
        # A full cache would be overwritten at its end without a word.
        hidden = jax.tree.map(lambda h: jnp.where(length < max_len, h, jnp.nan), hidden)
        return _first(_first(hidden)), (cache, length + 1)

    def hidden(params: Params, src: Array, tgt: Array, key: Array | None = None) -> Any:
        read = lambda module, src, tgt: decode(module, encode(module, src), tgt)  # noqa: E731
        words = jnp.asarray(src)[None], shift_right(tgt)[None]
        return _first(runs.plain(params, read, *words, key=key))

    def logits(params: Params, hidden: Any) -> Array:
        hidden = jax.tree.map(lambda h: h[None, None], hidden)
        return runs.plain(params, project, hidden)[0, 0].astype(jnp.float32)

    model = Seq2Seq(runs.init, of_one, step, hidden, logits)
    _check(model, name)
    return model


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda x: x[0], tree)


def _check(model: Seq2Seq, name: str) -> None:
    """Tries all functions on shapes alone, so that what does not fit is said at once."""
    ids = jnp.full((2,), EOS)
    params = jax.eval_shape(model.init, jax.random.key(0))
    memory, state = jax.eval_shape(model.encode, params, ids)
    one, after = jax.eval_shape(model.step, params, memory, state, ids[0])
    if _shapes(after) != _shapes(state):
        raise UsageError(
            f"{name}: a step turns the state {_shapes(state)} into {_shapes(after)}; it must keep "
            "its structure, shapes and types."
        )
    each = jax.eval_shape(model.hidden, params, ids, ids)
    if _shapes(each) != _shapes(jax.tree.map(lambda x: jnp.stack([jnp.zeros_like(x)] * 2), one)):
        raise UsageError(
            f"{name}: for 2 tokens decode gives {_shapes(each)}, and a step {_shapes(one)}: "
            "without their batch axis they must be [2, H] and [H]."
        )
    logits = jax.eval_shape(model.project, params, one)
    if len(logits.shape) != 1:
        raise UsageError(f"{name}: logits of a token are {_shapes(logits)}; they must be [V].")


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", tree)
