"""Batches of sentence pairs: length buckets under a token budget, in a reproducible order.

Every shape [B, S], [B, T] costs a compilation, so there are few of them; all rows of a bucket are
padded to its lengths.
"""

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..base import Example
from ..errors import UsageError, counted
from .encode import Encoded
from .sentences import CHUNK, Sentences, lengths_in_parts, pack

BATCH_MULTIPLE = 8  # B is a multiple of this, so that 2, 4 or 8 devices share a batch evenly
PARTS = 8  # in which a large corpus is shuffled
RELEASED = 512  # pairs after which the pages of mapped files are given back, up to 256 KB for each
SOURCE_LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256)  # S, where only sources are batched


class Bucket(NamedTuple):
    """One shape of batches, and the pairs that it was planned for."""

    rows: int  # B
    src_len: int  # S
    tgt_len: int  # T
    pairs: int  # number of pairs that fall into it
    tokens: int  # of these pairs, both sides together


def plan_buckets(pairs: Encoded, *, tokens_per_batch: int, buckets: int = 6) -> tuple[Bucket, ...]:
    """Plans the shapes of the batches of a corpus; see ``bucket_shapes``.

    >>> from seqkd_jax.data import build_words, encode_pairs
    >>> pairs = [("a dog", "ein Hund"), ("a dog sleeps", "ein Hund schläft")]
    >>> src, tgt = (build_words(side) for side in zip(*pairs, strict=True))
    >>> for bucket in plan_buckets(encode_pairs(pairs, src, tgt), tokens_per_batch=32, buckets=2):
    ...     print(bucket)
    Bucket(rows=8, src_len=2, tgt_len=3, pairs=1, tokens=5)
    Bucket(rows=8, src_len=3, tgt_len=4, pairs=1, tokens=7)
    """
    parts = ((src, tgt) for _, src, tgt in lengths_in_parts(pairs.src, pairs.tgt))
    return _shapes(parts, tokens_per_batch, buckets)


def bucket_shapes(
    src_lengths: Sequence[int] | np.ndarray,
    tgt_lengths: Sequence[int] | np.ndarray,
    *,
    tokens_per_batch: int,
    buckets: int = 6,
) -> tuple[Bucket, ...]:
    """Plans the shapes of batches, shortest first: a pure function of the lengths.

    Pairs are split by their longer side into at most ``buckets`` ranges, chosen to minimise the
    total padding of both sides. S and T are the maxima within a range. B fills the budget,
    ``B * max(S, T) <= tokens_per_batch``, in multiples of 8 (and is never less than 8); the pairs
    of a bucket are spread evenly over its batches.

    Args:
      src_lengths: source tokens of each pair.
      tgt_lengths: target tokens of each pair, EOS counted.
      tokens_per_batch: budget of one side of a batch, padding included.
      buckets: largest number of shapes.

    Raises:
      UsageError: there are no pairs, or a number is below 1.
    """
    src, tgt = np.asarray(src_lengths, np.int32), np.asarray(tgt_lengths, np.int32)
    if src.shape != tgt.shape:
        raise UsageError(
            f"lengths has {src.size} sources and {tgt.size} targets; give one of each for every "
            "pair."
        )
    return _shapes([(src, tgt)], tokens_per_batch, buckets)


