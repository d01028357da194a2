"""Checkpoints with Orbax: written in the background, and used only if their digests match.

    folder/NUMBER/{params, rest}     in Orbax's layout
    folder/NUMBER.sha256             a sealed record, written last: the digest of every file, and
                                     the run's own metadata; a checkpoint without it is ignored

Numbers increase by one with every save and are never reused. Orbax loads damaged data silently, so
a checkpoint whose files do not match their digests is skipped for the one before it.
"""

import contextlib
import errno
import logging
import os
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

import jax
import numpy as np
import orbax.checkpoint as ocp
from flax import serialization

from ..addresses import PathLike, as_path, delete_folder, is_local, local_folder, writing_folder
from ..base import Params
from ..errors import UsageError
from ..files import make_folder, sha256
from ..sealed import RESTORE, read_record, write_record
from .state import TrainState

FORMAT = "seqkd-checkpoint-1"
# Texts of the errors for lack of space, by which those of Orbax's storage layer are recognised.
NO_SPACE_ERRORS = {os.strerror(n): n for n in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)}
METADATA_BYTES = 2048  # upper bound of what Orbax writes for an array besides its data
MAX_FILE_BYTES = 1 << 30
JOIN_SECONDS = 5.0  # for Orbax's threads to end after one has failed


@dataclass(frozen=True)
class Signature:
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
                with _orbax_errors():
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
        """Waits until the last save is on disk and signed.

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
            if any(damage != UNSIGNED for damage in skipped.values()) or len(skipped) > 1:
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
        return replace(state, params=params), self.signature(number).meta

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

    def signature(self, number: int) -> Signature:
        """Returns the signature of a checkpoint.

        Raises:
          FileNotFoundError: the checkpoint has none.
          UsageError: the signature is damaged or was edited.
        """
        path = self._signature_path(number)
        record = read_record(path, FORMAT)
        try:
            return Signature(**record)
        except TypeError as error:
            raise UsageError(f"{path}: not the signature of a checkpoint: {error}.") from None

    def newest(self) -> tuple[int, Signature] | None:
        """Returns the newest signed checkpoint, with a warning about newer unsigned ones.

        Raises:
          UsageError: there are checkpoints, and no signature of them can be read.
        """
        self.finish()
        skipped: dict[int, str] = {}
        for number in sorted(self._numbers(), reverse=True):
            if damage := self._signature_damage(number):
                skipped[number] = damage
                continue
            signature = self.signature(number)
            instead = f"checkpoint {number} is used instead"
            if (best := signature.meta.get("best")) not in (None, number):
                instead += f", by which checkpoint {best} is the best"
            for other, damage in skipped.items():
                _warn(self.folder / str(other), damage, instead)
            return number, signature
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
                for kept in self.signature(number).keep:
                    if kept != number and (lost := skipped.get(kept) or self._damage(kept)):
                        damage = f"the best one so far, {kept}, is lost ({lost})"
            if not damage:
                return number, skipped
            skipped[number] = damage
        return None, skipped

    def _discard(self, skipped: dict[int, str], instead: str) -> None:
        for number, damage in skipped.items():
            if damage != ONLY_SIGNATURE:
                _warn(self.folder / str(number), damage, instead)
            self._delete(number)

    def _damage(self, number: int) -> str:
        """Returns what is wrong with a checkpoint; an empty string if it is intact."""
        if damage := self._signature_damage(number):
            return damage
        try:
            same = self.signature(number).files == _digests(self.folder / str(number))
        except OSError as error:
            return f"it cannot be read ({error})"
        return "" if same else "it is damaged: its files do not match their digest"

    def _signature_damage(self, number: int) -> str:
        if not (self.folder / str(number)).exists():
            return ONLY_SIGNATURE if self._signature_path(number).exists() else "it is missing"
        try:
            self.signature(number)
        except FileNotFoundError:
            return UNSIGNED
        except UsageError as error:
            return f"it is damaged ({str(error).removesuffix(RESTORE).rstrip('. ')})"
        return ""

    def _load(self, number: int, item: str, template: Any) -> Any:
        path = self.folder / str(number)
        with local_folder(path, item) as local, _alone() as checkpointer:
            args = ocp.args.Composite(**{item: ocp.args.StandardRestore()})
            loaded = checkpointer.restore(local, args=args)[item]
        # Orbax casts silently, so a checkpoint of another model might go unnoticed.
        expected, actual = _shapes(template), _shapes(loaded)
        for name in sorted(expected.keys() | actual.keys()):
            if expected.get(name) != actual.get(name):
                raise UsageError(
                    f"{path}: {item}{name} is {actual.get(name)} in the checkpoint but "
                    f"{expected.get(name)} in this model: the folder holds another model. Choose "
                    "another output folder, or the configuration that it was made with."
                )
        return loaded

    def _write(self, number: int, host: TrainState, meta: dict[str, Any], keep: set[int]) -> None:
        """Writes, signs, and only then deletes checkpoints that are no longer needed."""
        make_folder(self.folder)
        _require_space(self.folder if is_local(self.folder) else None, jax.tree.leaves(host))
        rest = _without_none(serialization.to_state_dict(replace(host, params=None)))
        with writing_folder(self.folder / str(number)) as local, _alone() as checkpointer:
            checkpointer.save(
                local,
                args=ocp.args.Composite(
                    params=ocp.args.StandardSave(serialization.to_state_dict(host.params)),
                    rest=ocp.args.StandardSave(rest),
                ),
            )
            digests = _digests(local)
        signature = Signature(int(host.step), meta, sorted(keep), digests)
        write_record(self._signature_path(number), FORMAT, vars(signature))
        signed = [n for n in sorted(self._numbers()) if not self._signature_damage(n)]
        needed = set(signed[-2:]).union(*(self.signature(n).keep for n in signed[-2:]))
        for old in set(signed) - needed:
            self._delete(old)

    def _unsaved(self, number: int, error: BaseException) -> BaseException:
        """Returns the exception for a failed save; for lack of space, a one-line OSError."""
        self._delete(number)
        for leftover in self.folder.glob(f"{number}.orbax-checkpoint-tmp*"):
            delete_folder(leftover)
        text = str(error)
        if isinstance(error, OSError):
            code = error.errno or errno.EIO
        elif "local file" in text:  # in TensorStore's messages about errors of the file system
            code = next((n for words, n in NO_SPACE_ERRORS.items() if words in text), errno.EIO)
        else:
            return error
        unsaved = OSError(
            f"{self.folder / str(number)}: this checkpoint could not be written "
            f"({os.strerror(code)}). "
            + ("Earlier checkpoints are intact: once" if self._numbers() else "Once")
            + " this is fixed, run the same command again."
        )
        unsaved.errno, unsaved.__cause__ = code, error
        return unsaved

    def _signature_path(self, number: int) -> Path:
        return self.folder / f"{number}.sha256"

    def _delete(self, number: int) -> None:
        self._signature_path(number).unlink(missing_ok=True)
        delete_folder(self.folder / str(number))


UNSIGNED = "its .sha256 file is missing: saving was interrupted, or the file was deleted"
ONLY_SIGNATURE = "only its signature is left"


def _without_none(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in fields.items() if value is not None}


def _alone() -> ocp.Checkpointer:
    """Returns a Checkpointer that does not wait for other processes."""
    this = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=this, active_processes={this}, barrier_sync_key_prefix=f"seqkd-{this}"
    )
    composite = ocp.CompositeOptions(multiprocessing_options=options)
    handler = ocp.CompositeCheckpointHandler(composite_options=composite)
    return ocp.Checkpointer(handler, multiprocessing_options=options)


def _digests(root: Path) -> dict[str, str]:
    """Returns the sha256 of each file of a checkpoint, by its path."""
    files = sorted(path for path in root.rglob("*") if path.is_file())
    return {path.relative_to(root).as_posix(): sha256(path) for path in files}


def _require_space(folder: Path | None, arrays: list[np.ndarray]) -> None:
    """Allocates the space that a checkpoint needs and frees it again.

    So a full disk is noticed before Orbax starts, which does not recover well half-way. None is
    the system's folder for temporary files.

    Raises:
      OSError: there is not enough space.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    left = sum(x.nbytes + METADATA_BYTES for x in arrays)
    with contextlib.ExitStack() as stack:
        while left > 0:
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
            os.posix_fallocate(file.fileno(), 0, min(left, MAX_FILE_BYTES))
            left -= MAX_FILE_BYTES


