import dataclasses
import json
import math
import zlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from small import MODEL, TEACHER, example, largest_difference, params

from seqkd_jax.coded import huffman
from seqkd_jax.coded.format import (
    FORMAT,
    codes_of,
    entries_of,
    read_compressed,
    write_compressed,
)
from seqkd_jax.compress.deep import (
    Shared,
    expand_shared_weights,
    kmeans,
    share_weights,
    shared_model,
)
from seqkd_jax.compress.prune import apply_mask, class_blind
from seqkd_jax.errors import UsageError
from seqkd_jax.sealed import seal
from seqkd_jax.train.state import clipped_adam, init_state
from seqkd_jax.train.steps import make_train_step

SYMBOLS = st.lists(st.integers(0, 9) | st.integers(0, 255), min_size=1, max_size=300)


def bits_equal(a, b):
    return all(
        np.asarray(x).tobytes() == np.asarray(y).tobytes() and np.shape(x) == np.shape(y)
        for x, y in zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    )


# Huffman's code.


@settings(deadline=None, max_examples=200)
@given(SYMBOLS)
def test_codes_are_read_back_within_a_bit_of_the_entropy(symbols):
    symbols = np.array(symbols, np.uint8)
    counts = np.bincount(symbols, minlength=256)
    lengths = huffman.code_lengths(counts)
    p = counts[counts > 0] / len(symbols)
    entropy = -(p * np.log2(p)).sum()
    mean = (counts * lengths).sum() / len(symbols)
    assert entropy - 1e-9 <= mean < entropy + 1
    if len(p) > 1:
        data = huffman.encode(symbols, lengths)
        assert len(data) == math.ceil((counts * lengths).sum() / 8)
        np.testing.assert_array_equal(huffman.decode(data, lengths, len(symbols)), symbols)


@settings(deadline=None, max_examples=50)
@given(
    st.lists(st.integers(0, 50), min_size=2, max_size=40).filter(lambda c: sum(map(bool, c)) > 1)
)
def test_no_prefix_code_is_shorter(counts):
    """Huffman's own recursion for the cost: the sum of the weights of all inner nodes."""
    lengths = huffman.code_lengths(np.array(counts))
    nodes, total = sorted(n for n in counts if n), 0
    while len(nodes) > 1:
        a, b, *rest = nodes
        total += a + b
        nodes = sorted([a + b, *rest])
    assert (np.array(counts) * lengths).sum() == total
    used = lengths[lengths > 0].astype(float)
    assert (2.0**-used).sum() == 1  # Kraft: complete, so every stream of bits can be read


def test_words_are_never_longer_than_can_be_read_at_once():
    fibonacci = [1, 1]
    while len(fibonacci) < 40:
        fibonacci.append(sum(fibonacci[-2:]))
    lengths = huffman.code_lengths(np.array(fibonacci))
    assert lengths.max() <= huffman.MAX_CODE_LENGTH and lengths.min() >= 1
    symbols = np.arange(40, dtype=np.uint8)
    read = huffman.decode(huffman.encode(symbols, lengths), lengths, 40)
    np.testing.assert_array_equal(read, symbols)


def test_a_stream_that_ends_too_early_is_refused():
    symbols = np.arange(200, dtype=np.uint8)
    lengths = huffman.code_lengths(np.bincount(symbols))
    data = huffman.encode(symbols, lengths)
    with pytest.raises(ValueError, match="ends before"):
        huffman.decode(data[:-5], lengths, 200)


# Gaps.


@settings(deadline=None, max_examples=200)
@given(
    hnp.arrays(np.uint8, st.integers(0, 700), elements=st.integers(1, 3), fill=st.just(0)),
    st.sampled_from([0, 1, 2, 4, 8]),
)
def test_gaps_lead_to_the_same_places(codes, bits):
    entries = entries_of(codes, bits)
    assert (entries.gaps < 2**bits).all()
    np.testing.assert_array_equal(codes_of(entries, len(codes)), codes)
    real = np.count_nonzero(codes)
    if bits == 0:
        assert len(entries.codes) == len(codes)
    else:
        assert real <= len(entries.codes) <= real + len(codes) / 2**bits


def test_a_run_of_zeros_longer_than_a_gap_takes_filler_zeros():
    codes = np.array([0] * 20 + [7], np.uint8)
    entries = entries_of(codes, 3)
    assert entries.gaps.tolist() == [7, 7, 4] and entries.codes.tolist() == [0, 0, 7]


# Shared weights.


