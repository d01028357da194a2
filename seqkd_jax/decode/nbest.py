"""N-best files: sharded, gzip-packed JSON lines, each shard sealed and traceable to its teacher.

    shard-00003-of-00012.jsonl.gz
        {"format": "seqkd-nbest-2", "teacher_digest": ..., "search": ..., "first": 6000, ...}
        {"index": 6000, "hypotheses": [{"text": ..., "tokens": [...], "score": ..., ...}, ...]}
        ...

Other systems can write such files too: a plain .jsonl or .jsonl.gz without a header will do, and
only ``index`` and ``text`` are required. ``tokens``, ``score`` and ``log_prob`` must be given for
all hypotheses of a sentence or for none. Lists in the format of Moses are read as well
(``moses``).
"""

import bisect
import contextlib
import functools
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from ..addresses import PathLike, as_path
from ..data.lines import open_lines
from ..data.text import decode_lines, read_bytes
from ..data.waiting import open_text
from ..errors import UsageError, quoted
from ..files import atomic_write, pack_gzip
from ..sealed import HEADER_BYTES, RESTORE, parse_json, seal, unseal
from . import shards
from .lists import NBest, check_next, foreign_lists, is_natural, json_line, parse_list

FORMAT = "seqkd-nbest-2"
PER_SHARD = ("format", "first", "count", "sha256")  # header fields that differ between shards
ENDING = ".jsonl.gz"
PART = 2000  # sentences of a file of another system that are read together


def shard_path(folder: PathLike, shard: int, count: int) -> Path:
    """Returns the path of one of ``count`` shards."""
    return as_path(folder) / shards.shard_name(shard, count, ENDING)


def pack_shard(header: dict[str, Any], nbest: Sequence[NBest]) -> bytes:
    """Returns the bytes of a shard; equal content gives equal bytes.

    Args:
      header: how it was made; see ``corpus.translate_corpus``.
      nbest: lists of consecutive sentences.
    """
    first = nbest[0].index if nbest else 0
    lines = map(json_line, nbest)
    full = {**header, "first": first, "count": len(nbest)}
    return pack_gzip(seal(FORMAT, full, "".join(lines).encode()))


def write_shard(
    folder: PathLike, shard: int, count: int, header: dict[str, Any], nbest: Sequence[NBest]
) -> None:
    """Packs one of ``count`` shards (``pack_shard``) and writes it atomically."""
    atomic_write(shard_path(folder, shard, count), pack_shard(header, nbest))


def read_shard(path: PathLike) -> tuple[dict[str, Any], list[NBest]]:
    """Reads a shard, or a file of another system, for which the returned header is empty.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: the file is damaged or not an n-best file; the message names file and line.
    """
    path = as_path(path)
    data = read_bytes(path)
    if not _has_header(data):
        return {}, [n for _, n in foreign_lists(path, decode_lines(data, str(path)))]
    header, body = unseal(path, data, FORMAT)
    lines = decode_lines(bytes(body), str(path), 2)
    try:
        nbest = [parse_list(path, n, line) for n, line in enumerate(lines, 2)]
        first: Any = header.get("first")
        if not is_natural(first):
            raise UsageError(
                f"{path}:1: its first sentence is {quoted(first)}, which is not a number."
            )
        for n, item in enumerate(nbest):
            check_next(path, n + 2, item.index, first + n, first)
    except UsageError as error:
        raise UsageError(f"{error} {RESTORE}") from None
    if header.get("count") != len(nbest):
        raise UsageError(
            f"{path}: has {len(nbest)} sentences, but its header says "
            f"{quoted(header.get('count'))}. " + RESTORE
        )
    return header, nbest


def shared_header(header: dict[str, Any]) -> dict[str, Any]:
    """Returns the part of a header that all shards of a corpus share."""
    return {name: value for name, value in header.items() if name not in PER_SHARD}


def complete_shards(
    folder: PathLike, header: dict[str, Any], verified: set[int] | None = None
) -> set[int]:
    """Returns the numbers of a corpus' shards that exist; see ``shards.complete_shards``."""

    def read_header(path: Path) -> dict[str, Any]:
        return shared_header(unseal(path, read_bytes(path), FORMAT)[0])

    return shards.complete_shards(_shard_paths(folder), ENDING, read_header, header, verified)


def _shard_paths(folder: PathLike) -> list[Path]:
    return sorted(as_path(folder).glob(f"shard-*{ENDING}"))


@dataclass(frozen=True, eq=False)
class NBestFiles(Sequence[NBest]):
    """The n-best lists of a corpus, which are read from their files part by part."""

    header: dict[str, Any]  # what all shards share; empty for files of other systems
    firsts: tuple[int, ...]  # the sentence that each part begins with, and the number of sentences
    read: Callable[[int], list[NBest]] = field(repr=False)  # a part -> its lists

    def __len__(self) -> int:
        return self.firsts[-1]

    def __iter__(self) -> Iterator[NBest]:
        for part in range(len(self.firsts) - 1):
            yield from self.read(part)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return [self[n] for n in range(*index.indices(len(self)))]
        index = range(len(self))[index]
        part = bisect.bisect_right(self.firsts, index) - 1
        return self.read(part)[index - self.firsts[part]]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sequence) or len(self) != len(other):
            return False
        return all(a == b for a, b in zip(self, other, strict=True))


