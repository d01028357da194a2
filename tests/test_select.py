import math
from typing import get_args

import jax.numpy as jnp
import numpy as np
import pytest
import sacrebleu
from hypothesis import given, settings
from hypothesis import strategies as st

from seqkd_jax.bleu import gleu, sentence_bleu
from seqkd_jax.chrf import chrf_table
from seqkd_jax.decode.nbest import NBest
from seqkd_jax.distill.select import (
    mbr,
    probabilities,
    seq_inter,
    seq_kd,
    share_differing,
    similarities,
    weighted_seq_kd,
)
from seqkd_jax.distill.similarity import (
    LENGTHS,
    SENTENCES,
    SMOOTHINGS,
    TextSimilarity,
    bleu_by,
    bleu_of_kim_and_rush,
    choose,
    chrf,
)
from seqkd_jax.errors import UsageError
from seqkd_jax.settings import Similarity, Smoothing

CHRF = sacrebleu.CHRF()
BLEU = sacrebleu.BLEU(tokenize="none", effective_order=True)
ONE_SHAPE = 3  # hypotheses at most, so that few programs are compiled

text = st.lists(st.sampled_from(["das", "Haus", "ist", "süß", "x"]), max_size=9).map(" ".join)
full_text = text.filter(bool)
corpora = st.lists(
    st.tuples(full_text, st.lists(text, min_size=ONE_SHAPE, max_size=ONE_SHAPE)), max_size=5
)


def corpus(references, lists):
    pairs = [(f"source {n}", reference) for n, reference in enumerate(references)]
    return pairs, [NBest(n, tuple(texts)) for n, texts in enumerate(lists)]


def scored(lists, seed=0):
    """N-best lists with log-probabilities, best first."""
    rng = np.random.default_rng(seed)
    return [
        NBest(n, tuple(texts), log_probs=tuple(np.sort(rng.uniform(-2, 0, len(texts)))[::-1]))
        for n, texts in enumerate(lists)
    ]


def random_lines(rng, count, longest, vocabulary=6):
    sizes = rng.integers(1, longest + 1, count)
    return [" ".join(f"w{i}" for i in rng.integers(0, vocabulary, size)) for size in sizes]


def oracle(texts, reference):
    """sacreBLEU of each text; an empty one is below all."""
    return [BLEU.sentence_score(t, [reference]).score / 100 if t.strip() else -1 for t in texts]


def check_against_sacrebleu(pairs, nbest, chosen):
    assert len(chosen.pairs) == len(chosen.ranks) == len(chosen.similarities) == len(pairs)
    for (source, reference), n, pair, rank, similarity in zip(
        pairs, nbest, chosen.pairs, chosen.ranks, chosen.similarities, strict=True
    ):
        scores = oracle(n.texts, reference)
        if max(scores, default=-1) < 0:
            assert rank == -1 and pair == (source, reference)
            continue
        assert pair == (source, n.texts[rank])
        assert scores[rank] == pytest.approx(max(scores), abs=1e-5)
        assert similarity == pytest.approx(scores[rank], abs=1e-5)
        assert n.texts.index(n.texts[rank]) == rank  # of equal texts the first


@settings(deadline=None, max_examples=100)
@given(corpora)
def test_seq_inter_takes_the_hypothesis_with_the_highest_sacrebleu(rows):
    pairs, nbest = corpus(*zip(*rows, strict=True)) if rows else ([], [])
    check_against_sacrebleu(pairs, nbest, seq_inter(pairs, nbest, sentence_bleu))


def test_many_sentences_of_many_lengths_keep_their_order():
    rng = np.random.default_rng(0)
    count = 2 * SENTENCES + 3
    references = random_lines(rng, count, LENGTHS[1])
    lists = [random_lines(rng, rng.integers(0, 4), LENGTHS[1]) for _ in range(count)]
    pairs, nbest = corpus(references, lists)
    check_against_sacrebleu(pairs, nbest, seq_inter(pairs, nbest, sentence_bleu))


