"""Several processes that train together, on one machine or on many. Floor 3.

Every process runs the same program. Process 0 alone writes, and all read what it has written: their
folders are the same, on a disk that they share. Commands call ``start``; the library never does.
"""

import atexit
import contextlib
import inspect
import itertools
import json
import signal
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import jax
import numpy as np
from jax.experimental import multihost_utils

from . import stopping
from .errors import UsageError

HEARTBEAT = 40  # seconds without a sign of life after which a process counts as dead
LEAVING = 60  # seconds that a process which is done waits for the others
MEETING = 300  # seconds in which all processes must have started
POLL = 1000  # milliseconds between two looks at what another process has to say
END = "seqkd/end"  # the key under which one process tells the others that all must end
LAST_WORDS = (
    "seqkd: this process was ended, most likely because another one has died or cannot be reached "
    "any more. Run the same command again in all processes, as many as you like, to resume."
)
_turns = itertools.count()
_over = threading.Event()  # whether this process has stopped listening to the others


def start(coordinator: str | None = None, processes: int | None = None, process: int | None = None):
    """Joins the processes that train together; alone if there are no others.

    On TPU pods, and under SLURM and Open MPI, JAX finds the others by itself. Call this before
    anything is computed and before devices are counted.

    Args:
      coordinator: host:port of process 0, which opens this port.
      processes: number of all processes; 1 if this one is to stay alone.
      process: number of this one, from 0.

    Raises:
      UsageError: only some of the three are given and the others are not to be found, JAX has
        begun to compute, or the others did not come.
    """
    given = {"coordinator": coordinator, "processes": processes, "process": process}
    if processes == 1 or jax.distributed.is_initialized():
        return
    if process is not None and processes is not None and process >= processes:
        raise UsageError(
            f"--process is {process}, but there are {processes} processes, which count from 0."
        )
    limits = {
        "initialization_timeout": MEETING,
        "heartbeat_timeout_seconds": HEARTBEAT,
        "shutdown_timeout_seconds": LEAVING,
    }
    known = inspect.signature(jax.distributed.initialize).parameters  # jax 0.7 has not the last
    handler = signal.getsignal(signal.SIGTERM)
    try:
        jax.distributed.initialize(
            *given.values(), **{name: value for name, value in limits.items() if name in known}
        )
    except jax.errors.JaxRuntimeError as error:
        raise UsageError(
            f"The other processes could not be reached within {MEETING} seconds ({_first(error)}). "
            "All of them must be started, with the same --coordinator and --processes."
        ) from None
    except (ValueError, RuntimeError) as error:
        asked = [f"--{name}" for name, value in given.items() if value is not None]
        alone = "should be defined" in str(error) or "must be called before" in str(error)
        if asked or not alone:
            raise UsageError(
                f"The other processes were not found ({_first(error).rstrip('.')}). Give "
                "--coordinator, --processes and --process, all three; given here: "
                f"{', '.join(asked) or 'none of them'}."
            ) from None
    if jax.distributed.is_initialized():
        if threading.current_thread() is threading.main_thread():
            # JAX's preemption service has put its own in the place of the one in ``stopping``.
            signal.signal(signal.SIGTERM, handler)
        stopping.join(_tell, _leave, LAST_WORDS)
        listener = threading.Thread(target=_listen, daemon=True)
        listener.start()
        atexit.register(_stop_listening, listener)


def is_first() -> bool:
    """Returns whether this is process 0, the one that writes and prints."""
    return jax.process_index() == 0


@contextlib.contextmanager
def first_in_turn() -> Iterator[None]:
    """Process 0 goes through this block first, and the others when it is done.

    So what process 0 makes in the block is found there by the others. If process 0 fails in it, all
    processes end.
    """
    if jax.process_count() == 1:
        yield
        return
    turn = f"seqkd/turn/{next(_turns)}"
    if not is_first():
        _wait_for(turn)
    yield
    if is_first():
        _client().key_value_set(turn, "done")


def share_out(function: Callable[[int, Sequence[Any]], list], items: Sequence[Any]) -> list:
    """Returns ``function(0, items)``, of which each process computes a part.

    ``function(first, part)`` maps items to as many results that JSON can hold; ``first`` is the
    index of the first item in the part.
    """
    count = jax.process_count()
    if count == 1:
        return function(0, items)
    bounds = [n * len(items) // count for n in range(count + 1)]
    first, end = bounds[jax.process_index()], bounds[jax.process_index() + 1]
    own = np.frombuffer(json.dumps(function(first, items[first:end])).encode(), np.uint8)
    sizes = multihost_utils.process_allgather(np.int32(len(own))).tolist()
    padded = np.zeros(max(sizes), np.uint8)
    padded[: len(own)] = own
    parts = multihost_utils.process_allgather(padded)
    texts = (part[:size].tobytes() for part, size in zip(parts, sizes, strict=True))
    return [result for text in texts for result in json.loads(text)]


@contextlib.contextmanager
def together() -> Iterator[None]:
    """Says what it means when a computation of all processes fails in this block.

    Raises:
      UsageError: another process has died, or the computation itself has failed.
    """
    try:
        yield
    except jax.errors.JaxRuntimeError as error:
        if jax.process_count() == 1 or stopping.requested() is not None:
            raise
        raise UsageError(
            f"A computation of all {jax.process_count()} processes has failed "
            f"({_first(error)}). If one of them has died, run the same command again in all "
            "processes to resume from the last checkpoint."
        ) from error


def _client() -> Any:
    # JAX has no public name for its key-value store; Orbax and others reach it in this way.
    from jax._src.distributed import global_state

    return global_state.client


def _wait_for(key: str, over: threading.Event | None = None) -> str | None:
    """Waits for a key, or until ``over``, which returns None; signals are handled in between."""
    while over is None or not over.is_set():
        try:
            return _client().blocking_key_value_get(key, POLL)
        except jax.errors.JaxRuntimeError as error:
            if "DEADLINE_EXCEEDED" not in str(error):
                raise
    return None


def _stop_listening(listener: threading.Thread) -> None:
    """Waits until the thread has left JAX's client; inside, it would abort an ending Python."""
    _over.set()
    listener.join(3 * POLL / 1000)


def _tell(message: str | int) -> None:
    """Tells the other processes to end: a signal's number, or why this process has failed."""
    said = json.dumps({"process": jax.process_index(), "message": message})
    with contextlib.suppress(jax.errors.JaxRuntimeError):  # another one was quicker
        _client().key_value_set(END, said)


def _listen() -> None:
    """Waits for another process that tells all to end; runs in a thread of its own."""
    try:
        said = _wait_for(END, _over)
    except (jax.errors.JaxRuntimeError, AttributeError):
        return  # the program is at its end, or the runtime is about to end it
    if said is None:
        return
    told = json.loads(said)
    process, message = told["process"], told["message"]
    if process == jax.process_index():
        return
    if isinstance(message, int):
        stopping.signal_from_peer(message)
    else:
        _linger()
        stopping.leave(1, f"process {process} has failed: {message.rstrip('.')}")


def _leave(failed: bool) -> None:
    """Disconnects from the others: cleanly if all are leaving, at once after a failure."""
    if failed:
        _linger()
        return
    with contextlib.suppress(Exception):
        jax.distributed.shutdown()


def _linger() -> None:
    """Lets the others hear what has failed: process 0 takes all connections with it."""
    if is_first():
        time.sleep(2 * POLL / 1000)


def _first(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0][:300]
