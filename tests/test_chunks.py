"""Selection in chunks: the selection of the whole corpus, in memory that does not grow with it."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import most_memory

from seqkd_jax.data import read_lines, read_pairs
from seqkd_jax.data.text import write_pairs
from seqkd_jax.decode.lists import json_line, moses_lines
from seqkd_jax.decode.nbest import NBest, NBestFiles, open_nbest, read_nbest, write_shard
from seqkd_jax.distill.filters import filter_chunks, filter_pairs, length_ratio, mean_log_prob
from seqkd_jax.distill.select import (
    Selected,
    closest_to_list,
    closest_to_reference,
    concatenate,
    in_chunks,
    mbr,
    seq_inter,
    seq_kd,
    weighted_seq_kd,
)
from seqkd_jax.distill.similarity import TextSimilarity, bleu_of_kim_and_rush, chrf
from seqkd_jax.errors import UsageError

WORDS = ["das", "Haus", "ist", "süß", "x"]
text = st.lists(st.sampled_from(WORDS), max_size=9).map(" ".join)
corpora = st.lists(st.tuples(text, st.lists(text, min_size=3, max_size=3)), max_size=9)


def lists_of(rows, seed=0):
    rng = np.random.default_rng(seed)
    return [
        NBest(n, tuple(texts), (), tuple(s), tuple(s))
        for n, texts in enumerate(rows)
        for s in [np.sort(rng.uniform(-2, 0, len(texts)))[::-1].tolist()]
    ]


def same(a: Selected, b: Selected):
    assert a.pairs == b.pairs
    for field in dataclasses.fields(Selected):
        if field.name != "pairs":
            one, other = getattr(a, field.name), getattr(b, field.name)
            assert (one is None) == (other is None)
            if one is not None:
                assert one.dtype == other.dtype
                np.testing.assert_array_equal(one, other)


@settings(deadline=None, max_examples=25)
@given(corpora, st.integers(1, 4))
def test_blocks_together_are_the_whole_selection(rows, sentences):
    pairs = [(f"source {n}", reference) for n, (reference, _) in enumerate(rows)]
    nbest = lists_of([texts for _, texts in rows])
    ways = {
        seq_kd: seq_kd(pairs, nbest),
        weighted_seq_kd: weighted_seq_kd(pairs, nbest),
        closest_to_reference(bleu_of_kim_and_rush): seq_inter(pairs, nbest, bleu_of_kim_and_rush),
        closest_to_reference(chrf): seq_inter(pairs, nbest, chrf),
        closest_to_list(bleu_of_kim_and_rush): mbr(pairs, nbest, bleu_of_kim_and_rush),
    }
    # Both come as streams, which can be read once.
    chunks = list(in_chunks(iter(pairs), iter(nbest), *ways, sentences=sentences))
    for parts, want in zip(zip(*chunks, strict=True), ways.values(), strict=True):
        same(concatenate(parts), want)
    filters = {"length": length_ratio(1.5), "score": mean_log_prob(-0.3)}
    kept, counts = filter_pairs(ways[seq_kd], filters)
    filtered = list(filter_chunks((best for best, *_ in chunks), filters))
    same(concatenate(chunk for chunk, _ in filtered), kept)
    assert filtered[-1][1] == counts


@pytest.mark.parametrize(("pairs", "lists"), [(5, 3), (3, 5), (4, 2), (0, 3)])
def test_a_stream_of_another_length_is_named_with_both_counts(pairs, lists):
    chunks = in_chunks(
        iter([("s", "t")] * pairs), iter(lists_of([["a"]] * lists)), seq_kd, sentences=2
    )
    with pytest.raises(UsageError, match=f"{lists} n-best lists for {pairs} pairs"):
        list(chunks)


def test_a_list_out_of_order_is_named_in_any_block():
    lists = lists_of([["a"]] * 5)
    lists[3] = dataclasses.replace(lists[3], index=4)
    with pytest.raises(UsageError, match="number 3 belongs to sentence 4"):
        list(in_chunks([("s", "t")] * 5, lists, seq_kd, sentences=2))


# Files.


@pytest.fixture(scope="module")
def lists():
    rng = np.random.default_rng(0)
    rows = [[" ".join(rng.choice(WORDS, 5)) for _ in range(3)] for _ in range(4100)]
    return [
        dataclasses.replace(
            n,
            log_probs=tuple(np.float32(n.log_probs).tolist()),
            scores=tuple(np.float32(n.scores).tolist()),
        )
        for n in lists_of(rows)
    ]


def write(folder, form, lists, first=0):
    if form == "shards":
        for shard in range(3):
            part = lists[1500 * shard : 1500 * (shard + 1)]
            write_shard(folder, shard, 3, {"teacher_digest": "a"}, part)
        return folder
    path = folder / form
    numbered = [dataclasses.replace(n, index=n.index + first) for n in lists]
    if form == "moses":
        lines = [line for n in numbered for line in moses_lines(n)]
    else:
        lines = [json_line(n).rstrip("\n") for n in numbered]
    path.write_text("".join(line + "\n" for line in lines))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("form", ["shards", "moses", "json"])
def test_lists_are_read_where_they_are_needed(tmp_path, lists, form):
    first = 0 if form == "shards" else 1
    path = write(tmp_path, form, lists, first)
    found = open_nbest(path, first)
    assert isinstance(found, NBestFiles) and len(found) == len(lists)
    assert found == lists and read_nbest(path, first)[1] == lists
    for n in (0, 1499, 1500, 1999, 2000, 4099, -1):
        assert found[n] == lists[n]
    assert found[1998:2003] == lists[1998:2003]
    with pytest.raises(IndexError):
        found[4100]


@pytest.mark.slow
def test_the_memory_of_a_selection_does_not_grow_with_the_corpus(tmp_path, lists):
    shortest = TextSimilarity(lambda h, r: np.array([[-len(x) for _ in r] for x in h]))
    sizes, used = (5_000, 10_000), []
    for size in sizes:
        folder = tmp_path / str(size)
        folder.mkdir()
        shards = size // 1000
        for shard in range(shards):
            part = [
                dataclasses.replace(n, index=1000 * shard + k) for k, n in enumerate(lists[:1000])
            ]
            write_shard(folder, shard, shards, {"teacher_digest": "a"}, part)
        write_pairs(folder / "src", folder / "ref", [(f"s {n}", "das Haus") for n in range(size)])

        def distill(folder=folder):
            pairs = read_pairs(folder / "src", folder / "ref")
            chunks = in_chunks(pairs, open_nbest(folder), seq_kd, closest_to_reference(shortest))
            filtered = filter_chunks((chosen for _, chosen in chunks), {"length": length_ratio(9)})
            made = (pair for chunk, _ in filtered for pair in chunk.pairs)
            write_pairs(folder / "train.src", folder / "train.tgt", made)

        used.append(most_memory(distill))
        assert len(read_lines(folder / "train.tgt")) == size
    assert (used[1] - used[0]) / (
        sizes[1] - sizes[0]
    ) < 100  # bytes a sentence; in lists over 1,000