def _shapes(
    parts: Iterable[tuple[np.ndarray, np.ndarray]], tokens_per_batch: int, buckets: int
) -> tuple[Bucket, ...]:
    """Plans the shapes of batches from the lengths of some pairs at a time."""
    if tokens_per_batch < 1 or buckets < 1:
        raise UsageError("tokens_per_batch and buckets must be at least 1.")
    # Of each length of the longer side: pairs, tokens of both sides, largest S and largest T.
    found = np.zeros((4, 1), np.int64)
    for src, tgt in parts:
        if not src.size:
            continue
        if min(src.min(), tgt.min()) < 1:
            raise UsageError("lengths must be at least 1.")
        longer = np.maximum(src, tgt)
        found = np.pad(found, ((0, 0), (0, max(0, int(longer.max()) + 1 - found.shape[1]))))
        size = found.shape[1]
        found[0] += np.bincount(longer, minlength=size)
        found[1] += np.bincount(longer, src + tgt, minlength=size).astype(np.int64)
        np.maximum.at(found[2], longer, src)
        np.maximum.at(found[3], longer, tgt)
    found = found[:, found[0] > 0]
    if not found.size:
        raise UsageError("lengths has no pairs; give at least one.")
    counts, sums, widths = found[0], found[1], found[2:]
    plan = []
    for start, end in _least_area(counts, widths, min(buckets, len(counts))):
        pairs = int(counts[start:end].sum())
        s, t = (int(width) for width in widths[:, start:end].max(1))
        max_rows = tokens_per_batch // max(s, t) // BATCH_MULTIPLE * BATCH_MULTIPLE
        max_rows = max(BATCH_MULTIPLE, max_rows)
        rows = _round_up(math.ceil(pairs / math.ceil(pairs / max_rows)), BATCH_MULTIPLE)
        plan.append(Bucket(rows, s, t, pairs, int(sums[start:end].sum())))
    return tuple(plan)


def _least_area(counts: np.ndarray, widths: np.ndarray, buckets: int) -> list[tuple[int, int]]:
    """Splits U sorted lengths into ranges that minimise the sum of pairs * (S + T), exactly.

    Dynamic programming: ``best[k, j]`` is the least area of the first j lengths in k ranges.
    """
    lengths = len(counts)
    before = np.concatenate([[0], np.cumsum(counts)])
    best = np.full((buckets + 1, lengths + 1), np.inf)
    best[0, 0] = 0
    cut = np.zeros((buckets + 1, lengths + 1), np.int64)
    for end in range(1, lengths + 1):
        # S + T of the range from each start to this end.
        width = np.maximum.accumulate(widths[:, :end][:, ::-1], axis=1)[:, ::-1].sum(0)
        area = best[:-1, :end] + ((before[end] - before[:end]) * width)[None]
        cut[1:, end] = area.argmin(1)
        best[1:, end] = area.min(1)
    ranges, end = [], lengths
    for k in range(buckets, 0, -1):
        ranges.append((int(cut[k, end]), end))
        end = int(cut[k, end])
    return ranges[::-1]


def describe(buckets: Sequence[Bucket]) -> str:
    """Returns one line: the number of batches, their shapes, and the share of padding."""
    shapes = ", ".join(f"{b.rows}x{b.src_len}/{b.tgt_len}" for b in buckets)
    batches = [math.ceil(b.pairs / b.rows) for b in buckets]
    area = sum(n * b.rows * (b.src_len + b.tgt_len) for n, b in zip(batches, buckets, strict=True))
    padding = 1 - sum(b.tokens for b in buckets) / area
    many = f"{counted(sum(batches), 'batch')} of {counted(len(buckets), 'shape')}"
    return f"{many} ({shapes}), {padding:.1%} padding"


def number_of_batches(encoded: Encoded, buckets: Sequence[Bucket]) -> int:
    """Returns how many batches one epoch has."""
    pairs = np.bincount(_bucket_of(encoded, buckets), minlength=len(buckets)).tolist()
    return sum(math.ceil(n / bucket.rows) for n, bucket in zip(pairs, buckets, strict=True))