def read_nbest(path: PathLike, first_index: int = 0) -> tuple[dict[str, Any], list[NBest]]:
    """Reads all n-best lists of a folder or file into memory; see ``open_nbest``.

    Returns:
      The header that all shards share, and the lists, numbered from 0.
    """
    found = open_nbest(path, first_index)
    return found.header, list(found)


def open_nbest(path: PathLike, first_index: int = 0) -> NBestFiles:
    """Opens all shards of a folder in order, or one file; each sentence occurs exactly once.

    Args:
      path: a folder that ``translate_corpus`` wrote, or a file: JSON lines or the format of Moses,
        plain or ``.gz``.
      first_index: number of the first sentence in a file of another system, 0 or 1.

    Raises:
      FileNotFoundError: there is nothing to read.
      UsageError: a shard is missing or was made by another teacher; a file is not an n-best file,
        or does not begin with sentence ``first_index``. Damage inside a shard is found when the
        shard is read, and then raises it.
    """
    path = as_path(path)
    if path.is_dir():
        return _open_shards(path, first_index)
    if not _is_own(path):
        return _openforeign_lists(path, first_index)
    header, nbest = read_shard(path)
    if first_index:
        raise UsageError(
            f"{path}: written by this library, which counts from 0: leave --first-index out."
        )
    return NBestFiles(header, (0, len(nbest)), lambda _: nbest)


def _open_shards(folder: Path, first_index: int) -> NBestFiles:
    paths = _shard_paths(folder)
    if not paths:
        raise FileNotFoundError(f"{folder}: has no n-best lists (no shard-*.jsonl.gz).")
    if first_index:
        raise UsageError(f"{folder}: shards of this library count from 0: leave --first-index out.")
    numbers = [shards.shard_numbers(shard, ENDING) for shard in paths]
    count = numbers[0][1]
    for shard, (number, shard_count) in zip(paths, numbers, strict=True):
        if shard_count != count or shard != shard_path(folder, number, count):
            raise UsageError(
                f"{shard}: from another run than {paths[0].name}; a folder must hold the shards "
                "of one run."
            )
    if missing := shards.missing_shards({number for number, _ in numbers}, count):
        raise UsageError(
            f"{folder}: shards {missing} of {count} are missing; run the command that wrote the "
            "others again."
        )
    common, firsts = shared_header(read_shard(paths[0])[0]), [0]
    for shard in paths:
        header = _header(shard)
        follows = not header["count"] or header["first"] == firsts[-1]
        if shared_header(header) != common or not follows:
            read_shard(shard)  # it may be damaged
        if shared_header(header) != common:
            raise UsageError(
                f"{shard}: made by another teacher or search than the shards before it."
            )
        if not follows:
            raise UsageError(
                f"{shard}: begins with sentence {header['first']}, but sentence {firsts[-1]} "
                "comes next."
            )
        firsts.append(firsts[-1] + header["count"])

    # One part is kept: sentences are mostly read in order.
    @functools.lru_cache(maxsize=1)
    def read(part: int) -> list[NBest]:
        return read_shard(paths[part])[1]

    return NBestFiles(common, tuple(firsts), read)


def _header(path: Path) -> dict[str, Any]:
    """Returns the header of a shard, of which the rest may be damaged."""
    header: Any = None
    with (
        contextlib.suppress(OSError, EOFError, ValueError, zlib.error),
        open_text(path) as (file, _),
    ):
        header = parse_json(file.readline(HEADER_BYTES))
    numbers = [header.get(name) for name in ("first", "count")] if isinstance(header, dict) else []
    if numbers and all(map(is_natural, numbers)):
        return header
    return read_shard(path)[0]  # which says what is wrong with it


def _is_own(path: Path) -> bool:
    """Returns whether a file begins with a header of this library."""
    try:
        with open_text(path) as (file, _):
            return _has_header(file.readline(HEADER_BYTES))
    except (OSError, EOFError, zlib.error):
        return _has_header(read_bytes(path))  # or it says what is wrong


def _openforeign_lists(path: Path, first_index: int) -> NBestFiles:
    """Checks a file of another system, and finds the line of each ``PART``-th sentence in it."""
    lines = open_lines(path)
    firsts, starts = [0], []
    for number, (line, nbest) in enumerate(foreign_lists(path, lines)):
        if not number and nbest.index != first_index:
            remedy = "Give the lists of the whole text, from its first sentence on."
            if nbest.index in (0, 1):
                remedy = (
                    f"If its sentences count from {nbest.index}, give --first-index {nbest.index} "
                    f"(first_index={nbest.index})."
                )
            raise UsageError(
                f"{path}:1: begins with sentence {nbest.index}, but sentence {first_index} is "
                f"expected. {remedy}"
            )
        if number % PART == 0:
            starts.append(line - 1)
        firsts[number // PART + 1 :] = [number + 1]

    @functools.lru_cache(maxsize=1)
    def read(part: int) -> list[NBest]:
        own = lines[slice(*(*starts, len(lines))[part : part + 2])]
        found = foreign_lists(path, own, starts[part] + 1)
        return [replace(n, index=n.index - first_index) for _, n in found]

    return NBestFiles({}, tuple(firsts), read)


def _has_header(data: bytes) -> bool:
    """Returns whether the first line is a header of this library."""
    try:
        first = parse_json(data[:HEADER_BYTES].partition(b"\n")[0])
    except ValueError:
        return False
    return isinstance(first, dict) and str(first.get("format")).startswith("seqkd-")
