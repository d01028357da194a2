"""Guided alignment, the extraction of states, and pretrained vectors."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from jax.test_util import check_grads
from small import SRC_VOCAB, TGT_VOCAB, largest_difference
from small_deep import CONFIG, MODEL, params

from seqkd_jax.base import EOS, PAD, Example
from seqkd_jax.contrib.guided_alignment import (
    alignment_ce,
    alignment_matrix,
    alignment_mse,
    read_alignments,
    with_alignments,
    with_attention_output,
)
from seqkd_jax.contrib.hint import on_hidden, on_logits
from seqkd_jax.data.vectors import read_vectors
from seqkd_jax.data.vocab import build_words
from seqkd_jax.losses import nll, weighted
from seqkd_jax.models.attention_lstm import network
from seqkd_jax.models.inspection import alignments, states
from seqkd_jax.models.params import freeze_labels, with_vectors
from seqkd_jax.models.reading_order import Order
from seqkd_jax.train.state import clipped_adam, init_state
from seqkd_jax.train.steps import make_train_step

PAIRS = [("a b c", "x y"), ("d e", "z y x")]
SRC, TGT = [[4, 5, 6, PAD], [7, 8, PAD, PAD]], [[4, 5, EOS, PAD], [6, 5, 4, EOS]]
LINKS = [[(0, 0), (1, 0), (2, 1)], [(1, 0), (0, 2)]]


def batch():
    return Example(
        np.array(SRC, np.int32),
        np.array(TGT, np.int32),
        np.ones(2, np.float32),
        np.array([0, 1], np.int32),
    )


def test_the_row_of_a_word_is_where_it_is_predicted():
    """Not where it is read: the shift of seq2seq-attn is mended, and the last pair is there."""
    want = [[0.5, 0.5, 0, 0], [0, 0, 1, 0], [0, 0, 0, 0], [0, 0, 0, 0]]
    np.testing.assert_array_equal(alignment_matrix(LINKS[0], 4, 4), want)
    (guided,) = with_alignments(iter([batch()]), LINKS)
    np.testing.assert_array_equal(guided.teacher_targets.hidden[0], want)
    np.testing.assert_array_equal(
        guided.teacher_targets.hidden[1, :, :2], [[0, 1], [0, 0], [1, 0], [0, 0]]
    )


def test_links_are_read_and_wrong_ones_are_named(tmp_path):
    path = tmp_path / "train.align"
    path.write_text("0-0 1-0 2-1\n1-0 0-2\n")
    assert read_alignments(path, PAIRS) == LINKS
    path.write_text("0-0\n1-3\n")
    with pytest.raises(ValueError, match=r"train.align:2: 1-3 points beyond .* 2 source and 3"):
        read_alignments(path, PAIRS)
    path.write_text("0-0\n1:3\n")
    with pytest.raises(ValueError, match="2: '1:3' is not a link"):
        read_alignments(path, PAIRS)
    path.write_text("0-0\n")
    with pytest.raises(ValueError, match="1 lines for 2 pairs"):
        read_alignments(path, PAIRS)


@pytest.mark.parametrize(
    "loss", [alignment_ce, pytest.param(alignment_mse, marks=pytest.mark.slow)]
)
def test_the_guided_loss_is_that_of_the_attention_weights(loss):
    (guided,) = with_alignments(iter([batch()]), LINKS)
    p, model = params(), with_attention_output(network(CONFIG))
    quiet = network(dataclasses.replace(CONFIG, dropout=0.0))
    step = make_train_step(
        with_attention_output(quiet),
        clipped_adam(),
        weighted((0.5, on_logits(nll)), (2.0, on_hidden(loss))),
    )
    state = init_state(model, clipped_adam(), jax.random.key(0), p)
    _, total = jax.jit(step.gradients)(state, guided, jax.random.key(1))
    want = 0.0
    for src, tgt, matrix in zip(guided.src, guided.tgt, guided.teacher_targets.hidden, strict=True):
        weights = np.asarray(alignments(quiet, p, src, tgt), np.float64)
        for row, target in zip(weights, matrix, strict=True):
            if target.any():
                distance = ((row - target) ** 2).sum()
                entropy = -(target * np.log(np.maximum(row, 1e-9))).sum()
                want += 2.0 * (distance if loss is alignment_mse else entropy)
        logits = jax.vmap(MODEL.project, (None, 0))(p, MODEL.hidden(p, src, tgt))
        log_probs = np.asarray(jax.nn.log_softmax(logits))
        want -= 0.5 * sum(log_probs[t, word] for t, word in enumerate(tgt) if word != PAD)
    np.testing.assert_allclose(total.sum, want, rtol=1e-4)


@pytest.mark.parametrize("loss", [alignment_mse, alignment_ce])
def test_the_gradient_is_that_of_finite_differences(loss):
    weights, aligned = jnp.array([0.2, 0.5, 0.3]), jnp.array([0.5, 0.0, 0.5])
    check_grads(lambda w: loss(w, 0, aligned), (weights,), 1, ["rev"], eps=1e-2)
    assert not jax.grad(loss)(weights, 0, jnp.zeros(3)).any()


@pytest.mark.slow
def test_guided_training_moves_attention_to_the_links():
    (guided,) = with_alignments(iter([batch()]), LINKS)
    tx = clipped_adam(3e-2)
    quiet = network(dataclasses.replace(CONFIG, dropout=0.0))
    step = jax.jit(make_train_step(with_attention_output(quiet), tx, on_hidden(alignment_ce)))
    state = init_state(MODEL, tx, jax.random.key(0), params())
    for _ in range(60):
        state, metrics = step(state, guided, jax.random.key(1))
    weights = np.asarray(alignments(quiet, state.params, guided.src[1], guided.tgt[1]))
    assert weights[0].argmax() == 1 and weights[2].argmax() == 0
    assert metrics["finite"]


@pytest.mark.slow
def test_states_are_those_of_the_model():
    c = network(dataclasses.replace(CONFIG, dropout=0.0), order=Order(reverse=True, symbols=True))
    src, tgt = jnp.array(SRC[0]), jnp.array(TGT[0])
    p = params()
    found = states(c, p, src, tgt)
    assert found["encoder"].shape == (4, 8) and found["decoder_c"].shape == (4, 2, 8)
    np.testing.assert_allclose(found["attention"], alignments(c, p, src, tgt), atol=1e-6)
    symbols = 1 - found["attention"][:, :3].sum(1)
    assert (np.asarray(symbols) > 0).all()  # some weight is at <s> and </s>
    # The top's h and the attention give the hidden vector again (context first, tanh).
    plain, a = network(dataclasses.replace(CONFIG, dropout=0.0)), p.decoder.attention
    found = states(plain, p, src, tgt)
    kept = found["attention"] @ found["encoder"]
    want = jnp.tanh(kept @ a.context + found["decoder_h"][:, -1] @ a.query)
    np.testing.assert_allclose(found["hidden"], want, atol=1e-5)


VOCAB = build_words(["a b c d e f g"])  # eleven with the special ones


@pytest.mark.parametrize("form", ["text", "word2vec", "npz", "word_vecs"])
def test_vectors_are_found_by_word(tmp_path, form):
    path = tmp_path / ("v.txt" if form in ("text", "word2vec") else "v.npz")
    vectors = np.arange(18, dtype=np.float32).reshape(3, 6)
    if path.suffix == ".txt":
        rows = [f"{w} " + " ".join(map(str, v)) for w, v in zip("bxd", vectors, strict=True)]
        path.write_text("\n".join(["3 6"] * (form == "word2vec") + rows) + "\n")
    elif form == "npz":
        np.savez(path, words=np.array(list("bxd")), vectors=vectors)
    else:
        table = np.zeros((11, 6), np.float32)
        table[[5, 7]] = vectors[[0, 2]]
        np.savez(path, word_vecs=table)
    ids, found = read_vectors(path, VOCAB)
    at = {VOCAB.words[n]: v for n, v in zip(ids, found, strict=True)}
    np.testing.assert_array_equal(at["b"], vectors[0])
    np.testing.assert_array_equal(at["d"], vectors[2])


def test_bad_vectors_are_named(tmp_path):
    path = tmp_path / "v.txt"
    path.write_text("a 1 2\nb 1\n")
    with pytest.raises(ValueError, match="v.txt:2: does not have as many numbers"):
        read_vectors(path, VOCAB)
    path.write_text("zz 1 2\n")
    with pytest.raises(ValueError, match="has none of the 11 words"):
        read_vectors(path, VOCAB)


def test_vectors_replace_rows_and_frozen_sides_are_told():
    assert (SRC_VOCAB, TGT_VOCAB) == (11, 13)
    p = params()
    changed = with_vectors(p, "encoder", np.array([5, 7]), np.ones((2, 6), np.float32))
    assert (np.asarray(changed.encoder.embedding)[[5, 7]] == 1).all()
    assert largest_difference(changed.decoder, p.decoder) == 0
    with pytest.raises(ValueError, match="train with embed=7"):
        with_vectors(p, "decoder", np.array([5]), np.ones((1, 7), np.float32))


@pytest.mark.slow
def test_frozen_vectors_do_not_move_from_either_direction():
    """Of seq2seq-attn's two directions one still moved them."""
    assert CONFIG.bidirectional
    p = params()
    parts = {"trained": clipped_adam(1e-2), "frozen": optax.set_to_zero()}
    tx = optax.partition(parts, freeze_labels(p, ["encoder"]))
    state = init_state(MODEL, tx, jax.random.key(0), p)
    step = jax.jit(make_train_step(MODEL, tx))
    for _ in range(3):
        state, _ = step(state, batch(), jax.random.key(1))
    np.testing.assert_array_equal(state.params.encoder.embedding, p.encoder.embedding)
    for moved, before in zip(*map(jax.tree.leaves, (state.params.decoder, p.decoder)), strict=True):
        assert largest_difference(moved, before) > 0
