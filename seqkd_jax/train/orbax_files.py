"""How Orbax writes and reads the arrays of a checkpoint, with one error when that fails.

Orbax does not recover well from a full disk, works in threads that go on after one has failed, and
casts arrays of another type silently; the functions here prevent each of these.
"""

import contextlib
import errno
import logging
import os
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jax
import numpy as np
import orbax.checkpoint as ocp

from ..errors import UsageError

# Texts of the errors for lack of space, by which those of Orbax's storage layer are recognised.
NO_SPACE_ERRORS = {os.strerror(n): n for n in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)}
METADATA_BYTES = 2048  # upper bound of what Orbax writes for an array besides its data
MAX_FILE_BYTES = 1 << 30
JOIN_SECONDS = 5.0  # for Orbax's threads to end after one has failed


def save_items(folder: Path, **items: Any) -> None:
    """Writes trees of arrays to a new folder, each under its name."""
    args = {name: ocp.args.StandardSave(tree) for name, tree in items.items()}
    with _alone() as checkpointer:
        checkpointer.save(folder, args=ocp.args.Composite(**args))


def load_item(folder: Path, path: Path, item: str, template: Any) -> Any:
    """Reads a tree of arrays that ``save_items`` has written.

    Args:
      folder: where it is.
      path: what the folder is called in messages.
      item: its name.
      template: a tree of arrays, or their shapes, that it must be like.

    Raises:
      UsageError: an array is missing, or has another shape or type than in the template.
    """
    with _alone() as checkpointer:
        args = ocp.args.Composite(**{item: ocp.args.StandardRestore()})
        loaded = checkpointer.restore(folder, args=args)[item]
    expected, actual = _shapes(template), _shapes(loaded)
    for name in sorted(expected.keys() | actual.keys()):
        if expected.get(name) != actual.get(name):
            raise UsageError(
                f"{path}: {item}{name} is {actual.get(name)} in the checkpoint but "
                f"{expected.get(name)} in this model: the folder holds another model. Choose "
                "another output folder, or the configuration that it was made with."
            )
    return loaded


def require_space(folder: Path | None, arrays: list[np.ndarray]) -> None:
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
def one_error() -> Iterator[None]:
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


def error_number(error: BaseException) -> int | None:
    """Returns the number (``errno``) of a file error, as Orbax raises it; None for other errors."""
    if isinstance(error, OSError):
        return error.errno or errno.EIO
    text = str(error)
    if "local file" in text:  # in TensorStore's messages about errors of the file system
        return next((n for words, n in NO_SPACE_ERRORS.items() if words in text), errno.EIO)
    return None


def _alone() -> ocp.Checkpointer:
    """Returns a Checkpointer that does not wait for other processes."""
    this = jax.process_index()
    options = ocp.options.MultiprocessingOptions(
        primary_host=this, active_processes={this}, barrier_sync_key_prefix=f"seqkd-{this}"
    )
    composite = ocp.CompositeOptions(multiprocessing_options=options)
    handler = ocp.CompositeCheckpointHandler(composite_options=composite)
    return ocp.Checkpointer(handler, multiprocessing_options=options)


def _shapes(tree: Any) -> dict[str, tuple]:
    """Returns the shape and type of each leaf, an array or its ``ShapeDtypeStruct``."""
    flat = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {
        jax.tree_util.keystr(path): (np.shape(x), jax.dtypes.result_type(x)) for path, x in flat
    }