@contextlib.contextmanager
def _orbax_errors() -> Iterator[None]:
    """Waits for Orbax's threads after a failure, and silences all of their errors but the first.

    When one thread fails, the others go on for a while and log the errors that follow from it. The
    first error is also raised, and is the one that matters.
    """
    others, hook = set(threading.enumerate()), sys.unraisablehook
    logger, not_orbax = logging.getLogger("absl"), lambda record: "orbax" not in record.pathname
    logger.addFilter(not_orbax)

    def unraisable(event: Any) -> None:
        # After a failure TensorStore still calls back into event loops that are closed.
        if event.object is not None or str(event.exc_value) != "Event loop is closed":
            hook(event)

    sys.unraisablehook = unraisable
    try:
        yield
        sys.unraisablehook = hook
    except BaseException:
        until = time.monotonic() + JOIN_SECONDS
        for thread in set(threading.enumerate()) - others:
            with contextlib.suppress(Exception):  # Orbax's threads raise in ``join``
                thread.join(max(0.0, until - time.monotonic()))
        raise
    finally:
        logger.removeFilter(not_orbax)


def _warn(path: Path, damage: str, instead: str) -> None:
    warnings.warn(f"{path}: {damage}; {instead}.", stacklevel=4)


def _all_damaged(folder: Path, skipped: dict[int, str]) -> str:
    damages = "; ".join(f"{number}: {damage}" for number, damage in skipped.items())
    return (
        f"{folder}: no checkpoint can be used ({damages}). Restore the folder from a copy, or "
        "delete it and train again."
    )


def _shapes(tree: Any) -> dict[str, tuple]:
    """Returns the shape and type of each leaf, an array or its ``ShapeDtypeStruct``."""
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path): (np.shape(x), jax.dtypes.result_type(x)) for path, x in flat
    }