@settings(deadline=None, max_examples=100)
@given(
    hnp.arrays(np.float32, st.integers(1, 200), elements=st.floats(-9, 9, width=16)),
    st.integers(1, 20),
)
def test_centroids_are_a_fixed_point_of_lloyds_algorithm(values, k):
    centroids = kmeans(values, k)
    assert len(centroids) <= k and (np.diff(centroids) > 0).all()
    nearest = np.abs(values[:, None].astype(float) - centroids[None]).argmin(1)
    if len(np.unique(values)) <= k:
        np.testing.assert_array_equal(centroids[nearest], values)  # lossless
        return
    distance = np.abs(values - centroids[nearest])
    means = [values[nearest == c].mean(dtype=float) for c in range(len(centroids))]
    again = np.abs(values[:, None].astype(float) - np.array(means)[None]).min(1)
    np.testing.assert_allclose(np.square(again).sum(), np.square(distance).sum(), 1e-5, 1e-4)


def test_each_weight_gets_the_closest_value_and_zeros_stay():
    tree = apply_mask(params(), class_blind(params(), 0.5))
    shared = share_weights(tree, 3)
    back = expand_shared_weights(shared.codes, shared.codebooks)
    for w, got, values in zip(*map(jax.tree.leaves, (tree, back, shared.codebooks)), strict=True):
        assert len(values) <= 7
        got = np.asarray(got)
        np.testing.assert_array_equal(got == 0, w == 0)
        best = np.abs(w[..., None] - np.reshape(values, (1,) * w.ndim + (-1,))).min(-1)
        np.testing.assert_allclose(np.abs(got - w)[w != 0], best[w != 0], atol=1e-6)


def test_enough_values_lose_nothing():
    tree = {"w": np.array([[0.5, -1.25, 0.5, 0, 3]], np.float32), "b": np.float32([7])}
    shared = share_weights(tree, 2)
    assert bits_equal(expand_shared_weights(shared.codes, shared.codebooks), tree)
    again = share_weights(expand_shared_weights(shared.codes, shared.codebooks), 2)
    assert bits_equal(again, shared)


@pytest.mark.slow
def test_the_gradient_of_a_value_is_the_sum_over_its_members():
    shared = share_weights(params(), 3)
    batch = example()
    small, tx = shared_model(MODEL, shared), clipped_adam()

    def gradient(model, params):
        state = init_state(model, tx, jax.random.key(0), params)
        return jax.jit(make_train_step(model, tx).gradients)(state, batch, jax.random.key(1))[0]

    of_values = gradient(small, shared.codebooks)
    of_weights = gradient(MODEL, expand_shared_weights(shared.codes, shared.codebooks))
    sums = jax.tree.map(
        lambda c, v, g: np.bincount(np.ravel(c), np.ravel(g), len(v) + 1)[1:],
        shared.codes,
        shared.codebooks,
        of_weights,
    )
    assert largest_difference(of_values, sums) < 1e-4


@pytest.mark.slow
def test_training_moves_the_values_and_neither_codes_nor_zeros():
    tree = apply_mask(params(), class_blind(params(), 0.5))
    shared = share_weights(tree, 2)
    model, tx = shared_model(MODEL, shared), clipped_adam(0.05)
    step = jax.jit(make_train_step(model, tx))
    state = init_state(model, tx, jax.random.key(0))
    assert bits_equal(state.params, shared.codebooks)
    losses = []
    for _ in range(8):
        state, metrics = step(state, example(), jax.random.key(1))
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0]
    back = expand_shared_weights(shared.codes, state.params)
    for w, got in zip(jax.tree.leaves(tree), jax.tree.leaves(back), strict=True):
        assert (np.asarray(got)[w == 0] == 0).all()
        assert len(np.unique(got)) <= 4


# The file.


@pytest.mark.parametrize(
    "ratio", [0.0, *(pytest.param(x, marks=pytest.mark.slow) for x in (0.5, 0.99)), 0.9, 1.0]
)
@pytest.mark.parametrize("bits", [1, pytest.param(5, marks=pytest.mark.slow), 8])
def test_a_file_is_read_back_bit_for_bit(tmp_path, ratio, bits):
    tree = apply_mask(params(), class_blind(params(), ratio))
    shared = share_weights(tree, bits)
    sizes = write_compressed(tmp_path / "model", shared)
    assert bits_equal(
        read_compressed(tmp_path / "model", params()), expand_shared_weights(*shared[::-1])
    )
    assert sizes.huffman == (tmp_path / "model").stat().st_size
    count = sum(np.size(w) for w in jax.tree.leaves(tree))
    kept = sum(np.count_nonzero(w) for w in jax.tree.leaves(tree))
    assert sizes.dense == 4 * count and 4 * kept <= sizes.sparse <= sizes.dense
    values = 4 * sum(len(v) for v in jax.tree.leaves(shared.codebooks))
    assert kept * (bits - 1) / 8 <= sizes.shared - values <= sizes.sparse