def test_sentences_longer_than_all_buckets_are_compared_whole():
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in rng.integers(0, 50, LENGTHS[-1] + 88)]
    other = [*words[:-1], "x"]
    pairs, nbest = corpus([" ".join(words)], [[" ".join(other), " ".join(words)]])
    chosen = seq_inter(pairs, nbest, sentence_bleu)
    check_against_sacrebleu(pairs, nbest, chosen)
    assert chosen.ranks.tolist() == [1]


def test_a_selection_does_not_depend_on_its_neighbours():
    rng = np.random.default_rng(2)
    references = random_lines(rng, SENTENCES + 9, 12)
    lists = [random_lines(rng, ONE_SHAPE, 12) for _ in references]
    pairs, nbest = corpus(references, lists)
    together = seq_inter(pairs, nbest)
    for place in (0, 7, SENTENCES + 8):
        alone = seq_inter([pairs[place]], [NBest(0, nbest[place].texts)])
        assert alone.pairs == [together.pairs[place]]
        assert alone.ranks[0] == together.ranks[place]
        np.testing.assert_allclose(alone.similarities[0], together.similarities[place], atol=1e-6)


@pytest.mark.parametrize("similarity", [sentence_bleu, gleu], ids=["bleu", "gleu"])
def test_of_equally_similar_hypotheses_the_better_ranked_is_taken(similarity):
    # The first two of each list have the same n-grams in common with the reference.
    pairs, nbest = corpus(
        ["a b c d", "a b c d", "a b c d", "a"],
        [["a b c x", "a b c y", "x"], ["x", "a b y", "a b z"], ["x", "y", "z"], ["z", "a", "a"]],
    )
    chosen = seq_inter(pairs, nbest, similarity)
    assert chosen.ranks.tolist() == [0, 1, 0, 1]
    assert [target for _, target in chosen.pairs] == ["a b c x", "a b y", "x", "a"]


def test_left_to_itself_seq_inter_compares_as_kim_and_rush_did():
    # By hand, with brevity exp(-1) for two words of four. The original takes the fourth root of
    # 1/2 x (1/2)/1 for them, sacreBLEU the square root; of 3/4 x (1/2)/3 x (1/4)/2 x (1/8)/1 both
    # take the fourth. What has no word in common has 0, and 0.08 in the original.
    pairs, nbest = corpus(["5 6 7 8"], [["9 9 9 9", "5 9", "5 9 6 8"]])
    want = [0, math.exp(-1) * 0.25**0.25, (3 / 4 / 6 / 8 / 8) ** 0.25]
    np.testing.assert_allclose(similarities(pairs, nbest)[0], want, atol=2e-6)
    chosen = seq_inter(pairs, nbest)
    assert chosen.ranks.tolist() == [1]
    np.testing.assert_allclose(chosen.similarities, want[1:2], atol=2e-6)
    assert seq_inter(pairs, nbest, sentence_bleu).ranks.tolist() == [2]


def test_any_similarity_on_ids_will_do():
    def shortness(hypothesis, reference):
        return -jnp.sum(hypothesis > 0).astype(jnp.float32)

    pairs, nbest = corpus(["a b"], [["a b", "", "c", "d e f"]])
    chosen = seq_inter(pairs, nbest, shortness)
    assert chosen.ranks.tolist() == [2]
    assert chosen.similarities.tolist() == [-1]


def test_equal_words_have_equal_ids_and_case_counts():
    pairs, nbest = corpus(
        ["Das  Haus\tist", "das haus"], [["das haus ist", "Das Haus ist"], ["Das Haus"]]
    )
    chosen = seq_inter(pairs, nbest, sentence_bleu)
    assert chosen.ranks.tolist() == [1, 0]
    np.testing.assert_allclose(chosen.similarities, [1, 0], atol=1e-6)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(text, st.lists(st.one_of(text, st.sampled_from(["", " ", "\u3000"]))))))
def test_seq_kd_takes_the_first_hypothesis_that_says_something(rows):
    pairs, nbest = corpus(*zip(*rows, strict=True)) if rows else ([], [])
    chosen = seq_kd(pairs, nbest)
    assert chosen.similarities is None
    assert len(chosen.pairs) == len(chosen.ranks) == len(pairs)
    for (source, reference), n, pair, rank in zip(
        pairs, nbest, chosen.pairs, chosen.ranks, strict=True
    ):
        said = [t for t in n.texts if t.split()]
        assert pair == (source, said[0] if said else reference)
        assert rank == (n.texts.index(said[0]) if said else -1)


