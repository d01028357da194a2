"""Files of top-k distributions: arrays after a sealed header, written atomically.

    {"format": "seqkd-topk-2", "teacher_digest": ..., "k": 16, ...}             padded to 64 bytes
    keys [pairs, 16] | tokens of each pair uint32 [pairs] | rest float32 [tokens]
    ids uint16 or uint32 [tokens, k] | distances float16 [tokens, k]          little-endian

``teacher_cache`` defines the meaning of the arrays.
"""

import math
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..decode import shards
from ..errors import UsageError, quoted
from ..files import atomic_write
from ..sealed import RESTORE, seal, unseal

FORMAT = "seqkd-topk-2"
KEY_BYTES = 16
ALIGNMENT = 64  # bytes
# Header fields that differ between shards.
PER_SHARD = ("format", "shard", "pairs", "tokens", "nats", "sha256")
ENDING = ".topk"


class Shard(NamedTuple):
    """The pairs of one file; the axis ``tokens`` holds the tokens of all pairs, in their order."""

    keys: np.ndarray  # [pairs] of KEY_BYTES, sorted
    lengths: np.ndarray  # [pairs], target tokens
    rest: np.ndarray  # [tokens]
    ids: np.ndarray  # [tokens, k]
    distances: np.ndarray  # [tokens, k]


def _layout(header: dict[str, Any]) -> list[tuple[str, tuple[int, ...]]]:
    """Returns (dtype, shape) of the arrays of a shard, in their order in the file."""
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
    """Writes a shard atomically; equal content gives equal bytes.

    Args:
      path: the file; its name is ``shard_name(header["shard"], header["shards"])``.
      header: ``k``, ``vocabulary``, ``shard``, ``shards``, ``nats``, ``temperature``, and any other
        fields.
      shard: the arrays.

    Raises:
      UsageError: the distributions are not finite.
    """
    if not math.isfinite(header["nats"]):
        raise UsageError("The teacher's distributions are not finite; there is nothing to cache.")
    header = header | {"pairs": len(shard.keys), "tokens": len(shard.rest)}
    parts = [
        np.asarray(array).astype(dtype).tobytes()
        for array, (dtype, _) in zip(shard, _layout(header), strict=True)
    ]
    atomic_write(path, seal(FORMAT, header, b"".join(parts), ALIGNMENT))


def read_shard(path: Path) -> tuple[dict[str, Any], Shard]:
    """Maps a shard into memory, and checks all of its bytes.

    Raises:
      UsageError: the shard is damaged or edited, or its header does not match its arrays.
    """
    if not path.stat().st_size:  # an empty file cannot be mapped
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
        raise UsageError("its header belongs to another shard than its file name")
    layout = _layout(header)
    sizes = [np.dtype(dtype).itemsize * math.prod(shape) for dtype, shape in layout]
    if sum(sizes) != len(data):
        raise UsageError(f"its header promises {sum(sizes):,} bytes, but {len(data):,} follow it")
    arrays, start = [], 0
    for (dtype, shape), size in zip(layout, sizes, strict=True):
        arrays.append(np.frombuffer(data[start : start + size], dtype).reshape(shape))
        start += size
    shard = Shard(*arrays)
    if not header["pairs"] or int(shard.lengths.sum(dtype=np.int64)) != header["tokens"]:
        raise UsageError("the lengths of its pairs do not add up to its tokens")
    if not 1 <= header["k"] <= header["vocabulary"] or shard.ids.max() >= header["vocabulary"]:
        raise UsageError("it has ids beyond its vocabulary")
    if not header["temperature"] > 0:
        raise UsageError("its temperature is not above 0")
    return shard


def shared_header(header: dict[str, Any]) -> dict[str, Any]:
    """Returns the part of a header that all shards of a cache share."""
    return {name: value for name, value in header.items() if name not in PER_SHARD}


def complete_shards(
    folder: Path, header: dict[str, Any], verified: set[int] | None = None
) -> set[int]:
    """Returns the numbers of a cache's shards that exist; see ``shards.complete_shards``."""
    return shards.complete_shards(
        shard_paths(folder),
        ENDING,
        lambda path: shared_header(read_shard(path)[0]),
        shared_header(header),
        verified,
    )


def shard_paths(folder: Path) -> list[Path]:
    """Returns the paths of the shards of a folder, in order."""
    return sorted(folder.glob(f"shard-*{ENDING}"))


def shard_name(shard: int, count: int) -> str:
    """Returns the file name of one of ``count`` shards."""
    return shards.shard_name(shard, count, ENDING)