def batches(
    encoded: Encoded,
    buckets: Sequence[Bucket],
    *,
    seed: int,
    epoch: int | None,
    start: int = 0,
    rows: Callable[[int], range] = range,
) -> Iterator[Example]:
    """Yields each pair once: ``Example`` of numpy arrays, src [B, S], tgt [B, T], others [B].

    The order is a pure function of (seed, epoch), the same on every machine: first the pairs of
    each bucket are shuffled, then the batches. The last batch of a bucket is filled up with copies
    of its first row, with weight 0 and index -1; other rows have the weight of their pair.

    Args:
      encoded: the pairs.
      buckets: the shapes; each pair goes to the first one that it fits.
      seed: of the order.
      epoch: of the order; None for corpus order within each bucket, shortest bucket first.
      start: the first batch to yield; the batches before it are skipped.
      rows: B -> the rows of a batch to yield; others are not read. ``parallel.own_rows`` gives
        those of one process of several. Rows past B are filled up as well.

    Raises:
      UsageError: a pair fits no bucket, or ``start`` is negative.

    >>> from seqkd_jax.data import build_words, encode_pairs
    >>> words = build_words(["a dog sleeps"])
    >>> encoded = encode_pairs([("a dog", "a dog")] * 3, words, words)
    >>> buckets = plan_buckets(encoded, tokens_per_batch=32)
    >>> for batch in batches(encoded, buckets, seed=1, epoch=0):
    ...     print(batch.src.shape, batch.tgt.shape, batch.weight)
    (8, 2) (8, 3) [1. 1. 1. 0. 0. 0. 0. 0.]
    """
    if start < 0:
        raise UsageError(f"start is {start}; it must be at least 0.")
    order = _order(encoded, buckets, seed, epoch)
    return _examples(encoded, order[start:], rows)