@pytest.mark.parametrize("select", [seq_kd, seq_inter], ids=["seq_kd", "seq_inter"])
@pytest.mark.parametrize("lists", [[[], []], [["", " "], []]], ids=["no-lists", "nothing-said"])
def test_without_a_translation_the_reference_stays(select, lists):
    pairs, nbest = corpus(["a b", "c"], lists)
    chosen = select(pairs, nbest)
    assert chosen.pairs == pairs
    assert chosen.ranks.tolist() == [-1, -1]


@pytest.mark.parametrize("select", [seq_kd, seq_inter], ids=["seq_kd", "seq_inter"])
def test_an_empty_reference_takes_the_teachers_best(select):
    pairs, nbest = corpus([""], [["", "a", "b"]])
    assert select(pairs, nbest).ranks.tolist() == [1]


@pytest.mark.parametrize("select", [seq_kd, seq_inter], ids=["seq_kd", "seq_inter"])
def test_no_pairs_give_no_pairs(select):
    chosen = select([], [])
    assert chosen.pairs == [] and chosen.ranks.shape == (0,)


@pytest.mark.parametrize("select", [seq_kd, seq_inter], ids=["seq_kd", "seq_inter"])
@pytest.mark.parametrize(("pairs", "lists"), [(3, 2), (2, 3), (0, 1), (1, 0)])
def test_a_count_of_lists_that_differs_is_named(select, pairs, lists):
    with pytest.raises(ValueError, match=f"{lists} n-best lists for {pairs} pairs"):
        select([("s", "t")] * pairs, [NBest(n, ("a",)) for n in range(lists)])


@pytest.mark.parametrize("select", [seq_kd, seq_inter], ids=["seq_kd", "seq_inter"])
@pytest.mark.parametrize("indices", [(0, 2, 1), (0, 2, 3), (0, 2, 2)], ids=str)
def test_lists_out_of_order_are_named(select, indices):
    with pytest.raises(ValueError, match="number 1 belongs to sentence 2"):
        select([("s", "t")] * 3, [NBest(n, ("a",)) for n in indices])


def test_pairs_and_lists_are_left_as_they_were():
    pairs, nbest = corpus(["a b", "c"], [["a"], ["c"]])
    before = list(pairs), list(nbest)
    seq_kd(pairs, nbest)
    seq_inter(pairs, nbest)
    assert (pairs, nbest) == before


def test_seq_inter_by_chrf_takes_the_hypothesis_with_the_highest_sacrebleu():
    rng = np.random.default_rng(4)
    vocabulary = ["das", "Haus", "häuser", "ist", "süßer", "süß", "."]
    references, *rest = [
        [" ".join(rng.choice(vocabulary, rng.integers(1, 8))) for _ in range(40)] for _ in range(4)
    ]
    pairs, nbest = corpus(references, zip(*rest, strict=True))
    chosen = seq_inter(pairs, nbest, chrf)
    for (_, reference), n, rank, similarity in zip(
        pairs, nbest, chosen.ranks, chosen.similarities, strict=True
    ):
        scores = [CHRF.sentence_score(text, [reference]).score / 100 for text in n.texts]
        assert scores[rank] == pytest.approx(max(scores), abs=1e-5)
        assert similarity == pytest.approx(scores[rank], abs=1e-5)


letters = st.text("abß ", max_size=12)


@settings(deadline=None, max_examples=200)
@given(st.lists(letters, max_size=3), st.lists(letters, max_size=3))
def test_chrf_is_sacrebleus(hypotheses, references):
    want = [[chrf_oracle(h, r) for r in references] for h in hypotheses]
    found = chrf_table(hypotheses, references)
    assert found.shape == (len(hypotheses), len(references))
    np.testing.assert_allclose(found, np.reshape(want, found.shape), atol=1e-9)


