"""How long to train, in which batches and at which rate, where the settings leave it open.

What a model needs is a number of updates. A small corpus must be seen many times for that, and a
large one a few times, in larger batches. Floor 8.
"""

import math
from dataclasses import replace

import numpy as np

from ..data import Encoded
from ..data.sentences import lengths_in_parts
from ..settings import Training

UPDATES = 6000  # of a new model, at least
PASSES = 3  # over the text, at least
TOKENS_PER_BATCH = 1024  # of a small corpus
SMALL = 1_000_000  # tokens of the largest corpus that counts as small
LARGEST = 16  # times TOKENS_PER_BATCH
FINE_TUNING = 0.25  # updates of a model that was trained before, relative to a new one
RATES = {"adam": 2e-3, "sgd": 1.0, "half-epoch-sgd": 0.7}
FINE_TUNING_RATE = 0.15  # relative to the rate of a new model
VALIDATIONS = 20  # of a training that is counted in updates


def tokens_of(encoded: Encoded) -> int:
    """Returns the size of a corpus in tokens: the sum of the lengths of all pairs' longer sides."""
    parts = lengths_in_parts(encoded.src, encoded.tgt)
    return sum(int(np.maximum(src, tgt).sum()) for _, src, tgt in parts)


def settled(training: Training, tokens: int, *, trained: bool = False) -> Training:
    """Returns settings in which nothing is left open.

    Args:
      training: settings, some of which may be None.
      tokens: size of the corpus (``tokens_of``).
      trained: whether the model has been trained before.
    """
    growth = min(max(1.0, math.sqrt(tokens / SMALL)), LARGEST)
    batch = training.tokens_per_batch or 256 * round(growth * TOKENS_PER_BATCH / 256)
    updates = training.updates
    if updates is None and training.epochs is None:
        share = FINE_TUNING if trained else 1.0
        updates = math.ceil(share * max(UPDATES, PASSES * tokens / batch))
    rate = training.rate
    if rate is None:
        rate = RATES[training.optimizer] * (FINE_TUNING_RATE if trained else 1.0)
        if training.optimizer == "adam":  # the noise of a gradient falls with the batch
            rate *= math.sqrt(min(batch, max(tokens, TOKENS_PER_BATCH)) / TOKENS_PER_BATCH)
    return replace(training, updates=updates, tokens_per_batch=batch, rate=rate)


def longer(training: Training, factor: int) -> Training:
    """Returns settled settings for a training that is ``factor`` times as long."""
    return replace(
        training,
        updates=training.updates and factor * training.updates,
        epochs=training.epochs and factor * training.epochs,
    )


def in_updates(training: Training, tokens: int) -> Training:
    """Returns settings for the number of updates that a corpus of this size would get.

    With it a larger corpus, such as one with several targets for each source, trains as long.
    """
    training = settled(training, tokens)
    if training.epochs is None:
        return training
    assert training.tokens_per_batch is not None
    updates = math.ceil(training.epochs * tokens / training.tokens_per_batch)
    return replace(training, epochs=None, updates=updates)


def rounds_of(training: Training, updates_per_pass: int) -> tuple[int, int]:
    """Returns the number of validations, and the number of updates before each.

    Updates are rounded up, so that all validations are at the same distance.
    """
    if training.epochs is not None:
        return training.epochs, updates_per_pass
    assert training.updates is not None
    rounds = min(VALIDATIONS, training.updates)
    return rounds, math.ceil(training.updates / rounds)
