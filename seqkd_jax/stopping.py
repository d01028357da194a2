"""SIGINT (Ctrl-C) and SIGTERM: end soon, with what can be saved, and say so. Floor 0.

The command line installs the handlers; in a notebook or a server nothing changes. The first signal
raises ``Stopped`` in the main thread, or, within ``deferred``, is only noted, so that a training
step can be finished and saved. A second signal ends the process at once, and so does a grace
period, even while the main thread is inside a compiler and runs no Python.
"""

import contextlib
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator
from typing import Any

AGAIN = 0.05  # seconds after which a signal is sent again whose exception was swallowed
GRACE = 30.0  # seconds for what is to be saved
ONE_SIGNAL = 0.5  # seconds: some senders (``timeout``, a terminal's group) deliver one signal twice


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end; ``status`` is the exit status that tells which."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


class _Request:
    """What has been asked of this process; only its main thread writes here."""

    number: int | None = None  # of the first signal
    deferrals: int = 0  # ``deferred`` blocks that are open
    told: bool = False  # whether it has been raised
    again: threading.Timer | None = None  # sends it once more, if a callback swallowed it


_request = _Request()


@contextlib.contextmanager
def handlers(grace: float = GRACE) -> Iterator[None]:
    """Handles SIGINT and SIGTERM in this block; the handlers from before are put back after it.

    Args:
      grace: seconds from the first signal until the process is ended whatever it does.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread is told of signals
        return
    global _request
    _request = _Request()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    before = {n: signal.signal(n, _handle) for n in (signal.SIGINT, signal.SIGTERM)}
    wakeup = signal.set_wakeup_fd(theirs.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(ours, grace), daemon=True)
    watcher.start()
    hook = sys.unraisablehook

    def unraisable(said: Any) -> None:
        # A callback that ignores exceptions, such as a garbage collector's, has swallowed it.
        if isinstance(said.exc_value, Stopped):
            _send_again(said.exc_value.status - 128)
        else:
            hook(said)

    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        sys.unraisablehook = hook
        if _request.again is not None:
            _request.again.cancel()  # from here on it would end the process
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        theirs.close()  # which ends the watcher
        watcher.join()
        ours.close()
        _request = _Request()  # what was asked has been answered


def requested() -> int | None:
    """The number of the signal that asked the process to end; None if none has."""
    return _request.number


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """A block in which a first signal is only noted: ask ``requested``, save, raise ``Stopped``.

    One that nobody has looked at is raised at the end of the block.
    """
    request = _request
    request.deferrals += 1
    try:
        yield
    finally:
        request.deferrals -= 1
    if request.number is not None and not request.told and not request.deferrals:
        request.told = True
        raise Stopped(request.number)


def _handle(number: int, frame: Any) -> None:
    del frame
    if _request.again is not None:
        _request.again = None
        raise Stopped(number)
    if _request.number is not None:
        return  # the watcher decides about a second one
    _request.number = number
    if not _request.deferrals:
        _request.told = True
        raise Stopped(number)


def _send_again(number: int) -> None:
    _request.again = threading.Timer(
        AGAIN, signal.pthread_kill, (threading.main_thread().ident, number)
    )
    _request.again.daemon = True
    _request.again.start()


def _watch(signals: socket.socket, grace: float) -> None:
    """Ends the process at a second signal or after the grace period; from a thread of its own.

    The interpreter's C handler writes each signal's number here at once, whatever the main thread
    is doing.
    """
    first = None
    while True:
        signals.settimeout(None if first is None else max(0.01, first + grace - time.monotonic()))
        try:
            received = signals.recv(1)
        except TimeoutError:
            _leave(_request.number or signal.SIGTERM, f"not ready to stop after {grace:g} s")
        else:
            if not received:
                return
            if received[0] not in (signal.SIGINT, signal.SIGTERM):
                continue
            if first is None:
                first = time.monotonic()
            elif time.monotonic() - first > ONE_SIGNAL:
                _leave(received[0], "stopped at once")


def _leave(number: int, how: str) -> None:
    # Files appear whole or not at all, so nothing is left half written.
    message = f"\nseqkd: {how}; run the same command again to resume from what was last saved.\n"
    with contextlib.suppress(OSError):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, message.encode())
    os._exit(128 + number)
