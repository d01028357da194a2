"""A model on disk: what it is, its vocabularies, its checkpoints.

config.json                  what the run is made of, sealed: for people and for the next start
src.vocab.json, tgt.vocab.json
checkpoints/                 see ``checkpoint``
metrics.jsonl                see ``fit``
params.seqkd                 in place of these two in a compressed model, see ``compress.format``
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import jax

from ..base import Params, Seq2Seq
from ..compress.format import read_compressed
from ..data import Vocabulary, load_vocabulary
from ..data.inputs import spelling_of
from ..errors import UsageError, quoted
from ..models.attention_lstm import Config, Inputs, attention_lstm
from ..plan import Parts
from ..sealed import differences, read_record, write_record
from .checkpoint import Checkpoints, params_digest
from .fit import Progress

FORMAT = "seqkd-model-1"
SETTINGS = "seqkd-settings-1"
ANEW = "Restore the file from a copy, or train again in a new folder."
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
      UsageError: the folder holds another run, or a part of it is damaged or missing; the message
        names what.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    vocabularies = {"src": src_vocab, "tgt": tgt_vocab}
    description = {
        "model": asdict(config),
        "vocabularies": {side: vocab.digest for side, vocab in vocabularies.items()},
        "made_by": made_by,
    }
    path = folder / "config.json"
    if path.exists():
        _require_same(path, read_record(path, FORMAT, ANEW), description)
        for side, digest in description["vocabularies"].items():
            _load_side(folder, side, digest)
        return
    if any((folder / "checkpoints").glob("*")):
        raise UsageError(
            f"{path}: no such file, but there are checkpoints beside it, and only this file "
            f"says what model they hold. {ANEW}"
        )
    for side, vocab in vocabularies.items():
        vocab.save(folder / f"{side}.vocab.json")
    write_record(path, FORMAT, description)


def require_settings(path: str | Path, settings: dict[str, Any]) -> None:
    """Writes settings that decide what a folder will hold; refuses others than are there already.

    Raises:
      UsageError: they differ from those in the file; the message names which.
    """
    path = Path(path)
    if path.exists():
        _require_same(path, read_record(path, SETTINGS, ANEW), settings)
    else:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_record(path, SETTINGS, settings)


def require_made_by(folder: str | Path, **settings: Any) -> None:
    """Refuses a folder whose model was made by other settings than these; before costly work.

    Raises:
      UsageError: they differ; the message names which.
    """
    path = Path(folder) / "config.json"
    if path.exists():
        before = read_record(path, FORMAT, ANEW).get("made_by", {})
        before = {name: before.get(name) for name in settings}
        _require_same(path, {"made_by": before}, {"made_by": settings})


def load_model(folder: str | Path) -> Trained:
    """Loads the best parameters of a run, with its vocabularies.

    Raises:
      FileNotFoundError: there is no model in the folder.
      UsageError: a file is damaged, or the run has not yet been validated once.
    """
    folder = Path(folder)
    path = folder / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{folder}: has no trained model (no config.json).")
    config, description = read_config(path)
    digests = description["vocabularies"]
    src_vocab, tgt_vocab = (_load_side(folder, side, digests.get(side)) for side in ("src", "tgt"))
    if "compressed" in description["made_by"] and not (folder / COMPRESSED).exists():
        raise FileNotFoundError(f"{folder / COMPRESSED}: no such file; run seqkd compress again.")
    model = attention_lstm(config, spelling_of(config.inputs, tgt_vocab))
    return Trained(config, model, best_params(folder, model.init), src_vocab, tgt_vocab)


def read_config(path: str | Path) -> tuple[Config, dict[str, Any]]:
    """The shape of a model, and all that its ``config.json`` says.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: it is damaged, was edited or is no such file.
    """
    path = Path(path)
    description = read_record(path, FORMAT, ANEW)
    for name in "vocabularies", "made_by":
        if not isinstance(description.get(name), dict):
            raise UsageError(f"{path}: has no {name}. {ANEW}")
    return _config(path, description), description


def _load_side(folder: Path, side: str, digest: Any) -> Vocabulary:
    path = folder / f"{side}.vocab.json"
    vocab = load_vocabulary(path)
    if vocab.digest != digest:
        raise UsageError(f"{path}: not the vocabulary that the model was trained with. {ANEW}")
    return vocab


def best_params(folder: str | Path, init: Callable[..., Params]) -> Params:
    """The parameters of a run's best validation, as numpy; ``init`` gives their shapes.

    In a folder with a compressed file they are those of the file.

    Raises:
      UsageError: the run has not been validated yet, or the checkpoint of the best validation is
        missing or damaged.
    """
    shapes = jax.eval_shape(init, jax.random.key(0))
    if (compressed := Path(folder) / COMPRESSED).exists():
        return read_compressed(compressed, shapes)
    with Checkpoints(Path(folder) / "checkpoints") as checkpoints:
        progress = _progress(checkpoints)
        if progress is None or progress.best is None:
            raise UsageError(
                f"{folder}: holds no checkpoint that has been validated and can be used. Run the "
                "training command again: it resumes from what is there."
            )
        try:
            return checkpoints.restore_params(progress.best, shapes)
        except UsageError as error:
            raise UsageError(
                f"{error} This is the best checkpoint of {folder}. Restore it from a copy; or "
                "run the training command again, which resumes from an earlier checkpoint if "
                "one is whole."
            ) from None


def training_seconds(folder: str | Path) -> float:
    """The time that a run's training steps took, all starts together; 0 before the first save.

    Raises:
      UsageError: no checkpoint has a signature that can be read.
    """
    with Checkpoints(Path(folder) / "checkpoints") as checkpoints:
        progress = _progress(checkpoints)
    return 0.0 if progress is None else progress.seconds


def _progress(checkpoints: Checkpoints) -> Progress | None:
    newest = checkpoints.newest()
    return newest and Progress.of_meta(checkpoints.folder, newest[1].meta)


def _config(path: Path, description: dict[str, Any]) -> Config:
    try:
        model = dict(description["model"])
        inputs = dict(model.pop("inputs"))
        inputs["features"] = tuple(inputs["features"])
        inputs["kernels"] = tuple(map(tuple, inputs["kernels"]))
        parts = Parts(**model.pop("parts"))
        return Config(**model, parts=parts, inputs=Inputs(**inputs))
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{path}: the model's configuration cannot be read ({error}) {ANEW}"
        ) from None


def _require_same(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    differ = differences(old, new)
    if differ:
        said = [
            f"{name} was {quoted(before)} there and is {quoted(now)} now"
            for name, before, now in differ[:3]
        ]
        more = f", and {len(differ) - 3} more" if len(differ) > 3 else ""
        raise UsageError(
            f"{path.parent}: this folder holds another run: {'; '.join(said)}{more}. Choose "
            "another folder."
        )
