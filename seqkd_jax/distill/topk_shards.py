"""Files of top-k distributions: arrays behind a header, whole or not at all, and checked.

    {"format": "seqkd-topk-1", "teacher": ..., "k": 16, ..., "sha256": ...}   padded to 64 bytes
    keys [pairs, 16] | tokens of each pair uint32 [pairs] | rest float32 [tokens]
    ids uint16 or uint32 [tokens, k] | distances float16 [tokens, k]          little-endian

What they mean is said in ``teacher_cache``.
"""

import math
from collections.abc import Iterable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import UsageError, quoted
from ..files import atomic_write, seal, unseal

FORMAT = "seqkd-topk-1"
KEY_BYTES = 16
ALIGNED = 64  # bytes
# Header fields that tell shards apart.
PER_SHARD = ("format", "shard", "pairs", "tokens", "nats", "sha256")
AGAIN = "Restore the file from a copy, or delete it and run the command that wrote it again."


class Shard(NamedTuple):
    """The pairs of one file; ``tokens`` are those of all pairs, one pair after another."""

    keys: np.ndarray  # [pairs] of KEY_BYTES, rising
    lengths: np.ndarray  # [pairs]
    rest: np.ndarray  # [tokens]
    ids: np.ndarray  # [tokens, k]
    distances: np.ndarray  # [tokens, k]


def _kinds(header: dict[str, Any]) -> list[tuple[str, tuple[int, ...]]]:
    """Type and shape of the arrays of a shard, in their order in the file."""
    pairs, tokens, k = header["pairs"], header["tokens"], header["k"]
    ids = "<u2" if header["vocabulary"] <= 1 << 16 else "<u4"
    return [
        (f"S{KEY_BYTES}", (pairs,)),
        ("<u4", (pairs,)),
        ("<f4", (tokens,)),
        (ids, (tokens, k)),
        ("<f2", (tokens, k)),
    ]


def write_shard(path: Path, header: dict[str, Any], shard: Shard) -> None:
    """Writes a shard in one piece or not at all; equal content gives equal bytes.

    Args:
      path: of the file; its name is ``shard_name(header["shard"], header["shards"])``.
      header: what made it: ``k``, ``vocabulary``, ``nats`` and whatever else is to be kept.
      shard: what it holds.
    """
    if not math.isfinite(header["nats"]):
        raise UsageError("The teacher's distributions are not finite; there is nothing to cache.")
    header = header | {"pairs": len(shard.keys), "tokens": len(shard.rest)}
    parts = [
        np.asarray(array).astype(kind).tobytes()
        for array, (kind, _) in zip(shard, _kinds(header), strict=True)
    ]
    atomic_write(path, seal(FORMAT, header, b"".join(parts), ALIGNED))


def read_shard(path: Path) -> tuple[dict[str, Any], Shard]:
    """Maps a shard into memory, and checks every byte.

    Raises:
      UsageError: it is damaged, edited, or its header does not fit what it holds.
    """
    if not path.stat().st_size:  # of nothing there is no map
        raise UsageError(f"{path}: the file is empty. {AGAIN}")
    mapped: Any = np.memmap(path, np.uint8, "r")
    header, data = unseal(path, memoryview(mapped), FORMAT, AGAIN)
    try:
        return header, _arrays(path.name, header, data)
    except UsageError as error:
        raise UsageError(f"{path}: {error}. {AGAIN}") from None


def _arrays(name: str, header: dict[str, Any], data: memoryview) -> Shard:
    for field in ("pairs", "tokens", "k", "vocabulary", "shard", "shards"):
        value = header.get(field)
        if not isinstance(value, int) or isinstance(value, bool) or value < 0:
            raise UsageError(
                f"{field} is {quoted(value)} in its header, but must be a whole number"
            )
    for field in ("nats", "temperature"):
        if not isinstance(header.get(field), float):
            raise UsageError(
                f"{field} is {quoted(header.get(field))} in its header, but must be a number"
            )
    if name != shard_name(header["shard"], header["shards"]):
        raise UsageError("its header is that of another shard than its name says")
    kinds = _kinds(header)
    sizes = [np.dtype(kind).itemsize * math.prod(shape) for kind, shape in kinds]
    if sum(sizes) != len(data):
        raise UsageError(f"its header promises {sum(sizes):,} bytes, but {len(data):,} follow it")
    arrays, start = [], 0
    for (kind, shape), size in zip(kinds, sizes, strict=True):
        arrays.append(np.frombuffer(data[start : start + size], kind).reshape(shape))
        start += size
    shard = Shard(*arrays)
    if not header["pairs"] or int(shard.lengths.sum(dtype=np.int64)) != header["tokens"]:
        raise UsageError("the lengths of its pairs do not add up to its tokens")
    if not 1 <= header["k"] <= header["vocabulary"] or shard.ids.max() >= header["vocabulary"]:
        raise UsageError("it has ids beyond its vocabulary")
    if not header["temperature"] > 0:
        raise UsageError("its temperature is not above 0")
    return shard


def complete_shards(
    folder: Path, header: dict[str, Any], whole: set[int] | None = None
) -> set[int]:
    """The numbers of the shards that are there, all whole and made as ``header`` says.

    Args:
      folder: of the shards.
      header: what makes them.
      whole: shards that need no other look; those that were found whole are added.

    Raises:
      UsageError: one is damaged, or made of another teacher, corpus or k.
    """
    whole = set() if whole is None else whole
    names = {shard_name(number, header["shards"]): number for number in whole}
    for path in shard_paths(folder):
        if path.name not in names:
            theirs = read_shard(path)[0]
            require_alike(path, theirs, header)
            whole.add(theirs["shard"])
    return {number for number in whole if (folder / shard_name(number, header["shards"])).exists()}


def require_alike(path: Path, theirs: dict[str, Any], header: dict[str, Any]) -> None:
    """Raises UsageError unless a shard was made as ``header`` says."""
    for name in sorted(header.keys() | theirs.keys() - set(PER_SHARD)):
        if theirs.get(name) != header.get(name):
            raise UsageError(
                f"{path}: made with another {name}: {theirs.get(name)} there, "
                f"{header.get(name)} now. Choose another folder, or delete the old shards."
            )


def missing_shards(there: Iterable[int], of: int) -> list[int]:
    """The first few numbers below ``of`` that are not there."""
    known, missing, number = set(there), [], 0
    while number < of and len(missing) < 10:
        if number not in known:
            missing.append(number)
        number += 1
    return missing


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a folder, in order."""
    return sorted(folder.glob("shard-*.topk"))


def shard_name(shard: int, of: int) -> str:
    """The name of one shard's file."""
    return f"shard-{shard:05d}-of-{of:05d}.topk"
