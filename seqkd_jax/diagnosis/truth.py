"""How far models are from a truth that is known: the corpus ``grammar``."""

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np

from ..data import encode_pairs
from ..errors import UsageError
from ..evaluation import log_probs
from ..tokens import EOS, SPECIAL, words_of
from ..trained import TrainedModel

MOST = 64  # targets of a source that are scored, the most probable ones


def against_truth(
    trained: TrainedModel,
    sources: Sequence[str],
    targets: Callable[[str], Mapping[str, float]],
) -> dict[str, float]:
    """Compares a model's distribution over sentences with the true one.

    Args:
      trained: the model.
      sources: sentences of the corpus.
      targets: source -> all right targets with their probabilities (``data.grammar.targets``).
        The 64 most probable are scored, with the truth renormalised over them.

    Returns:
      Means over sources: ``kl`` KL(truth || model) in nats, ``right`` the model's probability of
      right targets, ``mode`` that of the most probable one, ``wrong`` that of all other sentences,
      and ``scored`` the true probability of the targets that were scored.
    """
    chosen = [_most_probable(targets(source)) for source in sources]
    pairs = [(s, t) for s, some in zip(sources, chosen, strict=True) for t in some]
    encoded = encode_pairs(pairs, trained.src_vocab, trained.tgt_vocab, max_len=None)
    scores = np.full(len(pairs), -np.inf)
    scores[encoded.index] = log_probs(trained.model, trained.params, encoded)
    kl, right, mode, first = [], [], [], 0
    for some in chosen:
        own = scores[first : first + len(some)]
        first += len(some)
        truth = np.array(list(some.values()))
        truth /= truth.sum()
        kl.append(float((truth * (np.log(truth) - own)).sum()))
        right.append(float(np.exp(own).sum()))
        mode.append(float(np.exp(own[0])))
    return {
        "kl": float(np.mean(kl)),
        "right": float(np.mean(right)),
        "mode": float(np.mean(mode)),
        "wrong": max(0.0, 1 - float(np.mean(right))),
        "scored": math.fsum(sum(some.values()) for some in chosen) / len(chosen),
    }


def next_words(targets: Mapping[str, float], prefix: str = "") -> dict[str, float]:
    """Returns the true probability of each word after ``prefix``, ``</s>`` for the end.

    Args:
      targets: the right targets of a source with their probabilities.
      prefix: the first words of one of them.

    Raises:
      UsageError: no target begins with the prefix.

    >>> next_words({"a b": 0.375, "a c": 0.125, "b": 0.5}, prefix="a")
    {'b': 0.75, 'c': 0.25}
    """
    said = words_of(prefix)
    found: dict[str, float] = {}
    for target, probability in targets.items():
        words = [*words_of(target), SPECIAL[EOS]]
        if words[: len(said)] == said and len(words) > len(said):
            found[words[len(said)]] = found.get(words[len(said)], 0.0) + probability
    total = math.fsum(found.values())
    if not total:
        raise UsageError(f"No target begins with {prefix!r}.")
    return {word: probability / total for word, probability in found.items()}


def _most_probable(targets: Mapping[str, float]) -> dict[str, float]:
    """Returns the most probable targets, the mode first."""
    ranked = sorted(targets.items(), key=lambda item: (-item[1], item[0]))
    return dict(ranked[:MOST])
