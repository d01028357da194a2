"""Pairs of ids in batches: length buckets with a token budget, in an order that is a function.

Every shape [B, S], [B, T] costs a compilation, so there are few of them; inside a bucket all
rows are padded to its length.
"""

import math
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from ..base import PAD, Example
from ..errors import UsageError
from .encode import Encoded

ROWS = 8  # B is a multiple of it, so that 2, 4 or 8 devices share a batch evenly
SOURCE_LENGTHS = (8, 16, 24, 32, 48, 64, 96, 128, 192, 256)  # S, when only sources are batched


class Bucket(NamedTuple):
    """One shape of batches, and what it was planned for."""

    rows: int  # B
    src_len: int  # S
    tgt_len: int  # T
    pairs: int  # that fall into it
    tokens: int  # of these pairs, both sides


def plan_buckets(
    src_lengths: Sequence[int],
    tgt_lengths: Sequence[int],
    *,
    tokens_per_batch: int,
    buckets: int = 6,
) -> tuple[Bucket, ...]:
    """Plans the shapes of batches, shortest first: a pure function of the lengths.

    Pairs are split by their longer side into at most ``buckets`` ranges, such that the total
    padding of both sides is the least possible. S and T are the maxima within a range. B fills
    the budget, ``B * max(S, T) <= tokens_per_batch``, in multiples of 8 (and is never less than
    8); the pairs of a bucket are spread evenly over its batches.

    Args:
      src_lengths: source tokens of each pair.
      tgt_lengths: target tokens of each pair, EOS counted.
      tokens_per_batch: budget of one side of a batch, padding included.
      buckets: most shapes.

    Raises:
      UsageError: there are no pairs, or a number makes no sense.
    """
    src, tgt = np.asarray(src_lengths, np.int64), np.asarray(tgt_lengths, np.int64)
    if src.shape != tgt.shape or not src.size:
        raise UsageError(
            f"lengths has {src.size} sources and {tgt.size} targets; give one of each for every "
            "pair."
        )
    if min(src.min(), tgt.min()) < 1 or tokens_per_batch < 1 or buckets < 1:
        raise UsageError("lengths, tokens_per_batch and buckets must be at least 1.")
    longer, place = np.unique(np.maximum(src, tgt), return_inverse=True)
    sums = np.bincount(place, src + tgt).astype(np.int64)
    counts = np.bincount(place)
    widths = np.zeros((2, len(longer)), np.int64)  # S and T of each length by itself
    np.maximum.at(widths[0], place, src)
    np.maximum.at(widths[1], place, tgt)
    plan = []
    for start, end in _least_area(counts, widths, min(buckets, len(longer))):
        pairs = int(counts[start:end].sum())
        s, t = (int(width) for width in widths[:, start:end].max(1))
        most = max(ROWS, tokens_per_batch // max(s, t) // ROWS * ROWS)
        rows = _up(math.ceil(pairs / math.ceil(pairs / most)), ROWS)
        plan.append(Bucket(rows, s, t, pairs, int(sums[start:end].sum())))
    return tuple(plan)


def _least_area(counts: np.ndarray, widths: np.ndarray, buckets: int) -> list[tuple[int, int]]:
    """Splits U sorted lengths into ranges that minimise the sum of pairs * (S + T), exactly.

    Dynamic programming: best[k, j] is the least area of the first j lengths in k ranges.
    """
    lengths = len(counts)
    before = np.concatenate([[0], np.cumsum(counts)])
    best = np.full((buckets + 1, lengths + 1), np.inf)
    best[0, 0] = 0
    cut = np.zeros((buckets + 1, lengths + 1), np.int64)
    for end in range(1, lengths + 1):
        # S + T of the ranges start..end, for each start.
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
    """One line: how many shapes there are (one compilation each), and the share of padding."""
    shapes = ", ".join(f"{b.rows}x{b.src_len}/{b.tgt_len}" for b in buckets)
    batches = [math.ceil(b.pairs / b.rows) for b in buckets]
    area = sum(n * b.rows * (b.src_len + b.tgt_len) for n, b in zip(batches, buckets, strict=True))
    padding = 1 - sum(b.tokens for b in buckets) / area
    return f"{sum(batches):,} batches of {len(buckets)} shapes ({shapes}), {padding:.1%} padding"


def number_of_batches(encoded: Encoded, buckets: Sequence[Bucket]) -> int:
    """How many batches one epoch has."""
    return len(_order(encoded, buckets, 0, None))


def batches(
    encoded: Encoded,
    buckets: Sequence[Bucket],
    *,
    seed: int,
    epoch: int | None,
    start: int = 0,
) -> Iterator[Example]:
    """Gives each pair once: ``Example`` of numpy arrays, src [B, S], tgt [B, T], weight, index [B].

    The order is a pure function of (seed, epoch), the same on every machine: pairs are shuffled
    within their bucket, then batches among each other. The last batch of a bucket is filled with
    copies of its first row, of weight 0 and index -1; other rows have the weight of their pair.

    Args:
      encoded: the pairs.
      buckets: the shapes; each pair goes to the first that holds it.
      seed: of the order.
      epoch: of the order; None for the corpus' own order within each bucket, shortest first.
      start: the first batch to give; resuming there equals having skipped so many.

    Raises:
      UsageError: a pair fits no bucket, or ``start`` is negative.
    """
    if start < 0:
        raise UsageError(f"start is {start}; it must be at least 0.")
    order = _order(encoded, buckets, seed, epoch)
    return (_example(encoded, bucket, places) for bucket, places in order[start:])


def source_batches(
    sources: Sequence[np.ndarray],
    *,
    tokens_per_batch: int,
    lengths: Sequence[int] = SOURCE_LENGTHS,
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Gives each source once, longest first, in shapes that do not depend on the sources.

    However many corpora, shards or single lines are batched, the number of shapes, and so of
    compiled programs, stays small: S is one of ``lengths``, B is the multiple of 8 that fills the
    budget, and only the very last batch has fewer rows, a power of 4.

    Args:
      sources: ids [S] of each sentence, int32, none empty.
      tokens_per_batch: B * S is at most this, unless B is 8.
      lengths: values of S in rising order; longer sources go by multiples of the last.

    Yields:
      src [B, S] and the places [B] of its rows in ``sources``, -1 for copies of the first row
      that fill the batch; both int32.

    Raises:
      UsageError: a source is empty.
    """
    sizes = np.array([len(source) for source in sources], np.int64)
    if not sizes.all():
        raise UsageError(f"sources: source number {int(sizes.argmin())} is empty; leave it out.")
    order = np.argsort(-sizes, kind="stable").astype(np.int32)
    return _source_batches(sources, order, tokens_per_batch, lengths)


def _source_batches(sources, order, tokens_per_batch, lengths):
    done = 0
    while done < len(order):
        longest = len(sources[order[done]])
        width = next((n for n in lengths if n >= longest), _up(longest, lengths[-1]))
        rows = max(ROWS, tokens_per_batch // width // ROWS * ROWS)
        places = order[done : done + rows]
        done += rows
        if len(places) < rows:
            rows = min(rows, next(4**n for n in range(32) if 4**n >= len(places)))
        yield _pad(sources, places, rows, width), _fill(places, rows, -1)


def _order(
    encoded: Encoded, buckets: Sequence[Bucket], seed: int, epoch: int | None
) -> list[tuple[Bucket, np.ndarray]]:
    """The batches of an epoch: (shape, places of its pairs in ``encoded``)."""
    src, tgt = (np.array([len(x) for x in side]) for side in (encoded.src, encoded.tgt))
    fits = np.array([(src <= b.src_len) & (tgt <= b.tgt_len) for b in buckets])
    if not fits.any(0).all():
        place = int(fits.any(0).argmin())
        raise UsageError(
            f"buckets: none is large enough for pair {int(encoded.index[place])}, of "
            f"{src[place]} source and {tgt[place]} target tokens; plan the buckets for these "
            "pairs."
        )
    bucket_of = fits.argmax(0)
    places = np.arange(len(src))
    # Sorting by the raw stream of a counter-based generator: numpy promises that this stream
    # never changes, while what its shuffle makes of a stream may.
    stream = None if epoch is None else np.random.Philox(np.random.SeedSequence([seed, epoch]))
    if stream is not None:
        places = np.argsort(stream.random_raw(len(places)), kind="stable")
    order = []
    for n, bucket in enumerate(buckets):
        inside = places[bucket_of[places] == n]
        cuts = range(0, len(inside), bucket.rows)
        order += [(bucket, inside[cut : cut + bucket.rows]) for cut in cuts]
    if stream is not None:
        order = [order[n] for n in np.argsort(stream.random_raw(len(order)), kind="stable")]
    return order


def _example(encoded: Encoded, bucket: Bucket, places: np.ndarray) -> Example:
    weight = np.zeros(bucket.rows, np.float32)
    weight[: len(places)] = 1 if encoded.weight is None else encoded.weight[places]
    fields: Any = {
        "src": _pad(encoded.src, places, bucket.rows, bucket.src_len),
        "tgt": _pad(encoded.tgt, places, bucket.rows, bucket.tgt_len),
        "weight": weight,
        "index": _fill(encoded.index[places], bucket.rows, -1),
    }
    return Example(**fields)


def _pad(sentences: Sequence[np.ndarray], places: np.ndarray, rows: int, width: int) -> np.ndarray:
    padded = np.full((rows, width, *sentences[places[0]].shape[1:]), PAD, np.int32)
    for row, place in enumerate(places):
        padded[row, : len(sentences[place])] = sentences[place]
    # Not rows of PAD: attention over an empty source is not a number.
    padded[len(places) :] = padded[0]
    return padded


def _fill(values: np.ndarray, rows: int, filling: int) -> np.ndarray:
    return np.concatenate([values, np.full(rows - len(values), filling)]).astype(np.int32)


def _up(number: int, multiple: int) -> int:
    return math.ceil(number / multiple) * multiple
