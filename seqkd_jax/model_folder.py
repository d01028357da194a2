"""A model's folder: its description, vocabularies and checkpoints. Floor 6.

config.json                  the description of the run, sealed: for people and for resumption
src.vocab.json, tgt.vocab.json
checkpoints/                 see ``train.checkpoint``
metrics.jsonl                see ``train.loop``
params.seqkd                 replaces the last two in a compressed model, see ``coded.format``
params.safetensors           replaces the last two, see ``tensors``
"""

import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax

from .addresses import PathLike, as_path
from .base import Params
from .build import VOCABULARIES, build
from .coded import read_compressed
from .data import Vocabulary, load_vocabulary
from .errors import UsageError, quoted
from .files import make_folder
from .models.attention_lstm import Config, model_of
from .processes import first_in_turn
from .provenance import origin
from .sealed import differences, read_record, write_record
from .settings import Parts
from .tensors import read_tensors
from .train.checkpoint import Checkpoints
from .train.loop import Progress
from .trained import TrainedModel

FORMAT = "seqkd-model-2"
SETTINGS = "seqkd-settings-1"
REMEDY = "Restore the file from a copy, or train again in a new folder."
COMPRESSED = "params.seqkd"
TENSORS = "params.safetensors"
# Where a record keeps a setting; without it the name is that of the option, or the end of it: rate
# for --rate of train, and for --student-training.rate of run. Text and vocabularies are no options.
SECTION = re.compile(
    r"(made_by\.)?((model|training|validation|lists\.search)\.(?!pairs|src_vocab|tgt_vocab))?"
)


def describe_model(folder: PathLike, model: TrainedModel, made_by: dict[str, Any]) -> None:
    """Writes the description of a run; if the folder has one, checks that it is the same.

    Args:
      folder: of the run.
      model: an attention LSTM with its vocabularies, trained or not; its ``history`` is kept.
      made_by: everything else that decides the outcome (training settings, digests of the data
        and of the teacher), as JSON; its ``text`` only says what the data are called.

    Raises:
      UsageError: the folder holds another run, or a file of it is damaged or missing; the message
        names it.
    """
    with first_in_turn():  # of several processes, process 0 writes and the others check
        _describe(as_path(folder), model, made_by)


def _describe(folder: Path, model: TrainedModel, made_by: dict[str, Any]) -> None:
    vocabularies = {"src": model.src_vocab, "tgt": model.tgt_vocab}
    description = {
        "model": asdict(model.config),
        "parts": asdict(model.parts),
        "own": _own_blocks(model),
        "vocabularies": {side: vocab.digest for side, vocab in vocabularies.items()},
        "history": list(model.history),
        "made_by": made_by,
    }
    path = folder / "config.json"
    if path.exists():
        kept = read_record(path, FORMAT, REMEDY)
        _require_same(path, _decisive(kept), _decisive(description))
        for side, digest in description["vocabularies"].items():
            _load_side(folder, side, digest)
        return
    if any((folder / "checkpoints").glob("*")):
        raise UsageError(
            f"{path}: no such file, but there are checkpoints beside it, and only this file "
            f"says what model they hold. {REMEDY}"
        )
    make_folder(folder)
    for side, vocab in vocabularies.items():
        vocab.save(folder / f"{side}.vocab.json")
    write_record(path, FORMAT, description | {"begun": origin()})


def _decisive(description: dict[str, Any]) -> dict[str, Any]:
    """Returns what decides the outcome of a run: not when it began, nor how its data are called."""

    def without(name: str, record: dict[str, Any]) -> dict[str, Any]:
        return {key: value for key, value in record.items() if key != name}

    history = [without("text", record) for record in description["history"]]
    made_by = without("text", description["made_by"])
    return without("begun", description) | {"history": history, "made_by": made_by}


def require_settings(path: PathLike, settings: dict[str, Any]) -> None:
    """Writes the settings of a folder; if it has some already, checks that they are the same.

    Raises:
      UsageError: the settings differ from those in the file; the message names them.
    """
    path = as_path(path)
    with first_in_turn():
        if path.exists():
            _require_same(path, read_record(path, SETTINGS, REMEDY), settings)
        else:
            make_folder(path.parent)
            write_record(path, SETTINGS, settings)


