"""Files of top-k distributions: arrays behind a header, whole or not at all, and checked.

    {"format": "seqkd-topk-1", "teacher": ..., "k": 16, ..., "sha256": ...}   padded to 64 bytes
    keys [pairs, 16] | tokens of each pair uint32 [pairs] | rest float32 [tokens]
    ids uint16 or uint32 [tokens, k] | distances float16 [tokens, k]          little-endian

What they mean is said in ``teacher_cache``.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import UsageError, quoted
from ..files import atomic_write
from ..sealed import RESTORE, seal, unseal
from . import shards

FORMAT = "seqkd-topk-1"
KEY_BYTES = 16
ALIGNED = 64  # bytes
# Header fields that tell shards apart.
PER_SHARD = ("format", "shard", "pairs", "tokens", "nats", "sha256")
ENDING = ".topk"


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
        raise UsageError(f"{path}: the file is empty. {RESTORE}")
    mapped: Any = np.memmap(path, np.uint8, "r")
    header, data = unseal(path, memoryview(mapped), FORMAT, RESTORE)
    try:
        return header, _arrays(path.name, header, data)
    except UsageError as error:
        raise UsageError(f"{path}: {error}. {RESTORE}") from None


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


def made_by(header: dict[str, Any]) -> dict[str, Any]:
    """The part of a header that all shards of a cache share."""
    return {name: value for name, value in header.items() if name not in PER_SHARD}


def complete_shards(
    folder: Path, header: dict[str, Any], whole: set[int] | None = None
) -> set[int]:
    """The numbers of the shards of a cache that are there; see ``shards.complete_shards``."""
    return shards.complete_shards(
        shard_paths(folder),
        ENDING,
        lambda path: made_by(read_shard(path)[0]),
        made_by(header),
        whole,
    )


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a folder, in order."""
    return sorted(folder.glob(f"shard-*{ENDING}"))


def shard_name(shard: int, of: int) -> str:
    """The name of one shard's file."""
    return shards.shard_name(shard, of, ENDING)
