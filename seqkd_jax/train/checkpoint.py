"""Checkpoints with Orbax: written in the background, and used only if their digests match.

    folder/NUMBER/{params, rest}     in Orbax's layout
    folder/NUMBER.sha256             the manifest, a record written last: the digest of every file
                                     and the run's own metadata; a checkpoint without it is ignored

Numbers increase by one with every save and are never reused. Orbax loads damaged data silently, so
a checkpoint whose files do not match their digests is skipped for the one before it.
"""

import os
import threading
import warnings
from collections.abc import Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
from flax import serialization

from ..addresses import PathLike, as_path, delete_folder, is_local, local_folder, writing_folder
from ..base import Params
from ..errors import UsageError
from ..files import make_folder, sha256
from ..sealed import RESTORE, read_record, write_record
from .orbax_files import error_number, load_item, one_error, require_space, save_items
from .state import TrainState

FORMAT = "seqkd-checkpoint-1"


@dataclass(frozen=True)
class Manifest:
    """The content of ``NUMBER.sha256``."""

    step: int  # of the state
    meta: dict[str, Any]  # the run's own metadata, as JSON
    keep: list[int]  # other checkpoints that must be kept as long as this one
    files: dict[str, str]  # sha256 of each file, by its path


class Checkpoints:
    """The checkpoints of one run; a context manager, because they are saved in the background.

    The newest two are kept, and those that their ``save(..., keep=...)`` named (the best one).
    """

    def __init__(self, folder: PathLike):
        self.folder = as_path(folder).absolute()
        self._writing: threading.Thread | None = None
        self._written = threading.Event()
        self._last = 0  # number of the last save, which may still have no file
        self._error: BaseException | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self.finish()
        except Exception as unsaved:
            if error is None:
                raise
            error.add_note(str(unsaved))  # the first error is the one that is raised

    @property
    def next_number(self) -> int:
        """The number of the next save."""
        return 1 + max(self._numbers() | {self._last})

    def save(self, state: TrainState, meta: dict[str, Any], keep: Collection[int] = ()) -> int:
        """Saves the state and ``meta`` (JSON) in the background; returns the checkpoint's number.

        The state is copied to the host before this returns, so it may be donated. ``keep`` names
        other checkpoints that must not be deleted.

        Raises:
          OSError: the previous save failed, for example because the disk is full.
        """
        self.finish()
        self._last = number = self.next_number
        host = jax.tree.map(lambda x: np.array(x, copy=True), jax.device_get(state))

        def write() -> None:
            try:
                with one_error():
                    self._write(number, host, meta, set(keep))
            except BaseException as error:
                self._error = self._unsaved(number, error)
            finally:
                self._written.set()

        # Not with Orbax's asynchronous saving: a signal that interrupts its management of threads
        # leaves them waiting for each other for minutes.
        self._written.clear()
        self._writing = threading.Thread(target=write, name=f"checkpoint {number}")
        self._writing.start()
        return number

    def finish(self) -> None:
        """Waits until the last save and its manifest are on disk.

        Raises:
          OSError: it could not be written; earlier checkpoints are intact.
        """
        # Not ``join``: after an interrupt it reports a running thread as ended.
        while self._writing is not None and not self._written.wait(timeout=1):
            if self._writing.ident is None:  # an interrupt came before the thread was started
                break
        self._writing, error, self._error = None, self._error, None
        if error is not None:
            raise error

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """Returns the newest intact state, with numpy leaves, and its metadata; None without one.

        Deletes newer checkpoints that are unfinished or damaged, with a warning, and temporary
        files of killed processes; so only the writer of a run may call it.

        Raises:
          UsageError: all checkpoints are damaged, or the newest intact one has other shapes or
            types than ``like``.
        """
        self.finish()
        for leftover in self.folder.glob("*.orbax-checkpoint-tmp*"):
            delete_folder(leftover)
        number, skipped = self._newest_intact()
        if number is None:
            if any(damage != NO_MANIFEST for damage in skipped.values()) or len(skipped) > 1:
                raise UsageError(_all_damaged(self.folder, skipped))
            self._discard(skipped, "training starts from the beginning")
            return None
        self._discard(skipped, f"checkpoint {number} is used instead")
        params = self._load(number, "params", serialization.to_state_dict(like.params))
        params = serialization.from_state_dict(like.params, params)
        without_params = replace(like, params=None)
        template = _without_none(serialization.to_state_dict(without_params))
        none = dict.fromkeys(serialization.to_state_dict(without_params))
        rest = none | self._load(number, "rest", template)
        state = cast(TrainState, serialization.from_state_dict(without_params, rest))
        return replace(state, params=params), self.manifest(number).meta

    def restore_params(self, number: int, like: Params) -> Params:
        """Returns the parameters of one checkpoint, in the structure of ``like``.

        Raises:
          UsageError: the checkpoint is missing or damaged, or has other shapes than ``like``.
        """
        self.finish()
        if damage := self._damage(number):
            raise UsageError(f"{self.folder / str(number)}: {damage}.")
        template = serialization.to_state_dict(like)
        return serialization.from_state_dict(like, self._load(number, "params", template))

    def manifest(self, number: int) -> Manifest:
        """Returns the manifest of a checkpoint.

        Raises:
          FileNotFoundError: the checkpoint has none.
          UsageError: the manifest is damaged or was edited.
        """
        path = self._manifest_path(number)
        record = read_record(path, FORMAT)
        try:
            return Manifest(**record)
        except TypeError as error:
            raise UsageError(f"{path}: not the manifest of a checkpoint: {error}.") from None

    def newest(self) -> tuple[int, Manifest] | None:
        """Returns the newest checkpoint with a manifest, and warns of newer ones without.

        Raises:
          UsageError: there are checkpoints, and no manifest of them can be read.
        """
        self.finish()
        skipped: dict[int, str] = {}
        for number in sorted(self._numbers(), reverse=True):
            if damage := self._manifest_damage(number):
                skipped[number] = damage
                continue
            manifest = self.manifest(number)
            instead = f"checkpoint {number} is used instead"
            if (best := manifest.meta.get("best")) not in (None, number):
                instead += f", by which checkpoint {best} is the best"
            for other, damage in skipped.items():
                _warn(self.folder / str(other), damage, instead)
            return number, manifest
        if skipped:
            raise UsageError(_all_damaged(self.folder, skipped))
        return None

    def _numbers(self) -> set[int]:
        """Returns the numbers of all checkpoints, incomplete ones included."""
        names = [path.name.removesuffix(".sha256") for path in self.folder.glob("[0-9]*")]
        return {int(name) for name in names if name.isascii() and name.isdigit()}

    def _newest_intact(self) -> tuple[int | None, dict[int, str]]:
        """Returns the newest checkpoint intact with those it keeps, and damage of newer ones."""
        skipped: dict[int, str] = {}
        for number in sorted(self._numbers(), reverse=True):
            damage = self._damage(number)
            if not damage:
                for kept in self.manifest(number).keep:
                    if kept != number and (lost := skipped.get(kept) or self._damage(kept)):
                        damage = f"the best one so far, {kept}, is lost ({lost})"
            if not damage:
                return number, skipped
            skipped[number] = damage
        return None, skipped

    def _discard(self, skipped: dict[int, str], instead: str) -> None:
        for number, damage in skipped.items():
            if damage != ONLY_MANIFEST:
                _warn(self.folder / str(number), damage, instead)
            self._delete(number)

    def _damage(self, number: int) -> str:
        """Returns what is wrong with a checkpoint; an empty string if it is intact."""
        if damage := self._manifest_damage(number):
            return damage
        try:
            same = self.manifest(number).files == _digests(self.folder / str(number))
        except OSError as error:
            return f"it cannot be read ({error})"
        return "" if same else "it is damaged: its files do not match their digest"

    def _manifest_damage(self, number: int) -> str:
        if not (self.folder / str(number)).exists():
            return ONLY_MANIFEST if self._manifest_path(number).exists() else "it is missing"
        try:
            self.manifest(number)
        except FileNotFoundError:
            return NO_MANIFEST
        except UsageError as error:
            return f"it is damaged ({str(error).removesuffix(RESTORE).rstrip('. ')})"
        return ""

    def _load(self, number: int, item: str, template: Any) -> Any:
        path = self.folder / str(number)
        with local_folder(path, item) as local:
            return load_item(local, path, item, template)

    def _write(self, number: int, host: TrainState, meta: dict[str, Any], keep: set[int]) -> None:
        """Writes a checkpoint and its manifest, then deletes those that are no longer needed."""
        make_folder(self.folder)
        require_space(self.folder if is_local(self.folder) else None, jax.tree.leaves(host))
        with writing_folder(self.folder / str(number)) as local:
            save_items(
                local,
                params=serialization.to_state_dict(host.params),
                rest=_without_none(serialization.to_state_dict(replace(host, params=None))),
            )
            digests = _digests(local)
        manifest = Manifest(int(host.step), meta, sorted(keep), digests)
        write_record(self._manifest_path(number), FORMAT, vars(manifest))
        whole = [n for n in sorted(self._numbers()) if not self._manifest_damage(n)]
        needed = set(whole[-2:]).union(*(self.manifest(n).keep for n in whole[-2:]))
        for old in set(whole) - needed:
            self._delete(old)

    def _unsaved(self, number: int, error: BaseException) -> BaseException:
        """Returns the exception for a failed save; for lack of space, a one-line OSError."""
        self._delete(number)
        for leftover in self.folder.glob(f"{number}.orbax-checkpoint-tmp*"):
            delete_folder(leftover)
        code = error_number(error)
        if code is None:
            return error
        unsaved = OSError(
            f"{self.folder / str(number)}: this checkpoint could not be written "
            f"({os.strerror(code)}). "
            + ("Earlier checkpoints are intact: once" if self._numbers() else "Once")
            + " this is fixed, run the same command again."
        )
        unsaved.errno, unsaved.__cause__ = code, error
        return unsaved

    def _manifest_path(self, number: int) -> Path:
        return self.folder / f"{number}.sha256"

    def _delete(self, number: int) -> None:
        self._manifest_path(number).unlink(missing_ok=True)
        delete_folder(self.folder / str(number))


NO_MANIFEST = "its .sha256 file is missing: saving was interrupted, or the file was deleted"
ONLY_MANIFEST = "only its manifest is left"


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _digests(root: Path) -> dict[str, str]:
    """Returns the sha256 of each file of a checkpoint, by its path."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): sha256(path) for path in files}


def _warn(path: Path, damage: str, instead: str) -> None:
    warnings.warn(f"{path}: {damage}; {instead}.", stacklevel=4)


def _all_damaged(folder: Path, skipped: dict[int, str]) -> str:
    damages = "; ".join(f"{number}: {damage}" for number, damage in skipped.items())
    return (
        f"{folder}: no checkpoint can be used ({damages}). Restore the folder from a copy, or "
        "delete it and train again."
    )
