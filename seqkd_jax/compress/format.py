r"""Parameters with shared weights as one sealed file: relative indices and Huffman codes.

    {"format": "seqkd-compressed-1", "head": <bytes of the head>, "sha256": ...}\n
    head, packed with zlib:  [{"name", "shape", "values", "entries", "gap_bits", "bytes"}, ...]\n
                             of each array: the table of its codes, the table of its gaps
    of each array:           values, stream of codes, stream of gaps

An entry is a weight that is not 0: its code, and its gap, the number of zeros before it. A gap
has ``gap_bits``; where more zeros follow one another than it can say, an entry with code 0 stands
for one of them (the paper's filler zero). With 0 bits every weight is an entry.

Source: Han, Mao & Dally 2016, sections 2 and 4.
"""

import io
import json
import math
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import numpy as np

from ..base import Params
from ..errors import UsageError, quoted
from ..files import PathLike, atomic_write, read_file
from ..sealed import HEADER_BYTES, parse_json, seal, unseal
from . import huffman
from .deep import Shared

FORMAT = "seqkd-compressed-1"
AGAIN = "Restore the file from a copy, or compress the model again."
OF_ARRAY = 1 << 13  # bytes of an array beside its entries: values, tables, what is said of it
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
    data = seal(FORMAT, {"head": len(packed_head)}, packed_head + b"".join(blobs))
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
    leaves, tree = jax.tree_util.tree_flatten_with_path(like)
    want = {jax.tree_util.keystr(name): tuple(leaf.shape) for name, leaf in leaves}
    # What a file of this model may have: a sparse weight takes less than 8 bytes.
    most = len(want) * OF_ARRAY + 8 * sum(map(math.prod, want.values())) + HEADER_BYTES
    header, body = unseal(path, read_file(path, most), FORMAT, AGAIN)
    try:
        arrays = _arrays(header, bytes(body), want)
    except UsageError as error:
        remedy = "" if isinstance(error, _OtherModel) else f" {AGAIN}"
        raise UsageError(f"{path}: {error}.{remedy}") from None
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
    """What ``entries_of`` was given, ``size`` codes.

    Raises UsageError if the entries go beyond them.
    """
    places = np.cumsum(entries.gaps.astype(np.int64) + 1) - 1
    if len(places) and places[-1] >= size:
        raise UsageError(f"an array of {size} weights has an entry at {places[-1] + 1}")
    codes = np.zeros(size, np.uint8)
    codes[places] = entries.codes
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


class _OtherModel(UsageError):
    pass


class _Reader:
    """Tables and streams, each read from its start to its end."""

    def __init__(self, tables: bytes, streams: bytes):
        self.tables, self.streams = io.BytesIO(tables), io.BytesIO(streams)

    def symbols(self, alphabet: int, size: int, count: int) -> np.ndarray:
        lengths = np.frombuffer(_exactly(self.tables, alphabet), np.uint8)
        if not size:  # all alike, or none
            return np.full(count, lengths.argmax(), np.uint8)
        return huffman.decode(_exactly(self.streams, size), lengths, count)


def _exactly(file: io.BytesIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise UsageError("it ends before all arrays have been read")
    return data


def _arrays(
    header: dict[str, Any], body: bytes, want: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    size = _number(header, "head", len(body))
    unpacking = zlib.decompressobj()
    try:
        head = unpacking.decompress(body[:size], (len(want) + 1) * OF_ARRAY)
    except zlib.error as error:
        raise UsageError(f"its head cannot be unpacked ({error})") from None
    if not unpacking.eof:
        raise UsageError("its head is cut off, or larger than that of this model")
    listed, _, tables = head.partition(b"\n")
    try:
        records = parse_json(listed)
    except ValueError as error:
        raise UsageError(f"its head is not JSON ({error})") from None
    if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
        raise UsageError("its head is not a list of arrays")
    have = {str(record.get("name")): _shape(record) for record in records}
    for name in sorted(want.keys() | have.keys()):
        if want.get(name) != have.get(name):
            raise _OtherModel(
                f"{name:.80} is {have.get(name)} in the file but {want.get(name)} in this "
                "model: the file holds another model"
            )
    if len(records) != len(want):
        raise UsageError("an array occurs twice")
    reader = _Reader(tables, body[size:])
    arrays = {record["name"]: _array(record, want[record["name"]], reader) for record in records}
    if reader.tables.read(1) or reader.streams.read(1):
        raise UsageError("there are bytes after its last array")
    return arrays


def _array(record: dict[str, Any], shape: tuple[int, ...], reader: _Reader) -> np.ndarray:
    size = math.prod(shape)
    count, gap_bits = _number(record, "values", 255), _number(record, "gap_bits", max(GAP_BITS))
    entries, streams = _number(record, "entries", size), record.get("bytes")
    if gap_bits not in GAP_BITS or not isinstance(streams, list) or len(streams) != 2:
        raise UsageError(f"its record of array {record['name']:.80} is malformed")
    sizes = {"bytes of codes": streams[0], "bytes of gaps": streams[1]}
    of_codes, of_gaps = (_number(sizes, name, 4 * entries + 1) for name in sizes)
    values = np.frombuffer(_exactly(reader.streams, 4 * count), "<f4")
    if not np.isfinite(values).all():
        raise UsageError(f"array {record['name']:.80} has values that are not finite")
    codes = reader.symbols(count + 1, of_codes, entries)
    gaps = reader.symbols(2**gap_bits, of_gaps, entries)
    flat = codes_of(_Entries(codes, gaps, gap_bits), size)
    return np.concatenate([np.zeros(1, np.float32), values])[flat].reshape(shape)


def _shape(record: dict[str, Any]) -> tuple[int, ...] | None:
    shape = record.get("shape")
    if isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape):
        return tuple(shape)
    return None


def _number(record: dict[str, Any], name: str, most: int) -> int:
    value = record.get(name)
    if type(value) is not int or not 0 <= value <= most:
        raise UsageError(f"{name} is {quoted(value)}, but must be a number from 0 to {most}")
    return value
