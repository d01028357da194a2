"""N-best files: gzip JSON lines in shards, each sealed and traceable to what made it.

    shard-00003-of-00012.jsonl.gz
        {"format": "seqkd-nbest-1", "teacher": ..., "search": ..., "first": 6000, "sha256": ...}
        {"index": 6000, "hypotheses": [{"text": ..., "tokens": [...], "score": ..., ...}, ...]}
        ...

Any other teacher can write such files: a plain .jsonl or .jsonl.gz without a header will do, and
only ``index`` and ``text`` are needed. ``tokens``, ``score`` and ``log_prob`` are given for all
hypotheses of a sentence or for none. Lists in the form of Moses are read as well (``moses``).
"""

import json
import math
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from ..data.text import decode_lines, read_bytes
from ..errors import UsageError, quoted
from ..files import atomic_write, pack_gzip
from ..sealed import HEADER_BYTES, RESTORE, parse_json, seal, unseal
from . import moses, shards

FORMAT = "seqkd-nbest-1"
PER_SHARD = ("format", "first", "count", "sha256")  # header fields that tell shards apart
ENDING = ".jsonl.gz"
FORM = '{"index": 0, "hypotheses": [{"text": "the hypothesis"}, ...]}'
LARGEST_ID = 2**31 - 1


@dataclass(frozen=True)
class NBest:
    """A source sentence's translations, best first. Scores may be empty for foreign files."""

    index: int  # of the source in its corpus
    texts: tuple[str, ...]
    tokens: tuple[tuple[int, ...], ...] = ()  # ids without EOS
    scores: tuple[float, ...] = ()  # what was ranked
    log_probs: tuple[float, ...] = ()  # of the teacher, natural log, EOS included


def shard_path(folder: str | Path, shard: int, of: int) -> Path:
    """The file of one shard."""
    return Path(folder) / shards.shard_name(shard, of, ENDING)


def write_shard(
    folder: str | Path, shard: int, of: int, header: dict[str, Any], nbest: Sequence[NBest]
) -> None:
    """Writes a shard in one piece or not at all; equal content gives equal bytes.

    Args:
      folder: of all shards.
      shard: number, from 0.
      of: how many there are.
      header: what made it; see ``translate.translate_corpus``.
      nbest: consecutive sentences.
    """
    first = nbest[0].index if nbest else 0
    lines = [json.dumps(_record(n), ensure_ascii=False, allow_nan=False) + "\n" for n in nbest]
    full = {**header, "first": first, "count": len(nbest)}
    data = pack_gzip(seal(FORMAT, full, "".join(lines).encode()))
    atomic_write(shard_path(folder, shard, of), data)


def read_shard(path: str | Path) -> tuple[dict[str, Any], list[NBest]]:
    """Reads a shard, or a file of another teacher, which has no header (it is then empty).

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: it is damaged or not an n-best file; the message names file and line.
    """
    path = Path(path)
    data = read_bytes(path)
    if not _claims(data):
        return {}, _foreign(path, decode_lines(data, str(path)))
    header, body = unseal(path, data, FORMAT)
    lines = decode_lines(bytes(body), str(path), 2)
    try:
        nbest = [_nbest(path, n, line) for n, line in enumerate(lines, 2)]
        first = header.get("first")
        if not _whole(first):
            raise UsageError(
                f"{path}:1: its first sentence is {quoted(first)}, which is not a number."
            )
        _check_order(path, [(n, item.index) for n, item in enumerate(nbest, 2)], first)
    except UsageError as error:
        raise UsageError(f"{error} {RESTORE}") from None
    if header.get("count") != len(nbest):
        raise UsageError(
            f"{path}: has {len(nbest)} sentences, but its header says "
            f"{quoted(header.get('count'))}. " + RESTORE
        )
    return header, nbest


def made_by(header: dict[str, Any]) -> dict[str, Any]:
    """The part of a header that all shards of a corpus share."""
    return {name: value for name, value in header.items() if name not in PER_SHARD}


