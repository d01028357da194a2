r"""Parameters with shared weights as one file: relative indices, Huffman codes, a checksum.

    seqkd-compressed-1 <sha256 of all that follows> <bytes of the head>\n
    head, packed with zlib:  [{"name", "shape", "values", "entries", "gap_bits", "bytes"}, ...]\n
                             of each array: the table of its codes, the table of its gaps
    of each array:           values, stream of codes, stream of gaps

An entry is a weight that is not 0: its code, and its gap, the number of zeros before it. A gap
has ``gap_bits``; where more zeros follow one another than it can say, an entry with code 0 stands
for one of them (the paper's filler zero). With 0 bits every weight is an entry.

Source: Han, Mao & Dally 2016, sections 2 and 4.
"""

import hashlib
import io
import json
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from ..base import Params
from ..errors import UsageError
from ..files import PathLike, atomic_write
from . import huffman
from .deep import Shared

MAGIC = b"seqkd-compressed-1"
GAP_BITS = (0, 4, 8)  # of which each array takes what is shortest


@dataclass(frozen=True)
class Sizes:
    """Bytes of the same parameters, stage by stage; tables are counted."""

    dense: int  # every weight in float32
    sparse: int  # weights that are not 0 in float32, and gaps
    shared: int  # codes in place of weights, and the values
    huffman: int  # the file: codes and gaps in Huffman's code, its tables, the description


class _Entries(NamedTuple):
    codes: np.ndarray  # [entries] uint8
    gaps: np.ndarray  # [entries] uint8
    gap_bits: int


