import functools
import itertools
import random
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from seqkd_jax.base import BOS, EOS, PAD
from seqkd_jax.data import (
    batches,
    bucket_shapes,
    build_words,
    describe,
    encode_pairs,
    number_of_batches,
    plan_buckets,
    source_batches,
)
from seqkd_jax.data.batches import _shuffled, _stream
from seqkd_jax.data.encode import _without_unusable
from seqkd_jax.data.sentences import pack

quick = settings(deadline=None, max_examples=50)
lengths = st.lists(st.tuples(st.integers(1, 30), st.integers(1, 30)), min_size=1, max_size=80)


@functools.cache
def numbers():
    return build_words([" ".join(map(str, range(100)))])


def corpus(sizes):
    """Pairs of s source and t target tokens (EOS counted), each different."""
    return encode_pairs(
        [
            (" ".join(str((n + i) % 100) for i in range(s)), " ".join(["7"] * (t - 1)))
            for n, (s, t) in enumerate(sizes)
        ],
        numbers(),
        numbers(),
    )


def plan(encoded, tokens=120, buckets=3):
    return bucket_shapes(
        [len(x) for x in encoded.src],
        [len(x) for x in encoded.tgt],
        tokens_per_batch=tokens,
        buckets=buckets,
    )


def two_or_more(sizes):
    return [(s, t + 1) for s, t in sizes]  # one target word and EOS


# Encoding


def test_targets_end_in_eos_and_sources_do_not():
    encoded = encode_pairs([("1 2", "3 4 5")], numbers(), numbers())
    assert encoded.src[0].tolist() == numbers().encode("1 2")
    assert encoded.tgt[0].tolist() == [*numbers().encode("3 4 5"), EOS]
    assert encoded.src[0].dtype == encoded.tgt[0].dtype == encoded.index.dtype == np.int32


def test_pairs_left_out_are_counted_and_named():
    pairs = [("1", "2"), ("", "3"), ("4", " "), ("1 2 3 4", "1"), ("1", "1 2 3"), ("9", "1 2")]
    encoded = encode_pairs(pairs, numbers(), numbers(), max_len=3)
    assert encoded.index.tolist() == [0, 5]
    report = encoded.report
    assert (report.kept, report.empty, report.overlong) == (2, 2, 2)
    assert str(report) == (
        "2 pairs kept; 2 with an empty side left out (lines 2, 3); "
        "2 longer than 3 tokens left out (lines 4, 5)"
    )
    many = encode_pairs([("", "")] * 9, numbers(), numbers())
    assert str(many.report).endswith("(lines 1, 2, 3, 4, 5, ...)")
    assert len(encode_pairs(pairs, numbers(), numbers()).src) == 4


class Broken:
    def __init__(self, ids):
        self.ids, self.size = ids, 10

    def encode(self, text):
        return self.ids


@pytest.mark.parametrize("wrong", [-1, PAD, BOS, EOS, 10])
@pytest.mark.parametrize("side", ["source", "target"])
def test_ids_that_would_be_clamped_or_mistaken_are_refused(wrong, side):
    vocabs = [Broken([4, 5]), Broken([4, 5])]
    vocabs[side == "target"] = Broken([4, wrong, 5])
    with pytest.raises(ValueError, match=f"{side} of line 1"):
        encode_pairs([("a", "b")], *vocabs)


# Planning


def padded(sizes, plan):
    """Source and target positions when each pair goes to the first bucket that holds it."""
    total = 0
    for s, t in sizes:
        bucket = next(b for b in plan if s <= b.src_len and t <= b.tgt_len)
        total += bucket.src_len + bucket.tgt_len
    return total


def least(sizes, buckets):
    """The same by trying all ways to split the lengths."""
    longer = sorted({max(size) for size in sizes})
    best = None
    for k in range(min(buckets, len(longer))):
        for cuts in itertools.combinations(longer[:-1], k):
            total, low = 0, 0
            for high in (*cuts, longer[-1]):
                inside = [size for size in sizes if low < max(size) <= high]
                total += len(inside) * sum(max(side) for side in zip(*inside, strict=True))
                low = high
            best = total if best is None else min(best, total)
    return best


@quick
@given(
    sizes=st.lists(st.tuples(st.integers(1, 8), st.integers(1, 8)), min_size=1, max_size=40),
    buckets=st.integers(1, 5),
)
def test_the_plan_has_the_least_padding_there_is(sizes, buckets):
    found = bucket_shapes(
        [s for s, _ in sizes], [t for _, t in sizes], tokens_per_batch=64, buckets=buckets
    )
    assert len(found) <= buckets
    assert padded(sizes, found) == least(sizes, buckets)
    assert sum(b.pairs for b in found) == len(sizes)
    assert sum(b.tokens for b in found) == sum(map(sum, sizes))


