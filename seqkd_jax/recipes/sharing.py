"""Trainings that differ only in data and numbers share a step, and so its compiled programs."""

import functools
from collections.abc import Callable
from typing import Any

import optax

from ..base import Seq2Seq
from ..contrib.sutskever import half_epoch_sgd
from ..losses import Loss, mix, smoothed_nll, with_temperature
from ..settings import Training
from ..train.state import decayed_sgd, warm_adam
from ..train.steps import TrainStep, make_train_step

# Equal losses are one function, and a step is found by its loss.
shared_mix = functools.lru_cache(maxsize=16)(mix)
shared_smoothed_nll = functools.lru_cache(maxsize=16)(smoothed_nll)
shared_with_temperature = functools.lru_cache(maxsize=16)(with_temperature)


def optimizer(
    training: Training, updates: int, updates_per_pass: int
) -> optax.GradientTransformationExtraArgs:
    """Returns the optimiser that the settings name, for a training of ``updates`` updates.

    Its numbers are arrays in its state, and all optimisers of its kind have one ``update``: runs of
    other lengths and rates share a training step, and so its compiled programs.
    """
    assert training.rate is not None
    numbers = {"rate": float(training.rate), "clip": float(training.clip)}
    if training.optimizer == "adam":
        numbers |= {"steps": float(updates), "warmup": float(training.warmup)}
        return _injected(warm_adam, numbers)
    if training.optimizer == "half-epoch-sgd":
        return _injected(half_epoch_sgd, numbers | {"steps_per_epoch": float(updates_per_pass)})
    own, shared = decayed_sgd(training.rate, training.clip), _decayed_sgd(clip=training.clip)
    return optax.GradientTransformationExtraArgs(own.init, shared.update)


def _injected(
    make: Callable[..., optax.GradientTransformation], numbers: dict[str, float]
) -> optax.GradientTransformationExtraArgs:
    own = optax.inject_hyperparams(make)(**numbers)
    return optax.GradientTransformationExtraArgs(own.init, _injected_update(make, *numbers))


@functools.cache
def _injected_update(make: Callable[..., optax.GradientTransformation], *names: str) -> Any:
    # These numbers are never read, those in the state are.
    tx = optax.inject_hyperparams(make)(**dict.fromkeys(names, 1.0))
    return optax.with_extra_args_support(tx).update


_decayed_sgd = functools.cache(decayed_sgd)


def shared_step(
    model: Seq2Seq,
    tx: optax.GradientTransformation,
    loss: Loss,
    *,
    teacher: Seq2Seq | None,
    microbatches: int,
    ema: float,
) -> TrainStep:
    """Returns ``make_train_step`` of these arguments, one step for all whose arguments are equal.

    A step makes no state, so it does not matter which numbers ``tx.init`` would put there.
    """
    update = optax.with_extra_args_support(tx).update
    return _step(model, update, loss, teacher, microbatches, ema)


@functools.lru_cache(maxsize=16)
def _step(
    model: Seq2Seq, update: Any, loss: Loss, teacher: Seq2Seq | None, microbatches: int, ema: float
) -> TrainStep:
    tx = optax.GradientTransformationExtraArgs(optax.identity().init, update)
    return make_train_step(model, tx, loss, teacher=teacher, microbatches=microbatches, ema=ema)
