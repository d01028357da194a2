"""N-best files: gzip JSON lines in shards, each traceable to what made it.

    shard-00003-of-00012.jsonl.gz
        {"format": "seqkd-nbest-1", "teacher": ..., "search": ..., "first": 6000, ...}
        {"index": 6000, "hypotheses": [{"text": ..., "tokens": [...], "score": ..., ...}, ...]}
        ...

Any other teacher can write such files: a plain .jsonl or .jsonl.gz without a header will do, and
only ``index`` and ``text`` are needed. ``tokens``, ``score`` and ``log_prob`` are given for all
hypotheses of a sentence or for none.
"""

import gzip
import json
import re
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.text import read_lines
from ..errors import UsageError
from ..files import atomic_write

FORMAT = "seqkd-nbest-1"
PER_SHARD = ("format", "first", "count")  # header fields that tell shards apart
AGAIN = "delete the file and run again"


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
    return Path(folder) / f"shard-{shard:05d}-of-{of:05d}.jsonl.gz"


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
    full = {"format": FORMAT, **header, "first": first, "count": len(nbest)}
    lines = [json.dumps(full), *(json.dumps(_record(n), ensure_ascii=False) for n in nbest)]
    data = "".join(line + "\n" for line in lines).encode()
    atomic_write(shard_path(folder, shard, of), gzip.compress(data, 6, mtime=0))


def read_shard(path: str | Path) -> tuple[dict[str, Any], list[NBest]]:
    """Reads a shard, or a foreign file without a header (its header is then empty).

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: it is damaged or not an n-best file; the message names file and line.
    """
    path = Path(path)
    lines = _lines(path)
    header: dict[str, Any] = {}
    if lines and "hypotheses" not in (parsed := _parse(path, 1, lines[0])):
        header, lines = _checked(path, parsed), lines[1:]
    skipped = 1 if header else 0
    nbest = [_nbest(path, n, line) for n, line in enumerate(lines, 1 + skipped)]
    first = header.get("first", nbest[0].index if nbest else 0)
    if not isinstance(first, int):
        raise UsageError(f"{path}:1: the first sentence is {first!r}, not a number; {AGAIN}.")
    for n, item in enumerate(nbest):
        if item.index != first + n:
            raise UsageError(
                f"{path}:{n + 1 + skipped}: sentence {item.index} stands where {first + n} "
                "belongs; each comes once, in order."
            )
    if header and header.get("count") != len(nbest):
        raise UsageError(
            f"{path}: {len(nbest)} sentences, and the header says {header.get('count')}; {AGAIN}."
        )
    return header, nbest


def complete_shards(folder: str | Path, header: dict[str, Any]) -> set[int]:
    """The numbers of the shards that are there, all made as ``header`` says.

    Raises:
      UsageError: a shard is damaged, or was made by another teacher or search, or of other text.
    """
    found = set()
    for path in sorted(Path(folder).glob("shard-*.jsonl.gz")):
        theirs = {k: v for k, v in _header(path).items() if k not in PER_SHARD}
        for name in sorted(header.keys() | theirs.keys()):
            if header.get(name) != theirs.get(name):
                raise UsageError(
                    f"{path}: made with another {name}: {theirs.get(name)} there, "
                    f"{header.get(name)} now. Choose another folder, or delete this one."
                )
        found.add(_numbers(path)[0])
    return found


