"""Corpora on disk: the batches of lists, in memory that does not grow, from checked files."""

import gzip
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from small import most_memory

from seqkd_jax.base import EOS, PAD
from seqkd_jax.contrib.factors import build_factored
from seqkd_jax.data import (
    Encoded,
    Lines,
    ParallelLines,
    batches,
    build_words,
    encode_pairs,
    number_of_batches,
    open_lines,
    pairs_digest,
    plan_buckets,
    read_lines,
    read_pairs,
    write_lines,
)
from seqkd_jax.data.encode import IN_MEMORY, PART, folder_for
from seqkd_jax.data.lines import BLOCK, PIECE
from seqkd_jax.data.store import kept_lines
from seqkd_jax.data.text import write_pairs
from seqkd_jax.errors import UsageError

quick = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
VOCAB = build_words(["a b c d e f g h"])
sides = st.lists(st.sampled_from("abcdefgh?"), max_size=12).map(" ".join)
corpora = st.lists(st.tuples(sides, sides), min_size=1, max_size=60)


# Lists of arrays, as the library held them before: the oracle.


def encoded_as_lists(pairs, max_len):
    """Returns sources, targets, indices and the lines left out: empty, overlong."""
    src, tgt, index, empty, overlong = [], [], [], [], []
    for n, (source, target) in enumerate(pairs):
        s, t = VOCAB.encode(source), [*VOCAB.encode(target), EOS]
        if not s or len(t) == 1:
            empty.append(n + 1)
        elif max_len is not None and max(len(s), len(t)) > max_len:
            overlong.append(n + 1)
        else:
            src.append(np.array(s, np.int32))
            tgt.append(np.array(t, np.int32))
            index.append(n)
    return src, tgt, index, empty, overlong


def batches_of_lists(src, tgt, index, weight, buckets, seed, epoch):
    """Yields src, tgt, weight and index of each batch, row by row."""
    place = [
        next(b for b, shape in enumerate(buckets) if len(s) <= shape[1] and len(t) <= shape[2])
        for s, t in zip(src, tgt, strict=True)
    ]
    order = np.arange(len(src))
    stream = None if epoch is None else np.random.Philox(np.random.SeedSequence([seed, epoch]))
    if stream is not None:
        order = np.argsort(stream.random_raw(len(src)), kind="stable")
    found = []
    for b, shape in enumerate(buckets):
        inside = [n for n in order if place[n] == b]
        found += [(shape, inside[at : at + shape.rows]) for at in range(0, len(inside), shape.rows)]
    if stream is not None:
        found = [found[n] for n in np.argsort(stream.random_raw(len(found)), kind="stable")]
    for shape, rows in found:
        filled = [*rows, *rows[:1] * (shape.rows - len(rows))]
        padded = []
        for side, width in (src, shape.src_len), (tgt, shape.tgt_len):
            padded.append([[*side[n], *[PAD] * (width - len(side[n]))] for n in filled])
        more = shape.rows - len(rows)
        yield (
            *padded,
            [*(weight[n] for n in rows), *[0.0] * more],
            [*(index[n] for n in rows), *[-1] * more],
        )


@quick
@given(
    pairs=corpora,
    max_len=st.none() | st.integers(2, 12),
    weighted=st.booleans(),
    seed=st.integers(0, 9),
    epoch=st.none() | st.integers(0, 9),
)
def test_batches_from_files_are_those_of_lists(tmp_path, pairs, max_len, weighted, seed, epoch):
    given_weights = [n / 7 for n in range(1, len(pairs) + 1)] if weighted else None
    src, tgt, index, empty, overlong = encoded_as_lists(pairs, max_len)
    for folder in (None, tmp_path / "encoded"):
        encoded = encode_pairs(pairs, VOCAB, VOCAB, max_len, given_weights, folder=folder)
        report = encoded.report
        assert (report.kept, report.empty, report.overlong) == tuple(
            map(len, (index, empty, overlong))
        )
        assert report.empty_lines == tuple(empty[:5])
        assert report.overlong_lines == tuple(overlong[:5])
        assert encoded.index.tolist() == index and encoded.index.dtype == np.int32
        for found, want in (encoded.src, src), (encoded.tgt, tgt):
            assert [x.tolist() for x in found] == [x.tolist() for x in want]
            assert all(x.dtype == np.int32 for x in found)
            assert found.lengths.tolist() == [len(x) for x in want]
        if not index:
            continue
        buckets = plan_buckets(encoded, tokens_per_batch=96, buckets=3)
        weight = [1.0] * len(index) if given_weights is None else [given_weights[n] for n in index]
        want = list(batches_of_lists(src, tgt, index, np.float32(weight), buckets, seed, epoch))
        made = list(batches(encoded, buckets, seed=seed, epoch=epoch))
        assert len(made) == len(want) == number_of_batches(encoded, buckets)
        for batch, columns in zip(made, want, strict=True):
            for name, column in zip(("src", "tgt", "weight", "index"), columns, strict=True):
                array = getattr(batch, name)
                assert array.dtype == (np.float32 if name == "weight" else np.int32)
                np.testing.assert_array_equal(array, column)


