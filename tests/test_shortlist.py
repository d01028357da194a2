"""Shortlists: the lexical table against expectation maximisation written out, and the search."""

import dataclasses
from collections import defaultdict

import numpy as np
import pytest
from small import CONFIG, MODEL, SRC_VOCAB, TEACHER, TGT_VOCAB, params

from seqkd_jax.base import EOS
from seqkd_jax.data import Encoded
from seqkd_jax.decode.shortlist import Shortlist, fit_shortlist, lexical_table
from seqkd_jax.decode.translation import translate
from seqkd_jax.models.ensemble import ensemble
from seqkd_jax.settings import Search

SEARCH = Search(beam_size=3, n_best=3, max_extra=3, max_ratio=1.0)


def sources(seed=0, count=17):
    rng = np.random.default_rng(seed)
    return [rng.integers(4, SRC_VOCAB, rng.integers(1, 9)).astype(np.int32) for _ in range(count)]


def encoded(pairs):
    src, tgt = ([np.array(side, np.int32) for side in sides] for sides in zip(*pairs, strict=True))
    return Encoded(src, tgt, np.arange(len(pairs)), None)


def some(words=4, seed=0):
    """A shortlist of random words."""
    rng = np.random.default_rng(seed)
    chosen = rng.integers(4, TGT_VOCAB, (SRC_VOCAB, words)).astype(np.int32)
    chosen[:4] = 0
    return Shortlist(chosen, np.arange(4, dtype=np.int32), TGT_VOCAB)


def test_the_lexical_table_is_that_of_expectation_maximisation_written_out():
    rng = np.random.default_rng(3)
    src = [rng.integers(4, 9, rng.integers(1, 5)) for _ in range(12)]
    tgt = [rng.integers(4, 8, rng.integers(1, 5)) for _ in range(12)]
    table = defaultdict(lambda: 1.0)
    for _ in range(4):
        counts, totals = defaultdict(float), defaultdict(float)
        for s, t in zip(src, tgt, strict=True):
            for word in t:
                z = sum(table[(a, word)] for a in s)
                for a in s:
                    counts[a, word] += table[(a, word)] / z
                    totals[a] += table[(a, word)] / z
        table = defaultdict(float, {k: v / totals[k[0]] for k, v in counts.items()})
    of, to, got = lexical_table(src, tgt, 4)
    assert len(of) == len(table)
    want = [table[key] for key in zip(of, to, strict=True)]
    np.testing.assert_allclose(got, want, rtol=1e-12)


def test_a_dictionary_is_found_in_sentences_whose_words_are_shuffled():
    rng = np.random.default_rng(0)
    pairs = []
    for _ in range(60):
        words = rng.integers(4, 20, rng.integers(2, 6))
        pairs.append((words, [*rng.permutation(words + 10), EOS]))
    found = fit_shortlist(encoded(pairs), 20, 30, translations=2, frequent=0)
    # The end of sentence comes with every word; the next best is the translation.
    for word in range(4, 20):
        assert word + 10 in found.words[word]
    np.testing.assert_array_equal(found.always, range(4))
    assert (found.words[:4] == 0).all()


def test_a_batch_has_the_words_of_its_sentences_and_each_sentence_its_own():
    words = np.zeros((8, 2), np.int32)
    words[4:] = [[20, 30], [20, 21], [40, 21], [7, 7]]
    short = Shortlist(words, np.array([0, 1, 2, 3, 50], np.int32), 60, min_size=4)
    ids, own = short.of_batch(np.array([[4, 5, 0], [6, 0, 0]]))
    np.testing.assert_array_equal(ids, [0, 1, 2, 3, 20, 21, 30, 40, 50, 0, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(ids[own[0]], [0, 1, 2, 3, 20, 21, 30, 50])
    np.testing.assert_array_equal(ids[own[1]], [0, 1, 2, 3, 21, 40, 50])
    all_words = Shortlist(np.arange(60, dtype=np.int32)[None], short.always, 60, min_size=4)
    ids, own = all_words.of_batch(np.array([[0]]))
    assert own.all() and (ids == np.arange(60)).all()


@pytest.mark.parametrize("smallest", [8, 256], ids=["restricted", "whole"])
def test_only_allowed_words_in_any_company(smallest):
    short, many = dataclasses.replace(some(), min_size=smallest), sources()
    together = translate(MODEL, params(), many, SEARCH, shortlist=short)
    for source, found in zip(many, together, strict=True):
        allowed = {*short.words[source].ravel().tolist(), *range(4)}
        assert set(found.tokens.ravel().tolist()) <= allowed
    short = dataclasses.replace(short, min_size=256)  # alone and in the whole vocabulary
    for source, found in list(zip(many, together, strict=True))[:6]:
        (alone,) = translate(MODEL, params(), [source], SEARCH, shortlist=short)
        width = min(alone.tokens.shape[1], found.tokens.shape[1])
        np.testing.assert_array_equal(alone.tokens[:, :width], found.tokens[:, :width])
        np.testing.assert_allclose(alone.scores, found.scores, atol=1e-5)


@pytest.mark.slow
def test_a_list_of_all_words_changes_nothing():
    everything = np.tile(np.arange(TGT_VOCAB, dtype=np.int32), (SRC_VOCAB, 1))
    short = Shortlist(everything, np.arange(4, dtype=np.int32), TGT_VOCAB)
    both = ensemble([MODEL, TEACHER])
    for model, weights in ((MODEL, params()), (both, (params(), params(TEACHER)))):
        plain = translate(model, weights, sources(), SEARCH)
        found = translate(model, weights, sources(), SEARCH, shortlist=short)
        for a, b in zip(plain, found, strict=True):
            np.testing.assert_array_equal(a.tokens, b.tokens)
            np.testing.assert_allclose(a.scores, b.scores, atol=1e-6)


def test_what_cannot_have_a_shortlist_is_told_so():
    assert CONFIG.tgt_vocab == TGT_VOCAB
    with pytest.raises(ValueError, match="an attention LSTM or an ensemble"):
        translate(MODEL, {"w": np.zeros(3)}, sources(), SEARCH, shortlist=some())
    with pytest.raises(ValueError, match="there are none"):
        fit_shortlist(Encoded([], [], np.array([]), None), 5, 5)
