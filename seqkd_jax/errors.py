"""``UsageError``, for mistakes that the user can correct, and the library's warnings. Floor 0."""


def quoted(value: object, max_length: int = 40) -> str:
    """Returns a value's repr for a message; long ones are cut, and text keeps both its quotes."""
    if isinstance(value, str):
        return repr(value if len(value) <= max_length else value[:max_length] + "...")
    text = repr(value)
    return text if len(text) <= max_length else text[:max_length] + "..."


def counted(number: int, noun: str) -> str:
    """Returns a number with its noun: ``1 pair``, ``2 pairs``, ``3 batches``."""
    ending = "" if number == 1 else "es" if noun.endswith("ch") else "s"
    return f"{number:,} {noun}{ending}"


class UsageError(ValueError):
    """Wrong input or settings: the message says what is wrong, where, and how to fix it.

    The command line prints the message as one line and exits with status 2. Any other exception
    is a bug in this library or in one that it uses, and keeps its traceback.
    """


def require_lines(lines: object) -> None:
    """Raises UsageError for a single string where a list of lines is expected."""
    if isinstance(lines, str):
        raise UsageError("Expected a list of lines, but got a single string: give [text].")


class SourceCut(UserWarning):
    """Sources were longer than ``Search.max_source`` and have been cut."""
