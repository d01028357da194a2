"""N-best lists in the format of Moses: one line for each hypothesis, best first.

    0 ||| ein Satz ||| log_prob= -1.25 ||| -1.25
    0 ||| der Satz ||| log_prob= -2.5 ||| -2.5
    1 |||  ||| log_prob= -0.75 ||| -0.75

The fields are the number of the sentence, the hypothesis, its features, and the score by which it
was ranked. Features are optional; the only one that is read is ``log_prob``, the teacher's
log-probability. A hypothesis with features may itself hold " ||| ", because the fields around it
are counted from the ends of the line; one without features may not.
"""

import re
from dataclasses import dataclass

import numpy as np

from ..errors import UsageError, quoted

FORM = "0 ||| the hypothesis ||| score, or 0 ||| the hypothesis ||| name= value ... ||| score"
_FIELDS = re.compile(r"(?<= )\|\|\|(?= |$)")
_INDEX = re.compile(r"\s*([0-9]{1,15})\s*")
_FEATURE = re.compile(r"\S+[=:]|(?:[^\s=]+=)?[-+]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][-+]?[0-9]+)?")


@dataclass(frozen=True)
class Line:
    """One hypothesis."""

    index: int  # of its sentence
    text: str
    score: float
    log_prob: float | None


def is_moses(line: str) -> bool:
    """Returns whether a line begins as those of a Moses list do."""
    return "|||" in line and _INDEX.fullmatch(line.partition("|||")[0]) is not None


def write_line(line: Line) -> str:
    """Formats a hypothesis; ``read_line`` returns the same, with numbers in single precision."""
    features = "" if line.log_prob is None else f"log_prob= {_format(line.log_prob)} "
    return f"{line.index} ||| {line.text} ||| {features}||| {_format(line.score)}"


def read_line(line: str) -> Line:
    """Parses a line.

    Raises:
      UsageError: the line has another form; the message says what is wrong.
    """
    fields = _FIELDS.split(line)
    index = _INDEX.fullmatch(fields[0])
    if index is None:
        raise UsageError(
            f"its first field is {quoted(fields[0])}, which is not the number of a sentence"
        )
    if len(fields) < 3:
        raise UsageError(f"it has {len(fields)} fields between |||, and at least 3 are needed")
    features = fields[-2].split() if len(fields) > 3 else []
    if not all(map(_FEATURE.fullmatch, features)):
        raise UsageError(
            f"the field before the score is {quoted(fields[-2])}, which is not a list of "
            "features (a hypothesis that holds ||| needs features after it)"
        )
    # The format puts a space on either side; an empty text may have a single one for both.
    text = "|||".join(fields[1 : max(2, len(fields) - 2)]).removeprefix(" ").removesuffix(" ")
    log_prob = None
    if "log_prob=" in features[:-1]:
        log_prob = _number(features[features.index("log_prob=") + 1])
    return Line(int(index[1]), text, _number(fields[-1].strip()), log_prob)


def _format(value: float) -> str:
    """Returns the fewest digits that identify a number in single precision."""
    return np.format_float_positional(np.float32(value), trim="-")


def _number(digits: str) -> float:
    if not _FEATURE.fullmatch(digits) or "=" in digits or digits.endswith(":"):
        raise UsageError(f"{quoted(digits)} is given where a score is expected")
    with np.errstate(over="ignore"):
        value = float(np.float32(digits))
    if abs(value) == float("inf"):
        raise UsageError(f"its score is {quoted(digits)}, which is too large")
    return value
