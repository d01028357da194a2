import functools
import math
from collections import Counter

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import sacrebleu
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seqkd_jax.base import EOS, PAD
from seqkd_jax.bleu import (
    add_k,
    exponential,
    floor,
    geometric,
    gleu,
    ngram_counts,
    no_smoothing,
    sentence_bleu,
)

T = 11  # positions of a padded sentence
FIRST = EOS + 1
quick = settings(deadline=None, max_examples=100)
# Few different words, so that long n-grams match as well.
words = st.lists(st.integers(FIRST, FIRST + 2), max_size=T)
some_words = st.lists(st.integers(FIRST, FIRST + 2), min_size=1, max_size=T)

SMOOTHINGS = {
    "none": (no_smoothing, "none", None),
    "floor-0.1": (floor(), "floor", None),
    "floor-0.01": (floor(0.01), "floor", 0.01),
    "floor-1": (floor(1.0), "floor", 1.0),
    "floor-0": (floor(0.0), "floor", 0.0),
    "add-1": (add_k(), "add-k", None),
    "add-0.5": (add_k(0.5), "add-k", 0.5),
    "add-3": (add_k(3.0), "add-k", 3.0),
    "exp": (exponential, "exp", None),
    "left-out": (None, "exp", None),
}
smoothings = pytest.mark.parametrize(
    ("smoothing", "method", "value"), SMOOTHINGS.values(), ids=SMOOTHINGS
)
own_smoothings = pytest.mark.parametrize(
    "smoothing",
    [no_smoothing, floor(), add_k(), exponential, geometric],
    ids=["none", "floor", "add-k", "exp", "geometric"],
)


def padded(ids, length: int = T) -> np.ndarray:
    return np.array([*ids, *[PAD] * (length - len(ids))], np.int32)


@functools.cache
def compiled(smoothing=None, order: int = 4):
    return jax.jit(lambda h, r: sentence_bleu(h, r, smoothing, order))


compiled_gleu = jax.jit(gleu, static_argnums=2)
compiled_counts = jax.jit(ngram_counts, static_argnums=2)


def bleu(hypothesis, reference, smoothing=None, order: int = 4) -> float:
    return float(compiled(smoothing, order)(padded(hypothesis), padded(reference)))


def ngrams(ids, n: int) -> Counter:
    return Counter(tuple(ids[i : i + n]) for i in range(len(ids) - n + 1))


def sacre(hypothesis, reference, method: str, value, order: int = 4, effective: bool = True):
    metric = sacrebleu.BLEU(
        tokenize="none",
        smooth_method=method,
        smooth_value=value,
        max_ngram_order=order,
        effective_order=effective,
    )
    text = (" ".join(f"w{i}" for i in ids) for ids in (hypothesis, reference))
    return metric.sentence_score(next(text), [next(text)]).score / 100


def lua(hypothesis, reference, order: int) -> float:
    """BLEU as scorers/bleu.lua of seq2seq-attn computes it, but 0 without a match."""
    if not set(hypothesis) & set(reference):
        return 0.0
    product, smooth = 1.0, 1.0
    for n in range(1, order + 1):
        found, wanted = ngrams(hypothesis, n), ngrams(reference, n)
        if found:
            matches = (found & wanted).total()
            if not matches:
                matches = smooth = smooth / 2
            product *= matches / found.total()
    brevity = math.exp(1 - max(1, len(reference) / len(hypothesis)))
    return brevity * product ** (1 / order)


@smoothings
@quick
@given(hypothesis=words, reference=words)
@example(hypothesis=[5], reference=[5])
@example(hypothesis=[5, 6], reference=[5, 6, 7])
@example(hypothesis=[5, 4, 6], reference=[4, 6, 5])
@example(hypothesis=[], reference=[])
def test_it_is_sacrebleu_with_effective_order(smoothing, method, value, hypothesis, reference):
    want = sacre(hypothesis, reference, method, value)
    assert bleu(hypothesis, reference, smoothing) == pytest.approx(want, abs=1e-5)


