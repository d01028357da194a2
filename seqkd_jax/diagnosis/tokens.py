"""What a model predicts at each position of given pairs: confidence, calibration, loss."""

import functools
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from ..base import EOS, PAD, Array, Params, Seq2Seq
from ..data import Encoded, batches, plan_buckets
from ..data.encode import encode_line
from ..errors import UsageError
from ..parallel import pmap_rows
from ..trained import TrainedModel

BINS = 10


class Predictions(NamedTuple):
    """A model's predictions of all tokens of a corpus, given the reference prefix; axis N."""

    position: np.ndarray  # [N] int32, in the sentence, from 0
    loss: np.ndarray  # [N] float32, negative log-likelihood in nats
    confidence: np.ndarray  # [N] float32, probability of the most probable token
    right: np.ndarray  # [N] bool, whether that is the token
    best: np.ndarray  # [N] int32, the most probable token


def predictions(trained: TrainedModel, encoded: Encoded) -> Predictions:
    """Returns what a model predicts at each position of pairs, in the order of the pairs."""
    run = _program(trained.model)
    buckets = plan_buckets(encoded, tokens_per_batch=512, buckets=3)
    rows = {}
    for batch in batches(encoded, buckets, seed=0, epoch=None):
        out = run(trained.params, batch.src, batch.tgt)
        for n, index in enumerate(batch.index.tolist()):
            real = batch.tgt[n] != PAD
            if index >= 0:
                position = np.flatnonzero(real).astype(np.int32)
                rows[index] = (position, *(values[n][real] for values in out))
    return Predictions(*map(np.concatenate, zip(*(rows[n] for n in sorted(rows)), strict=True)))


@functools.lru_cache(maxsize=32)
def _program(model: Seq2Seq) -> Callable[..., tuple[np.ndarray, ...]]:
    def of_pair(params: Params, src: Array, tgt: Array) -> tuple[Array, ...]:
        hidden = model.hidden(params, src, tgt)

        def of_token(hidden: Array, target: Array) -> tuple[Array, ...]:
            log_probs = jax.nn.log_softmax(model.project(params, hidden))
            best = jnp.argmax(log_probs)
            return -log_probs[target], jnp.exp(log_probs[best]), best == target, best

        return jax.vmap(of_token)(hidden, tgt)

    return pmap_rows(jax.vmap(of_pair, (None, 0, 0)))


def next_tokens(trained: TrainedModel, source: str, prefix: str = "") -> dict[str, float]:
    """Returns the probability of each token [V] that a model may write after ``prefix``.

    Raises UsageError if the source has no words. Tokens are spelt as the vocabulary spells them,
    ``</s>`` for the end.
    """
    src = encode_line(trained.src_vocab, source, 0, "source")
    if not src:
        raise UsageError("The source has no words, so there is nothing to translate.")
    said = [*trained.tgt_vocab.encode(prefix), EOS]  # the last one is predicted, and not read

    def of_last(params: Params, src: Array, tgt: Array) -> Array:
        hidden = trained.model.hidden(params, src, tgt)
        return jax.nn.softmax(trained.model.project(params, jax.tree.map(lambda h: h[-1], hidden)))

    probabilities = jax.jit(of_last)(trained.params, jnp.array(src), jnp.array(said))
    words = trained.tgt_vocab.tokens(range(trained.tgt_vocab.size))
    return dict(zip(words, np.asarray(probabilities, float).tolist(), strict=True))


def calibration(made: Predictions, bins: int = BINS) -> list[dict[str, float]]:
    """Returns the reliability diagram: of each bin of confidence, its share, mean and accuracy."""
    bin_of = np.minimum((made.confidence * bins).astype(int), bins - 1)
    diagram = []
    for n in range(bins):
        inside = bin_of == n
        if inside.any():
            diagram.append(
                {
                    "confidence": float(made.confidence[inside].mean()),
                    "accuracy": float(made.right[inside].mean()),
                    "share": float(inside.mean()),
                }
            )
    return diagram


def calibration_error(diagram: list[dict[str, float]]) -> float:
    """Returns the expected calibration error: sum of share x |accuracy - confidence|.

    Source: Guo et al. 2017, equation 3.
    """
    return sum(b["share"] * abs(b["accuracy"] - b["confidence"]) for b in diagram)


def loss_by_position(made: Predictions, edges: tuple[int, ...] = (1, 2, 5, 10, 20)) -> list[dict]:
    """Returns the mean loss (nats) of tokens between positions, counted from 0."""
    bounds = [0, *edges, 1 << 30]
    found = []
    for low, high in zip(bounds[:-1], bounds[1:], strict=True):
        inside = (made.position >= low) & (made.position < high)
        if inside.any():
            upper = high if high < 1 << 30 else None
            loss = float(made.loss[inside].mean())
            found.append({"from": low, "to": upper, "loss": loss, "tokens": int(inside.sum())})
    return found