def test_rows_of_ids_are_kept_as_rows(tmp_path):
    lines = ["a-|-x b-|-y", "", "c-|-z"]
    vocab = build_factored(lines, characters=9)
    pairs = [(line, "a") for line in lines]
    memory = encode_pairs(pairs, vocab, VOCAB)
    mapped = encode_pairs(pairs, vocab, VOCAB, folder=tmp_path)
    again = encode_pairs(pairs, vocab, VOCAB, folder=tmp_path)
    assert memory.src[0].ndim == 2
    for other in (mapped, again):
        for n in range(2):
            np.testing.assert_array_equal(memory.src[n], other.src[n])
    buckets = plan_buckets(mapped, tokens_per_batch=64)
    for a, b in zip(*(batches(e, buckets, seed=1, epoch=1) for e in (memory, mapped)), strict=True):
        np.testing.assert_array_equal(a.src, b.src)


def test_lists_of_arrays_are_packed():
    some = [np.array([5, 6, 7]), np.array([8])]
    encoded = Encoded(some, some, np.arange(2), None)
    assert [x.tolist() for x in encoded.src] == [[5, 6, 7], [8]]
    assert [x.tolist() for x in encoded.src[::-1]] == [[8], [5, 6, 7]]
    assert encoded.src[-1].tolist() == [8]
    with pytest.raises(IndexError):
        encoded.src[2]


def test_ids_beyond_two_bytes_are_kept(tmp_path):
    class Large:
        size, digest = 70_000, "large"

        def encode(self, text):
            return [int(word) for word in text.split()]

    pairs = [("69999 4", "65536"), ("5", "7 65535")]
    for folder in None, tmp_path:
        encoded = encode_pairs(pairs, Large(), Large(), folder=folder)
        assert [x.tolist() for x in encoded.src] == [[69999, 4], [5]]
        assert [x.tolist() for x in encoded.tgt] == [[65536, EOS], [7, 65535, EOS]]


# The files.

PAIRS = [("a b", "c"), ("d e f", "g h"), ("", "a"), ("b", "b b")]


class Once:
    """A vocabulary that can be used for one start only."""

    size, digest = VOCAB.size, VOCAB.digest

    def encode(self, text):
        raise AssertionError("text was encoded again")


def files_of(folder):
    return {p.name: p for p in folder.rglob("*") if p.is_file() and p.suffix != ".lock"}


def test_text_is_encoded_once_whatever_is_left_out(tmp_path):
    encode_pairs(PAIRS, VOCAB, VOCAB, folder=tmp_path)
    for max_len in (None, 3):
        again = encode_pairs(PAIRS, Once(), Once(), max_len, folder=tmp_path)
        want = encode_pairs(PAIRS, VOCAB, VOCAB, max_len)
        assert again.report == want.report
        assert [x.tolist() for x in again.tgt] == [x.tolist() for x in want.tgt]
    other = [*PAIRS[:-1], ("b", "c")]
    assert encode_pairs(other, VOCAB, VOCAB, folder=tmp_path).tgt[-1].tolist() != [5, 5, EOS]
    assert encode_pairs(PAIRS, Once(), Once(), folder=tmp_path).report.kept == 3


