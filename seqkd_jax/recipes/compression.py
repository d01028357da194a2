"""Trained models made smaller: pruned and trained again, and as a compressed file."""

import dataclasses
import itertools
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import jax
import numpy as np

from ..base import Params
from ..compress import prune as schemes
from ..compress.deep import share_weights
from ..compress.format import Sizes, write_compressed
from ..compress.obd import fisher_diagonal, saliencies
from ..data import batches, encode_pairs, plan_buckets
from ..distill.translate import lines_digest
from ..errors import UsageError
from ..files import claim
from ..plan import Training
from ..train.model_folder import COMPRESSED, Trained, describe_model, require_settings
from .stages import Lab, Pairs, train

OBD_BATCHES = 100  # of which the curvature of the loss is the mean

Scheme = Literal["blind", "uniform", "distribution"]


def prune(
    lab: Lab,
    name: str,
    start: Trained,
    pairs: Pairs,
    training: Training,
    *,
    ratios: Sequence[float],
    scheme: Scheme = "blind",
    obd: bool = False,
    prunable: schemes.Predicate = schemes.every_array,
) -> Trained:
    """Prunes a trained model and trains what is left; the folder ``name`` is an ordinary model's.

    What is 0 in the model, because it has been pruned before, counts as gone and stays 0.

    Args:
      lab: the lab.
      name: of the stage; rounds before the last are folders within it.
      start: the model.
      pairs: to train on.
      training: settings of each round.
      ratios: share of the weights that is gone after each round, rising.
      scheme: which classes of weights share a threshold.
      obd: choose by Optimal Brain Damage, not by magnitude.
      prunable: says by its name whether an array is pruned.

    Raises:
      UsageError: the folder was begun with other settings, another model or other text.
    """
    if obd and scheme == "distribution":
        raise UsageError(
            "The scheme distribution is for magnitudes only: with obd give another scheme."
        )
    settings = {
        "ratios": list(ratios),
        "scheme": scheme,
        "saliency": "obd" if obd else "magnitude",
        "prunable": getattr(prunable, "__name__", type(prunable).__name__),
        "training": dataclasses.asdict(training),
        "seed": lab.plan.seed,
        "start": start.digest,
        "pairs": lines_digest([side for pair in pairs for side in pair]),
    }
    # Here and not only round by round: the rounds of other ratios would be trained in vain.
    require_settings(lab.folder / name / "pruning.json", settings)
    choose_by: Any = {
        "blind": schemes.class_blind,
        "uniform": schemes.class_uniform,
        "distribution": schemes.class_distribution,
    }[scheme]

    def choose(params: Params, ratio: float, mask: Params) -> Params:
        by = {"saliency": _obd(lab, start, params, pairs, training.max_tokens)} if obd else {}
        return choose_by(params, ratio, mask=mask, prunable=prunable, **by)

    def retrain(params: Params, mask: Params, ratio: float) -> Params:
        last = ratio == ratios[-1]
        return train(
            lab,
            name if last else str(Path(name) / f"round-{100 * ratio:g}"),
            dataclasses.replace(start, params=params),
            pairs,
            training,
            mask=mask,
        ).params

    left = jax.tree.map(lambda w: np.asarray(w) != 0, start.params)
    params, _ = schemes.prune_gradually(start.params, ratios, choose, retrain, left)
    return dataclasses.replace(start, params=params)


def share_values(
    lab: Lab, name: str, start: Trained, pairs: Pairs, training: Training, bits: int
) -> Trained:
    """Lets the weights of each array share 2^bits values, and trains these."""
    return train(
        lab,
        name,
        start,
        pairs,
        training,
        shared=share_weights(start.params, bits),
        made_of={"bits": bits},
    )


def compress(folder: str | Path, trained: Trained, bits: int) -> Sizes:
    """Writes a model with a compressed file in place of checkpoints; ``load_model`` reads it.

    A model whose weights share no more than 2^bits values in each array loses nothing.
    """
    made_by = {"compressed": trained.digest, "bits": bits}
    describe_model(folder, trained.config, trained.src_vocab, trained.tgt_vocab, made_by)
    with claim(Path(folder)):
        return write_compressed(Path(folder) / COMPRESSED, share_weights(trained.params, bits))


def _obd(lab: Lab, start: Trained, params: Params, pairs: Pairs, max_tokens: int | None) -> Params:
    encoded = encode_pairs(pairs, start.src_vocab, start.tgt_vocab, max_len=max_tokens)
    lengths = [[len(ids) for ids in side] for side in (encoded.src, encoded.tgt)]
    buckets = plan_buckets(*lengths, tokens_per_batch=512, buckets=3)
    some = itertools.islice(batches(encoded, buckets, seed=lab.plan.seed, epoch=0), OBD_BATCHES)
    second = fisher_diagonal(start.model, params, some, key=jax.random.key(lab.plan.seed))
    return saliencies(params, second)
