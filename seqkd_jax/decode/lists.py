"""One n-best list: as a line of JSON, and as lines of other systems' files."""

import itertools
import json
import math
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import UsageError, quoted, require_lines
from ..sealed import parse_json
from . import moses

FORM = '{"index": 0, "hypotheses": [{"text": "the hypothesis"}, ...]}'
LARGEST_ID = 2**31 - 1


@dataclass(frozen=True)
class NBest:
    """The translations of one source, best first; files of other systems may lack all but texts."""

    index: int  # of the source in its corpus
    texts: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...] = ()  # ids without EOS
    scores: tuple[float, ...] = ()  # by which they are ranked
    log_probs: tuple[float, ...] = ()  # of the teacher, natural log, EOS included

    def __post_init__(self) -> None:
        require_lines(self.texts)


def moses_lines(nbest: NBest) -> list[str]:
    """Formats a list as lines of Moses, which ``read_nbest`` can read."""
    log_probs = nbest.log_probs or (None,) * len(nbest.texts)
    rows = zip(nbest.texts, nbest.scores, log_probs, strict=True)
    return [moses.write_line(moses.Line(nbest.index, *row)) for row in rows]


def json_line(nbest: NBest) -> str:
    """Formats a list as a line of JSON.

    Raises:
      UsageError: its columns differ in length, or a score is not finite.
    """
    return json.dumps(_record(nbest), ensure_ascii=False, allow_nan=False) + "\n"


def foreign_lists(
    path: Path, lines: Iterable[str], first_line: int = 1
) -> Iterator[tuple[int, NBest]]:
    """Yields the lists of a file of another system, each with the line that it begins at."""
    rest = iter(lines)
    first = next(rest, None)
    if first is None:
        return
    rest = enumerate(itertools.chain([first], rest), first_line)
    # Moses lists are recognised by their first line.
    found = _of_moses(path, rest) if moses.is_moses(first) else _of_json(path, rest)
    start = None
    for number, (line, nbest) in enumerate(found):
        start = nbest.index if start is None else start
        check_next(path, line, nbest.index, start + number, start)
        yield line, nbest


def _of_json(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, NBest]]:
    for number, line in lines:
        try:
            nbest = parse_list(path, number, line)
        except UsageError as error:
            raise UsageError(f"{error} Each line needs the form {FORM} or {moses.FORM}.") from None
        yield number, nbest


def _of_moses(path: Path, lines: Iterable[tuple[int, str]]) -> Iterator[tuple[int, NBest]]:
    parsed = ((number, _moses_line(path, number, line)) for number, line in lines)
    for _, group in itertools.groupby(parsed, lambda item: item[1].index):
        (start, first), *others = group
        for number, row in others:
            if (row.log_prob is None) != (first.log_prob is None):
                raise UsageError(
                    f"{path}:{number}: log_prob is given for some hypotheses of sentence "
                    f"{row.index} only; give it for all or for none."
                )
        rows = [first, *(row for _, row in others)]
        yield (
            start,
            NBest(
                index=first.index,
                texts=tuple(row.text for row in rows),
                scores=tuple(row.score for row in rows),
                log_probs=tuple(row.log_prob for row in rows if row.log_prob is not None),
            ),
        )


def _moses_line(path: Path, number: int, line: str) -> moses.Line:
    try:
        return moses.read_line(line)
    except UsageError as error:
        raise UsageError(
            f"{path}:{number}: not of an n-best list: {error}. Each line needs the form "
            f"{moses.FORM}."
        ) from None


def check_next(path: Path, line: int, index: int, expected: int, start: int) -> None:
    """Checks that sentence ``index`` is the one that comes next in lists from ``start`` on."""
    if index == expected:
        return
    problem = f"is missing before sentence {index}"
    if start <= index < expected:
        problem = f"is expected, but sentence {index} is repeated"
    elif index < expected:
        problem = f"is expected, but this is sentence {index}"
    raise UsageError(
        f"{path}:{line}: sentence {expected} {problem}; each sentence comes once, in order."
    )


def _record(nbest: NBest) -> dict[str, Any]:
    columns = {
        "text": nbest.texts,
        "tokens": nbest.tokens,
        "score": nbest.scores,
        "log_prob": nbest.log_probs,
    }
    for name, values in columns.items():
        if len(values) not in (0, len(nbest.texts)):
            raise UsageError(
                f"nbest: sentence {nbest.index} has {len(nbest.texts)} texts but {len(values)} "
                f"values of {name}; give one for each text, or none."
            )
    if not all(map(math.isfinite, (*nbest.scores, *nbest.log_probs))):
        raise UsageError(f"nbest: sentence {nbest.index} has a score that is not finite.")
    present = {name: values for name, values in columns.items() if len(values)}
    rows = zip(*present.values(), strict=True)
    return {
        "index": nbest.index,
        "hypotheses": [dict(zip(present, row, strict=True)) for row in rows],
    }


def parse_list(path: Path, line: int, text: str) -> NBest:
    """Parses a line of JSON; UsageError, with the file and the line, if it is no n-best list."""
    try:
        record = parse_json(text)
    except ValueError as error:
        raise UsageError(f"{path}:{line}: not JSON ({error}).") from None
    try:
        if not isinstance(record, dict) or "index" not in record or "hypotheses" not in record:
            raise UsageError("not a JSON object with index and hypotheses")
        index, rows = record["index"], record["hypotheses"]
        if not is_natural(index):
            raise UsageError(f"index is {quoted(index)}, but must be a whole number from 0")
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            raise UsageError("hypotheses is not a list of objects")
        return NBest(
            index=index,
            texts=tuple(_text(row.get("text")) for row in rows),
            tokens=_column(rows, "tokens", _ids),
            scores=_column(rows, "score", lambda value: _score("score", value)),
            log_probs=_column(rows, "log_prob", lambda value: _score("log_prob", value)),
        )
    except UsageError as error:
        raise UsageError(f"{path}:{line}: not an n-best list: {error}.") from None


def is_natural(value: Any) -> bool:
    """Returns whether a value of JSON is a whole number from 0."""
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise UsageError(f"text is {quoted(value)}, but must be a string")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise UsageError("text holds half of a surrogate pair, which is not a character") from None
    return value


def _ids(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list) or not all(is_natural(i) and i <= LARGEST_ID for i in value):
        raise UsageError(f"tokens is {quoted(value)}, but must be a list of ids")
    return tuple(value)


def _score(name: str, value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError):
            return float(value)
    raise UsageError(f"{name} is {quoted(value)}, but must be a number")


def _column(rows: list[dict[str, Any]], name: str, parse: Callable[[Any], Any]) -> tuple[Any, ...]:
    values = [row[name] for row in rows if name in row]
    if len(values) not in (0, len(rows)):  # the columns of an NBest must have equal lengths
        raise UsageError(f"{name} is given for some hypotheses only; give it for all or for none")
    return tuple(map(parse, values))
