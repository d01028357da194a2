import numpy as np
import pytest

from seqkd_jax.bleu import sentence_bleu
from seqkd_jax.decode.nbest import NBest
from seqkd_jax.distill.filters import filter_pairs, length_ratio, mean_log_prob, min_similarity
from seqkd_jax.distill.select import seq_inter, seq_kd, weighted_seq_kd

PAIRS = [("a b", "x y"), ("c d", "x y z"), ("e", "x y"), ("f g", ""), ("h i", "x")]
LISTS = [
    NBest(0, ("x y", "z"), log_probs=(-3.0, -6.0)),
    NBest(1, ("x y x y x", "z z"), log_probs=(-1.2, -3.0)),
    NBest(2, ("z", "x z"), log_probs=(-10.0, -11.0)),
    NBest(3, ("",), log_probs=(-1.0,)),
    NBest(4, ("x z", ""), log_probs=(-0.3, -0.5)),
]


def test_each_pair_is_counted_where_it_is_first_left_out():
    chosen = seq_kd(PAIRS, LISTS)
    np.testing.assert_allclose(chosen.log_probs, [-1, -0.2, -5, np.nan, -0.1])
    filters = {"length": length_ratio(2.0), "score": mean_log_prob(-0.5), "again": length_ratio(1)}
    kept, counts = filter_pairs(chosen, filters)
    assert counts == {"length": 2, "score": 2, "again": 0}
    assert kept.pairs == [("h i", "x z")]
    assert (kept.ranks.tolist(), kept.sources.tolist()) == ([0], [4])
    assert kept.similarities is None and kept.weights is None
    np.testing.assert_allclose(kept.log_probs, [-0.1])


def test_filters_in_turn_keep_what_they_keep_together():
    chosen = seq_inter(PAIRS, LISTS, sentence_bleu)
    together, _ = filter_pairs(
        chosen, {"length": length_ratio(2.5), "likeness": min_similarity(0.3)}
    )
    first, _ = filter_pairs(chosen, {"length": length_ratio(2.5)})
    in_turn, counts = filter_pairs(first, {"likeness": min_similarity(0.3)})
    assert together.pairs == in_turn.pairs
    assert together.sources.tolist() == in_turn.sources.tolist()
    assert len(first.pairs) == len(in_turn.pairs) + counts["likeness"]


def test_likeness_is_that_of_the_selection_and_references_stay():
    chosen = seq_inter(PAIRS, LISTS, sentence_bleu)
    for least in 0.1, 0.5, 1.0:
        kept, _ = filter_pairs(chosen, {"likeness": min_similarity(least)})
        want = [
            n for n in range(len(PAIRS)) if chosen.ranks[n] < 0 or chosen.similarities[n] >= least
        ]
        assert kept.sources.tolist() == want and 3 in want and 0 in want


@pytest.mark.parametrize("most", [1.0, 1.5, 3.0])
def test_the_length_ratio_is_of_words_whichever_side_is_longer(most):
    pairs = [("a " * m, "b " * n) for m in range(5) for n in range(5)]
    lists = [NBest(n, (target,), log_probs=(-1.0,)) for n, (_, target) in enumerate(pairs)]
    kept, counts = filter_pairs(seq_kd(pairs, lists), {"length": length_ratio(most)})
    want = []
    for pair in pairs:
        m, n = (len(side.split()) for side in pair)
        if m and n and 1 / most <= m / n <= most:
            want.append(pair)
    assert kept.pairs == want
    assert counts == {"length": len(pairs) - len(want)}


def test_weights_stay_with_their_pairs():
    chosen = weighted_seq_kd(PAIRS, LISTS)
    kept, _ = filter_pairs(chosen, {"score": mean_log_prob(-2.9)})
    by_place = dict(
        zip(zip(chosen.sources, chosen.ranks, strict=True), chosen.weights, strict=True)
    )
    assert 0 < len(kept.pairs) < len(chosen.pairs)
    for source, rank, weight in zip(kept.sources, kept.ranks, kept.weights, strict=True):
        assert by_place[source, rank] == weight


def test_no_filters_and_no_pairs_are_fine():
    chosen = seq_kd(PAIRS, LISTS)
    assert filter_pairs(chosen, {})[0].pairs == chosen.pairs
    nothing = seq_kd([], [])
    everything = {"length": length_ratio(2.0), "score": mean_log_prob(0.0)}
    assert filter_pairs(nothing, everything)[1] == {"length": 0, "score": 0}


def test_filters_that_cannot_judge_say_so():
    chosen = seq_kd([("a", "b")], [NBest(0, ("c",))])
    with pytest.raises(ValueError, match="no log_prob"):
        filter_pairs(chosen, {"score": mean_log_prob(-1.0)})
    with pytest.raises(ValueError, match="computes no similarities"):
        filter_pairs(chosen, {"likeness": min_similarity(0.5)})
    with pytest.raises(ValueError, match="max_ratio is 0.5"):
        length_ratio(0.5)
