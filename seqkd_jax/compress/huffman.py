"""Canonical Huffman codes of numbers below 256, written and read with numpy.

The code is determined by the length of each symbol's word, so the table that goes with a stream
is one byte per symbol. A stream of one kind of symbol has length 0: it takes no bits at all.
"""

import heapq

import numpy as np

from ..errors import UsageError

LONGEST = 24  # bits of a code word: so many can be read at any bit of a stream through 4 bytes


def code_lengths(counts: np.ndarray) -> np.ndarray:
    """The bits of each symbol's code word, uint8; 0 for symbols that do not occur.

    Args:
      counts: [symbols], how often each occurs.

    Source: Huffman 1952. Where a word would be longer than ``LONGEST`` the counts are halved until
    none is.
    """
    counts = np.asarray(counts, np.int64)
    lengths = np.zeros(len(counts), np.uint8)
    heap: list[tuple[int, int, tuple[int, ...]]]
    heap = [(int(n), symbol, (symbol,)) for symbol, n in enumerate(counts) if n]
    if len(heap) < 2:
        return lengths
    heapq.heapify(heap)
    while len(heap) > 1:
        (a, first, left), (b, _, right) = heapq.heappop(heap), heapq.heappop(heap)
        lengths[list(left + right)] += 1
        heapq.heappush(heap, (a + b, first, left + right))
    if lengths.max() > LONGEST:
        return code_lengths((counts + 1) // 2)
    return lengths


def encode(symbols: np.ndarray, lengths: np.ndarray) -> bytes:
    """The code words of ``symbols`` one behind the other, filled up to a byte with 0."""
    words = _words(lengths)
    lengths = lengths.astype(np.int64)
    sizes = lengths[symbols]
    starts = np.cumsum(sizes) - sizes
    places = np.arange(sizes.sum()) - np.repeat(starts, sizes)  # of each bit in its word
    below = np.repeat(sizes, sizes) - 1 - places
    bits = np.repeat(words[symbols], sizes) >> below & 1
    return np.packbits(bits.astype(np.uint8)).tobytes()


def decode(data: bytes, lengths: np.ndarray, count: int) -> np.ndarray:
    """The first ``count`` symbols of a stream, uint8.

    Raises:
      UsageError: the stream is too short, or the lengths are those of no code.
    """
    used = np.flatnonzero(lengths)
    if not len(used) or not count:
        raise UsageError("it has a stream without code words")
    # Kraft's equality: every stream of bits is one of words, and no word begins another.
    if lengths.max() > LONGEST or (1 << LONGEST - lengths[used].astype(int)).sum() != 1 << LONGEST:
        raise UsageError("the lengths of its code words do not form a Huffman code")
    order = used[np.argsort(lengths[used], kind="stable")].astype(np.uint8)
    sorted_lengths = lengths[order].astype(np.int64)
    left = _words(lengths)[order] << (LONGEST - sorted_lengths)  # words as they are read, rising
    windows = _windows(data)
    # The word that would start at each bit; only the starts that are reached count.
    word_at = (np.searchsorted(left, windows, side="right") - 1).astype(np.uint8)
    sizes = sorted_lengths.astype(np.uint8)[word_at].tobytes()
    starts, place = np.empty(count, np.int64), 0
    try:
        for n in range(count):
            starts[n] = place
            place += sizes[place]
    except IndexError:
        place = len(sizes) + 1
    if place > 8 * len(data):
        raise UsageError(
            f"it has a stream of {len(data)} bytes that ends before its {count} symbols"
        )
    return order[word_at[starts]]


def _words(lengths: np.ndarray) -> np.ndarray:
    """Code words: shorter before longer, then by symbol, counted up (int64)."""
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
    """The ``LONGEST`` bits from each bit of the data on, as numbers [8 * bytes]."""
    padded = np.frombuffer(data + bytes(3), np.uint8).astype(np.uint32)
    size = len(data)
    four = sum(padded[n : n + size] << np.uint32(24 - 8 * n) for n in range(4))
    shifted = np.asarray(four, np.uint32)[:, None] << np.arange(8, dtype=np.uint32)
    return (shifted >> np.uint32(32 - LONGEST)).ravel()
