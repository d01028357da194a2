"""What a program says on standard error: in words for people, or as lines of JSON. Floor 0.

Notes are left out if the program is to be quiet; warnings and errors never are. Every line of JSON
has ``time`` (seconds since 1970) and ``event``; errors, warnings and most notes have ``message``.
"""

import json
import sys
import time
from typing import Any, Literal

from tqdm import tqdm

from .settings import Messages

_style = Messages()


def style() -> Messages:
    """Returns how this process speaks now."""
    return _style


def speak(style: Messages) -> None:
    """Makes this process speak in another way from now on."""
    global _style
    _style = style


def note(text: str, event: str = "note", **facts: Any) -> None:
    """Says something that is good to know; in JSON the facts stand in place of the text."""
    if not _style.quiet:
        _say(text, event, facts or {"message": text})


def record(event: str, **facts: Any) -> None:
    """Writes facts for programs that read JSON; people read them in another form."""
    if _style.log_json and not _style.quiet:
        _say("", event, facts)


def warn(text: str) -> None:
    """Warns of something that may be wrong."""
    _say(f"seqkd: {text}", "warning", {"message": text})


def error(text: str, prefix: str = "seqkd: ") -> None:
    """Reports a failure."""
    _say(prefix + text, "error", {"message": text})


def progress_form() -> Literal["none", "json", "bar", "lines"]:
    """Returns how progress is shown: as a bar only where a line can be written over."""
    if _style.quiet or sys.stderr is None:
        return "none"
    if _style.log_json:
        return "json"
    notebook = type(sys.stderr).__module__.startswith("ipykernel")
    return "bar" if notebook or sys.stderr.isatty() else "lines"


def _say(text: str, event: str, facts: dict[str, Any]) -> None:
    if _style.log_json:
        line = {"time": round(time.time(), 3), "event": event, **facts}
        text = json.dumps(line, ensure_ascii=False, default=str)
    if sys.stderr is not None:
        tqdm.write(text, file=sys.stderr)  # above a bar, if there is one
