"""Standard output and error, as every command wants them. Floor 0."""

import io
import os
import select
import sys


def speak_utf8() -> None:
    """Output is in UTF-8 whatever the locale, as input is; bytes of file names stay as they are."""
    for stream, errors in (sys.stdout, "surrogateescape"), (sys.stderr, "backslashreplace"):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors=errors)


def nobody_listens() -> bool:
    """Whether the reader of standard output has gone; what is still to be written is dropped."""
    try:
        descriptor = sys.stdout.fileno()
        asked = select.poll()
        asked.register(descriptor, 0)
        gone = bool(asked.poll(0))
    except (AttributeError, ValueError, OSError):  # no such thing on this system, or no file of it
        return False
    if gone:
        os.dup2(os.open(os.devnull, os.O_WRONLY), descriptor)
    return gone