@pytest.mark.parametrize(
    "name", ["src.ids", "src.offsets", "tgt.ids", "tgt.offsets", "record.json"]
)
@pytest.mark.parametrize("harm", ["flip", "cut", "delete", "empty"])
def test_damaged_files_are_named_and_made_again(tmp_path, name, harm):
    want = [x.tolist() for x in encode_pairs(PAIRS, VOCAB, VOCAB, folder=tmp_path).src]
    path = files_of(tmp_path)[name]
    whole = path.read_bytes()
    bent = bytearray(whole)
    bent[len(bent) // 2] ^= 1
    if harm == "delete":
        path.unlink()
    else:
        path.write_bytes({"flip": bytes(bent), "cut": whole[:-5], "empty": b""}[harm])
    if (name, harm) == ("record.json", "delete"):  # as if the files had never been finished
        again = encode_pairs(PAIRS, VOCAB, VOCAB, folder=tmp_path)
    else:
        with pytest.warns(UserWarning, match=name):
            again = encode_pairs(PAIRS, VOCAB, VOCAB, folder=tmp_path)
    assert path.read_bytes() == whole
    assert [x.tolist() for x in again.src] == want


def test_an_error_half_way_leaves_nothing_half_written(tmp_path):
    class Failing:
        size, digest = VOCAB.size, VOCAB.digest

        def encode(self, text):
            if text == "b":
                raise UsageError("cannot be read")
            return VOCAB.encode(text)

    with pytest.raises(UsageError, match="source of line 4: cannot be read"):
        encode_pairs(PAIRS, Failing(), VOCAB, folder=tmp_path)
    assert files_of(tmp_path) == {}
    assert encode_pairs(PAIRS, VOCAB, VOCAB, folder=tmp_path).report.kept == 3


KILLED = """
import sys, time
from seqkd_jax.data import build_words, encode_pairs
vocab = build_words(["a b c d e f g h"])
class Slow:
    size, digest = vocab.size, vocab.digest
    def encode(self, text):
        if text == "b":
            print("half way", flush=True)
            time.sleep(600)
        return vocab.encode(text)
encode_pairs([("a b", "c"), ("d e f", "g h"), ("", "a"), ("b", "b b")], Slow(), vocab,
             folder=sys.argv[1])
"""


def test_a_killed_process_leaves_nothing_that_is_believed(tmp_path):
    command = [sys.executable, "-c", KILLED, str(tmp_path)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout.readline() == "half way\n"
        process.kill()
    assert not [name for name in files_of(tmp_path) if not name.endswith(".tmp")]
    assert encode_pairs(PAIRS, VOCAB, VOCAB, folder=tmp_path).report.kept == 3
    assert len(files_of(tmp_path)) == 5  # the temporary files are gone


def many(count):
    words = "abcdefgh"
    return [(words[n % 8], f"{words[n // 8 % 8]} {words[n % 7]}") for n in range(count)]


class Refuses:
    """A vocabulary that other processes can load."""

    size, digest = VOCAB.size, VOCAB.digest

    def encode(self, text):
        if text == "? ?":
            raise UsageError("no question")
        return VOCAB.encode(text)


@pytest.mark.slow
def test_processes_encode_what_one_process_does(tmp_path):
    pairs = many(2 * PART + 1)
    want = encode_pairs(pairs, VOCAB, VOCAB)
    found = encode_pairs(pairs, VOCAB, VOCAB, folder=tmp_path)
    for a, b in (want.src, found.src), (want.tgt, found.tgt):
        np.testing.assert_array_equal(a.ids, b.ids)
        np.testing.assert_array_equal(a.offsets, b.offsets)
    pairs[PART + 4] = ("a", "? ?")
    with pytest.raises(UsageError, match=f"target of line {PART + 5}: no question"):
        encode_pairs(pairs, VOCAB, Refuses(), folder=tmp_path)
    assert folder_for(pairs, tmp_path) is None
    assert folder_for(range(IN_MEMORY + 1), tmp_path) == tmp_path


ORPHANS = """
import sys
from seqkd_jax.data import build_words, encode_pairs
if __name__ == "__main__":
    vocab = build_words(["a b"])
    encode_pairs([("a " * 200, "b " * 200)] * 400_000, vocab, vocab, folder=sys.argv[1])
"""


@pytest.mark.slow
@pytest.mark.skipif(not os.path.isdir("/proc"), reason="needs /proc")
def test_processes_end_with_the_one_that_started_them(tmp_path):
    script = tmp_path / "script.py"
    script.write_text(ORPHANS)

    def running():
        found = []
        for pid in filter(str.isdigit, os.listdir("/proc")):
            try:
                with open(f"/proc/{pid}/environ", "rb") as file:
                    if str(tmp_path).encode() in file.read():
                        found.append(int(pid))
            except OSError:
                pass
        return found

    environment = {**os.environ, "OF_THE_TEST": str(tmp_path)}
    with subprocess.Popen(
        [sys.executable, script, tmp_path / "encoded"], env=environment
    ) as process:
        while not list(tmp_path.glob("encoded/*/.*.tmp")) or len(running()) < 3:
            assert process.poll() is None
            time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    while running():
        time.sleep(0.1)


# Lines.

line = st.text(st.characters(codec="utf-8", exclude_characters="\n\0"), max_size=8)


@pytest.mark.parametrize("name", ["a", "a.gz"])
@quick
@given(some=st.lists(line, max_size=5 * BLOCK), data=st.data())
def test_lines_on_disk_are_those_in_memory(tmp_path, name, some, data):
    write_lines(tmp_path / name, some)
    lines = open_lines(tmp_path / name)
    assert isinstance(lines, Lines) and list(lines) == some == lines and len(lines) == len(some)
    start, stop = (data.draw(st.none() | st.integers(-400, 400)) for _ in range(2))
    step = data.draw(st.none() | st.sampled_from([1, 2, -1, 7]))
    assert lines[start:stop:step] == some[start:stop:step]
    if some:
        n = data.draw(st.integers(-len(some), len(some) - 1))
        assert lines[n] == some[n]
    with pytest.raises(IndexError):
        lines[len(some)]


@quick
@given(data=st.binary(max_size=60) | st.text("a\r\n\ufeff\0é", max_size=20).map(str.encode))
def test_any_bytes_are_read_or_refused_as_before(tmp_path, data):
    path = tmp_path / "a"
    path.write_bytes(data)
    try:
        want = read_lines(path)
    except UsageError as error:
        with pytest.raises(UsageError) as refused:
            open_lines(path)
        assert str(refused.value) == str(error)
    else:
        assert open_lines(path) == want


def test_lines_longer_than_a_piece_and_bad_bytes_far_into_a_file(tmp_path):
    long = ["x" * (PIECE + 5), "é" * PIECE, "", "z"]
    write_lines(tmp_path / "a", long)
    assert open_lines(tmp_path / "a") == long
    (tmp_path / "b").write_bytes(b"word\n" * PIECE + b"\xff\n")
    with pytest.raises(UsageError, match=f"b:{PIECE + 1}: not valid UTF-8"):
        open_lines(tmp_path / "b")


def test_a_file_that_changes_while_it_is_in_use_is_named(tmp_path):
    write_lines(tmp_path / "a", ["one", "two"])
    lines = open_lines(tmp_path / "a")
    write_lines(tmp_path / "a", ["one"])
    with pytest.raises(UsageError, match="/a: changed while it was in use"):
        lines[1]


def test_pairs_of_files_have_the_digest_of_lists(tmp_path):
    pairs = [*many(3 * BLOCK), ("\r", "\ufeff"), ("", "x\u2028")]
    write_pairs(tmp_path / "a", tmp_path / "b.gz", pairs)
    found = read_pairs(tmp_path / "a", tmp_path / "b.gz")
    assert isinstance(found, ParallelLines) and found == pairs
    assert pairs_digest(found) == pairs_digest(pairs) == found.digest
    assert found[5] == pairs[5] and found[-3:] == pairs[-3:]
    assert gzip.decompress((tmp_path / "b.gz").read_bytes()).count(b"\n") == len(pairs)


def test_two_files_are_written_both_or_neither(tmp_path):
    write_pairs(tmp_path / "a", tmp_path / "b", [("old", "old")])
    with pytest.raises(UsageError, match="/b: line 2 holds a line break"):
        write_pairs(tmp_path / "a", tmp_path / "b", [("x", "y"), ("x", "y\n")])
    assert read_lines(tmp_path / "a") == read_lines(tmp_path / "b") == ["old"]
    assert len(list(tmp_path.iterdir())) == 2


def test_lines_are_made_once_and_again_where_they_are_damaged(tmp_path):
    path, made = tmp_path / "new" / "text", []

    def make():
        made.append(1)
        yield from ("one", "two")

    for _ in range(2):
        assert kept_lines(path, {"of": 1}, make) == ["one", "two"]
    assert len(made) == 1
    path.write_text("one\ntwi\n")
    with pytest.warns(UserWarning, match="new/text: damaged"):
        assert kept_lines(path, {"of": 1}, make) == ["one", "two"]
    with pytest.warns(UserWarning, match="made of other text or settings"):
        kept_lines(path, {"of": 2}, make)
    assert len(made) == 3


# Memory.


def test_text_takes_no_memory(tmp_path):
    def read():
        pairs = read_pairs(tmp_path / "src", tmp_path / "tgt")
        assert all(source != target for source, target in pairs)

    used = []
    for size in (45_000, 90_000):
        write_pairs(tmp_path / "src", tmp_path / "tgt", [("s" * 300, "t" * 300)] * size)
        used.append(most_memory(read))
    assert (used[1] - used[0]) / 45_000 < 2  # bytes a pair, of 602


def test_pairs_take_a_few_bytes(tmp_path):
    sizes, used = (2_000, 10_000), []
    for size in sizes:
        pairs = many(size)
        encode_pairs(pairs, VOCAB, VOCAB, folder=tmp_path)

        def start(pairs=pairs):
            found = encode_pairs(pairs, Once(), Once(), folder=tmp_path)
            next(batches(found, plan_buckets(found, tokens_per_batch=1024), seed=1, epoch=0))

        start()
        used.append(most_memory(start))
    assert (used[1] - used[0]) / (sizes[1] - sizes[0]) < 60  # as lists of arrays more than 400
