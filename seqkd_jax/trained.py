"""``TrainedModel``: a translation model with its parameters and vocabularies. Floor 3."""

import functools
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import jax
import numpy as np
from flax import serialization

from .base import Params, Seq2Seq
from .data import Vocabulary
from .errors import UsageError
from .models.config import Config
from .models.network import Network
from .settings import Parts


@dataclass(frozen=True)
class TrainedModel:
    """A model with its parameters and vocabularies, ready to translate or to teach.

    >>> import seqkd_jax as skd
    >>> words = skd.build_words(["a dog sleeps"])
    >>> model = skd.attention_lstm(skd.Config(words.size, words.size, embed=4, hidden=4, layers=1))
    >>> trained = TrainedModel(model, {"w": np.ones(2)}, words, words)  # parameters stand in here
    >>> len(trained.digest), trained.tgt_vocab.size
    (64, 7)
    """

    model: Seq2Seq
    params: Params
    src_vocab: Vocabulary
    tgt_vocab: Vocabulary
    net: Network | None = None  # of an attention LSTM: its blocks; see ``network``
    parts: Parts = Parts()  # names of these blocks
    # What made the parameters, as JSON: a record for each training that they went through.
    history: tuple[Mapping[str, Any], ...] = ()

    @functools.cached_property
    def digest(self) -> str:
        """The sha256 of the parameters."""
        return params_digest(self.params)

    @property
    def network(self) -> Network:
        """The blocks of an attention LSTM; UsageError for another model, or an ensemble."""
        if self.net is None:
            raise UsageError(
                "This needs a single attention LSTM: other models and ensembles have no blocks "
                "and no attention weights that the library knows."
            )
        return self.net

    @property
    def config(self) -> Config:
        """The sizes of an attention LSTM; UsageError for another model, or an ensemble."""
        return self.network.config

    def with_params(self, params: Params, model: Seq2Seq | None = None) -> "TrainedModel":
        """Returns a copy with other parameters, and with another model if one is given."""
        return replace(self, model=model or self.model, params=params)


def params_digest(params: Params) -> str:
    """Returns the sha256 of all parameters with their names, shapes and types."""
    sha = hashlib.sha256()
    for name, leaf in sorted(_leaves(serialization.to_state_dict(params)).items()):
        leaf = np.ascontiguousarray(leaf)
        sha.update(f"{name} {leaf.shape} {leaf.dtype}\n".encode())
        sha.update(leaf.tobytes())
    return sha.hexdigest()


def _leaves(tree: Any) -> dict[str, np.ndarray]:
    """Returns the array leaves by path, without empty containers, which some formats drop."""
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in flat}


def had_teacher(history: Iterable[Mapping[str, Any]]) -> bool:
    """Returns whether the pairs or the loss of one of these trainings came from a teacher."""
    signs = "kd_beam", "inter_beam", "teacher_digest"
    return any(
        any(map(record.get, signs)) or "distilled" in record.get("text", {}) for record in history
    )
