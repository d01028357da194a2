import functools
import math

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import MODEL, SRC_VOCAB, TGT_VOCAB, batched, example, largest_difference, params

import seqkd_jax as skd
from seqkd_jax.base import BOS, EOS, PAD, UNK, Example
from seqkd_jax.contrib.nbest_lists import nbest_teacher
from seqkd_jax.data.vocab import WordVocabulary
from seqkd_jax.decode.nbest import NBest, read_nbest, write_shard
from seqkd_jax.decode.translation import sentence, translate, translate_texts
from seqkd_jax.distill.select import seq_kd
from seqkd_jax.evaluation import log_probs
from seqkd_jax.losses import nll, word_kd
from seqkd_jax.models.ensemble import ensemble
from seqkd_jax.parallel import pmap_step, replicate, shard
from seqkd_jax.train.state import init_state
from seqkd_jax.train.steps import make_eval_step, make_train_step
from seqkd_jax.trained import TrainedModel

SPECIAL = ("<blank>", "<unk>", "<s>", "</s>")
SOURCE = WordVocabulary((*SPECIAL, *(f"s{n}" for n in range(4, SRC_VOCAB))))
TARGET = WordVocabulary((*SPECIAL, *(f"t{n}" for n in range(4, TGT_VOCAB))))


def listed(index, *hypotheses):
    """A list of (ids, probability)."""
    tokens, probs = zip(*hypotheses, strict=True)
    log_probs = tuple(math.log(p) for p in probs)
    return NBest(index, tuple(map(TARGET.decode, tokens)), tokens, log_probs, log_probs)


SOURCES = [[4, 5, 6], [5, 4, 6], [6], [10, 10, 10, 10]]
NBESTS = [
    listed(
        0, ((4, 5, 6), 0.3), ((4, 5), 0.2), ((4, 7, 6), 0.1), ((8,), 0.05), ((4, 5, 6, 7), 0.01)
    ),
    listed(1, ((9, 9, 9), 0.5), ((9, 9), 0.4)),
    listed(2, ((), 1e-3)),
    listed(3, ((12, UNK), 0.2), ((12, 4), 0.1), ((4, 12), 0.01)),
]
TEACHER, LISTS = nbest_teacher(SOURCES, NBESTS, TARGET)
SEARCH = skd.Search(beam_size=5, n_best=5)


def padded(rows, width):
    return np.array([[*row, *[PAD] * (width - len(row))] for row in rows], np.int32)


@functools.cache
def logits_of(model):
    def one(params, src, tgt):
        return jax.vmap(model.project, (None, 0))(params, model.hidden(params, src, tgt))

    return batched(one)


def rows_of(found):
    return [
        (tuple(sentence(np.asarray(t))), float(p))
        for t, p in zip(found.tokens, found.log_probs, strict=True)
        if np.isfinite(p)
    ]


def test_beam_search_gives_the_lists_back_in_order():
    for found, n in zip(
        translate(TEACHER, LISTS, [np.array(s) for s in SOURCES], SEARCH), NBESTS, strict=True
    ):
        rows = rows_of(found)
        assert [tokens for tokens, _ in rows] == list(n.tokens)
        want = n.log_probs - np.logaddexp.reduce(n.log_probs)
        np.testing.assert_allclose([p for _, p in rows], want, atol=1e-5)


WORDS = st.lists(st.integers(4, TGT_VOCAB - 1), max_size=3).map(tuple)
FOUR = st.lists(
    st.dictionaries(WORDS, st.floats(-120, 0, width=32), min_size=1, max_size=5),
    min_size=4,
    max_size=4,
)


@pytest.mark.slow
@settings(deadline=None, max_examples=6)
@given(FOUR)
def test_any_lists_come_back(lists):
    """Even hypotheses that are e^-120 times as probable as the best."""
    nbest = [
        NBest(n, tuple(map(TARGET.decode, found)), tuple(found), (), tuple(found.values()))
        for n, found in enumerate(lists)
    ]
    model, p = nbest_teacher(SOURCES, nbest, TARGET)
    found = translate(model, p, [np.array(s) for s in SOURCES], SEARCH)
    for hypotheses, want in zip(found, lists, strict=True):
        rows = dict(rows_of(hypotheses))
        total = np.logaddexp.reduce(list(want.values()))
        assert rows.keys() == want.keys()
        np.testing.assert_allclose(
            [rows[tokens] for tokens in want], np.array(list(want.values())) - total, atol=1e-3
        )


