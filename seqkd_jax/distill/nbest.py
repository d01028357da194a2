"""N-best files: gzip JSON lines in shards, each traceable to what made it.

    shard-00003-of-00012.jsonl.gz
        {"format": "seqkd-nbest-1", "teacher": ..., "search": ..., "source": ..., "first": 6000, ...}
        {"index": 6000, "hypotheses": [{"text": ..., "tokens": [...], "score": ..., "log_prob": ...}]}
        ...

Any other teacher can write such files: a plain .jsonl or .jsonl.gz without a header will do, and
only ``index`` and ``text`` are needed.
"""

import gzip
import json
import re
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..data.text import atomic_write

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
      ValueError: it is damaged or not an n-best file; the message names file and line.
    """
    path = Path(path)
    lines = _lines(path)
    header: dict[str, Any] = {}
    if lines and "hypotheses" not in (parsed := _parse(path, 1, lines[0])):
        header, lines = parsed, lines[1:]
        if header.get("format") != FORMAT:
            raise ValueError(f"{path}:1: not an n-best file ({FORMAT} expected).")
    skipped = 1 if header else 0
    nbest = [_nbest(path, n, line) for n, line in enumerate(lines, 1 + skipped)]
    first = header.get("first", nbest[0].index if nbest else 0)
    for n, item in enumerate(nbest):
        if item.index != first + n:
            raise ValueError(
                f"{path}:{n + 1 + skipped}: sentence {item.index} stands where {first + n} belongs."
            )
    if header and header.get("count") != len(nbest):
        raise ValueError(
            f"{path}: {len(nbest)} sentences, and the header says {header.get('count')}; {AGAIN}."
        )
    return header, nbest


def complete_shards(folder: str | Path, header: dict[str, Any]) -> set[int]:
    """The numbers of the shards that are there, all made as ``header`` says.

    Raises:
      ValueError: a shard is damaged, or was made by another teacher or search, or of other text.
    """
    found = set()
    for path in sorted(Path(folder).glob("shard-*.jsonl.gz")):
        theirs = {k: v for k, v in _header(path).items() if k not in PER_SHARD}
        for name in sorted(header.keys() | theirs.keys()):
            if header.get(name) != theirs.get(name):
                raise ValueError(
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
      ValueError: a shard is missing or damaged, or comes from another teacher.
    """
    path = Path(path)
    if not path.is_dir():
        return read_shard(path)
    paths = sorted(path.glob("shard-*.jsonl.gz"))
    if not paths:
        raise FileNotFoundError(f"{path}: there are no n-best files.")
    of = _numbers(paths[0])[1]
    missing = [n for n in range(of) if not shard_path(path, n, of).exists()]
    if missing or len(paths) != of:
        raise ValueError(f"{path}: shards {missing[:10]} of {of} are missing; run the job again.")
    common: dict[str, Any] | None = None
    merged: list[NBest] = []
    for shard in paths:
        header, nbest = read_shard(shard)
        header = {k: v for k, v in header.items() if k not in PER_SHARD}
        if common is not None and header != common:
            raise ValueError(f"{shard}: made by another teacher or search than its neighbours.")
        if nbest and nbest[0].index != len(merged):
            raise ValueError(
                f"{shard}: begins with sentence {nbest[0].index}; {len(merged)} comes next."
            )
        common, merged = header, merged + nbest
    return common or {}, merged


def _record(nbest: NBest) -> dict[str, Any]:
    columns = {
        "text": nbest.texts,
        "tokens": nbest.tokens,
        "score": nbest.scores,
        "log_prob": nbest.log_probs,
    }
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
        if not all(isinstance(row["text"], str) for row in rows):
            raise ValueError("a text is not a string")
        return NBest(
            index=int(record["index"]),
            texts=tuple(row["text"] for row in rows),
            tokens=tuple(tuple(map(int, row["tokens"])) for row in rows if "tokens" in row),
            scores=tuple(float(row["score"]) for row in rows if "score" in row),
            log_probs=tuple(float(row["log_prob"]) for row in rows if "log_prob" in row),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}:{line}: not an n-best list ({error!r}); {AGAIN}.") from None


def _parse(path: Path, line: int, text: str) -> dict[str, Any]:
    try:
        parsed = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}:{line}: not JSON ({error}); {AGAIN}.") from None
    if not isinstance(parsed, dict):
        raise ValueError(f"{path}:{line}: not a JSON object; {AGAIN}.")
    return parsed


def _lines(path: Path) -> list[str]:
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such n-best file.")
    data = path.read_bytes()
    if path.suffix == ".gz":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise ValueError(f"{path}: damaged ({error}); {AGAIN}.") from None
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"{path}: not UTF-8 ({error}); {AGAIN}.") from None
    return text.removesuffix("\n").split("\n") if text else []


def _header(path: Path) -> dict[str, Any]:
    """The header alone: whole shards are only read when they are merged."""
    try:
        with gzip.open(path, "rb") as file:
            line = file.readline(1 << 20)
    except (OSError, EOFError, zlib.error) as error:
        raise ValueError(f"{path}: damaged ({error}); {AGAIN}.") from None
    return _parse(path, 1, line.decode("utf-8", "replace"))


def _numbers(path: Path) -> tuple[int, int]:
    match = re.fullmatch(r"shard-(\d+)-of-(\d+)\.jsonl\.gz", path.name)
    if match is None:
        raise ValueError(f"{path}: not the name of a shard.")
    return int(match[1]), int(match[2])