@pytest.mark.slow
@smoothings
@quick
@given(
    hypothesis=st.lists(st.integers(FIRST, FIRST + 2), min_size=4, max_size=T), reference=some_words
)
def test_from_four_words_on_the_effective_order_makes_no_difference(
    smoothing, method, value, hypothesis, reference
):
    want = sacre(hypothesis, reference, method, value, effective=False)
    assert bleu(hypothesis, reference, smoothing) == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize("order", [1, 2, 3, 6])
@settings(deadline=None, max_examples=30)
@given(hypothesis=words, reference=words)
def test_it_is_sacrebleu_at_every_order(order, hypothesis, reference):
    want = sacre(hypothesis, reference, "exp", None, order)
    assert bleu(hypothesis, reference, order=order) == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize("order", [1, 2, 4])
@quick
@given(hypothesis=some_words, reference=words)
def test_geometric_smoothing_is_that_of_the_original_code(order, hypothesis, reference):
    want = lua(hypothesis, reference, order)
    assert bleu(hypothesis, reference, geometric, order) == pytest.approx(want, abs=1e-5)


@pytest.mark.parametrize(
    ("candidate", "reference", "bleu_4", "bleu_2", "gleu_4"),
    [
        ("5 6 7 8", "5 6 7 8", 1.0, 1.0, 1.0),
        ("3 5 6 7 8 4", "5 6 7 8", 0.508133, 0.632456, 0.555556),
        ("5 6 9 8", "5 6 7 8", 0.353553, 0.5, 0.4),
        ("3 5 6 9 8 4", "5 6 7 8", 0.179652, 0.316228, 0.222222),
        ("5 6", "5 6 7 8", 0.367879, 0.367879, 0.3),
        ("3 5 6 4", "5 6 7 8", 0.319472, 0.408248, 0.3),
        ("9 9 9 9", "5 6 7 8", 0.0, 0.0, 0.0),
        ("3 4", "5 6 7 8", 0.0, 0.0, 0.0),
        ("5 5 5", "5 6", 0.379918, 0.288675, 0.333333),
        ("5 6 5 6", "5 6 5 7 6", 0.497609, 0.635888, 0.416667),
    ],
)
def test_the_scorers_of_the_original_code_agree_on_worked_examples(
    candidate, reference, bleu_4, bleu_2, gleu_4
):
    # But where nothing matches: there the original gives 0.079868, 0.102062 and 0.183940, 0.091970.
    # Moved up, so that the original's 3 and 4, words to its scorers, are words here as well.
    hyp, ref = ([10 + int(i) for i in ids.split()] for ids in (candidate, reference))
    assert bleu(hyp, ref, geometric, 4) == pytest.approx(bleu_4, abs=2e-6)
    assert bleu(hyp, ref, geometric, 2) == pytest.approx(bleu_2, abs=2e-6)
    assert compiled_gleu(padded(hyp), padded(ref), 4) == pytest.approx(gleu_4, abs=2e-6)


@quick
@given(hypothesis=words, reference=words)
def test_counts_are_those_of_counters(hypothesis, reference):
    counts = compiled_counts(padded(hypothesis), padded(reference), 4)
    found = [(ngrams(hypothesis, n), ngrams(reference, n)) for n in (1, 2, 3, 4)]
    assert counts.matches.tolist() == [(h & r).total() for h, r in found]
    assert counts.totals.tolist() == [h.total() for h, _ in found]
    assert (counts.hypothesis, counts.reference) == (len(hypothesis), len(reference))


@pytest.mark.parametrize("order", [1, 4])
@quick
@given(hypothesis=words, reference=words)
def test_gleu_compares_sets_of_ngrams(order, hypothesis, reference):
    hyp, ref = (
        {gram for n in range(1, order + 1) for gram in ngrams(ids, n)}
        for ids in (hypothesis, reference)
    )
    want = min(len(hyp & ref) / len(side) for side in (hyp, ref)) if hyp and ref else 0.0
    found = compiled_gleu(padded(hypothesis), padded(reference), order)
    assert found == pytest.approx(want, abs=1e-6)


