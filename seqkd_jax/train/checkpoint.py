"""Checkpoints through Orbax: written in the background, and trusted only with a matching digest.

    folder/NUMBER/{params, rest}     as Orbax lays it out
    folder/NUMBER.sha256             a sealed record, written last: the digest of every file, and
                                     what the run says of itself; without it the rest does not count

Numbers rise by one with every save, so no two states have the same. Orbax loads damaged data
without a word; a checkpoint whose files no longer match is passed over for the one before.
"""

import contextlib
import errno
import hashlib
import logging
import os
import shutil
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

from ..base import Params
from ..errors import UsageError
from ..files import sha256
from ..sealed import RESTORE, read_record, write_record
from .state import TrainState

FORMAT = "seqkd-checkpoint-1"
# What a file system says that has no room, as Orbax's storage layer words it.
NO_ROOM = {os.strerror(n): n for n in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)}
PER_ARRAY = 2048  # bytes that Orbax writes about one, at most
LARGEST_FILE = 1 << 30
ENDING = 5.0  # seconds for Orbax's threads to end after one has failed


@dataclass(frozen=True)
class Signature:
    """What ``NUMBER.sha256`` holds."""

    step: int  # of the state
    meta: dict[str, Any]  # what the run says of itself, as JSON
    keep: list[int]  # other checkpoints that must stay as long as this one does
    files: dict[str, str]  # sha256 of each file, by its path