def write_compressed(path: PathLike, shared: Shared) -> Sizes:
    """Writes parameters whose weights are shared, whole or not at all; returns what it saved."""
    head, tables, blobs, sizes = [], [], [], np.zeros(3, np.int64)
    leaves = jax.tree_util.tree_flatten_with_path(shared.codes)[0]
    for (name, codes), values in zip(leaves, jax.tree.leaves(shared.codebooks), strict=True):
        values, flat = np.asarray(values, "<f4"), np.asarray(codes).ravel()
        code_bits = int(np.ceil(np.log2(len(values) + 1)))
        ways = [entries_of(flat, bits) for bits in GAP_BITS]
        lengths = np.array([[len(way.codes), way.gap_bits] for way in ways])
        packed = [_packed(way, len(values) + 1) for way in ways]
        best = min(range(len(ways)), key=lambda n: sum(map(len, packed[n])))
        code_table, code_stream, gap_table, gap_stream = packed[best]
        head.append(
            {
                "name": jax.tree_util.keystr(name),
                "shape": np.shape(codes),
                "values": len(values),
                "entries": len(ways[best].codes),
                "gap_bits": ways[best].gap_bits,
                "bytes": [len(code_stream), len(gap_stream)],
            }
        )
        tables += [code_table, gap_table]
        blobs += [values.tobytes(), code_stream, gap_stream]
        bits = [(lengths[:, 0] * (b + lengths[:, 1])).min() for b in (32, code_bits)]
        sizes += [4 * flat.size, -(-bits[0] // 8), -(-bits[1] // 8) + values.nbytes]
    listed = json.dumps(head, separators=(",", ":")).encode() + b"\n"
    packed_head = zlib.compress(listed + b"".join(tables), 9)
    body = packed_head + b"".join(blobs)
    digest = hashlib.sha256(body).hexdigest()
    data = MAGIC + f" {digest} {len(packed_head)}\n".encode() + body
    atomic_write(path, data)
    return Sizes(*map(int, sizes), huffman=len(data))


def read_compressed(path: PathLike, like: Params) -> Params:
    """Reads the parameters of a compressed file, bit for bit, as numpy.

    Args:
      path: of the file.
      like: a pytree of arrays, or their shapes, of the model it holds.

    Raises:
      FileNotFoundError: there is no such file.
      UsageError: it is no such file, of another version, damaged, or of another model.
    """
    path = Path(path)
    first, _, body = path.read_bytes().partition(b"\n")
    magic, *about = first.split(b" ")
    if magic != MAGIC:
        raise UsageError(
            f"{path}: no compressed model that this version reads ({MAGIC.decode()} expected)."
        )
    if len(about) != 2 or hashlib.sha256(body).hexdigest().encode() != about[0]:
        raise UsageError(f"{path}: damaged (its checksum does not match); compress again.")
    size = int(about[1])
    listed, _, tables = zlib.decompress(body[:size]).partition(b"\n")
    reader, arrays = _Reader(tables, body[size:]), {}
    for record in json.loads(listed):
        arrays[record["name"]] = _array(record, reader)
    leaves, tree = jax.tree_util.tree_flatten_with_path(like)
    want = {jax.tree_util.keystr(name): tuple(leaf.shape) for name, leaf in leaves}
    have = {name: array.shape for name, array in arrays.items()}
    for name in sorted(want.keys() | have.keys()):
        if want.get(name) != have.get(name):
            raise UsageError(
                f"{path}: {name} is {have.get(name)} in the file and {want.get(name)} in this "
                "model: the file holds another model."
            )
    return tree.unflatten([arrays[name] for name in want])


def entries_of(codes: np.ndarray, gap_bits: int) -> _Entries:
    """Codes [n] as entries with gaps below 2^gap_bits, filler zeros where these do not suffice."""
    places = np.flatnonzero(codes) if gap_bits else np.arange(len(codes))
    zeros = np.diff(places, prepend=-1) - 1
    fillers, rest = np.divmod(zeros, 2**gap_bits)
    ends = np.cumsum(fillers + 1) - 1  # of each run of fillers and the entry behind it
    size = int(ends[-1]) + 1 if len(ends) else 0
    gaps, filled = np.full(size, 2**gap_bits - 1, np.uint8), np.zeros(size, np.uint8)
    gaps[ends], filled[ends] = rest, codes[places]
    return _Entries(filled, gaps, gap_bits)


def codes_of(entries: _Entries, size: int) -> np.ndarray:
    """What ``entries_of`` was given, ``size`` codes."""
    codes = np.zeros(size, np.uint8)
    codes[np.cumsum(entries.gaps.astype(np.int64) + 1) - 1] = entries.codes
    return codes


def _packed(entries: _Entries, codes: int) -> list[bytes]:
    """Table and stream of the codes, table and stream of the gaps."""
    return [*_stream(entries.codes, codes), *_stream(entries.gaps, 2**entries.gap_bits)]


def _stream(symbols: np.ndarray, alphabet: int) -> tuple[bytes, bytes]:
    """A table and a stream; of one kind of symbol the table alone, which then names it."""
    counts = np.bincount(symbols, minlength=alphabet)
    lengths = huffman.code_lengths(counts)
    if not lengths.any():
        return (counts > 0).astype(np.uint8).tobytes(), b""
    return lengths.tobytes(), huffman.encode(symbols, lengths)


class _Reader:
    """Tables and streams, each read from its start to its end."""

    def __init__(self, tables: bytes, streams: bytes):
        self.tables, self.streams = io.BytesIO(tables), io.BytesIO(streams)

    def symbols(self, alphabet: int, size: int, count: int) -> np.ndarray:
        lengths = np.frombuffer(self.tables.read(alphabet), np.uint8)
        if not size:  # all alike, or none
            return np.full(count, lengths.argmax(), np.uint8)
        return huffman.decode(self.streams.read(size), lengths, count)


def _array(record: dict[str, Any], reader: _Reader) -> np.ndarray:
    values = np.frombuffer(reader.streams.read(4 * record["values"]), "<f4")
    of_codes, of_gaps = record["bytes"]
    codes = reader.symbols(len(values) + 1, of_codes, record["entries"])
    gaps = reader.symbols(2 ** record["gap_bits"], of_gaps, record["entries"])
    size = int(np.prod(record["shape"], dtype=np.int64))
    flat = codes_of(_Entries(codes, gaps, record["gap_bits"]), size)
    return np.concatenate([np.zeros(1, np.float32), values])[flat].reshape(record["shape"])
