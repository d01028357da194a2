"""SIGINT (Ctrl-C) and SIGTERM: save what can be saved, then end with a message. Floor 0.

Only the command line installs the handlers; notebooks and servers are not affected. The first
signal raises ``Stopped`` in the main thread. Inside ``deferred`` it is only recorded, so that a
training step can be finished and saved. A second signal ends the process at once, and so does the
end of a grace period, even while the main thread is in the compiler and runs no Python.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

RESEND_AFTER = 0.05  # seconds until a signal whose exception was swallowed is sent again
GRACE = 30.0  # seconds for saving
# Seconds within which two signals count as one: some senders (``timeout``, a terminal's process
# group) deliver each signal twice.
ONE_SIGNAL = 0.5


class Stopped(KeyboardInterrupt):
    """A signal asked the process to end; ``status`` is the exit status for this signal."""

    def __init__(self, number: int):
        super().__init__(signal.Signals(number).name)
        self.status = 128 + number


class _Request:
    """The signal that this process has received; only the main thread writes to it."""

    number: int | None = None  # of the first signal
    deferrals: int = 0  # ``deferred`` blocks that are open
    raised: bool = False  # whether ``Stopped`` has been raised
    resend: threading.Timer | None = None  # sends the signal again if a callback swallowed it
    from_peer: bool = False  # whether the next signal is another process's, passed on


class _Peers(NamedTuple):
    """The other processes of a program that runs in several."""

    tell: Callable[[str | int], None]  # that all must end: a signal's number, or what has failed
    leave: Callable[[bool], None]  # ends the connection; True after a failure
    witness: subprocess.Popen | None  # reports this process's failure if it cannot do so itself


_request = _Request()
_peers: _Peers | None = None


def join(tell: Callable[[str | int], None], leave: Callable[[bool], None], last_words: str) -> None:
    """Makes this process one of several, which end together.

    Args:
      tell: passes a signal's number, or what has failed, on to the other processes.
      leave: ends the connection to the others; its argument is whether this process has failed.
      last_words: printed if the process is aborted from within, as the runtime does with the
        survivors when one process has died. A shell waits beside this process to print them.
    """
    global _peers
    witness = None
    if os.name == "posix":
        witness = subprocess.Popen(
            ["sh", "-c", 'read done || printf "%s\\n" "$0" >&2', last_words],
            stdin=subprocess.PIPE,
            start_new_session=True,  # a terminal's Ctrl-C is not for the shell
        )
    _peers = _Peers(tell, leave, witness)


def tell_peers(failure: str) -> None:
    """Tells the other processes, if there are any, what has failed here; they end as well."""
    if _peers is not None:
        _peers.tell(failure)


def part(failed: bool) -> bool:
    """Leaves the other processes, if there are any, and returns whether there were."""
    global _peers
    if _peers is None:
        return False
    peers, _peers = _peers, None
    peers.leave(failed)
    _dismiss(peers.witness)
    return True


def _dismiss(witness: subprocess.Popen | None) -> None:
    if witness is not None:
        with contextlib.suppress(OSError, ValueError):
            witness.communicate(b"done\n", timeout=5)


def signal_from_peer(number: int) -> None:
    """Handles a signal that another process has received and passed on."""
    if _request.number is None:
        _request.from_peer = True
        signal.pthread_kill(threading.main_thread().ident or 0, number)


@contextlib.contextmanager
def handlers(grace: float = GRACE) -> Iterator[None]:
    """Handles SIGINT and SIGTERM in this block, and restores the previous handlers after it.

    Args:
      grace: seconds from the first signal until the process is ended, whatever it is doing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield  # only the main thread receives signals
        return
    global _request
    _request = _Request()
    reader, writer = socket.socketpair()
    writer.setblocking(False)
    before = {n: signal.signal(n, _handle) for n in (signal.SIGINT, signal.SIGTERM)}
    wakeup = signal.set_wakeup_fd(writer.fileno(), warn_on_full_buffer=False)
    watcher = threading.Thread(target=_watch, args=(reader, grace), daemon=True)
    watcher.start()
    hook = sys.unraisablehook

    def unraisable(event: Any) -> None:
        # A callback that ignores exceptions, such as a garbage collector's, has swallowed it.
        if isinstance(event.exc_value, Stopped):
            _send_again(event.exc_value.status - 128)
        else:
            hook(event)

    sys.unraisablehook = unraisable
    try:
        yield
    finally:
        sys.unraisablehook = hook
        if _request.resend is not None:
            _request.resend.cancel()  # under the previous handlers it would end the process
        for number, handler in before.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(wakeup)
        writer.close()  # ends the watcher
        watcher.join()
        reader.close()
        _request = _Request()  # the signal has been handled


def requested() -> int | None:
    """Returns the number of the signal that asked the process to end; None if there was none."""
    return _request.number


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Only records a first signal in this block: check ``requested``, save, raise ``Stopped``.

    At the end of the block at the latest, a recorded signal raises ``Stopped``.
    """
    request = _request
    request.deferrals += 1
    try:
        yield
    finally:
        request.deferrals -= 1
    if request.number is not None and not request.raised and not request.deferrals:
        request.raised = True
        raise Stopped(request.number)


def _handle(number: int, frame: Any) -> None:
    del frame
    if _request.resend is not None:
        _request.resend = None
        raise Stopped(number)
    if _request.number is not None:
        return  # the watcher deals with a second signal
    _request.number = number
    if not _request.deferrals:
        _request.raised = True
        raise Stopped(number)


def _send_again(number: int) -> None:
    _request.resend = threading.Timer(
        RESEND_AFTER, signal.pthread_kill, (threading.main_thread().ident, number)
    )
    _request.resend.daemon = True
    _request.resend.start()


def _watch(signals: socket.socket, grace: float) -> None:
    """Ends the process at a second signal or after the grace period; runs in a thread of its own.

    The interpreter's C handler writes each signal's number to this socket at once, whatever the
    main thread is doing.
    """
    first = deadline = None
    while True:
        signals.settimeout(None if deadline is None else max(0.01, deadline - time.monotonic()))
        try:
            received = signals.recv(1)
        except TimeoutError:
            number = _request.number or signal.SIGTERM
            leave(128 + number, f"not ready to stop after {grace:g} s")
        else:
            if not received:
                return
            if received[0] not in (signal.SIGINT, signal.SIGTERM):
                continue
            deadline = deadline or time.monotonic() + grace
            if _request.from_peer:  # the same signal may still come to this process itself
                _request.from_peer = False
            elif first is None:
                first = time.monotonic()
                if _peers is not None:
                    _peers.tell(received[0])
            elif time.monotonic() - first > ONE_SIGNAL:
                leave(128 + received[0], "stopped at once")


def leave(status: int, how: str) -> None:
    """Ends this process at once: safe at any moment, because files are written atomically."""
    message = f"\nseqkd: {how}; run the same command again to resume from what was last saved.\n"
    with contextlib.suppress(OSError):
        os.write(sys.__stderr__.fileno() if sys.__stderr__ else 2, message.encode())
    _dismiss(_peers and _peers.witness)
    os._exit(status)