def require_made_by(folder: PathLike, **settings: Any) -> None:
    """Refuses a folder whose model was made with other settings, before costly work begins.

    Raises:
      UsageError: the settings differ; the message names them.
    """
    path = as_path(folder) / "config.json"
    if path.exists():
        before = read_record(path, FORMAT, REMEDY).get("made_by", {})
        before = {name: before.get(name) for name in settings}
        _require_same(path, {"made_by": before}, {"made_by": settings})


def _own_blocks(model: TrainedModel) -> list[str]:
    """Returns the names of the blocks that differ from those that ``parts`` names."""
    standard = build(model.config, model.parts, (model.src_vocab, model.tgt_vocab))
    blocks = zip(standard.blocks._fields, standard.blocks, model.network.blocks, strict=True)
    own = [name for name, expected, actual in blocks if actual != expected]
    return own + ["order"] * (standard.order != model.network.order)


def load_model(folder: PathLike, **own: Any) -> TrainedModel:
    """Loads the model of a run: its best parameters, and its vocabularies.

    Args:
      folder: of the run.
      **own: the blocks with which the model was built in place of named ones (``attention_lstm``).

    Raises:
      FileNotFoundError: the folder holds no model.
      UsageError: a file is damaged, the run has not been validated yet, or ``own`` lacks blocks
        of the model; the message names them.

    >>> import tempfile
    >>> from seqkd_jax import attention_lstm, build_words
    >>> from seqkd_jax.models.attention_lstm import network
    >>> from seqkd_jax.tensors import write_tensors
    >>> words = build_words(["a dog sleeps"])
    >>> net = network(Config(words.size, words.size, embed=4, hidden=4, layers=1))
    >>> trained = TrainedModel(model_of(net), None, words, words, net)
    >>> trained = trained.with_params(trained.model.init(jax.random.key(0)))
    >>> with tempfile.TemporaryDirectory() as folder:  # as ``train`` and ``seqkd`` write it
    ...     describe_model(folder, trained, {})
    ...     size = write_tensors(f"{folder}/params.safetensors", trained)
    ...     load_model(folder).digest == trained.digest
    True
    """
    untrained = open_model(folder, **own)
    return untrained.with_params(best_params(folder, untrained.model.init))


def open_model(folder: PathLike, **own: Any) -> TrainedModel:
    """Loads what ``load_model`` loads, except for the parameters, which are None."""
    folder = as_path(folder)
    path = folder / "config.json"
    if not path.exists():
        raise FileNotFoundError(f"{folder}: {_no_model(folder)}")
    config, parts, description = read_config(path)
    digests = description["vocabularies"]
    src_vocab, tgt_vocab = (_load_side(folder, side, digests.get(side)) for side in ("src", "tgt"))
    if "compressed" in description["made_by"] and not (folder / COMPRESSED).exists():
        raise FileNotFoundError(f"{folder / COMPRESSED}: no such file; run seqkd compress again.")
    net = build(config, parts, (src_vocab, tgt_vocab), **own)
    history = (*description["history"], description["made_by"])
    loaded = TrainedModel(model_of(net), None, src_vocab, tgt_vocab, net, parts, history)
    if (built := _own_blocks(loaded)) != description.get("own"):
        raise UsageError(
            f"{folder}: the model was built with its own {_named(description.get('own'))}, not "
            f"with {_named(built)}; give load_model the same blocks."
        )
    return loaded


def _no_model(folder: Path) -> str:
    """Returns what a folder is that holds no model."""
    if not folder.is_dir():
        return "a file, not the folder of a model." if folder.exists() else "no such folder."
    models = sorted(path.parent.name for path in folder.glob("*/config.json"))
    of = f"; those of this folder are in {', '.join(models[:9])}" if models else ""
    return f"has no trained model (no config.json){of}."


def _named(blocks: Any) -> str:
    return ", ".join(map(str, blocks)) if isinstance(blocks, list) and blocks else "no block"


def read_config(path: PathLike) -> tuple[Config, Parts, dict[str, Any]]:
    """Returns the sizes of a model, the names of its blocks, and the whole ``config.json``.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the file is damaged, was edited, or is not a ``config.json``.
    """
    path = as_path(path)
    description = read_record(path, FORMAT, REMEDY)
    for name in "vocabularies", "made_by":
        if not isinstance(description.get(name), dict):
            raise UsageError(f"{path}: has no {name}. {REMEDY}")
    history = description.get("history")
    if not isinstance(history, list) or not all(isinstance(record, dict) for record in history):
        raise UsageError(f"{path}: has no history. {REMEDY}")
    return *_config(path, description), description