@own_smoothings
@quick
@given(hypothesis=words, reference=words)
def test_scores_lie_between_0_and_1(smoothing, hypothesis, reference):
    assert 0 <= bleu(hypothesis, reference, smoothing) <= 1 + 1e-6


@own_smoothings
@quick
@given(sentence=some_words)
def test_a_sentence_equal_to_its_reference_scores_1(smoothing, sentence):
    assert bleu(sentence, sentence, smoothing) == pytest.approx(1, abs=1e-6)
    assert compiled_gleu(padded(sentence), padded(sentence), 4) == 1


@own_smoothings
@pytest.mark.parametrize("reference", [[], [5], [5, 6, 7, 8, 9]], ids=len)
def test_an_empty_hypothesis_scores_0(smoothing, reference):
    assert bleu([], reference, smoothing) == 0
    assert compiled_gleu(padded([]), padded(reference), 4) == 0


@pytest.mark.slow
@pytest.mark.parametrize("shapes", [(0, 3), (3, 0), (0, 0)], ids=str)
@own_smoothings
def test_arrays_without_a_position_are_empty_sentences(smoothing, shapes):
    hypothesis, reference = (jnp.full(n, FIRST, jnp.int32) for n in shapes)
    want = bleu([FIRST] * shapes[0], [FIRST] * shapes[1], smoothing)
    assert sentence_bleu(hypothesis, reference, smoothing) == pytest.approx(want, abs=1e-6)
    assert gleu(hypothesis, reference) == 0


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [(1, 1), (2, 6), (6, 2), (3, 3), (7, 5)], ids=str)
@own_smoothings
def test_padding_changes_nothing(smoothing, lengths):
    rng = np.random.default_rng(0)
    hyp, ref = (rng.integers(FIRST, FIRST + 3, n).astype(np.int32) for n in lengths)
    assert bleu(hyp, ref, smoothing) == pytest.approx(
        float(compiled(smoothing)(hyp, ref)), abs=1e-6
    )
    alone = float(compiled_gleu(hyp, ref, 4))
    assert compiled_gleu(padded(hyp), padded(ref), 4) == pytest.approx(alone, abs=1e-6)


@pytest.mark.parametrize("end", [EOS, PAD], ids=["eos", "pad"])
@quick
@given(hypothesis=words, reference=words, rest=st.lists(st.integers(0, FIRST + 2), max_size=9))
def test_what_follows_the_end_changes_nothing(end, hypothesis, reference, rest):
    hyp, ref = (
        np.array([*ids, *([end, *rest] + [FIRST] * T)[: T - len(ids)]], np.int32)
        for ids in (hypothesis, reference)
    )
    for function in compiled(geometric), compiled(exponential):
        assert function(hyp, ref) == function(padded(hypothesis), padded(reference))
    want = compiled_gleu(padded(hypothesis), padded(reference), 4)
    assert compiled_gleu(hyp, ref, 4) == want


@quick
@given(hypothesis=words, reference=words, names=st.permutations(range(50, 53)))
def test_only_equality_of_ids_matters(hypothesis, reference, names):
    hyp, ref = ([names[i - FIRST] for i in ids] for ids in (hypothesis, reference))
    assert bleu(hyp, ref, exponential) == bleu(hypothesis, reference, exponential)


@own_smoothings
def test_many_pairs_at_once_are_each_pair_alone(smoothing):
    rng = np.random.default_rng(1)
    pairs = [
        [padded(rng.integers(FIRST, FIRST + 4, rng.integers(0, T + 1))) for _ in range(2)]
        for _ in range(30)
    ]
    hyp, ref = np.stack(pairs, 1)
    together = jax.jit(jax.vmap(lambda h, r: sentence_bleu(h, r, smoothing)))(hyp, ref)
    alone = [compiled(smoothing)(*pair) for pair in pairs]
    np.testing.assert_allclose(together, alone, atol=1e-6)
