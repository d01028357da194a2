"""What a stage minimises (``Objective``) and which numbers it trains (``Trainable``). Floor 8."""

import functools
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import jax
import numpy as np
import optax

from ..base import Example, Params, Seq2Seq, for_teaching
from ..coded import Shared
from ..compress.deep import expand_shared_weights, shared_model
from ..compress.prune import apply_mask, masked
from ..data import Encoded, check_same
from ..distill.teacher_cache import TeacherCache
from ..errors import UsageError
from ..losses import Loss, word_kd
from ..settings import OnPolicy
from ..train.on_policy import drawn_at, sample_targets
from ..train.steps import TrainStep
from ..trained import TrainedModel, params_digest
from .sharing import shared_mix, shared_with_temperature


@dataclass(frozen=True)
class Objective:
    """What training minimises and what a teacher contributes; by default, the data's likelihood."""

    # the likelihood loss of the data (nll, or with label smoothing) -> the loss to minimise
    loss: Callable[[Loss], Loss] = lambda likelihood: likelihood
    teacher_model: Seq2Seq | None = None
    teacher_params: Params = None
    pair_weights: np.ndarray | None = None  # weight of each pair, [pairs]; None: 1 for all
    # adds a teacher's output to batches, if it comes from a cache
    attach: Callable[[Iterator[Example]], Iterator[Example]] = lambda batches: batches
    # refuses a student, or encoded pairs, that the teacher cannot teach
    check: Callable[[TrainedModel, Encoded], None] = lambda student, pairs: None
    # (a training step, the model that it trains) -> the step to run
    wrap_step: Callable[[TrainStep, Seq2Seq], TrainStep] = lambda step, model: step
    # everything that decides the objective, as JSON, for the stage's config.json
    made_by: Mapping[str, Any] = field(default_factory=dict)


LIKELIHOOD = Objective()


def word_kd_from(
    teacher: TrainedModel, weight: float, cache: TeacherCache | None = None
) -> Objective:
    """Returns the objective of Word-KD (Kim & Rush 2016, section 3.1).

    The teacher's distribution over each word is mixed into the loss.

    Args:
      teacher: a model with the same vocabularies as the student.
      weight: weight of ``word_kd``; the data have 1 - weight. With 0 only the vocabularies are
        checked.
      cache: the teacher's cache of the training pairs, which is read instead of running the
        teacher.

    Raises:
      UsageError: the cache was made by another teacher.
    """
    if cache and cache.header["teacher_digest"] != teacher.digest:
        raise UsageError(
            f"{cache.folder}: made by another teacher than the one given; give the teacher that "
            "made it, or make a new cache (seqkd cache)."
        )
    made_by = {"kd_weight": weight, "teacher_digest": teacher.digest}

    def check(student: TrainedModel, pairs: Encoded) -> None:
        check_same(student.tgt_vocab, teacher.tgt_vocab)
        check_same(student.src_vocab, teacher.src_vocab)
        if cache and weight:
            cache.require(pairs)

    if not weight:  # a teacher with weight 0 would cost as much as any other
        return Objective(check=check, made_by=made_by)
    if cache:
        soft = shared_with_temperature(word_kd, cache.header["temperature"])
        return Objective(
            loss=lambda likelihood: shared_mix(likelihood, soft, weight),
            attach=cache.attach_to,
            check=check,
            made_by=made_by
            | {"cache": {n: cache.header[n] for n in ("teacher_digest", "k", "temperature")}},
        )
    guide, params = for_teaching(teacher.model, teacher.params)
    return Objective(
        loss=lambda likelihood: shared_mix(likelihood, word_kd, weight),
        teacher_model=guide,
        teacher_params=params,
        check=check,
        made_by=made_by,
    )


def on_policy_from(teacher: TrainedModel, settings: OnPolicy) -> Objective:
    """Returns the objective of on-policy distillation (Agarwal et al. 2024, GKD).

    The student is trained on its own translations. The loss is ``word_kd`` alone: the words that
    the student chose itself are no evidence of what is right.
    """
    objective = word_kd_from(teacher, 1.0)
    draw = drawn_at(settings.temperature)
    return replace(
        objective,
        wrap_step=lambda step, model: sample_targets(step, model, settings.share, draw),
        made_by={**objective.made_by, "on_policy": asdict(settings)},
    )


@dataclass(frozen=True)
class Trainable:
    """Which numbers are trained, and how a model's parameters are computed from them."""

    model: Seq2Seq  # the model as a function of these numbers
    start: Params  # their initial values; None: drawn by ``model.init``
    to_params: Callable[[Params], Params] = lambda params: params
    wrap_tx: Callable[[optax.GradientTransformation], optax.GradientTransformation] = lambda tx: tx
    # everything that decides what is trained, as JSON, for the stage's config.json
    made_by: Mapping[str, Any] = field(default_factory=dict)


def all_weights(model: TrainedModel) -> Trainable:
    """Trains every parameter."""
    return Trainable(model.model, model.params)


def kept_weights(model: TrainedModel, mask: Params) -> Trainable:
    """Trains the parameters where the mask is True; all others stay exactly 0 (pruning)."""
    return Trainable(
        model.model,
        apply_mask(model.params, mask),
        wrap_tx=lambda tx: masked(tx, mask),
        made_by={"mask": params_digest(mask)},
    )


def shared_values(model: TrainedModel, shared: Shared) -> Trainable:
    """Trains the values that weights share; the stage's checkpoints hold these values."""
    return Trainable(
        shared_model(model.model, shared),
        shared.codebooks,
        to_params=functools.partial(jax.jit(expand_shared_weights), shared.codes),
        made_by={"shared": params_digest(shared)},
    )
