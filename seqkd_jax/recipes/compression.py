"""Trained models made smaller: pruned and trained further, and written as a compressed file."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from ..addresses import PathLike, as_path
from ..base import Params
from ..coded import Sizes, write_compressed
from ..compress import prune as schemes
from ..compress.deep import share_weights
from ..contrib.obd import fisher_diagonal, saliencies
from ..data import batches, encode_pairs, pairs_digest, plan_buckets
from ..errors import UsageError
from ..files import lock_folder
from ..model_folder import COMPRESSED, describe_model, require_settings
from ..progress import Bar
from ..ranges import rising
from ..settings import Training
from ..trained import TrainedModel
from .experiment import Experiment, Pairs
from .objectives import kept_weights, shared_values
from .stages import prepared, train

OBD_BATCHES = 100  # number of batches over which the curvature of the loss is averaged

Scheme = Literal["blind", "uniform", "distribution"]


def prune(
    exp: Experiment,
    name: str,
    start: TrainedModel,
    pairs: Pairs,
    training: Training,
    *,
    ratios: Sequence[float],
    scheme: Scheme = "blind",
    obd: bool = False,
    prunable: schemes.Predicate = schemes.every_array,
) -> TrainedModel:
    """Prunes a trained model and trains the weights that are left.

    Weights that are 0 in the model, because an earlier pruning removed them, count as pruned and
    stay 0. The stage's folder is that of an ordinary model.

    Args:
      exp: the experiment.
      name: name of the stage; rounds before the last are folders within the stage's folder.
      start: the model to prune.
      pairs: sentence pairs to train on.
      training: settings of each round.
      ratios: share of the weights that is pruned after each round; the shares must rise.
      scheme: which classes of weights share a threshold.
      obd: choose weights by Optimal Brain Damage instead of by magnitude.
      prunable: tells from an array's name whether the array may be pruned.

    Raises:
      UsageError: the ratios do not rise, or the folder was begun with other settings, another model
        or other text.
    """
    if obd and scheme == "distribution":
        raise UsageError(
            "The scheme distribution is for magnitudes only: give another scheme with obd."
        )
    ratios = rising(ratios)
    left = jax.tree.map(lambda w: np.asarray(w) != 0, start.params)
    if (pruned := schemes.pruned_share(left, prunable)) > ratios[0]:
        raise UsageError(
            f"ratios is {ratios}, but {100 * pruned:.1f} % of the model's weights are 0 already: "
            "give larger ones."
        )
    prepared(exp, start, pairs, training)  # refuses what cannot be trained, before a folder is made
    settings = {
        "ratios": ratios,
        "scheme": scheme,
        "saliency": "obd" if obd else "magnitude",
        "prunable": getattr(prunable, "__name__", type(prunable).__name__),
        "training": dataclasses.asdict(training),
        "seed": exp.plan.seed,
        "start": start.digest,
        "pairs": pairs_digest(pairs),
    }
    # Checked here as well as in each round: rounds with other ratios would be trained in vain.
    require_settings(exp.folder / name / "pruning.json", settings)
    choose_by: Any = {
        "blind": schemes.class_blind,
        "uniform": schemes.class_uniform,
        "distribution": schemes.class_distribution,
    }[scheme]

    def choose(params: Params, ratio: float, mask: Params) -> Params:
        by = {"saliency": _obd(exp, start, params, pairs, training.max_tokens)} if obd else {}
        return choose_by(params, ratio, mask=mask, prunable=prunable, **by)

    def retrain(params: Params, mask: Params, ratio: float) -> Params:
        stage = name if ratio == ratios[-1] else str(Path(name) / f"round-{100 * ratio:g}")
        nonlocal trained
        pruned = trained.with_params(params)
        trainable = kept_weights(pruned, mask)
        trained = train(exp, stage, pruned, pairs, training, trainable=trainable)
        return trained.params

    trained = start
    schemes.prune_gradually(start.params, ratios, choose, retrain, left)
    return trained


def share_values(
    exp: Experiment,
    name: str,
    start: TrainedModel,
    pairs: Pairs,
    training: Training,
    bits: int,
) -> TrainedModel:
    """Lets the weights of each array share at most 2^bits values, and trains these values."""
    return train(
        exp,
        name,
        start,
        pairs,
        training,
        trainable=shared_values(start, share_weights(start.params, bits)),
        made_of={"bits": bits},
    )


def compress(folder: PathLike, trained: TrainedModel, bits: int) -> Sizes:
    """Writes a model with a compressed file in place of checkpoints; ``load_model`` reads it.

    The file is exact if the weights of each array share no more than 2^bits values, as they do
    after ``share_values``.
    """
    made_by = {"compressed": trained.digest, "bits": bits}
    describe_model(folder, trained, made_by)
    with lock_folder(folder):
        return write_compressed(as_path(folder) / COMPRESSED, share_weights(trained.params, bits))


def _obd(
    exp: Experiment,
    start: TrainedModel,
    params: Params,
    pairs: Pairs,
    max_tokens: int | None,
) -> Params:
    encoded = encode_pairs(pairs, start.src_vocab, start.tgt_vocab, max_len=max_tokens)
    buckets = plan_buckets(encoded, tokens_per_batch=512, buckets=3)
    some = itertools.islice(batches(encoded, buckets, seed=exp.plan.seed, epoch=0), OBD_BATCHES)
    some = Bar(some, desc="saliency of weights", unit="batch", total=OBD_BATCHES)
    second = fisher_diagonal(start.model, params, some, key=jax.random.key(exp.plan.seed))
    return saliencies(params, second)