class Checkpoints:
    """The checkpoints of one run; a context manager, because saving goes on in the background.

    The newest two are kept, and those that their ``save(..., keep=...)`` names (the best one).
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder).absolute()
        self._writing: threading.Thread | None = None
        self._written = threading.Event()
        self._last = 0  # number given to a save, which may not have got to its file yet
        self._error: BaseException | None = None

    def __enter__(self) -> "Checkpoints":
        return self

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        try:
            self.finish()
        except Exception as unsaved:
            if error is None:
                raise
            error.add_note(str(unsaved))  # what went wrong first is what is raised

    @property
    def next_number(self) -> int:
        """The number that the next save will have."""
        return 1 + max(self._numbers() | {self._last})

    def save(self, state: TrainState, meta: dict[str, Any], keep: Collection[int] = ()) -> int:
        """Saves the state and ``meta`` (JSON) in the background, and returns their number.

        The copy to the host is complete on return, so the state may be donated. ``keep`` names
        further checkpoints that must not be deleted.

        Raises:
          OSError: the save before this one failed, for example because the disk is full.
        """
        self.finish()
        self._last = number = self.next_number
        host = jax.tree.map(lambda x: np.array(x, copy=True), jax.device_get(state))

        def write() -> None:
            try:
                with _orbax_alone():
                    self._write(number, host, meta, set(keep))
            except BaseException as error:
                self._error = self._unsaved(number, error)
            finally:
                self._written.set()

        # In a thread of our own: a signal that interrupts Orbax's own management of its threads
        # leaves them waiting for each other for minutes.
        self._written.clear()
        self._writing = threading.Thread(target=write, name=f"checkpoint {number}")
        self._writing.start()
        return number

    def finish(self) -> None:
        """Returns when what was saved is on disk and signed.

        Raises:
          OSError: it could not be written; the checkpoints before it are whole.
        """
        # Not ``join``: once interrupted, it takes a thread that runs for one that has ended.
        while self._writing is not None and not self._written.wait(timeout=1):
            if self._writing.ident is None:  # the interrupt came before it was started
                break
        self._writing, error, self._error = None, self._error, None
        if error is not None:
            raise error

    def restore(self, like: TrainState) -> tuple[TrainState, dict[str, Any]] | None:
        """Returns the newest undamaged state and its meta, numpy leaves; None if there is none.

        What is newer and unfinished or damaged is deleted with a warning, and so is what killed
        processes left half written: only the writer of a run may call this.

        Raises:
          UsageError: checkpoints are there and all are damaged, or the newest holds other shapes
            or types than ``like``.
        """
        self.finish()
        for leftover in self.folder.glob("*.orbax-checkpoint-tmp*"):
            shutil.rmtree(leftover, ignore_errors=True)
        number, passed = self._newest_whole()
        if number is None:
            if any(wrong != UNSIGNED for wrong in passed.values()) or len(passed) > 1:
                raise UsageError(_all_damaged(self.folder, passed))
            self._pass_over(passed, "training starts from the beginning")
            return None
        self._pass_over(passed, f"checkpoint {number} is used instead")
        params = self._load(number, "params", serialization.to_state_dict(like.params))
        params = serialization.from_state_dict(like.params, params)
        bare = replace(like, params=None)
        template = serialization.to_state_dict(bare)
        template.pop("params")
        rest = self._load(number, "rest", template)
        state = cast(TrainState, serialization.from_state_dict(bare, rest | {"params": None}))
        return replace(state, params=params), self.signature(number).meta

    def restore_params(self, number: int, like: Params) -> Params:
        """Returns the parameters of one checkpoint, shaped as ``like``.

        Raises:
          UsageError: it is missing or damaged, or holds other shapes than ``like``.
        """
        self.finish()
        if wrong := self._wrong(number):
            raise UsageError(f"{self.folder / str(number)}: {wrong}.")
        template = serialization.to_state_dict(like)
        return serialization.from_state_dict(like, self._load(number, "params", template))

    def signature(self, number: int) -> Signature:
        """Returns the signature of a checkpoint.

        Raises:
          FileNotFoundError: there is none.
          UsageError: it is damaged or was edited.
        """
        path = self._signature(number)
        record = read_record(path, FORMAT)
        try:
            return Signature(**record)
        except TypeError as error:
            raise UsageError(f"{path}: not the signature of a checkpoint: {error}.") from None

    def newest(self) -> tuple[int, Signature] | None:
        """The newest checkpoint that is signed, with a warning if a newer one is not.

        Raises:
          UsageError: there are checkpoints, and none has a signature that can be read.
        """
        self.finish()
        passed: dict[int, str] = {}
        for number in sorted(self._numbers(), reverse=True):
            if wrong := self._wrong_signature(number):
                passed[number] = wrong
                continue
            for other, wrong in passed.items():
                _warn(self.folder / str(other), wrong, f"checkpoint {number} is used instead")
            return number, self.signature(number)
        if passed:
            raise UsageError(_all_damaged(self.folder, passed))
        return None

    def _numbers(self) -> set[int]:
        """All numbers of which there is a trace."""
        names = [path.name.removesuffix(".sha256") for path in self.folder.glob("[0-9]*")]
        return {int(name) for name in names if name.isascii() and name.isdigit()}

    def _newest_whole(self) -> tuple[int | None, dict[int, str]]:
        """The newest checkpoint that is whole, as are those that it keeps; what newer ones lack."""
        passed: dict[int, str] = {}
        for number in sorted(self._numbers(), reverse=True):
            wrong = self._wrong(number)
            if not wrong:
                for kept in self.signature(number).keep:
                    if kept != number and (lost := passed.get(kept) or self._wrong(kept)):
                        wrong = f"the best one so far, {kept}, is lost ({lost})"
            if not wrong:
                return number, passed
            passed[number] = wrong
        return None, passed

    def _pass_over(self, passed: dict[int, str], instead: str) -> None:
        for number, wrong in passed.items():
            if wrong != NOTHING:
                _warn(self.folder / str(number), wrong, instead)
            self._delete(number)

    def _wrong(self, number: int) -> str:
        """What is wrong with a checkpoint; nothing if it is whole."""
        if wrong := self._wrong_signature(number):
            return wrong
        try:
            same = self.signature(number).files == self._digests(number)
        except OSError as error:
            return f"it cannot be read ({error})"
        return "" if same else "it is damaged: its files do not match their digest"

    def _wrong_signature(self, number: int) -> str:
        if not (self.folder / str(number)).exists():
            return NOTHING if self._signature(number).exists() else "it is missing"
        try:
            self.signature(number)
        except FileNotFoundError:
            return UNSIGNED
        except UsageError as error:
            return f"it is damaged ({str(error).removesuffix(RESTORE).rstrip('. ')})"
        return ""

    def _load(self, number: int, item: str, template: Any) -> Any:
        path = self.folder / str(number)
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            args = ocp.args.Composite(**{item: ocp.args.StandardRestore()})
            loaded = checkpointer.restore(path, args=args)[item]
        # Orbax casts silently; a checkpoint of another model must not slip through.
        want, have = _shapes(template), _shapes(loaded)
        for name in sorted(want.keys() | have.keys()):
            if want.get(name) != have.get(name):
                raise UsageError(
                    f"{path}: {item}{name} is {have.get(name)} in the checkpoint but "
                    f"{want.get(name)} in this model: the folder holds another model. Choose "
                    "another output folder, or the configuration that it was made with."
                )
        return loaded

    def _write(self, number: int, host: TrainState, meta: dict[str, Any], keep: set[int]) -> None:
        """Writes, signs, and only then deletes what is no longer needed; in the background."""
        self.folder.mkdir(parents=True, exist_ok=True)
        _require_room(self.folder, jax.tree.leaves(host))
        rest = serialization.to_state_dict(replace(host, params=None))
        rest.pop("params")
        with ocp.Checkpointer(ocp.CompositeCheckpointHandler()) as checkpointer:
            checkpointer.save(
                self.folder / str(number),
                args=ocp.args.Composite(
                    params=ocp.args.StandardSave(serialization.to_state_dict(host.params)),
                    rest=ocp.args.StandardSave(rest),
                ),
            )
        signature = Signature(int(host.step), meta, sorted(keep), self._digests(number))
        write_record(self._signature(number), FORMAT, vars(signature))
        signed = [n for n in sorted(self._numbers()) if not self._wrong_signature(n)]
        needed = set(signed[-2:]).union(*(self.signature(n).keep for n in signed[-2:]))
        for old in set(signed) - needed:
            self._delete(old)

    def _unsaved(self, number: int, error: BaseException) -> BaseException:
        """What is raised for a failed save; a full disk is told in one sentence."""
        self._delete(number)
        for leftover in self.folder.glob(f"{number}.orbax-checkpoint-tmp*"):
            shutil.rmtree(leftover, ignore_errors=True)
        text = str(error)
        if isinstance(error, OSError):
            known = error.errno or errno.EIO
        elif "local file" in text:  # as TensorStore tells what a file system refused
            known = next((n for words, n in NO_ROOM.items() if words in text), errno.EIO)
        else:
            return error
        told = OSError(
            f"{self.folder / str(number)}: this checkpoint could not be written "
            f"({os.strerror(known)}). Earlier checkpoints are whole: once this is put right, "
            "the same command resumes from them."
        )
        told.errno, told.__cause__ = known, error
        return told

    def _signature(self, number: int) -> Path:
        return self.folder / f"{number}.sha256"

    def _digests(self, number: int) -> dict[str, str]:
        root = self.folder / str(number)
        files = sorted(path for path in root.rglob("*") if path.is_file())
        return {path.relative_to(root).as_posix(): sha256(path) for path in files}

    def _delete(self, number: int) -> None:
        self._signature(number).unlink(missing_ok=True)
        shutil.rmtree(self.folder / str(number), ignore_errors=True)


UNSIGNED = "its .sha256 file is missing: saving was interrupted, or the file was deleted"
NOTHING = "only its signature is left"


def _require_room(folder: Path, arrays: list[np.ndarray]) -> None:
    """Takes the room that a checkpoint needs, and gives it back: a full disk is told before Orbax
    has begun, which does not end well when it is told half-way.

    Raises:
      OSError: there is not enough.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    left = sum(x.nbytes + PER_ARRAY for x in arrays)
    with contextlib.ExitStack() as stack:
        while left > 0:
            file = stack.enter_context(tempfile.TemporaryFile(dir=folder))
            os.posix_fallocate(file.fileno(), 0, min(left, LARGEST_FILE))
            left -= LARGEST_FILE


