"""The state of training, and the optimisers of the paper."""

import math
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from ..base import Array, Params, Seq2Seq
from ..errors import UsageError


@struct.dataclass
class TrainState:
    """What training carries from step to step: one pytree, without a device axis.

    ``epoch`` and ``perplexity`` describe the last validation, for optimisers whose rate depends on
    them (``decayed_sgd``).
    """

    step: Array  # [] int32, updates done
    params: Params
    opt_state: Any
    epoch: Array  # [] int32, epochs done
    perplexity: Array  # [] float32, of the last validation; inf before the first
    # the parameters that gradients are taken at, while ``params`` is a moving average of them;
    # None: ``params`` itself
    iterate: Params = None

    @property
    def point(self) -> Params:
        """The parameters that gradients are taken at."""
        return self.params if self.iterate is None else self.iterate


def init_state(
    model: Seq2Seq,
    tx: optax.GradientTransformation,
    key: Array,
    params: Params = None,
    *,
    averaged: bool = False,
) -> TrainState:
    """Returns the initial state, of ``params`` if given (fine-tuning), else ``model.init(key)``.

    With ``averaged``, the state's parameters are a moving average, for a step that was built with
    ``ema``.

    >>> params = {"w": jnp.ones(2)}  # of a model that was trained before
    >>> model = Seq2Seq(lambda key: params, *[None] * 4)
    >>> state = init_state(model, clipped_adam(1e-3), jax.random.key(0), params)
    >>> print(state.step, state.params["w"])
    0 [1. 1.]
    """
    params = jax.jit(model.init)(key) if params is None else params
    return TrainState(
        step=jnp.int32(0),
        params=params,
        opt_state=tx.init(params),
        epoch=jnp.int32(0),
        perplexity=jnp.float32(jnp.inf),
        iterate=jax.tree.map(jnp.copy, params) if averaged else None,
    )


def clipped_adam(
    rate: optax.ScalarOrSchedule = 1e-3, clip: float | Array = 5.0
) -> optax.GradientTransformation:
    """Returns Adam after clipping the global gradient norm (to 5 in Kim & Rush's code).

    >>> tx, params = clipped_adam(1e-3), {"w": jnp.ones(2)}
    >>> updates, _ = tx.update({"w": jnp.array([3.0, -4.0])}, tx.init(params))
    >>> print(updates["w"].round(5))
    [-0.001  0.001]

    Raises:
      UsageError: the rate or the norm is a Python number below 0, or the rate is infinite.
    """
    for name, value in (("rate", rate), ("clip", clip)):
        known = isinstance(value, int | float)  # neither traced nor a schedule
        if known and not (0 <= value and (name == "clip" or math.isfinite(value))):
            raise UsageError(f"{name} is {value}: give a finite number of at least 0.")
    return optax.chain(optax.clip_by_global_norm(clip), optax.adam(rate))


def warm_cosine(
    rate: float | Array, steps: float | Array, warmup: float | Array = 0
) -> optax.Schedule:
    """Returns a schedule: linear from 0 to ``rate`` in ``warmup`` steps, then a cosine to 0.

    ``steps`` is the length of both together; if it is less than ``warmup``, the rate only rises.
    All three may be arrays: with ``optax.inject_hyperparams`` they are part of the optimiser's
    state, and runs of the same model share a compiled step, whatever their lengths.
    """

    def schedule(step: Any) -> Array:
        rising = step / jnp.maximum(warmup, 1)
        decayed = jnp.clip((step - warmup) / jnp.maximum(steps - warmup, 1), 0, 1)
        return rate * jnp.where(step < warmup, rising, (1 + jnp.cos(jnp.pi * decayed)) / 2)

    return schedule


def warm_adam(
    rate: float | Array, steps: float | Array, warmup: float | Array = 0, clip: float | Array = 5.0
) -> optax.GradientTransformation:
    """Returns ``clipped_adam`` with the rate of ``warm_cosine``."""
    return clipped_adam(warm_cosine(rate, steps, warmup), clip)


class DecayedSgdState(NamedTuple):
    """The state of ``decayed_sgd``."""

    rate: Array  # []
    latched: Array  # [] bool, whether the rate has begun to decay
    epoch: Array  # [] int32, the last epoch whose validation was seen
    perplexity: Array  # [] float32, of that validation


def decayed_sgd(
    rate: float = 1.0, clip: float = 5.0, decay: float = 0.5, start_decay_at: int = 9
) -> optax.GradientTransformationExtraArgs:
    """Returns the paper's SGD: global-norm clipping, and a rate that decays once it has begun to.

    The decay begins after the first validation at which the epoch is at least ``start_decay_at``
    or the perplexity is higher than one epoch before. From then on the rate is multiplied by
    ``decay`` after every epoch. With the defaults, epochs 1 to 9 run at 1.0 and epoch 10 at 0.5,
    unless the perplexity rises earlier.

    Source: the training code of Kim & Rush (2016), seq2seq-attn. ``update`` takes the extra
    arguments ``epoch`` [] and ``perplexity`` [], as ``TrainState`` holds them.
    """

    def init(params: Params) -> DecayedSgdState:
        del params
        return DecayedSgdState(
            jnp.float32(rate), jnp.bool_(False), jnp.int32(0), jnp.float32(jnp.inf)
        )

    def update(updates, state: Any, params=None, **extra):
        del params
        epoch, perplexity = extra["epoch"], extra["perplexity"]
        validated = epoch > state.epoch
        begins = (epoch >= start_decay_at) | (perplexity > state.perplexity)
        latched = state.latched | (validated & begins)
        new_rate = jnp.where(validated & latched, state.rate * decay, state.rate)
        perplexity = jnp.where(validated, perplexity, state.perplexity)
        state = DecayedSgdState(new_rate, latched, epoch, perplexity)
        return jax.tree.map(lambda g: -new_rate * g, updates), state

    sgd = optax.GradientTransformationExtraArgs(init, update)
    return optax.chain(optax.clip_by_global_norm(clip), sgd)