def training_began(folder: PathLike) -> dict[str, Any]:
    """Returns when a training began and with what, as ``provenance.origin``; {} if not recorded.

    Raises:
      UsageError: the description of the model is damaged or was edited.
    """
    path = as_path(folder) / "config.json"
    return read_record(path, FORMAT, REMEDY).get("begun", {}) if path.exists() else {}


def _load_side(folder: Path, side: str, digest: Any) -> Vocabulary:
    path = folder / f"{side}.vocab.json"
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file. {REMEDY}")
    vocab = load_vocabulary(path, VOCABULARIES)
    if vocab.digest != digest:
        raise UsageError(f"{path}: not the vocabulary that the model was trained with. {REMEDY}")
    return vocab


def best_params(folder: PathLike, init: Callable[..., Params]) -> Params:
    """Returns the parameters of a run's best validation, as numpy; ``init`` gives their shapes.

    If the folder holds a compressed model or a safetensors file, they are read from its file.

    Raises:
      UsageError: the run has not been validated yet, its best checkpoint is missing or damaged, or
        there are a safetensors file and checkpoints as well.
    """
    shapes = jax.eval_shape(init, jax.random.key(0))
    folder = as_path(folder)
    if (tensors := folder / TENSORS).exists():
        if any((folder / "checkpoints").glob("*")):
            raise UsageError(
                f"{folder}: holds {TENSORS} and checkpoints, and only one of them can be the "
                "model: copy config.json and the vocabularies to a folder of their own beside "
                f"{TENSORS}."
            )
        return read_tensors(tensors, shapes)
    if (compressed := folder / COMPRESSED).exists():
        return read_compressed(compressed, shapes)
    with Checkpoints(as_path(folder) / "checkpoints") as checkpoints:
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


def training_seconds(folder: PathLike) -> float:
    """Returns the seconds spent in training steps, over all starts; 0 before the first save.

    Raises:
      UsageError: no checkpoint has a manifest that can be read.
    """
    with Checkpoints(as_path(folder) / "checkpoints") as checkpoints:
        progress = _progress(checkpoints)
    return 0.0 if progress is None else progress.seconds


def validations(folder: PathLike) -> tuple[dict[str, Any], ...]:
    """Returns the metrics of all validations of a training; none for a model without checkpoints.

    Raises:
      UsageError: no checkpoint has a manifest that can be read.
    """
    with Checkpoints(as_path(folder) / "checkpoints") as checkpoints:
        progress = _progress(checkpoints)
    return () if progress is None else progress.validations


def _progress(checkpoints: Checkpoints) -> Progress | None:
    newest = checkpoints.newest()
    return newest and Progress.of_meta(checkpoints.folder, newest[1].meta)


def _config(path: Path, description: dict[str, Any]) -> tuple[Config, Parts]:
    try:
        return Config(**description["model"]), Parts(**description["parts"])
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise UsageError(
            f"{path}: the model's configuration cannot be read ({error}) {REMEDY}"
        ) from None


def _require_same(path: Path, old: dict[str, Any], new: dict[str, Any]) -> None:
    changes = differences(old, new)
    if changes:
        texts = [
            _changed(SECTION.sub("", name, count=1), before, now)
            for name, before, now in changes[:3]
        ]
        others = f", and {len(changes) - 3} more" if len(changes) > 3 else ""
        raise UsageError(
            f"{path.parent}: this folder holds another run: {'; '.join(texts)}{others}. Choose "
            "another folder."
        )


# What messages call the data whose digests are recorded; their digests mean nothing to a reader.
DATA = {
    "pairs": "the training text",
    "validation.pairs": "the validation text",
    "text": "the text",
    "reference": "the reference",
    "lists.teacher_digest": "the teacher",
    "start": "the model to train further",
    "compressed": "the model to compress",
    "model": "the model to compress",
    "lists.digest": "the text of the n-best lists",
    "teacher_digest": "the teacher",
    "vocabularies.src": "the vocabulary of the source",
    "vocabularies.tgt": "the vocabulary of the target",
}


def _changed(name: str, before: Any, now: Any) -> str:
    if name == "history":
        return "the earlier trainings differ"
    if any(isinstance(value, str) and len(value) == 64 for value in (before, now)):
        return f"{DATA.get(name, name)} differs"
    return f"{name} was {quoted(before)} there and is {quoted(now)} now"
