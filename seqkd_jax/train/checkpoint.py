"""Checkpoints through Orbax: asynchronous, atomic, and trusted only with a matching digest.

    folder/STEP/{params, rest, meta}     as Orbax lays it out
    folder/STEP.sha256                   written last; a step without it does not count

Orbax loads damaged data without a word, so each finished step is signed with the hash of every
file in it, and a step whose files no longer match is passed over for the one before.
"""

import hashlib
import json
import shutil
import warnings
from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import serialization

from ..base import Params
from ..errors import UsageError
from ..files import atomic_write
from .state import TrainState


class Checkpoints:
    """The checkpoints of one run; a context manager, because saving goes on in the background.

    The newest two steps are kept, and those that ``save(..., keep=...)`` names (the best one).
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).absolute()
        self.folder.mkdir(parents=True, exist_ok=True)
        self._manager = ocp.CheckpointManager(self.folder)
        self._pending: tuple[int, set[int]] | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def save(self, state: TrainState, meta: dict[str, Any], keep: Collection[int] = ()) -> None:
        """Saves the state and ``meta`` (JSON) under the state's step, in the background.

        The copy to the host is complete on return, so the state may be donated. ``keep`` names
        further steps that must not be deleted.
        """
        self._finish()
        host = jax.tree.map(lambda x: np.array(x, copy=True), jax.device_get(state))
        step = int(host.step)
        rest = serialization.to_state_dict(replace(host, params=None))
        rest.pop("params")
        self._manager.save(
            step,
            args=ocp.args.Composite(
                params=ocp.args.StandardSave(serialization.to_state_dict(host.params)),
                rest=ocp.args.StandardSave(rest),
                meta=ocp.args.JsonSave(meta),
            ),
        )
        self._pending = (step, set(keep))

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """Returns the newest undamaged state and its meta, numpy leaves; None if there is none.

        Steps that are newer but unfinished or damaged are deleted, damaged ones with a warning.

        Raises:
          UsageError: the checkpoint holds other shapes or types than ``like``.
        """
        self._finish()
        for step in sorted(self._manager.all_steps(), reverse=True):
            if self._undamaged(step):
                break
            self._delete(step)
        else:
            return None
        params = self.restore_params(step, like.params)
        template = serialization.to_state_dict(replace(like, params=None))
        template.pop("params")
        rest = self._load(step, "rest", template)
        bare = replace(like, params=None)
        state = cast(TrainState, serialization.from_state_dict(bare, rest | {"params": None}))
        return replace(state, params=params), self.meta(step)

    def restore_params(self, step: int, like: Params) -> Params:
        """Returns the parameters saved at ``step``, shaped as ``like``.

        Raises:
          UsageError: that step is missing or damaged, or holds other shapes than ``like``.
        """
        self._finish()
        if step not in self._manager.all_steps() or not self._undamaged(step):
            raise UsageError(f"{self.folder / str(step)}: this checkpoint is missing or damaged.")
        template = serialization.to_state_dict(like)
        return serialization.from_state_dict(like, self._load(step, "params", template))

    def meta(self, step: int) -> dict[str, Any]:
        """Returns the JSON that was saved beside the state of ``step``."""
        args = ocp.args.Composite(meta=ocp.args.JsonRestore())
        return self._manager.restore(step, args=args)["meta"]

    def newest(self) -> int | None:
        """The newest step with a matching digest, once all that was saved is on disk."""
        self._finish()
        steps = sorted(self._manager.all_steps(), reverse=True)
        return next((step for step in steps if self._undamaged(step)), None)

    def close(self) -> None:
        """Waits until everything is on disk."""
        self._finish()
        self._manager.close()

    def _load(self, step: int, item: str, template: Any) -> Any:
        abstract = jax.tree.map(lambda x: np.zeros(x.shape, x.dtype), template)
        args = ocp.args.Composite(**{item: ocp.args.StandardRestore()})
        loaded = self._manager.restore(step, args=args)[item]
        # Orbax casts silently; a checkpoint of another model must not slip through.
        want = {k: (v.shape, v.dtype) for k, v in _leaves(abstract).items()}
        have = {k: (v.shape, v.dtype) for k, v in _leaves(loaded).items()}
        for name in sorted(want.keys() | have.keys()):
            if want.get(name) != have.get(name):
                raise UsageError(
                    f"{self.folder / str(step)}: {item}{name} is {have.get(name)} in the "
                    f"checkpoint and {want.get(name)} in this model: the folder holds another "
                    "model. Choose another output folder, or the configuration it was made with."
                )
        return loaded

    def _finish(self) -> None:
        if self._pending is None:
            return
        self._manager.wait_until_finished()
        step, keep = self._pending
        self._pending = None
        atomic_write(self._signature(step), json.dumps(self._digests(step), indent=1).encode())
        signed = sorted(s for s in self._manager.all_steps() if self._signature(s).exists())
        for old in signed[:-2]:
            if old not in keep:
                self._delete(old)

    def _signature(self, step: int) -> Path:
        return self.folder / f"{step}.sha256"

    def _digests(self, step: int) -> dict[str, str]:
        root = self.folder / str(step)
        files = sorted(path for path in root.rglob("*") if path.is_file())
        return {
            path.relative_to(root).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
            for path in files
        }

    def _undamaged(self, step: int) -> bool:
        if not self._signature(step).exists():
            return False
        try:
            signed = json.loads(self._signature(step).read_bytes())
        except ValueError:
            signed = None
        if signed == self._digests(step):
            return True
        warnings.warn(
            f"{self.folder / str(step)}: the files do not match their digest; "
            "this checkpoint is damaged and is not used.",
            stacklevel=3,
        )
        return False

    def _delete(self, step: int) -> None:
        self._signature(step).unlink(missing_ok=True)
        self._manager.delete(step)
        shutil.rmtree(self.folder / str(step), ignore_errors=True)


def params_digest(params: Params) -> str:
    """The sha256 of all parameters with their names, shapes and types: a model's identity."""
    sha = hashlib.sha256()
    for name, leaf in sorted(_leaves(serialization.to_state_dict(params)).items()):
        leaf = np.ascontiguousarray(leaf)
        sha.update(f"{name} {leaf.shape} {leaf.dtype}\n".encode())
        sha.update(leaf.tobytes())
    return sha.hexdigest()


def _leaves(tree: Any) -> dict[str, np.ndarray]:
    """Array leaves by path; empty containers, which some file formats drop, do not count."""
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in flat}