def test_a_similarity_may_be_computed_from_texts():
    same_end = TextSimilarity(
        lambda hyp, ref: np.array([[h[-1:] == r[-1:] for r in ref] for h in hyp])
    )
    pairs, nbest = corpus(["a b.", "c"], [["a b", "b .", "."], ["d", "e"]])
    assert seq_inter(pairs, nbest, same_end).ranks.tolist() == [1, 0]


def bleu_oracle(hypothesis, reference):
    return BLEU.sentence_score(hypothesis, [reference]).score / 100


def chrf_oracle(hypothesis, reference):
    return CHRF.sentence_score(hypothesis, [reference]).score / 100


@pytest.mark.parametrize(
    ("similarity", "oracle"),
    [(sentence_bleu, bleu_oracle), (chrf, chrf_oracle)],
    ids=["bleu", "chrf"],
)
def test_mbr_takes_the_hypothesis_with_the_highest_expected_similarity(similarity, oracle):
    rng = np.random.default_rng(5)
    lists = [random_lines(rng, rng.integers(1, 5), 9, vocabulary=4) for _ in range(SENTENCES + 5)]
    lists[3][-1:] = ["", " "]
    nbest = scored(lists)
    pairs = [("source", "")] * len(nbest)
    chosen = mbr(pairs, nbest, similarity)
    for n, rank, found, target in zip(
        nbest, chosen.ranks, chosen.similarities, chosen.pairs, strict=True
    ):
        said = [k for k, text in enumerate(n.texts) if text.strip()]
        mass = {k: math.exp(n.log_probs[k]) for k in said}
        expected = {
            k: sum(mass[j] * oracle(n.texts[k], n.texts[j]) for j in said) / sum(mass.values())
            for k in said
        }
        assert expected[rank] == pytest.approx(max(expected.values()), abs=1e-5)
        assert found == pytest.approx(expected[rank], abs=1e-5)
        assert target == ("source", n.texts[rank])
    assert (chosen.ranks > 0).any()


def test_mbr_of_equal_hypotheses_takes_the_first_and_of_nothing_the_target():
    nbest = [
        NBest(0, ("a b", "b a", "a b"), log_probs=(-1.0, -1.0, -1.0)),
        NBest(1, ("", " "), log_probs=(-1.0, -2.0)),
        NBest(2, ()),
    ]
    chosen = mbr([("s", "t")] * 3, nbest, gleu)
    assert chosen.ranks.tolist() == [0, -1, -1]
    assert chosen.pairs == [("s", "a b"), ("s", "t"), ("s", "t")]


@settings(deadline=None, max_examples=100)
@given(corpora, st.integers(0, 9), st.integers(1, ONE_SHAPE + 1))
def test_weights_are_the_teachers_renormalised_probabilities(rows, seed, most):
    pairs, nbest = corpus(*zip(*rows, strict=True)) if rows else ([], [])
    nbest = scored([n.texts for n in nbest], seed)
    chosen = weighted_seq_kd(pairs, nbest, most)
    want = []
    for place, (pair, n) in enumerate(zip(pairs, nbest, strict=True)):
        said = [k for k, text in enumerate(n.texts[:most]) if text.strip()]
        mass = sum(math.exp(n.log_probs[k]) for k in said)
        rows = [(place, k, n.texts[k], math.exp(n.log_probs[k]) / mass) for k in said]
        want += rows or [(place, -1, pair[1], 1.0)]
    assert chosen.sources.tolist() == [row[0] for row in want]
    assert chosen.ranks.tolist() == [row[1] for row in want]
    assert chosen.pairs == [(pairs[row[0]][0], row[2]) for row in want]
    np.testing.assert_allclose(chosen.weights, [row[3] for row in want], rtol=1e-5)
    sums = np.bincount(chosen.sources, chosen.weights, minlength=len(pairs))
    np.testing.assert_allclose(sums, np.ones(len(pairs)), rtol=1e-5)