def source_batches(
    sources: Iterable[np.ndarray],
    *,
    tokens_per_batch: int,
    lengths: Sequence[int] = SOURCE_LENGTHS,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yields each source once, longest first, in shapes that do not depend on the sources.

    However many corpora, shards or single lines are batched, the number of shapes, and so of
    compiled programs, stays small: S is one of ``lengths``, B is the multiple of 8 that fills the
    budget, and only the last batch has fewer rows, a power of 4.

    Args:
      sources: ids [S] of each sentence, int32, none empty.
      tokens_per_batch: B * S is at most this, unless B is 8.
      lengths: values of S in rising order; longer sources get multiples of the last one.

    Yields:
      src [B, S] and the index [B] of each row in ``sources``, -1 for the copies of the first row
      that fill up the batch; both int32.

    Raises:
      UsageError: a source is empty.
    """
    packed = pack(sources)
    sizes = packed.lengths
    if not sizes.all():
        raise UsageError(f"sources: source number {int(sizes.argmin())} is empty; leave it out.")
    order = np.argsort(-sizes, kind="stable").astype(np.int32)
    return _source_batches(packed, order, tokens_per_batch, lengths)


def _source_batches(
    sources: Sentences, order: np.ndarray, tokens_per_batch: int, lengths: Sequence[int]
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    done = 0
    while done < len(order):
        longest = len(sources[order[done]])
        width = next((n for n in lengths if n >= longest), _round_up(longest, lengths[-1]))
        rows = max(BATCH_MULTIPLE, tokens_per_batch // width // BATCH_MULTIPLE * BATCH_MULTIPLE)
        indices = order[done : done + rows]
        done += rows
        if len(indices) < rows:
            rows = min(rows, next(4**n for n in range(32) if 4**n >= len(indices)))
        yield _pad(sources, indices, rows, width), _fill(indices, rows, -1)


def _bucket_of(encoded: Encoded, buckets: Sequence[Bucket]) -> np.ndarray:
    """Returns the first bucket that each pair fits, [pairs]."""
    found = np.full(len(encoded.src), len(buckets), np.int16)
    for some, src, tgt in lengths_in_parts(encoded.src, encoded.tgt):
        part = found[some]
        for n, bucket in reversed(list(enumerate(buckets))):
            part[(src <= bucket.src_len) & (tgt <= bucket.tgt_len)] = n
        if (part == len(buckets)).any():
            index = int(part.argmax())
            raise UsageError(
                f"buckets: none is large enough for pair {int(encoded.index[some][index])}, of "
                f"{src[index]} source and {tgt[index]} target tokens; plan the buckets for these "
                "pairs."
            )
    return found


def _order(
    encoded: Encoded, buckets: Sequence[Bucket], seed: int, epoch: int | None
) -> list[tuple[Bucket, np.ndarray]]:
    """Returns the batches of an epoch: (shape, indices of its pairs in ``encoded``)."""
    bucket_of = _bucket_of(encoded, buckets)
    indices = np.arange(len(bucket_of), dtype=np.int32)
    if epoch is not None:
        indices = _shuffled(len(bucket_of), lambda: _stream(seed, epoch))
    bucket_of = bucket_of[indices]
    order = []
    for n, bucket in enumerate(buckets):
        in_bucket = indices[bucket_of == n]
        starts = range(0, len(in_bucket), bucket.rows)
        order += [(bucket, in_bucket[start : start + bucket.rows]) for start in starts]
    if epoch is not None:
        stream = _stream(seed, epoch)  # past the numbers of the pairs; it makes four at a time
        stream.advance(len(indices) // 4)
        stream.random_raw(len(indices) % 4)
        order = [order[n] for n in np.argsort(stream.random_raw(len(order)), kind="stable")]
    return order


def _stream(seed: int, epoch: int) -> np.random.Philox:
    return np.random.Philox(np.random.SeedSequence([seed, epoch]))


def _shuffled(count: int, stream: Callable[[], np.random.Philox]) -> np.ndarray:
    """Returns the numbers below ``count`` [count] int32, sorted by as many raw numbers of a stream.

    numpy guarantees that the raw stream of this counter-based generator never changes, but not that
    its shuffle keeps using a stream in the same way. For a large corpus the stream is drawn again
    for each range of values, so that neither it nor the temporary arrays of a sort are in memory as
    a whole.
    """
    parts = PARTS if count > CHUNK else 1
    width = (1 << 64) // parts
    indices, done = np.empty(count, np.int32), 0
    for part in range(parts):
        least, most = np.uint64(part * width), np.uint64((part + 1) * width - 1)
        drawn, raw, own = stream(), [], []
        for start in range(0, count, CHUNK):
            some = drawn.random_raw(min(CHUNK, count - start))
            inside = np.flatnonzero((least <= some) & (some <= most))
            raw.append(some[inside])
            own.append((start + inside).astype(np.int32))
        if own:
            order = np.argsort(np.concatenate(raw), kind="stable")
            indices[done : done + len(order)] = np.concatenate(own)[order]
            done += len(order)
    return indices


def _examples(
    encoded: Encoded,
    order: Sequence[tuple[Bucket, np.ndarray]],
    rows: Callable[[int], range],
) -> Iterator[Example]:
    read = 0  # pairs whose pages of mapped files count as memory of this process
    for bucket, indices in order:
        yield _example(encoded, bucket, indices, rows(bucket.rows))
        read += len(indices)
        if read >= RELEASED:
            encoded.src.release()
            encoded.tgt.release()
            read = 0


def _example(encoded: Encoded, bucket: Bucket, indices: np.ndarray, rows: range) -> Example:
    real = np.array(rows) < len(indices)
    own = indices[np.where(real, rows, 0)]
    weight = real.astype(np.float32) if encoded.weight is None else encoded.weight[own] * real
    fields: Any = {
        "src": _pad(encoded.src, own, len(rows), bucket.src_len),
        "tgt": _pad(encoded.tgt, own, len(rows), bucket.tgt_len),
        "weight": weight.astype(np.float32),
        "index": np.where(real, encoded.index[own], -1).astype(np.int32),
    }
    return Example(**fields)


def _pad(sentences: Sentences, indices: np.ndarray, rows: int, width: int) -> np.ndarray:
    # Copies, and not rows of PAD: attention over an empty source is nan.
    return sentences.padded(_fill(indices, rows, indices[0]), width)


def _fill(values: np.ndarray, rows: int, fill_value: int) -> np.ndarray:
    return np.concatenate([values, np.full(rows - len(values), fill_value)]).astype(np.int32)


def _round_up(number: int, multiple: int) -> int:
    return math.ceil(number / multiple) * multiple
