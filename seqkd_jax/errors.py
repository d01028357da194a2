"""The one exception that stands for a mistake the user can put right. Floor 0."""


class UsageError(ValueError):
    """Wrong input or settings: the message names what is wrong, where, and the remedy.

    The command line prints it as one line and exits with status 2. Every other exception is a bug
    of this library (or of one below it) and keeps its traceback.
    """