def test_the_weighted_corpus_of_one_hypothesis_is_that_of_seq_kd():
    nbest = scored([["a b", "c"], ["", "d"], ["e"]])
    pairs = [("s", "t"), ("u", "v"), ("w", "x")]
    first, best = weighted_seq_kd(pairs, nbest, 1), seq_kd(pairs, nbest)
    assert first.weights.tolist() == [1, 1, 1]
    places = [0, 2]  # an empty best hypothesis is passed over by seq_kd alone
    assert [first.pairs[n] for n in places] == [best.pairs[n] for n in places]
    assert [first.ranks[n] for n in places] == [best.ranks[n] for n in places]


def test_hypotheses_that_no_float_can_weigh_are_left_out():
    nbest = [NBest(0, ("a", "b"), log_probs=(-1.0, -200.0))]
    chosen = weighted_seq_kd([("s", "t")], nbest)
    assert chosen.pairs == [("s", "a")] and chosen.weights.tolist() == [1]
    nbest = [NBest(0, ("a", "b"), log_probs=(-2000.0, -2001.0))]
    np.testing.assert_allclose(probabilities(nbest[0]), [0.7310586, 0.2689414], rtol=1e-6)


@pytest.mark.parametrize("select", [mbr, weighted_seq_kd], ids=["mbr", "weighted"])
def test_lists_without_probabilities_are_named(select):
    nbest = [NBest(0, ("a",), log_probs=(-1.0,)), NBest(1, ("a", "b"))]
    with pytest.raises(ValueError, match="list of sentence 1 has no log_prob"):
        select([("s", "t")] * 2, nbest)
    with pytest.raises(ValueError, match="max_hypotheses is 0"):
        weighted_seq_kd([], [], 0)


@pytest.mark.parametrize("log_probs", [(math.nan, -1.0), (-1.0, math.nan), (0.5, 0.2), (-1.0,)])
def test_numbers_that_are_no_log_probabilities_are_refused(log_probs):
    wrong = [NBest(0, ("a", "b"), log_probs=log_probs)]
    for select in mbr, weighted_seq_kd:
        with pytest.raises(UsageError, match="each text needs one"):
            select([("x", "y")], wrong)


def test_a_text_is_no_list_of_hypotheses():
    with pytest.raises(UsageError, match="a single string"):
        NBest(0, "xyz")  # type: ignore[arg-type]


def test_the_teachers_score_of_a_target_is_per_token():
    nbest = [
        NBest(0, ("", "a b c"), tokens=((), (5, 6, 7, 8)), log_probs=(-1.0, -4.0)),
        NBest(1, ("a b c",), log_probs=(-6.0,)),
        NBest(2, ("",), log_probs=(-6.0,)),
        NBest(3, ("a",)),
    ]
    chosen = seq_kd([("s", "t")] * 4, nbest)
    assert chosen.sources.tolist() == [0, 1, 2, 3]
    np.testing.assert_allclose(chosen.log_probs, [-4 / 5, -6 / 4, np.nan, np.nan])


# Words in common.

SMOOTHED = pytest.mark.parametrize("name", SMOOTHINGS)


@SMOOTHED
def test_a_hypothesis_without_a_common_word_never_wins_over_one_with(name):
    pairs, nbest = corpus(
        ["hallo", "a b c d", "x y", " ".join(f"w{i}" for i in range(200))],
        [["nein", "hallo du"], ["e", "f", "e f g h a"], ["a", "x"], ["v v", "w7", "v"]],
    )
    chosen = seq_inter(pairs, nbest, bleu_by(SMOOTHINGS[name]))
    assert chosen.ranks.tolist() == [1, 2, 1, 1]
    assert (chosen.similarities > 0).all()
    assert similarities(pairs, nbest, bleu_by(SMOOTHINGS[name]))[0][0] == 0


@SMOOTHED
@settings(deadline=None, max_examples=30)
@given(corpora)
def test_similarity_is_0_exactly_where_no_word_is_in_common(name, rows):
    pairs, nbest = corpus(*zip(*rows, strict=True)) if rows else ([], [])
    found = similarities(pairs, nbest, bleu_by(SMOOTHINGS[name]))
    for (_, reference), n, scores in zip(pairs, nbest, found, strict=True):
        for hypothesis, score in zip(n.texts, scores, strict=True):
            if hypothesis:
                shared = set(hypothesis.split()) & set(reference.split())
                assert (score > 0) == bool(shared) and score <= 1 + 1e-6