@contextlib.contextmanager
def _orbax_alone() -> Iterator[None]:
    """Lets Orbax's threads come to their ends, and keeps what they say of their failures to one.

    When one of them fails the others go on for a while, and log what then happens to them; the
    first failure is raised as well, and that is the one that counts.
    """
    others, hook = set(threading.enumerate()), sys.unraisablehook
    logger, wanted = logging.getLogger("absl"), lambda record: "orbax" not in record.pathname
    logger.addFilter(wanted)

    def unraisable(said: Any) -> None:
        # After a failure TensorStore calls back, for a while, into event loops that are closed.
        if said.object is not None or str(said.exc_value) != "Event loop is closed":
            hook(said)

    sys.unraisablehook = unraisable
    try:
        yield
        sys.unraisablehook = hook
    except BaseException:
        until = time.monotonic() + ENDING
        for thread in set(threading.enumerate()) - others:
            with contextlib.suppress(Exception):  # theirs raise when joined
                thread.join(max(0.0, until - time.monotonic()))
        raise
    finally:
        logger.removeFilter(wanted)


def _warn(path: Path, wrong: str, instead: str) -> None:
    warnings.warn(f"{path}: {wrong}; {instead}.", stacklevel=4)


def _all_damaged(folder: Path, passed: dict[int, str]) -> str:
    said = "; ".join(f"{number}: {wrong}" for number, wrong in passed.items())
    return (
        f"{folder}: no checkpoint can be used ({said}). Restore the folder from a copy, or "
        "delete it and train again."
    )


def params_digest(params: Params) -> str:
    """The sha256 of all parameters with their names, shapes and types: a model's identity."""
    sha = hashlib.sha256()
    for name, leaf in sorted(_leaves(serialization.to_state_dict(params)).items()):
        leaf = np.ascontiguousarray(leaf)
        sha.update(f"{name} {leaf.shape} {leaf.dtype}\n".encode())
        sha.update(leaf.tobytes())
    return sha.hexdigest()


def _shapes(tree: Any) -> dict[str, tuple]:
    """Shape and type of each leaf, which may be a description of an array."""
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path): (np.shape(x), jax.dtypes.result_type(x)) for path, x in flat
    }


def _leaves(tree: Any) -> dict[str, np.ndarray]:
    """Array leaves by path; empty containers, which some file formats drop, do not count."""
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {jax.tree_util.keystr(path): np.asarray(leaf) for path, leaf in flat}