def read_nbest(path: str | Path) -> tuple[dict[str, Any], list[NBest]]:
    """Reads all shards of a folder in order, or one file; each sentence exactly once.

    Returns:
      What made them (the header without what is a shard's own), and the lists.

    Raises:
      FileNotFoundError: there is nothing to read.
      UsageError: a shard is missing or damaged, or comes from another teacher.
    """
    path = Path(path)
    if not path.is_dir():
        return read_shard(path)
    paths = sorted(path.glob("shard-*.jsonl.gz"))
    if not paths:
        raise FileNotFoundError(f"{path}: there are no n-best files.")
    of = _numbers(paths[0])[1]
    wanted = [shard_path(path, n, of) for n in range(of)]
    if strange := sorted(set(paths) - set(wanted)):
        raise UsageError(f"{strange[0]}: not of one job with {paths[0].name}; delete one of them.")
    if missing := [n for n, shard in enumerate(wanted) if shard not in paths]:
        raise UsageError(f"{path}: shards {missing[:10]} of {of} are missing; run the job again.")
    common: dict[str, Any] | None = None
    merged: list[NBest] = []
    for shard in paths:
        header, nbest = read_shard(shard)
        header = {k: v for k, v in header.items() if k not in PER_SHARD}
        if common is not None and header != common:
            raise UsageError(f"{shard}: made by another teacher or search than its neighbours.")
        if nbest and nbest[0].index != len(merged):
            raise UsageError(
                f"{shard}: begins with sentence {nbest[0].index}; {len(merged)} comes next."
            )
        common = header
        merged += nbest
    return common or {}, merged


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
                f"nbest: sentence {nbest.index} has {len(nbest.texts)} texts and {len(values)} of "
                f"{name}; give one for each text, or none."
            )
    given = {name: values for name, values in columns.items() if len(values)}
    rows = zip(*given.values(), strict=True)
    return {
        "index": nbest.index,
        "hypotheses": [dict(zip(given, row, strict=True)) for row in rows],
    }


def _nbest(path: Path, line: int, text: str) -> NBest:
    record = _parse(path, line, text)
    try:
        rows = record["hypotheses"]
        if not isinstance(rows, list) or not all(isinstance(row["text"], str) for row in rows):
            raise UsageError("the hypotheses are not a list with texts")
        return NBest(
            index=int(record["index"]),
            texts=tuple(row["text"] for row in rows),
            tokens=_column(rows, "tokens", lambda ids: tuple(map(int, ids))),
            scores=_column(rows, "score", float),
            log_probs=_column(rows, "log_prob", float),
        )
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise UsageError(f"{path}:{line}: not an n-best list ({error!r}); {AGAIN}.") from None


def _column(rows: list[dict[str, Any]], name: str, kind: Callable[[Any], Any]) -> tuple[Any, ...]:
    values = [row[name] for row in rows if name in row]
    if len(values) not in (0, len(rows)):  # they could not be told to which texts they belong
        raise UsageError(f"{name} is given for some hypotheses only")
    return tuple(map(kind, values))


def _parse(path: Path, line: int, text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{path}:{line}: not JSON ({error}); {AGAIN}.") from None
    if not isinstance(parsed, dict):
        raise UsageError(f"{path}:{line}: not a JSON object; {AGAIN}.")
    return parsed


def _lines(path: Path) -> list[str]:
    try:
        return read_lines(path)
    except ValueError as error:
        raise UsageError(f"{error} If it is a shard, {AGAIN}.") from None


def _checked(path: Path, header: dict[str, Any]) -> dict[str, Any]:
    if header.get("format") != FORMAT:
        raise UsageError(
            f"{path}:1: not an n-best file; its lines need index and hypotheses, or the first "
            f"the format {FORMAT}. Convert it, or {AGAIN}."
        )
    return header


def _header(path: Path) -> dict[str, Any]:
    """The header alone: whole shards are only read when they are merged."""
    try:
        with gzip.open(path, "rb") as file:
            line = file.readline(1 << 20)
    except (OSError, EOFError, zlib.error) as error:
        raise UsageError(f"{path}: damaged ({error}); {AGAIN}.") from None
    return _checked(path, _parse(path, 1, line.decode("utf-8", "replace")))


def _numbers(path: Path) -> tuple[int, int]:
    match = re.fullmatch(r"shard-(\d+)-of-(\d+)\.jsonl\.gz", path.name)
    if match is None:
        raise UsageError(f"{path}: not the name of a shard.")
    return int(match[1]), int(match[2])
