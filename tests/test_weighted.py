import math

import jax
import numpy as np
import pytest
from small import MODEL, params

from seqkd_jax.data import batches, build_words, encode_pairs, plan_buckets
from seqkd_jax.decode.nbest import NBest
from seqkd_jax.distill.select import seq_kd, weighted_seq_kd
from seqkd_jax.evaluation import log_probs
from seqkd_jax.train.steps import make_eval_step

SRC, TGT = build_words(["a b c d e f g"]), build_words(["r s t u v w x y z"])
PAIRS = [("a b", "r"), ("c", "s t"), ("d e f", "u")]
NBEST = [
    NBest(0, ("r s", "t", "r s t u"), log_probs=(-0.5, -1.0, -3.0)),
    NBest(1, ("v w", "", "v"), log_probs=(-1.0, -1.1, -1.5)),
    NBest(2, ("x", "y z", "z"), log_probs=(-9.0, -9.5, -12.0)),
]
EVALUATE = jax.jit(make_eval_step(MODEL))


def batched(chosen):
    encoded = encode_pairs(chosen.pairs, SRC, TGT, weights=chosen.weights)
    return plan(encoded)


def plan(encoded):
    buckets = plan_buckets(encoded, tokens_per_batch=64, buckets=1)
    return list(batches(encoded, buckets, seed=0, epoch=0))


@pytest.mark.slow
def test_the_loss_of_the_weighted_corpus_is_the_teachers_expectation_over_its_list():
    """-sum_t q(t | s) / Z log p(t | s), with log p from the scorer of given pairs."""
    (batch,) = batched(weighted_seq_kd(PAIRS, NBEST))
    total = EVALUATE(params(), batch)
    want = 0.0
    for (source, _), n in zip(PAIRS, NBEST, strict=True):
        said = [k for k, text in enumerate(n.texts) if text]
        mass = sum(math.exp(n.log_probs[k]) for k in said)
        encoded = encode_pairs([(source, n.texts[k]) for k in said], SRC, TGT)
        scores = log_probs(MODEL, params(), encoded)
        for k, score in zip(said, scores, strict=True):
            want -= math.exp(n.log_probs[k]) / mass * float(score)
    np.testing.assert_allclose(total.sum, want, rtol=1e-5)
    np.testing.assert_allclose(total.sentences, len(PAIRS), rtol=1e-6)


def test_of_one_hypothesis_it_is_seq_kd():
    weighted, plain = batched(weighted_seq_kd(PAIRS, NBEST, 1)), batched(seq_kd(PAIRS, NBEST))
    for a, b in zip(weighted, plain, strict=True):
        jax.tree.map(np.testing.assert_array_equal, a, b)


def test_a_weight_stays_with_its_pair_and_filling_weighs_nothing():
    pairs = [("a", "r"), ("", "s"), ("b c d e f g", "t u v w"), ("c", "u"), ("d", "v")]
    encoded = encode_pairs(pairs, SRC, TGT, max_len=5, weights=[0.1, 0.2, 0.3, 0.4, 0.5])
    assert encoded.index.tolist() == [0, 3, 4]
    np.testing.assert_allclose(encoded.weight, [0.1, 0.4, 0.5])
    (batch,) = plan(encoded)
    found = {int(i): float(w) for i, w in zip(batch.index, batch.weight, strict=True)}
    assert found == pytest.approx({0: 0.1, 3: 0.4, 4: 0.5, -1: 0.0})
    assert batch.weight.dtype == np.float32


@pytest.mark.parametrize("bad", [0.0, -1.0, np.nan, np.inf])
def test_a_weight_that_is_none_is_named_by_its_line(bad):
    with pytest.raises(ValueError, match="The weight of line 2 is"):
        encode_pairs(PAIRS, SRC, TGT, weights=[1, bad, 1])


def test_each_pair_needs_a_weight():
    with pytest.raises(ValueError, match="2 weights for 3 pairs"):
        encode_pairs(PAIRS, SRC, TGT, weights=[1, 1])