@quick
@given(sizes=lengths, tokens=st.integers(1, 2000), buckets=st.integers(1, 8))
def test_batches_keep_to_the_budget(sizes, tokens, buckets):
    src, tgt = zip(*sizes, strict=True)
    found = bucket_shapes(src, tgt, tokens_per_batch=tokens, buckets=buckets)
    for bucket in found:
        assert bucket.rows % 8 == 0
        assert bucket.rows == 8 or bucket.rows * max(bucket.src_len, bucket.tgt_len) <= tokens
    order = random.Random(0).sample(range(len(sizes)), len(sizes))
    assert found == bucket_shapes(
        [src[n] for n in order], [tgt[n] for n in order], tokens_per_batch=tokens, buckets=buckets
    )


def test_a_small_bucket_is_not_filled_to_the_budget():
    (bucket,) = bucket_shapes([5] * 70, [5] * 70, tokens_per_batch=320)
    assert bucket.rows == 40  # two batches of 35, not 64 and 6
    (bucket,) = bucket_shapes([5] * 3, [5] * 3, tokens_per_batch=10_000)
    assert bucket.rows == 8


@pytest.mark.parametrize(
    ("src", "tgt", "tokens"), [([], [], 10), ([1], [1, 2], 10), ([0], [1], 10), ([1], [1], 0)]
)
def test_plans_without_sense_are_refused(src, tgt, tokens):
    with pytest.raises(ValueError):
        bucket_shapes(src, tgt, tokens_per_batch=tokens)


def test_the_description_says_shapes_and_padding():
    text = describe(bucket_shapes([2] * 8 + [10] * 6, [2] * 8 + [10] * 6, tokens_per_batch=80))
    assert text == "2 batches of 2 shapes (8x2/2, 8x10/10), 20.8% padding"
    assert 1 - (8 * 4 + 6 * 20) / (8 * 4 + 8 * 20) == pytest.approx(0.208, abs=1e-3)


# Batches


@quick
@given(
    sizes=lengths.map(two_or_more),
    seed=st.integers(0, 2**40),
    epoch=st.none() | st.integers(0, 1000),
)
def test_each_pair_comes_once_and_whole(sizes, seed, epoch):
    encoded = corpus(sizes)
    buckets = plan(encoded)
    seen = []
    shapes = {(b.rows, b.src_len, b.tgt_len) for b in buckets}
    all_batches = list(batches(encoded, buckets, seed=seed, epoch=epoch))
    for batch in all_batches:
        assert (*batch.src.shape, batch.tgt.shape[1]) in shapes
        assert batch.src.dtype == batch.tgt.dtype == batch.index.dtype == np.int32
        assert batch.weight.dtype == np.float32
        for src, tgt, weight, index in zip(
            batch.src, batch.tgt, batch.weight, batch.index, strict=True
        ):
            if not weight:
                assert index == -1
                assert (src == batch.src[0]).all() and (tgt == batch.tgt[0]).all()
                continue
            assert weight == 1
            assert src[src != PAD].tolist() == encoded.src[index].tolist()
            assert tgt[tgt != PAD].tolist() == encoded.tgt[index].tolist()
            assert tgt[len(encoded.tgt[index]) - 1] == EOS
            seen.append(index)
    assert sorted(seen) == list(range(len(sizes)))
    assert len(all_batches) == number_of_batches(encoded, buckets)


def same(a, b):
    return all(
        np.array_equal(getattr(a, name), getattr(b, name))
        for name in ("src", "tgt", "weight", "index")
    )


@quick
@given(sizes=lengths.map(two_or_more), seed=st.integers(0, 99), start=st.integers(0, 20))
def test_starting_at_a_batch_equals_skipping_to_it(sizes, seed, start):
    encoded = corpus(sizes)
    buckets = plan(encoded)
    skipped = list(batches(encoded, buckets, seed=seed, epoch=3))[start:]
    started = list(batches(encoded, buckets, seed=seed, epoch=3, start=start))
    assert len(skipped) == len(started) and all(map(same, skipped, started))


def order_of(seed, epoch):
    encoded = corpus([(n % 20 + 1, n % 13 + 2) for n in range(200)])
    found = batches(encoded, plan(encoded), seed=seed, epoch=epoch)
    return [n for batch in found for n in batch.index.tolist() if n >= 0]


def test_the_order_is_a_function_of_seed_and_epoch():
    assert order_of(1, 2) == order_of(1, 2)
    orders = [order_of(seed, epoch) for seed in range(3) for epoch in range(3)]
    assert all(a != b for a, b in itertools.combinations(orders, 2))


def test_the_order_is_the_same_in_every_release():
    assert order_of(1, 2)[:6] == [164, 48, 171, 23, 131, 22]
    assert order_of(None, None) == order_of(5, None)


def test_without_an_epoch_buckets_rise_and_pairs_keep_their_order():
    encoded = corpus([(n % 20 + 1, 2) for n in range(100)])
    buckets = plan(encoded)
    found = list(batches(encoded, buckets, seed=0, epoch=None))
    widths = [batch.src.shape[1] for batch in found]
    assert widths == sorted(widths)
    for width in set(widths):
        inside = [n for b in found if b.src.shape[1] == width for n in b.index if n >= 0]
        assert inside == sorted(inside)


