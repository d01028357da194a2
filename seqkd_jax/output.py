"""Standard output and standard error, as every command uses them. Floor 0."""

import io
import os
import select
import sys


def speak_utf8() -> None:
    """Makes output UTF-8 in any locale, as input is; undecodable bytes of file names are kept."""
    for stream, errors in (sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace"):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors=errors)


def reader_has_gone() -> bool:
    """Returns whether the reader of standard output is gone; later output is then discarded."""
    try:
        descriptor = sys.stdout.fileno()
        poller = select.poll()
        poller.register(descriptor, 0)
        gone = bool(poller.poll(0))
    except (AttributeError, ValueError, OSError):  # no poll on this system, or no file descriptor
        return False
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    return gone