def test_next_words_are_voted_for_by_the_hypotheses_that_begin_so():
    """The distributions written out by hand."""
    tgt = padded([[4, 5, 6, EOS]], 5)
    q = jax.nn.softmax(logits_of(TEACHER)(LISTS, padded(SOURCES[:1], 6), tgt))[0]
    want = np.zeros((4, TGT_VOCAB))
    want[0, [4, 8]] = np.array([0.61, 0.05]) / 0.66
    want[1, [5, 7]] = np.array([0.51, 0.10]) / 0.61
    want[2, [6, EOS]] = np.array([0.31, 0.20]) / 0.51
    want[3, [EOS, 7]] = np.array([0.30, 0.01]) / 0.31
    np.testing.assert_allclose(q[:4], want, atol=1e-6)


def test_word_kd_on_the_lists_is_sequence_level_kd_weighted_by_the_teacher():
    """Summed over the list with its weights, -sum_t q(t) log p(t): the loss of section 3.2.

    Word-KD on hypothesis y, weighted by q(y), counts each prefix by its probability, and so
    does the cross-entropy of whole sentences; both are the same number.
    """
    n = NBESTS[0]
    rows = len(n.tokens)
    q = np.exp(n.log_probs) / np.exp(n.log_probs).sum()
    src = padded([SOURCES[0]] * rows, 3)
    tgt = padded([[*words, EOS] for words in n.tokens], 6)
    batch = Example(src, tgt, q.astype(np.float32), np.arange(rows, dtype=np.int32))
    evaluate = jax.jit(make_eval_step(MODEL, word_kd, teacher=TEACHER))
    got = evaluate(params(), batch, LISTS).sum
    logits = logits_of(MODEL)(params(), src, tgt)
    losses = optax.softmax_cross_entropy_with_integer_labels(logits, tgt) * (tgt != PAD)
    np.testing.assert_allclose(got, (losses.sum(1) * q).sum(), rtol=1e-5)


def test_with_lists_of_one_word_kd_is_the_nll_of_seq_kd():
    pairs = [(SOURCE.decode(s), "t4 t4 t4") for s in SOURCES]
    best = [NBest(n.index, n.texts[:1], n.tokens[:1]) for n in NBESTS if n.texts[0]]
    sources = [s for s, n in zip(SOURCES, NBESTS, strict=True) if n.texts[0]]
    model, lists = nbest_teacher(sources, best, TARGET)
    new = seq_kd(pairs, NBESTS).pairs
    new = [pair for pair, n in zip(new, NBESTS, strict=True) if n.texts[0]]
    batch = Example(
        padded([SOURCE.encode(s) for s, _ in new], 4),
        padded([[*TARGET.encode(t), EOS] for _, t in new], 5),
        np.ones(len(new), np.float32),
        np.arange(len(new), dtype=np.int32),
    )
    word = jax.jit(make_eval_step(MODEL, word_kd, teacher=model))(params(), batch, lists)
    sequence = jax.jit(make_eval_step(MODEL, nll))(params(), batch)
    np.testing.assert_allclose(word.sum, sequence.sum, rtol=1e-6)


@functools.cache
def wide_batch():
    """A batch whose sources all have a list, whose targets are of it, and its teacher."""
    batch = example(7)
    nbest = []
    for n, tgt in enumerate(batch.tgt):
        words = tuple(sentence(tgt))
        nbest.append(listed(n, (words, 0.5), ((*words, 4), 0.2), ((5, 5), 0.1)))
    sources = [row[row != PAD] for row in batch.src]
    return batch, *nbest_teacher(sources, nbest, TARGET)