@SMOOTHED
def test_where_no_hypothesis_has_a_common_word_the_teachers_best_is_taken(name):
    pairs, nbest = corpus(["a b c d"], [["", "e f g", "h", "i j k l"]])
    chosen = seq_inter(pairs, nbest, bleu_by(SMOOTHINGS[name]))
    assert chosen.ranks.tolist() == [1] and chosen.similarities.tolist() == [0]


CHINESE = ["今天天气很好", "我们去公园散步。", "他喜欢读书"]


def test_text_without_spaces_is_compared_by_characters():
    pairs, nbest = corpus(CHINESE, [["你好", "今天天气好"], ["去公园", "我们公园散步。"], ["书"]])
    chosen = seq_inter(pairs, nbest)
    assert chosen.ranks.tolist() == seq_inter(pairs, nbest, chrf).ranks.tolist() == [1, 1, 0]
    assert share_differing(chosen, seq_kd(pairs, nbest)) == pytest.approx(2 / 3)
    assert seq_inter(pairs, nbest, choose("bleu", texts=["a b c"])[1]).ranks.tolist() == [0, 0, 0]
    with pytest.warns(UserWarning, match="no spaces between words, but bleu .* chrf"):
        assert choose("bleu", texts=CHINESE)[0] == "bleu"
    with pytest.warns(UserWarning, match="no spaces between words, but gleu"):
        assert choose("gleu", texts=CHINESE)[0] == "gleu"


@pytest.mark.parametrize(
    ("texts", "name"),
    [
        (CHINESE, "chrf"),
        (["今天 天气 很 好", "他 喜欢 读书"], "bleu"),  # segmented
        (["ฉันชอบอ่านหนังสือ มากกว่าดูโทรทัศน์"], "chrf"),  # spaces between phrases
        (["Die Donaudampfschifffahrtsgesellschaft fährt", "Ja , gern ."], "bleu"),
        (["epäjärjestelmällisyydellänsäkään hän ei sitä tehnyt"], "bleu"),
        (["", " ", "a b"], "bleu"),
        (["", " "], "bleu"),
        ([], "bleu"),
    ],
    ids=["zh", "segmented", "th", "de", "fi", "some-empty", "empty", "none"],
)
def test_the_similarity_is_chosen_by_the_text(texts, name):
    assert choose(texts=texts)[0] == name


def test_a_similarity_is_chosen_by_name():
    assert choose("chrf")[1] is chrf and choose("gleu")[1] is gleu
    assert choose()[1] is choose("bleu")[1] is bleu_of_kim_and_rush
    assert choose("auto", "floor")[1] is choose("bleu", "floor")[1] is bleu_by(SMOOTHINGS["floor"])
    assert set(SMOOTHINGS) == set(get_args(Smoothing)) and "auto" in get_args(Similarity)
    for name, smoothing, message in (
        ("bleurt", None, "similarity is 'bleurt': give one of auto, bleu, gleu, chrf"),
        ("bleu", "kneser", "smoothing is 'kneser': give one of geometric"),
        ("chrf", "floor", "A smoothing is for bleu only"),
    ):
        with pytest.raises(ValueError, match=message):
            choose(name, smoothing)


@pytest.mark.parametrize("similarity", [None, gleu, chrf], ids=["left-out", "gleu", "chrf"])
def test_a_teacher_that_writes_lower_case_is_compared_in_lower_case(similarity):
    pairs, nbest = corpus(
        ["Das Haus ist ALT", "ÄPFEL SIND GUT ."],
        [["das x", "das haus ist alt"], ["birnen", "äpfel sind gut ."]],
    )
    chosen = seq_inter(pairs, nbest, similarity, lower=True)
    assert chosen.ranks.tolist() == [1, 1]
    np.testing.assert_allclose(chosen.similarities, [1, 1], atol=1e-6)
    assert chosen.pairs[0] == ("source 0", "das haus ist alt")
    mixed = scored([["A B c", "a b C", "d"]])
    assert (
        mbr(pairs[:1], mixed, similarity, lower=True).similarities[0]
        > (mbr(pairs[:1], mixed, similarity).similarities[0])
    )
