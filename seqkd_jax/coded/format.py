r"""Parameters with shared weights as one sealed file: relative indices and Huffman codes.

    {"format": "seqkd-compressed-1", "head": <bytes of the head>, "sha256": ...}\n
    head, packed with zlib:  [{"name", "shape", "values", "entries", "gap_bits", "bytes"}, ...]\n
                             for each array: the table of its codes, the table of its gaps
    for each array:          values, stream of codes, stream of gaps

An entry is a non-zero weight: its code, and its gap, the number of zeros before it. A gap has
``gap_bits`` bits; in a longer run of zeros an entry with code 0 stands for one of them (the paper's
filler zero). With 0 bits every weight is an entry.

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

from ..addresses import PathLike
from ..errors import UsageError, quoted
from ..files import atomic_write, read_file
from ..sealed import HEADER_BYTES, parse_json, seal, unseal
from . import huffman

FORMAT = "seqkd-compressed-1"
REMEDY = "Restore the file from a copy, or compress the model again."
MAX_OVERHEAD = 1 << 13  # bytes of an array besides its entries: values, tables, its record
GAP_BITS = (0, 4, 8)  # each array uses the one that gives the smallest size

Params = Any  # a pytree of arrays


class Shared(NamedTuple):
    """Parameters with shared weights."""

    codebooks: Params  # a pytree like the parameters, each [k] float32, ascending, k < 2^bits
    codes: Params  # a pytree like the parameters, uint8: 0 for the number 0, c for value c - 1


@dataclass(frozen=True)
class Sizes:
    """Sizes in bytes of the same parameters after each stage, tables included."""

    dense: int  # all weights in float32
    sparse: int  # non-zero weights in float32, and gaps
    shared: int  # codes instead of weights, and the values
    huffman: int  # the file: Huffman-coded codes and gaps, tables, header and head


class _Entries(NamedTuple):
    codes: np.ndarray  # [entries] uint8
    gaps: np.ndarray  # [entries] uint8
    gap_bits: int


def write_compressed(path: PathLike, shared: Shared) -> Sizes:
    """Writes parameters with shared weights atomically; returns the sizes after each stage."""
    data, sizes = pack_compressed(shared)
    atomic_write(path, data)
    return sizes


def pack_compressed(shared: Shared) -> tuple[bytes, Sizes]:
    """Returns the bytes that ``write_compressed`` writes, and the sizes after each stage."""
    head, tables, blobs, sizes = [], [], [], np.zeros(3, np.int64)
    leaves = jax.tree_util.tree_flatten_with_path(shared.codes)[0]
    for (name, codes), values in zip(leaves, jax.tree.leaves(shared.codebooks), strict=True):
        values, flat = np.asarray(values, "<f4"), np.asarray(codes).ravel()
        code_bits = int(np.ceil(np.log2(len(values) + 1)))
        options = [entries_of(flat, bits) for bits in GAP_BITS]
        lengths = np.array([[len(option.codes), option.gap_bits] for option in options])
        packed = [_packed(option, len(values) + 1) for option in options]
        best = min(range(len(options)), key=lambda n: sum(map(len, packed[n])))
        code_table, code_stream, gap_table, gap_stream = packed[best]
        head.append(
            {
                "name": jax.tree_util.keystr(name),
                "shape": np.shape(codes),
                "values": len(values),
                "entries": len(options[best].codes),
                "gap_bits": options[best].gap_bits,
                "bytes": [len(code_stream), len(gap_stream)],
            }
        )
        tables += [code_table, gap_table]
        blobs += [values.tobytes(), code_stream, gap_stream]
        bits = [(lengths[:, 0] * (b + lengths[:, 1])).min() for b in (32, code_bits)]
        sizes += [4 * flat.size, -(-bits[0] // 8), -(-bits[1] // 8) + values.nbytes]
    records = json.dumps(head, separators=(",", ":")).encode() + b"\n"
    packed_head = zlib.compress(records + b"".join(tables), 9)
    data = seal(FORMAT, {"head": len(packed_head)}, packed_head + b"".join(blobs))
    return data, Sizes(*map(int, sizes), huffman=len(data))


def read_compressed(path: PathLike, like: Params) -> Params:
    """Reads the parameters of a compressed file, bit for bit, as numpy arrays.

    Args:
      path: the file.
      like: a pytree of arrays, or of their shapes, of the model in the file.

    Raises:
      FileNotFoundError: the file does not exist.
      UsageError: the file has another format or version, is damaged, or holds another model.
    """
    leaves, tree = jax.tree_util.tree_flatten_with_path(like)
    shapes = {jax.tree_util.keystr(name): tuple(leaf.shape) for name, leaf in leaves}
    # The maximum size of a file of this model: a sparse weight takes less than 8 bytes.
    max_size = len(shapes) * MAX_OVERHEAD + 8 * sum(map(math.prod, shapes.values())) + HEADER_BYTES
    arrays = unpack_compressed(path, read_file(path, max_size), shapes)
    return tree.unflatten([arrays[name] for name in shapes])


def unpack_compressed(
    path: PathLike, data: bytes | memoryview, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    """Returns the arrays, by name, of the bytes of ``pack_compressed``.

    Args:
      path: the file that holds the bytes, for messages.
      data: the bytes.
      shapes: of the model's arrays, by name.

    Raises:
      UsageError: the bytes have another format or version, are damaged, or hold another model.
    """
    header, body = unseal(path, data, FORMAT, REMEDY)
    try:
        return _arrays(header, bytes(body), shapes)
    except UsageError as error:
        remedy = "" if isinstance(error, _OtherModel) else f" {REMEDY}"
        raise UsageError(f"{path}: {error}.{remedy}") from None


def entries_of(codes: np.ndarray, gap_bits: int) -> _Entries:
    """Returns codes [n] as entries with gaps below 2^gap_bits, with filler zeros in longer runs."""
    indices = np.flatnonzero(codes) if gap_bits else np.arange(len(codes))
    zeros = np.diff(indices, prepend=-1) - 1
    fillers, rest = np.divmod(zeros, 2**gap_bits)
    ends = np.cumsum(fillers + 1) - 1  # index of each entry after its fillers
    size = int(ends[-1]) + 1 if len(ends) else 0
    gaps, entry_codes = np.full(size, 2**gap_bits - 1, np.uint8), np.zeros(size, np.uint8)
    gaps[ends], entry_codes[ends] = rest, codes[indices]
    return _Entries(entry_codes, gaps, gap_bits)


def codes_of(entries: _Entries, size: int) -> np.ndarray:
    """Returns the codes [size] that the entries stand for: the inverse of ``entries_of``.

    Raises UsageError if there are entries beyond ``size``.
    """
    indices = np.cumsum(entries.gaps.astype(np.int64) + 1) - 1
    if len(indices) and indices[-1] >= size:
        raise UsageError(f"an array of {size} weights has an entry at {indices[-1] + 1}")
    codes = np.zeros(size, np.uint8)
    codes[indices] = entries.codes
    return codes


def _packed(entries: _Entries, codes: int) -> list[bytes]:
    """Returns table and stream of the codes, and table and stream of the gaps."""
    return [*_stream(entries.codes, codes), *_stream(entries.gaps, 2**entries.gap_bits)]


def _stream(symbols: np.ndarray, alphabet: int) -> tuple[bytes, bytes]:
    """Returns a table and a stream, which is empty if the table names the only symbol."""
    counts = np.bincount(symbols, minlength=alphabet)
    lengths = huffman.code_lengths(counts)
    if not lengths.any():
        return (counts > 0).astype(np.uint8).tobytes(), b""
    return lengths.tobytes(), huffman.encode(symbols, lengths)


class _OtherModel(UsageError):
    pass


class _Reader:
    """Reads tables and streams sequentially."""

    def __init__(self, tables: bytes, streams: bytes):
        self.tables, self.streams = io.BytesIO(tables), io.BytesIO(streams)

    def symbols(self, alphabet: int, size: int, count: int) -> np.ndarray:
        lengths = np.frombuffer(_read_exactly(self.tables, alphabet), np.uint8)
        if not size:  # all symbols are equal, or there are none
            return np.full(count, lengths.argmax(), np.uint8)
        return huffman.decode(_read_exactly(self.streams, size), lengths, count)


def _read_exactly(file: io.BytesIO, size: int) -> bytes:
    data = file.read(size)
    if len(data) != size:
        raise UsageError("it ends before all arrays have been read")
    return data


def _arrays(
    header: dict[str, Any], body: bytes, shapes: Mapping[str, tuple[int, ...]]
) -> dict[str, np.ndarray]:
    size = _number(header, "head", len(body))
    decompressor = zlib.decompressobj()
    try:
        head = decompressor.decompress(body[:size], (len(shapes) + 1) * MAX_OVERHEAD)
    except zlib.error as error:
        raise UsageError(f"its head cannot be unpacked ({error})") from None
    if not decompressor.eof:
        raise UsageError("its head is truncated, or larger than the head of this model can be")
    json_records, _, tables = head.partition(b"\n")
    try:
        records = parse_json(json_records)
    except ValueError as error:
        raise UsageError(f"its head is not JSON ({error})") from None
    if not isinstance(records, list) or not all(isinstance(r, dict) for r in records):
        raise UsageError("its head is not a list of arrays")
    stored = {str(record.get("name")): _shape(record) for record in records}
    for name in sorted(shapes.keys() | stored.keys()):
        if shapes.get(name) != stored.get(name):
            raise _OtherModel(
                f"{name:.80} is {stored.get(name)} in the file but {shapes.get(name)} in this "
                "model: the file holds another model"
            )
    if len(records) != len(shapes):
        raise UsageError("an array occurs twice")
    reader = _Reader(tables, body[size:])
    arrays = {record["name"]: _array(record, shapes[record["name"]], reader) for record in records}
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
    code_bytes, gap_bytes = (_number(sizes, name, 4 * entries + 1) for name in sizes)
    values = np.frombuffer(_read_exactly(reader.streams, 4 * count), "<f4")
    if not np.isfinite(values).all():
        raise UsageError(f"array {record['name']:.80} has values that are not finite")
    codes = reader.symbols(count + 1, code_bytes, entries)
    gaps = reader.symbols(2**gap_bits, gap_bytes, entries)
    flat = codes_of(_Entries(codes, gaps, gap_bits), size)
    return np.concatenate([np.zeros(1, np.float32), values])[flat].reshape(shape)


def _shape(record: dict[str, Any]) -> tuple[int, ...] | None:
    shape = record.get("shape")
    if isinstance(shape, list) and all(type(n) is int and n >= 0 for n in shape):
        return tuple(shape)
    return None


def _number(record: dict[str, Any], name: str, maximum: int) -> int:
    value = record.get(name)
    if type(value) is not int or not 0 <= value <= maximum:
        raise UsageError(f"{name} is {quoted(value)}, but must be a number from 0 to {maximum}")
    return value
