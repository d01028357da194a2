"""What training carries from step to step, and the optimisers of the paper."""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from flax import struct

from ..base import Array, Params, Seq2Seq


@struct.dataclass
class TrainState:
    """One pytree, with no device axis: saved, restored and searched with as it is.

    ``epoch`` and ``perplexity`` describe the last validation; optimisers whose rate depends on
    them (``decayed_sgd``) read them there.
    """

    step: Array  # [] int32, updates done
    params: Params
    opt_state: Any
    epoch: Array  # [] int32, epochs done
    perplexity: Array  # [] float32, on validation after that epoch; inf before the first


def init_state(
    model: Seq2Seq, tx: optax.GradientTransformation, key: Array, params: Params = None
) -> TrainState:
    """Starts training, from ``params`` if given (fine-tuning), else from ``model.init(key)``."""
    params = jax.jit(model.init)(key) if params is None else params
    return TrainState(
        step=jnp.int32(0),
        params=params,
        opt_state=tx.init(params),
        epoch=jnp.int32(0),
        perplexity=jnp.float32(jnp.inf),
    )


def clipped_adam(
    rate: optax.ScalarOrSchedule = 1e-3, clip: float | Array = 5.0
) -> optax.GradientTransformation:
    """Adam after clipping the global gradient norm (reference norm of Kim & Rush's code: 5)."""
    return optax.chain(optax.clip_by_global_norm(clip), optax.adam(rate))


def warm_cosine(
    rate: float | Array, steps: float | Array, warmup: float | Array = 0
) -> optax.Schedule:
    """Rises from 0 to ``rate`` over ``warmup`` steps, then falls to 0 along a cosine.

    ``steps`` is the number of both together; a run that is shorter than its warm-up only rises.
    All three may be arrays: with ``optax.inject_hyperparams`` they lie in the optimiser's state,
    and runs of one model share a compiled step, however long they are.
    """

    def schedule(step: Any) -> Array:
        risen = step / jnp.maximum(warmup, 1)
        fallen = jnp.clip((step - warmup) / jnp.maximum(steps - warmup, 1), 0, 1)
        return rate * jnp.where(step < warmup, risen, (1 + jnp.cos(jnp.pi * fallen)) / 2)

    return schedule


def warm_adam(
    rate: float | Array, steps: float | Array, warmup: float | Array = 0, clip: float | Array = 5.0
) -> optax.GradientTransformation:
    """Returns ``clipped_adam`` along ``warm_cosine``."""
    return clipped_adam(warm_cosine(rate, steps, warmup), clip)


class Latch(NamedTuple):
    """State of ``decayed_sgd``."""

    rate: Array  # []
    latched: Array  # [] bool
    epoch: Array  # [] int32, the last epoch whose validation was seen
    perplexity: Array  # [] float32, of that validation


def decayed_sgd(
    rate: float = 1.0, clip: float = 5.0, decay: float = 0.5, start_decay_at: int = 9
) -> optax.GradientTransformationExtraArgs:
    """The paper's SGD: global-norm clipping, and a rate that falls once it has begun to fall.

    After the validation of each epoch a latch closes if the epoch is at least
    ``start_decay_at`` or the perplexity is higher than after the epoch before. From then on the
    rate is multiplied by ``decay`` after every epoch. With the defaults epochs 1 to 9 run at 1.0
    and epoch 10 at 0.5, unless the perplexity rises earlier.

    Source: the training code of Kim & Rush (2016), seq2seq-attn. ``update`` takes the extra
    arguments ``epoch`` [] and ``perplexity`` [], as ``TrainState`` holds them.
    """

    def init(params: Params) -> Latch:
        del params
        return Latch(jnp.float32(rate), jnp.bool_(False), jnp.int32(0), jnp.float32(jnp.inf))

    def update(updates, state: Any, params=None, **extra):
        del params
        epoch, perplexity = extra["epoch"], extra["perplexity"]
        validated = epoch > state.epoch
        closes = (epoch >= start_decay_at) | (perplexity > state.perplexity)
        latched = state.latched | (validated & closes)
        now = jnp.where(validated & latched, state.rate * decay, state.rate)
        state = Latch(now, latched, epoch, jnp.where(validated, perplexity, state.perplexity))
        return jax.tree.map(lambda g: -now * g, updates), state

    latch = optax.GradientTransformationExtraArgs(init, update)
    return optax.chain(optax.clip_by_global_norm(clip), latch)


def half_epoch_sgd(
    steps_per_epoch: int, rate: float = 0.7, start: float = 5.0, clip: float = 5.0
) -> optax.GradientTransformation:
    """SGD after clipping; after ``start`` epochs the rate is halved every half epoch.

    Source: Sutskever et al. 2014, section 3.4 (7.5 epochs in all, no momentum).
    """

    def schedule(step: Any) -> Array:
        halves = jnp.floor((step / steps_per_epoch - start) * 2) + 1
        return rate * 0.5 ** jnp.maximum(halves, 0)

    return optax.chain(optax.clip_by_global_norm(clip), optax.sgd(schedule))
