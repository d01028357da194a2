"""The contract of a Flax module that becomes a ``Seq2Seq`` by ``from_linen`` or ``from_nnx``.

The module works on batches, as usual. The adaptor calls it with batches of one sentence; ``vmap``
over sentences is applied later, around the model. The module has the methods

    encode(src [B, S]) -> memory              any pytree of [B, ...] arrays
    decode(memory, tgt [B, T]) -> [B, T, H]   tgt starts with BOS; position t sees tgt[:, :t + 1]
    project(hidden [B, T, H]) -> [B, T, V]    optional: left out if decode returns logits

Ids are padded with PAD = 0. The module is responsible for its masks and positions: ``memory``
contains the mask ``src != 0`` for every attention to the source, and the causal mask of ``decode``
hides the padding of the target. Dropout is applied exactly when a key is passed.

For decoding token by token a hypothesis carries either a cache or a state:

    cache   ``decode`` is called with one token [B, 1] at a time and stores what it needs of earlier
            tokens in the collection "cache" (linen) or in variables ``nnx.Cache`` (nnx).
    state   ``init_state(memory) -> state`` and
            ``step(memory, state, token [B]) -> (hidden [B, H], state)`` with any pytree of
            [B, ...] arrays as the state, such as the carry of an RNN.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

from ..base import EOS, Array, Params, Seq2Seq, State, shift_right
from ..errors import UsageError

MAX_LEN = 200  # the default max_len of ``Search``


class ModuleRunner(NamedTuple):
    """The functions that run modules of one API: each calls ``function(module, *args)``."""

    init: Callable[[Array], Params]  # (key) -> params
    apply: Callable[..., Any]  # (params, function, *args, key=None) -> result
    new_cache: Callable[[Params, Any], State]  # (params, memory) -> cache
    apply_cached: Callable[..., tuple[Any, State]]  # (params, cache, function, *args) -> (., cache)


def encode(module: Any, src: Array) -> Any:
    """Calls the module's encoder."""
    return module.encode(src)


def decode(module: Any, memory: Any, tgt: Array) -> Any:
    """Calls the module's decoder."""
    return module.decode(memory, tgt)


def project(module: Any, hidden: Any) -> Array:
    """Calls the module's projection, if it has one."""
    return module.project(hidden) if hasattr(module, "project") else hidden


def run_all(module: Any, src: Array, tgt: Array) -> Array:
    """Calls every method that has parameters."""
    return project(module, decode(module, encode(module, src), tgt))


def carries_state(module: Any, has_cache: bool, cache: str) -> bool:
    """Returns whether the module decodes with a state of its own instead of a cache.

    Raises UsageError if it has neither, or no encoder or decoder. The message says by ``cache``
    how to add a cache.
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


def adapt(runner: ModuleRunner, own_state: bool, max_len: int, name: str) -> Seq2Seq:
    """Makes a ``Seq2Seq``, which has no batch axis, of a module that fulfils the contract.

    Args:
      runner: the functions that run the module.
      own_state: the result of ``carries_state``.
      max_len: the number of tokens that a cache holds.
      name: of the module, for error messages.

    Raises:
      UsageError: the results of the module's methods do not fit together.
    """

    def encode_one(params: Params, src: Array, key: Array | None = None) -> tuple[Any, State]:
        memory = runner.apply(params, encode, jnp.asarray(src)[None], key=key)
        if own_state:
            return memory, runner.apply(params, lambda module, m: module.init_state(m), memory)
        return memory, (runner.new_cache(params, memory), jnp.int32(0))

    def step(params: Params, memory: Any, state: State, token: Array) -> tuple[Any, State]:
        token = jnp.asarray(token)[None]
        if own_state:
            module_step = lambda module, *args: module.step(*args)  # noqa: E731
            hidden, state = runner.apply(params, module_step, memory, state, token)
            return _first(hidden), state
        cache, length = state
        hidden, cache = runner.apply_cached(params, cache, decode, memory, token[None])
        # Flax would silently overwrite the last entry of a full cache.
        hidden = jax.tree.map(lambda h: jnp.where(length < max_len, h, jnp.nan), hidden)
        return _first(_first(hidden)), (cache, length + 1)

    def hidden(params: Params, src: Array, tgt: Array, key: Array | None = None) -> Any:
        read = lambda module, src, tgt: decode(module, encode(module, src), tgt)  # noqa: E731
        batch = jnp.asarray(src)[None], shift_right(tgt)[None]
        return _first(runner.apply(params, read, *batch, key=key))

    def logits(params: Params, hidden: Any) -> Array:
        hidden = jax.tree.map(lambda h: h[None, None], hidden)
        return runner.apply(params, project, hidden)[0, 0].astype(jnp.float32)

    model = Seq2Seq(runner.init, encode_one, step, hidden, logits)
    _check(model, name)
    return model


def _first(tree: Any) -> Any:
    return jax.tree.map(lambda x: x[0], tree)


def _check(model: Seq2Seq, name: str) -> None:
    """Evaluates the shapes of all functions, so that a module that does not fit fails at once."""
    ids = jnp.full((2,), EOS)
    params = jax.eval_shape(model.init, jax.random.key(0))
    memory, state = jax.eval_shape(model.encode, params, ids)
    hidden, new_state = jax.eval_shape(model.step, params, memory, state, ids[0])
    if _shapes(new_state) != _shapes(state):
        raise UsageError(
            f"{name}: a step turns the state {_shapes(state)} into {_shapes(new_state)}; it must "
            "keep its structure, shapes and types."
        )
    forced = jax.eval_shape(model.hidden, params, ids, ids)
    stacked = jax.tree.map(lambda x: jnp.stack([jnp.zeros_like(x)] * 2), hidden)
    if _shapes(forced) != _shapes(stacked):
        raise UsageError(
            f"{name}: for 2 tokens decode gives {_shapes(forced)}, and a step {_shapes(hidden)}: "
            "without the batch axis they must be [2, H] and [H]."
        )
    logits = jax.eval_shape(model.project, params, hidden)
    if len(logits.shape) != 1:
        raise UsageError(f"{name}: logits of a token are {_shapes(logits)}; they must be [V].")


def _shapes(tree: Any) -> Any:
    return jax.tree.map(lambda x: f"{x.dtype}{list(x.shape)}", tree)
