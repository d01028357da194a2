"""A model on disk: what it is, its vocabularies, its checkpoints.

config.json                  what the run is made of, for people and for the next start
src.vocab.json, tgt.vocab.json
checkpoints/                 see ``checkpoint``
metrics.jsonl                see ``fit``
params.seqkd                 in place of these two in a compressed model, see ``compress.format``
"""

import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np

from ..base import Params, Seq2Seq
from ..compress.format import read_compressed
from ..data import Vocabulary, load_vocabulary
from ..data.inputs import spelling_of
from ..errors import UsageError
from ..files import atomic_write
from ..models.attention_lstm import Config, Inputs, attention_lstm
from ..plan import Parts
from .checkpoint import Checkpoints, params_digest

FORMAT = "seqkd-model-1"
COMPRESSED = "params.seqkd"


@dataclass(frozen=True)
class Trained:
    """A trained model, ready to translate or to teach."""

    config: Config
    model: Seq2Seq
    params: Params
    src_vocab: Vocabulary
    tgt_vocab: Vocabulary

    @property
    def digest(self) -> str:
        """The sha256 of the parameters."""
        return params_digest(self.params)


def describe_model(
    folder: str | Path,
    config: Config,
    src_vocab: Vocabulary,
    tgt_vocab: Vocabulary,
    made_by: dict[str, Any],
) -> None:
    """Writes what a run is made of; in a folder that has it already, checks that it is the same.

    Args:
      folder: of the run.
      config: of the model.
      src_vocab: source side.
      tgt_vocab: target side.
      made_by: everything else that decides the outcome (training settings, digests of the data
        and of the teacher), as JSON.

    Raises:
      UsageError: the folder holds another run; the message names what differs.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    description = {
        "format": FORMAT,
        "model": asdict(config),
        "vocabularies": {"src": src_vocab.digest, "tgt": tgt_vocab.digest},
        "made_by": made_by,
    }
    path = folder / "config.json"
    if path.exists():
        before = _read(path)
        # A setting that is younger than the folder has its default there.
        before["model"] = asdict(_config(path, before))
        _require_same(path, *(json.loads(json.dumps(d)) for d in (before, description)))
        return
    src_vocab.save(folder / "src.vocab.json")
    tgt_vocab.save(folder / "tgt.vocab.json")
    atomic_write(path, json.dumps(description, indent=1).encode())


def load_model(folder: str | Path) -> Trained:
    """Loads the best parameters of a run, with its vocabularies.

    Raises:
      FileNotFoundError: there is no model in the folder.
      UsageError: a file is damaged, or the run has not yet been validated once.
    """
    folder = Path(folder)
    path = folder / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{folder}: holds no model (no config.json).")
    description = _read(path)
    if description.get("format") != FORMAT:
        raise UsageError(f"{path}: not a model of this library ({FORMAT} expected).")
    config = _config(path, description)
    src_vocab = load_vocabulary(folder / "src.vocab.json")
    tgt_vocab = load_vocabulary(folder / "tgt.vocab.json")
    for side, vocab in ("src", src_vocab), ("tgt", tgt_vocab):
        if vocab.digest != description["vocabularies"][side]:
            raise UsageError(
                f"{folder / side}.vocab.json: not the vocabulary that the model was trained with; "
                "restore the file, or train again."
            )
    model = attention_lstm(config, spelling_of(config.inputs, tgt_vocab))
    return Trained(config, model, best_params(folder, model.init), src_vocab, tgt_vocab)


def best_params(folder: str | Path, init: Callable[..., Params]) -> Params:
    """The parameters of a run's best validation, as numpy; ``init`` gives their shapes.

    In a folder with a compressed file they are those of the file.
    """
    shapes = jax.eval_shape(init, jax.random.key(0))
    if (compressed := Path(folder) / COMPRESSED).exists():
        return read_compressed(compressed, shapes)
    like = jax.tree.map(lambda s: np.zeros(s.shape, s.dtype), shapes)
    with Checkpoints(Path(folder) / "checkpoints") as checkpoints:
        newest = checkpoints.newest()
        best = None if newest is None else checkpoints.meta(newest)["best_step"]
        if best is None:
            raise UsageError(f"{folder}: no checkpoint has been validated yet; train further.")
        return checkpoints.restore_params(best, like)


def _config(path: Path, description: dict[str, Any]) -> Config:
    try:
        model = description["model"]
        inputs = dict(model.get("inputs", {}))
        inputs |= {"features": tuple(inputs.get("features", ()))}
        if "kernels" in inputs:
            inputs["kernels"] = tuple(map(tuple, inputs["kernels"]))
        nested = {"parts": Parts(**model.get("parts", {})), "inputs": Inputs(**inputs)}
        return Config(**{**model, **nested})
    except (AttributeError, KeyError, TypeError) as error:
        raise UsageError(f"{path}: the model's configuration cannot be read: {error}.") from None


def _read(path: Path) -> dict[str, Any]:
    try:
        description = json.loads(path.read_bytes())
    except ValueError as error:
        raise UsageError(f"{path}: damaged ({error}); restore it or start a new folder.") from None
    if not isinstance(description, dict):
        raise UsageError(f"{path}: damaged (not a JSON object); restore it.")
    return description


def _require_same(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    before, after = _flat(old), _flat(new)
    for name in sorted(before.keys() | after.keys()):
        if before.get(name) != after.get(name):
            raise UsageError(
                f"{path.parent}: this folder holds another run: {name} was {before.get(name)!r} "
                f"there and is {after.get(name)!r} now. Choose another folder."
            )


def _flat(tree: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(tree, dict):
        return {prefix: tree}
    return {
        k: v
        for key, sub in tree.items()
        for k, v in _flat(sub, f"{prefix}.{key}".strip(".")).items()
    }