def test_places_are_those_in_the_corpus_not_among_the_kept():
    encoded = encode_pairs([("", "1"), ("1", "2"), ("", ""), ("3", "4")], numbers(), numbers())
    (batch,) = batches(encoded, plan(encoded), seed=0, epoch=None)
    assert batch.index.tolist() == [1, 3] + [-1] * 6


def test_a_pair_that_fits_no_bucket_is_named():
    encoded = corpus([(3, 3), (9, 3)])
    with pytest.raises(
        ValueError, match="none is large enough for pair 1, of 9 source and 3 target tokens"
    ):
        batches(encoded, plan(corpus([(3, 3)])), seed=0, epoch=0)
    with pytest.raises(ValueError, match="start is -1"):
        batches(encoded, plan(encoded), seed=0, epoch=0, start=-1)


# Sources alone


@quick
@given(sizes=st.lists(st.integers(1, 700), max_size=150), tokens=st.integers(8, 2000))
def test_each_source_comes_once_in_few_shapes(sizes, tokens):
    sources = [np.full(size, n + 4, np.int32) for n, size in enumerate(sizes)]
    seen, shapes = [], set()
    found = list(source_batches(sources, tokens_per_batch=tokens))
    assert all(len(src) % 8 == 0 for src, _ in found[:-1])
    for src, places in found:
        assert src.dtype == places.dtype == np.int32
        assert len(src) <= 8 or src.size <= tokens
        shapes.add(src.shape)
        for row, place in zip(src, places, strict=True):
            assert row[row != PAD].tolist() == sources[place if place >= 0 else places[0]].tolist()
            seen += [place] if place >= 0 else []
    assert sorted(seen) == list(range(len(sizes)))
    assert [sizes[n] for n in seen] == sorted(sizes, reverse=True)
    assert len({width for _, width in shapes}) >= len(shapes) - 1


def test_shapes_do_not_depend_on_the_sources():
    random_sizes = np.random.default_rng(0).integers(1, 60, (30, 400))
    shapes = set()
    for sizes in random_sizes:
        sources = [np.ones(size, np.int32) for size in sizes]
        shapes |= {src.shape for src, _ in source_batches(sources, tokens_per_batch=512)}
    assert len(shapes) <= 10
    assert all(rows % 8 == 0 or rows in (1, 4) for rows, _ in shapes)


def test_one_source_is_one_row():
    ((src, places),) = source_batches([np.arange(4, 9)], tokens_per_batch=4096)
    assert src.tolist() == [[4, 5, 6, 7, 8, PAD, PAD, PAD]] and places.tolist() == [0]


def test_an_empty_source_is_refused_before_the_first_batch():
    with pytest.raises(ValueError, match="number 1 is empty"):
        source_batches([np.ones(2), np.ones(0)], tokens_per_batch=64)


@quick
@given(lengths, st.integers(1, 5), st.integers(1, 4))
def test_each_process_gets_its_own_rows_of_the_same_batches(sizes, processes, devices):
    encoded = corpus(two_or_more(sizes))
    buckets = plan(encoded)

    def rows_of(process):
        def rows(count):
            each = -(-count // (processes * devices)) * devices
            return range(process * each, (process + 1) * each)

        return batches(encoded, buckets, seed=3, epoch=1, rows=rows)

    parts = zip(*map(rows_of, range(processes)), strict=True)
    for whole, own in zip(batches(encoded, buckets, seed=3, epoch=1), parts, strict=True):
        joined = {n: np.concatenate([vars(b)[n] for b in own]) for n in ("src", "tgt", "weight")}
        for name, values in joined.items():
            np.testing.assert_array_equal(values[: len(whole.weight)], vars(whole)[name])
        assert not joined["weight"][len(whole.weight) :].any()
        assert all((row != PAD).any() for row in joined["src"])


@pytest.mark.parametrize("count", [0, 1, 7, 8, 1000])
def test_the_order_is_that_of_one_stable_sort_of_the_raw_stream(monkeypatch, count):
    expected = np.argsort(_stream(3, 5).random_raw(count), kind="stable")
    monkeypatch.setattr(sys.modules["seqkd_jax.data.batches"], "CHUNK", 7)
    np.testing.assert_array_equal(_shuffled(count, lambda: _stream(3, 5)), expected)


def test_a_corpus_that_is_gone_through_in_parts_is_planned_and_ordered_as_a_whole(monkeypatch):
    rng = np.random.default_rng(0)
    src = [np.full(n, 5, np.int32) for n in rng.integers(0, 12, 100)]
    tgt = [np.full(n, 5, np.int32) for n in rng.integers(1, 12, 100)]

    def planned():
        encoded = _without_unusable(pack(src), pack(tgt), 9, None)
        buckets = plan_buckets(encoded, tokens_per_batch=64)
        order = batches(encoded, buckets, seed=1, epoch=2)
        return encoded.report, buckets, [batch.index.tolist() for batch in order]

    whole = planned()
    assert whole[0].empty and whole[0].overlong and whole[0].shortest == 10
    for module in "sentences", "batches":
        monkeypatch.setattr(sys.modules[f"seqkd_jax.data.{module}"], "CHUNK", 7)
    assert planned() == whole
