"""The one exception that stands for a mistake the user can put right. Floor 0."""


def quoted(value: object, most: int = 40) -> str:
    """A value for a message: its repr, and of long ones the beginning, with both its quotes."""
    if isinstance(value, str):
        return repr(value if len(value) <= most else value[:most] + "...")
    shown = repr(value)
    return shown if len(shown) <= most else shown[:most] + "..."


class UsageError(ValueError):
    """Wrong input or settings: the message names what is wrong, where, and the remedy.

    The command line prints it as one line and exits with status 2. Every other exception is a bug
    of this library (or of one below it) and keeps its traceback.
    """
