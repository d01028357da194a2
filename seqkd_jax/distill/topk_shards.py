"""Files of top-k distributions: arrays behind a header, whole or not at all, and checked.

    {"format": "seqkd-topk-1", "teacher": ..., "k": 16, ..., "sha256": ...}   padded to 64 bytes
    keys [pairs, 16] | tokens of each pair uint32 [pairs] | rest float32 [tokens]
    ids uint16 or uint32 [tokens, k] | distances float16 [tokens, k]          little-endian

What they mean is said in ``teacher_cache``.
"""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from ..errors import UsageError
from ..files import atomic_write

FORMAT = "seqkd-topk-1"
KEY_BYTES = 16
PER_SHARD = ("shard", "pairs", "tokens", "nats", "sha256")  # header fields that tell shards apart
AGAIN = "delete the file and run again"


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
    header = header | {"pairs": len(shard.keys), "tokens": len(shard.rest)}
    parts = [
        np.asarray(array).astype(kind).tobytes()
        for array, (kind, _) in zip(shard, _kinds(header), strict=True)
    ]
    header["sha256"] = _digest(header, b"".join(parts))
    line = json.dumps(header).encode()
    atomic_write(path, b"".join([line.ljust(-(-(len(line) + 1) // 64) * 64 - 1), b"\n", *parts]))


def read_shard(path: Path) -> tuple[dict[str, Any], Shard]:
    """Maps a shard into memory, and checks every byte.

    Raises UsageError if it is damaged.
    """
    header, offset = read_header(path)
    data = np.memmap(path, np.uint8, "r")[offset:]
    if _digest(header, data.data) != header["sha256"]:
        raise UsageError(f"{path}: damaged (its content does not match its digest); {AGAIN}.")
    arrays = []
    for kind, shape in _kinds(header):
        size = np.dtype(kind).itemsize * int(np.prod(shape))
        arrays.append(data[:size].view(kind).reshape(shape))
        data = data[size:]
    return header, Shard(*arrays)


def read_header(path: Path) -> tuple[dict[str, Any], int]:
    """The header of a shard, and where its arrays begin.

    Raises UsageError if it is damaged, or the file has not the size that it says.
    """
    with path.open("rb") as file:
        line = file.readline(1 << 16)
    try:
        header = json.loads(line)
        if header["format"] != FORMAT:
            raise UsageError(f"the format {FORMAT} expected")
        kinds = _kinds(header)
        size = sum(np.dtype(kind).itemsize * int(np.prod(shape)) for kind, shape in kinds)
        if path.stat().st_size != len(line) + size or not isinstance(header["nats"], float):
            raise UsageError("its size is not what its header says")
        if path.name != shard_name(header["shard"], header["shards"]):
            raise UsageError("it is another shard than its name says")
    except (KeyError, TypeError, ValueError) as error:
        raise UsageError(f"{path}: damaged ({error}); {AGAIN}.") from None
    return header, len(line)


def complete_shards(folder: Path, header: dict[str, Any]) -> set[int]:
    """The numbers of the shards that are there, all made as ``header`` says.

    Raises UsageError if one is damaged, or made of another teacher, corpus or k.
    """
    found = set()
    for path in shard_paths(folder):
        theirs, _ = read_header(path)
        for name, value in header.items():
            if theirs.get(name) != value:
                raise UsageError(
                    f"{path}: made with another {name}: {theirs.get(name)} there, {value} now. "
                    "Choose another folder, or delete this one."
                )
        found.add(theirs["shard"])
    return found


def _digest(header: dict[str, Any], data: bytes | memoryview) -> str:
    named = json.dumps({name: value for name, value in header.items() if name != "sha256"})
    digest = hashlib.sha256(named.encode())
    digest.update(data)
    return digest.hexdigest()


def shard_paths(folder: Path) -> list[Path]:
    """The shards of a folder, in order."""
    return sorted(folder.glob("shard-*.topk"))


def shard_name(shard: int, of: int) -> str:
    """The name of one shard's file."""
    return f"shard-{shard:05d}-of-{of:05d}.topk"