def complete_shards(
    folder: str | Path, header: dict[str, Any], whole: set[int] | None = None
) -> set[int]:
    """The numbers of the shards of a corpus that are there; see ``shards.complete_shards``."""

    def theirs(path: Path) -> dict[str, Any]:
        return made_by(unseal(path, read_bytes(path), FORMAT)[0])

    return shards.complete_shards(_shard_paths(folder), ENDING, theirs, header, whole)


def _shard_paths(folder: str | Path) -> list[Path]:
    return sorted(Path(folder).glob(f"shard-*{ENDING}"))


def read_nbest(path: str | Path, first_index: int = 0) -> tuple[dict[str, Any], list[NBest]]:
    """Reads all shards of a folder in order, or one file; each sentence exactly once.

    Args:
      path: of a folder that ``translate_corpus`` wrote, or of a file: JSON lines or the form of
        Moses, plain or ``.gz``.
      first_index: the number of the first sentence in a file of another teacher, 0 or 1.

    Returns:
      What made them (the header without what is a shard's own), and the lists, counted from 0.

    Raises:
      FileNotFoundError: there is nothing to read.
      UsageError: a shard is missing or damaged, or comes from another teacher; a file is not an
        n-best file, or begins with another sentence.
    """
    path = Path(path)
    if not path.is_dir():
        header, nbest = read_shard(path)
        if first_index and header:
            raise UsageError(
                f"{path}: written by this library, which counts from 0: leave --first-index out."
            )
        first = nbest[0].index if nbest and not header else first_index
        if first != first_index:
            remedy = "The lists of a whole text are needed."
            if first in (0, 1):
                remedy = (
                    f"If its sentences count from {first}, give --first-index {first} "
                    f"(first_index={first})."
                )
            raise UsageError(
                f"{path}:1: begins with sentence {first}, but sentence {first_index} is "
                f"expected. {remedy}"
            )
        return header, [replace(n, index=n.index - first_index) for n in nbest]
    paths = _shard_paths(path)
    if not paths:
        raise FileNotFoundError(f"{path}: has no n-best lists (no shard-*.jsonl.gz).")
    if first_index:
        raise UsageError(f"{path}: shards of this library count from 0: leave --first-index out.")
    numbers = [shards.shard_numbers(shard, ENDING) for shard in paths]
    of = numbers[0][1]
    for shard, (number, count) in zip(paths, numbers, strict=True):
        if count != of or shard != shard_path(path, number, of):
            raise UsageError(
                f"{shard}: from another run than {paths[0].name}; a folder must hold the shards "
                "of one run."
            )
    if missing := shards.missing_shards({number for number, _ in numbers}, of):
        raise UsageError(
            f"{path}: shards {missing} of {of} are missing; run the command that wrote the "
            "others again."
        )
    common: dict[str, Any] | None = None
    merged: list[NBest] = []
    for shard in paths:
        header, nbest = read_shard(shard)
        header = made_by(header)
        if common is not None and header != common:
            raise UsageError(
                f"{shard}: made by another teacher or search than the shards before it."
            )
        if nbest and nbest[0].index != len(merged):
            raise UsageError(
                f"{shard}: begins with sentence {nbest[0].index}, but sentence {len(merged)} "
                "comes next."
            )
        common = header
        merged += nbest
    return common or {}, merged


def moses_lines(nbest: NBest) -> list[str]:
    """The lines of a list in the form of Moses, which ``read_nbest`` reads."""
    logs = nbest.log_probs or (None,) * len(nbest.texts)
    rows = zip(nbest.texts, nbest.scores, logs, strict=True)
    return [moses.write_line(moses.Line(nbest.index, *row)) for row in rows]


def _claims(data: bytes) -> bool:
    """Whether the first line says that a file is one of this library's."""
    try:
        first = parse_json(data[:HEADER_BYTES].partition(b"\n")[0])
    except ValueError:
        return False
    return isinstance(first, dict) and str(first.get("format")).startswith("seqkd-")


