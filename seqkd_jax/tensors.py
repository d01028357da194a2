"""Parameters as a safetensors file, for other tools and from them. Floor 5.

    write_tensors("student.safetensors", trained)
    params = read_tensors("student.safetensors", jax.eval_shape(model.init, key))

The format has no checksum, so the metadata carry the digest of the parameters; a file of another
tool has none, and is believed as it is. Needs the package ``safetensors``.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

import jax
import numpy as np

from .addresses import PathLike, as_local
from .base import Params
from .errors import UsageError
from .files import atomic_write
from .sealed import check_output_file
from .trained import TrainedModel, params_digest

REMEDY = "Write the file again, or restore it from a copy."


def write_tensors(path: PathLike, trained: TrainedModel) -> str:
    """Writes the parameters of a model atomically; returns how large the file is, in words.

    Names are paths such as ``decoder.layers.0.recurrent``; the metadata say the digest and, for an
    attention LSTM, sizes and blocks as in ``config.json``.
    """
    check_output_file(path)
    save = _package("numpy").save
    named = {name: np.asarray(leaf) for name, leaf in _named(trained.params)[0].items()}
    metadata = {"format": "seqkd-params-1", "sha256": trained.digest}
    if trained.net is not None:
        metadata["model"] = json.dumps(asdict(trained.config))
        metadata["parts"] = json.dumps(asdict(trained.parts))
    data = save({name: np.ascontiguousarray(x) for name, x in named.items()}, metadata)
    atomic_write(path, data)
    return f"{len(data):,} bytes"


def read_tensors(path: PathLike, like: Params) -> Params:
    """Reads parameters as numpy arrays.

    Args:
      path: the file.
      like: a pytree of arrays, or of their shapes, of the model in the file.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the file is damaged, its parameters are not those that it says, or it holds
        another model: the message names the first array that differs.
    """
    path = as_local(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file.")
    package = _package()
    wanted, tree = _named(like)
    try:
        with package.safe_open(path, framework="numpy") as file:
            digest = (file.metadata() or {}).get("sha256")
            found = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118
            _require_same(path, found, wanted)
            arrays = [np.array(file.get_tensor(name)) for name in wanted]
    except package.SafetensorError as error:
        raise UsageError(f"{path}: damaged, or no safetensors file ({error}). {REMEDY}") from None
    params = tree.unflatten(arrays)
    if digest is not None and digest != params_digest(params):
        raise UsageError(
            f"{path}: damaged or edited: its parameters do not match the digest in its metadata. "
            f"{REMEDY} A tool that changes them must leave out the metadata."
        )
    return params


def _named(params: Params) -> tuple[dict[str, Any], Any]:
    leaves, tree = jax.tree_util.tree_flatten_with_path(params)
    names = [jax.tree_util.keystr(path, simple=True, separator=".") for path, _ in leaves]
    return dict(zip(names, (leaf for _, leaf in leaves), strict=True)), tree


def _require_same(path: PathLike, found: Mapping[str, Any], wanted: Mapping[str, Any]) -> None:
    for name in sorted(found.keys() | wanted.keys()):
        shapes: list[Any] = [
            tuple(found[name].get_shape()) if name in found else None,
            tuple(np.shape(wanted[name])) if name in wanted else None,
        ]
        if shapes[0] != shapes[1]:
            raise UsageError(
                f"{path}: {name} is {shapes[0]} in the file but {shapes[1]} in this model: the "
                "file holds another model."
            )
        if (dtype := found[name].get_dtype()) != "F32":
            raise UsageError(
                f"{path}: {name} is of type {dtype}, and parameters are float32 (F32): convert "
                "the file."
            )


def _package(module: str = "") -> Any:
    try:
        import safetensors
        import safetensors.numpy
    except ImportError:
        raise UsageError(
            "Files of the safetensors format need a package: pip install safetensors."
        ) from None
    return getattr(safetensors, module) if module else safetensors
