"""Canonical Huffman codes for symbols below 256, in numpy.

The lengths of the symbols' code words determine the code, so the table of a stream is one byte per
symbol. If all symbols are equal, the stream is empty.
"""

import heapq

import numpy as np

from ..errors import UsageError

MAX_CODE_LENGTH = 24  # bits: 4 bytes contain that many from any bit of the first byte on


def code_lengths(counts: np.ndarray) -> np.ndarray:
    """Returns the length in bits of each symbol's code word, uint8; 0 for absent symbols.

    If a code word would be longer than ``MAX_CODE_LENGTH``, the counts are halved until none is.

    Args:
      counts: [symbols], how often each symbol occurs.

    Source: Huffman 1952.
    """
    counts = np.asarray(counts, np.int64)
    lengths = np.zeros(len(counts), np.uint8)
    heap: list[tuple[int, int, tuple[int, ...]]]
    heap = [(int(n), symbol, (symbol,)) for symbol, n in enumerate(counts) if n]
    if len(heap) < 2:
        return lengths
    heapq.heapify(heap)
    while len(heap) > 1:
        (a, key, left), (b, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        lengths[list(left + right)] += 1
        heapq.heappush(heap, (a + b, key, left + right))
    if lengths.max() > MAX_CODE_LENGTH:
        return code_lengths((counts + 1) // 2)
    return lengths


def encode(symbols: np.ndarray, lengths: np.ndarray) -> bytes:
    """Returns the concatenated code words of ``symbols``, padded with 0 bits to whole bytes."""
    words = _words(lengths)
    lengths = lengths.astype(np.int64)
    sizes = lengths[symbols]
    starts = np.cumsum(sizes) - sizes
    bit_index = np.arange(sizes.sum()) - np.repeat(starts, sizes)  # of each bit in its word
    shift = np.repeat(sizes, sizes) - 1 - bit_index
    bits = np.repeat(words[symbols], sizes) >> shift & 1
    return np.packbits(bits.astype(np.uint8)).tobytes()


def decode(data: bytes, lengths: np.ndarray, count: int) -> np.ndarray:
    """Returns the first ``count`` symbols of a stream, uint8.

    Raises:
      UsageError: the stream is too short, or the lengths do not form a Huffman code.
    """
    used = np.flatnonzero(lengths)
    if not len(used) or not count:
        raise UsageError("it has a stream without code words")
    # Kraft's equality: every bit stream decodes to words, and no word is a prefix of another.
    too_long = lengths.max() > MAX_CODE_LENGTH
    if too_long or (1 << MAX_CODE_LENGTH - lengths[used].astype(int)).sum() != 1 << MAX_CODE_LENGTH:
        raise UsageError("the lengths of its code words do not form a Huffman code")
    order = used[np.argsort(lengths[used], kind="stable")].astype(np.uint8)
    sorted_lengths = lengths[order].astype(np.int64)
    aligned = _words(lengths)[order] << (MAX_CODE_LENGTH - sorted_lengths)  # ascending
    windows = _windows(data)
    # The word that would start at each bit; only the starts that are reached matter.
    word_at = (np.searchsorted(aligned, windows, side="right") - 1).astype(np.uint8)
    sizes = sorted_lengths.astype(np.uint8)[word_at].tobytes()
    starts, bit = np.empty(count, np.int64), 0
    try:
        for n in range(count):
            starts[n] = bit
            bit += sizes[bit]
    except IndexError:
        bit = len(sizes) + 1
    if bit > 8 * len(data):
        raise UsageError(
            f"it has a stream of {len(data)} bytes that ends before its {count} symbols"
        )
    return order[word_at[starts]]


def _words(lengths: np.ndarray) -> np.ndarray:
    """Returns the canonical code words, int64: ascending by length, then by symbol."""
    words = np.zeros(len(lengths), np.int64)
    word = size = 0
    for symbol in np.argsort(lengths, kind="stable"):
        if lengths[symbol]:
            word <<= int(lengths[symbol]) - size
            size = int(lengths[symbol])
            words[symbol] = word
            word += 1
    return words


def _windows(data: bytes) -> np.ndarray:
    """Returns the ``MAX_CODE_LENGTH`` bits that start at each bit, as numbers [8 * bytes]."""
    padded = np.frombuffer(data + bytes(3), np.uint8).astype(np.uint32)
    size = len(data)
    four_bytes = sum(padded[n : n + size] << np.uint32(24 - 8 * n) for n in range(4))
    shifted = np.asarray(four_bytes, np.uint32)[:, None] << np.arange(8, dtype=np.uint32)
    return (shifted >> np.uint32(32 - MAX_CODE_LENGTH)).ravel()