@pytest.mark.slow
def test_it_teaches_on_one_device_and_on_four():
    batch, model, lists = wide_batch()
    step = make_train_step(MODEL, optax.sgd(0.05), word_kd, teacher=model)
    one = init_state(MODEL, optax.sgd(0.05), jax.random.key(0), params())
    many, losses = replicate(one), []
    on_one, on_many = jax.jit(step), pmap_step(step)
    for _ in range(6):
        one, metrics = on_one(one, batch, jax.random.key(1), lists)
        many, _ = on_many(many, shard(batch), jax.random.key(1), lists)
        assert metrics["finite"]
        losses.append(float(metrics["loss"]))
    assert losses[-1] < losses[0]
    assert largest_difference(one.params, many.params) < 1e-5


def test_stepping_equals_teacher_forcing_and_padding_changes_nothing():
    def stepped(params, src, words):
        memory, state = TEACHER.encode(params, src)

        def go(state, word):
            hidden, state = TEACHER.step(params, memory, state, word)
            return state, TEACHER.project(params, hidden)

        return jax.lax.scan(go, state, words)[1]

    src, tgt = padded(SOURCES, 4), padded([[*n.tokens[0], EOS] for n in NBESTS], 4)
    read = np.concatenate([np.full((4, 1), BOS, np.int32), tgt[:, :-1]], axis=1)
    want = logits_of(TEACHER)(LISTS, src, tgt)
    np.testing.assert_array_equal(batched(stepped)(LISTS, src, read), want)
    wide = logits_of(TEACHER)(LISTS, padded(src.tolist(), 9), tgt)
    np.testing.assert_array_equal(wide, want)


def test_what_is_not_in_the_file_has_no_probability():
    src, tgt = padded(SOURCES[:1], 3), padded([[4, 9, 6, EOS]], 4)
    logits = logits_of(TEACHER)(LISTS, src, tgt)[0]
    assert np.isfinite(logits[0]).sum() == 2 and np.isneginf(logits[1, 9])
    assert np.isneginf(logits[2:]).all()  # no hypothesis begins with 4 9
    loss = jax.jit(make_eval_step(MODEL, word_kd, teacher=TEACHER))
    ones = np.ones(1, np.float32), np.zeros(1, np.int32)
    assert np.isnan(loss(params(), Example(src, tgt, *ones), LISTS).sum)


def test_smoothing_keeps_every_loss_finite():
    smooth, lists = nbest_teacher(SOURCES, NBESTS, TARGET, smoothing=0.1)
    src, tgt = padded(SOURCES[:1], 3), padded([[4, 9, 6, EOS]], 4)
    hard = jax.nn.softmax(logits_of(TEACHER)(LISTS, src, tgt)[0, :2])
    got = np.exp(logits_of(smooth)(lists, src, tgt)[0])
    np.testing.assert_allclose(got[:2], 0.9 * hard + 0.1 / TGT_VOCAB, atol=1e-6)
    np.testing.assert_allclose(got[2:], 1 / TGT_VOCAB, atol=1e-6)
    with pytest.raises(ValueError, match="smoothing is 1.0"):
        nbest_teacher(SOURCES, NBESTS, TARGET, smoothing=1.0)


@pytest.mark.parametrize("smoothing", [0.0, pytest.param(0.1, marks=pytest.mark.slow)])
@pytest.mark.parametrize("source", [[6, 5, 4], [10] * 5])
def test_a_source_that_is_not_in_the_file_is_told(source, smoothing):
    model, lists = nbest_teacher(SOURCES, NBESTS, TARGET, smoothing=smoothing)
    with pytest.raises(ValueError, match="no n-best list for the source"):
        model.encode(lists, jnp.array(source))
    logits = logits_of(model)(lists, np.array([source]), np.array([[4, EOS]]))
    assert np.isnan(logits).all()
    (found,) = translate(model, lists, [np.array(source)], skd.Search(beam_size=2))
    assert not np.isfinite(found.scores).any()