def _foreign(path: Path, lines: list[str]) -> list[NBest]:
    if lines and moses.is_moses(lines[0]):
        return _of_moses(path, lines)
    try:
        nbest = [_nbest(path, n, line) for n, line in enumerate(lines, 1)]
    except UsageError as error:
        # The two forms look so different that a wrong first line is of neither.
        raise UsageError(f"{error} Each line needs the form {FORM}.") from None
    _check_order(path, [(n, item.index) for n, item in enumerate(nbest, 1)])
    return nbest


def _of_moses(path: Path, lines: list[str]) -> list[NBest]:
    found: list[list[moses.Line]] = []
    starts: list[tuple[int, int]] = []
    for number, line in enumerate(lines, 1):
        try:
            read = moses.read_line(line)
        except UsageError as error:
            raise UsageError(
                f"{path}:{number}: not of an n-best list: {error}. Each line needs the form "
                f"{moses.FORM}."
            ) from None
        if found and found[-1][0].index == read.index:
            if (read.log_prob is None) != (found[-1][0].log_prob is None):
                raise UsageError(
                    f"{path}:{number}: log_prob is given for some hypotheses of sentence "
                    f"{read.index} only; give it for all or for none."
                )
            found[-1].append(read)
        else:
            found.append([read])
            starts.append((number, read.index))
    _check_order(path, starts)
    return [
        NBest(
            index=rows[0].index,
            texts=tuple(row.text for row in rows),
            scores=tuple(row.score for row in rows),
            log_probs=tuple(row.log_prob for row in rows if row.log_prob is not None),
        )
        for rows in found
    ]


def _check_order(path: Path, places: Sequence[tuple[int, int]], first: int | None = None) -> None:
    """Checks that sentences come one after the other; ``places`` are lines and sentences."""
    wanted = places[0][1] if first is None and places else first or 0
    start = wanted
    for line, index in places:
        if index != wanted:
            what = f"is missing before sentence {index}"
            if start <= index < wanted:
                what = f"is expected, but sentence {index} is there a second time"
            elif index < wanted:
                what = f"is expected, but sentence {index} is there"
            raise UsageError(
                f"{path}:{line}: sentence {wanted} {what}; each sentence comes once, in order."
            )
        wanted += 1


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
    given = {name: values for name, values in columns.items() if len(values)}
    rows = zip(*given.values(), strict=True)
    return {
        "index": nbest.index,
        "hypotheses": [dict(zip(given, row, strict=True)) for row in rows],
    }


def _nbest(path: Path, line: int, text: str) -> NBest:
    try:
        record = parse_json(text)
    except ValueError as error:
        raise UsageError(f"{path}:{line}: not JSON ({error}).") from None
    try:
        if not isinstance(record, dict) or "index" not in record or "hypotheses" not in record:
            raise UsageError("not a JSON object with index and hypotheses")
        index, rows = record["index"], record["hypotheses"]
        if not _whole(index):
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


def _whole(value: Any) -> bool:
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
    if not isinstance(value, list) or not all(_whole(i) and i <= LARGEST_ID for i in value):
        raise UsageError(f"tokens is {quoted(value)}, but must be a list of ids")
    return tuple(value)


def _score(name: str, value: Any) -> float:
    if isinstance(value, int | float) and not isinstance(value, bool):
        with suppress(OverflowError):
            return float(value)
    raise UsageError(f"{name} is {quoted(value)}, but must be a number")


def _column(rows: list[dict[str, Any]], name: str, kind: Callable[[Any], Any]) -> tuple[Any, ...]:
    values = [row[name] for row in rows if name in row]
    if len(values) not in (0, len(rows)):  # they could not be told to which texts they belong
        raise UsageError(f"{name} is given for some hypotheses only; give it for all or for none")
    return tuple(map(kind, values))