@settings(deadline=None, max_examples=50)
@given(
    st.dictionaries(
        st.text(max_size=4),
        hnp.arrays(
            np.float32,
            hnp.array_shapes(min_dims=0, max_dims=3, max_side=9),
            elements=st.floats(-1, 1, width=32, allow_subnormal=False) | st.just(0),
        ),
        min_size=1,
        max_size=3,
    ),
    st.integers(1, 8),
)
def test_any_arrays_are_read_back_bit_for_bit(tmp_path_factory, tree, bits):
    path = tmp_path_factory.mktemp("file") / "model"
    shared = share_weights(tree, bits)
    write_compressed(path, shared)
    want = jax.tree.map(
        lambda c, v: np.concatenate([np.zeros(1, np.float32), v])[c], shared.codes, shared.codebooks
    )
    assert bits_equal(read_compressed(path, tree), want)


def test_huffman_pays_where_codes_are_uneven(tmp_path):
    w = np.random.default_rng(0).normal(size=(300, 300)).astype(np.float32)
    tree = {"w": apply_mask({"w": w}, class_blind({"w": w}, 0.9))["w"]}
    sizes = write_compressed(tmp_path / "model", share_weights(tree, 5))
    assert sizes.dense > 5 * sizes.sparse > 10 * sizes.shared
    assert sizes.shared > sizes.huffman > 0.5 * sizes.shared


def test_files_that_cannot_be_read_are_named(tmp_path):
    path = tmp_path / "model"
    write_compressed(path, share_weights(params(), 4))
    good = path.read_bytes()
    with pytest.raises(ValueError, match=r"model: \.?.* is .* in the file but .* another model"):
        read_compressed(path, params(TEACHER))
    for place in 100, len(good) // 2, len(good) - 1:
        path.write_bytes(good[:place] + bytes([good[place] ^ 1]) + good[place + 1 :])
        with pytest.raises(ValueError, match="model: damaged"):
            read_compressed(path, params())
    path.write_bytes(good[:-1])
    with pytest.raises(ValueError, match="damaged"):
        read_compressed(path, params())
    path.write_bytes(good.replace(b"compressed-1", b"compressed-2"))
    with pytest.raises(ValueError, match="this version reads seqkd-compressed-1"):
        read_compressed(path, params())


def test_files_that_lie_are_refused_before_they_cost_anything(tmp_path):
    """The digest is right, and the numbers are not: sizes, a packed head without end, tables."""
    path, tree = tmp_path / "model", {"w": np.float32([[0, 1, 2], [0, 0, 1], [3, 3, 4]])}
    write_compressed(path, share_weights(tree, 3))
    line, _, body = path.read_bytes().partition(b"\n")
    size = json.loads(line)["head"]
    listed, _, tables = zlib.decompress(body[:size]).partition(b"\n")
    (record,) = json.loads(listed)

    def lie(head, streams=body[size:], said=None):
        packed = zlib.compress(head, 9)
        about = {"head": len(packed) if said is None else said}
        path.write_bytes(seal(FORMAT, about, packed + streams))
        with pytest.raises(UsageError, match="model: ") as error:
            read_compressed(path, tree)
        assert len(str(error.value)) < 400

    def record_lies(**change):
        lie(json.dumps([record | change]).encode() + b"\n" + tables)

    for said in (-1, 1e12, 10**12, "7", True, 0):
        lie(listed + b"\n" + tables, said=said)
    lie(b"[" * 100_000)
    lie(listed + b" " * (1 << 26) + b"\n" + tables)
    lie(listed + b"\n" + tables[:-1])
    lie(listed + b"\n" + tables + b"\0")
    lie(listed + b"\n" + tables, body[size:] + b"\0")
    lie(listed + b"\n" + tables, body[size:-1])
    for text in b"7", b"{}", b"[7]", b'[{"name": "w"}]', b"[]", listed[:-1] + b"," + listed[1:]:
        lie(text + b"\n" + tables)
    for name in ("values", "entries", "gap_bits"):
        for value in (-1, 10**12, 3.0, "3", None, True):
            record_lies(**{name: value})
    for value in ([10**12, 0], [-1, 0], [0], [1e9, 0], None, {}):
        record_lies(bytes=value)
    for value in ([10**6, 10**6], [-3, -3], [9], ["3", 3], None):
        record_lies(shape=value)
    for table in (bytes([1, 1, 1]), bytes([255, 1]), bytes([1, 2, 2, 2, 2]), bytes(9)):
        lie(listed + b"\n" + table + tables[len(table) :])
    for bad in (np.nan, np.inf):
        lie(listed + b"\n" + tables, np.float32([bad]).tobytes() + body[size + 4 :])


def test_what_cannot_be_compressed_is_named():
    bad = dataclasses.replace(params().generator, bias=jnp.array([np.nan]))
    with pytest.raises(ValueError, match=r"params\.bias: only finite float32"):
        share_weights(bad, 5)
    with pytest.raises(ValueError, match="bits is 9"):
        share_weights(params(), 9)


def test_shared_weights_are_a_pair_of_trees():
    shared = share_weights(params(), 4)
    assert isinstance(shared, Shared)
    assert all(c.dtype == np.uint8 for c in jax.tree.leaves(shared.codes))
    assert jax.tree.structure(shared.codes) == jax.tree.structure(params())