def test_sources_of_one_hash_are_told_apart(monkeypatch):
    monkeypatch.setattr(
        "seqkd_jax.contrib.nbest_lists._hash", lambda src: (src != PAD).sum(dtype=jnp.uint32)
    )
    model, lists = nbest_teacher(SOURCES, NBESTS, TARGET)
    for source, n in zip(SOURCES, NBESTS, strict=True):
        tokens, _ = model.encode(lists, jnp.array(source))
        assert sentence(np.asarray(tokens[0])) == list(n.tokens[0])
    with pytest.raises(ValueError, match="no n-best list for the source"):
        model.encode(lists, jnp.array([6, 5, 4]))
    with pytest.raises(ValueError, match="no n-best list for the source"):
        model.encode(lists, jnp.array([4, 5]))


def test_a_file_of_texts_is_enough_and_other_peoples_ids_are_not_read(tmp_path):
    """The ids of another vocabulary spell other words here; equal hypotheses become one."""
    foreign = [
        NBest(0, ("t5 t4", "t6"), ((6, 5), (999,)), (-1.0, -2.0)),
        NBest(1, ("t4", "t4 ", "t7 <unk>"), (), (), tuple(np.log([0.3, 0.3, 0.4]))),
        NBest(2, ("t8", "t9")),
    ]
    write_shard(tmp_path, 0, 1, {"teacher_digest": "other"}, foreign)
    model, lists = nbest_teacher(SOURCES[:3], read_nbest(tmp_path)[1], TARGET)
    lines = [SOURCE.decode(s) for s in SOURCES[:3]]
    found = translate_texts(TrainedModel(model, lists, SOURCE, TARGET), lines, SEARCH)
    assert [n.texts for n in found] == [("t5 t4", "t6"), ("t4", "t7 <unk>"), ("t8", "t9")]
    probs = [np.exp(n.log_probs) for n in found]
    np.testing.assert_allclose(probs[0], jax.nn.softmax(np.array([-1.0, -2.0])), atol=1e-6)
    np.testing.assert_allclose(probs[1], [0.6, 0.4], atol=1e-6)
    np.testing.assert_allclose(probs[2], [0.5, 0.5], atol=1e-6)


def test_of_equal_sources_the_first_list_counts_and_empty_ones_are_passed_over():
    sources = [[4], [], [4], [5]]
    nbest = [listed(0, ((4,), 0.1)), listed(1, ((), 1.0)), listed(2, ((5,), 0.9)), NBest(3, ())]
    model, lists = nbest_teacher(sources, nbest, TARGET)
    assert lists.sources.shape == (1, 1)
    (found,) = translate(model, lists, [np.array([4])])
    assert sentence(found.tokens[0]) == [4]


def test_a_file_and_a_model_vote_in_an_ensemble():
    batch, model, lists = wide_batch()
    both = ensemble([model, MODEL])
    got = np.exp(logits_of(both)((lists, params()), batch.src, batch.tgt))
    real = batch.tgt != PAD
    parts = [logits_of(model)(lists, batch.src, batch.tgt)]
    parts.append(logits_of(MODEL)(params(), batch.src, batch.tgt))
    want = np.mean([jax.nn.softmax(p) for p in parts], axis=0)
    np.testing.assert_allclose(got[real], want[real], atol=1e-6)


def test_its_perplexity_is_that_of_the_list():
    pairs = [(SOURCE.decode(s), n.texts[0]) for s, n in zip(SOURCES, NBESTS, strict=True)]
    encoded = skd.encode_pairs([p for p in pairs if p[1]], SOURCE, TARGET)
    want = [n.log_probs[0] - np.logaddexp.reduce(n.log_probs) for n in NBESTS if n.texts[0]]
    np.testing.assert_allclose(log_probs(TEACHER, LISTS, encoded), want, atol=1e-5)


@pytest.mark.parametrize(
    "sources, nbest, message",
    [
        (SOURCES, NBESTS[:2], "2 n-best lists for 4 sources"),
        ([], [], "no source with an n-best list"),
        ([[4]], [NBest(0, ("t4",), (), (), (math.nan,))], "list of sentence 0: its log-prob"),
        ([[4]], [NBest(0, ("t4", "t5"), (), (), (-math.inf, -math.inf))], "list of sentence 0"),
    ],
)
def test_lists_that_cannot_teach_are_refused(sources, nbest, message):
    with pytest.raises(ValueError, match=message):
        nbest_teacher(sources, nbest, TARGET)
