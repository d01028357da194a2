import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import SRC_VOCAB, TEACHER, TEACHER_CONFIG, TGT_VOCAB, example, largest_difference
from small_deep import CONFIG, HIDDEN, MODEL, params

from seqkd_jax.base import BOS, EOS, PAD, Example, Seq2Seq, for_teaching, step_fn
from seqkd_jax.compress.reparametrise import reparametrised
from seqkd_jax.evaluation import count_parameters
from seqkd_jax.models.attention_lstm import Config, attention_lstm, network
from seqkd_jax.models.ensemble import ensemble
from seqkd_jax.models.inference import InferenceParams, restrict, specialize
from seqkd_jax.models.inspection import alignments
from seqkd_jax.models.layers import lstm, run_layer
from seqkd_jax.models.params import Layer, init_layer
from seqkd_jax.models.renumber import renumbered
from seqkd_jax.ops.dense import dense
from seqkd_jax.search import for_search
from seqkd_jax.search.candidates import BLOCK_SIZE
from seqkd_jax.train.steps import make_eval_step


def lstm_layer(layer, xs, mask, *, reverse=False):
    return run_layer(lstm(), layer, dense(xs, layer.inputs), mask, reverse=reverse)


def linen_cell(layer: Layer) -> dict:
    """The same weights as flax.linen's OptimizedLSTMCell names them."""
    width = layer.recurrent.shape[0]
    tree = {}
    for n, gate in enumerate("ifog"):
        block = slice(n * width, (n + 1) * width)
        tree[f"i{gate}"] = {"kernel": layer.inputs[:, block]}
        tree[f"h{gate}"] = {"kernel": layer.recurrent[:, block], "bias": layer.bias[block]}
    return {"params": {"cell": tree}}


@pytest.mark.parametrize("reverse", [False, True], ids=["left-to-right", "right-to-left"])
@pytest.mark.parametrize("words", [1, 4, 7])
def test_a_layer_equals_flax_linen_on_padded_sentences(reverse, words):
    layer = init_layer(jax.random.key(0), 5, 6, 0.5)
    xs = jax.random.normal(jax.random.key(1), (7, 5))
    outputs, (c, h) = lstm_layer(layer, xs, jnp.arange(7) < words, reverse=reverse)
    rnn = nn.RNN(nn.OptimizedLSTMCell(6), return_carry=True, reverse=reverse, keep_order=True)
    (want_c, want_h), want = rnn.apply(linen_cell(layer), xs[None], seq_lengths=jnp.array([words]))
    np.testing.assert_allclose(outputs[:words], want[0, :words], atol=2e-7)
    np.testing.assert_allclose((c, h), (want_c[0], want_h[0]), atol=2e-7)


@pytest.mark.parametrize(
    "reverse",
    [False, pytest.param(True, marks=pytest.mark.slow)],
    ids=["left-to-right", "right-to-left"],
)
def test_a_layers_gradient_is_that_of_flax_linen(reverse):
    layer = init_layer(jax.random.key(0), 5, 6, 0.5)
    xs = jax.random.normal(jax.random.key(1), (3, 7, 5))
    lengths = jnp.array([7, 1, 4])
    mask = jnp.arange(7)[None] < lengths[:, None]
    rnn = nn.RNN(nn.OptimizedLSTMCell(6), return_carry=True, reverse=reverse, keep_order=True)

    def ours(layer, xs, mask):
        outputs, (c, h) = lstm_layer(layer, xs, mask, reverse=reverse)
        return jnp.sin(outputs * mask[:, None]).sum() + (c * h).sum()

    def theirs(layer):
        (c, h), outputs = rnn.apply(linen_cell(layer), xs, seq_lengths=lengths)
        return jnp.sin(outputs * mask[..., None]).sum() + (c * h).sum()

    together = jax.grad(lambda layer: jax.vmap(ours, (None, 0, 0))(layer, xs, mask).sum())(layer)
    assert largest_difference(together, jax.grad(theirs)(layer)) < 5e-6
    # One sentence at a time, and the gradient of each of several: the sum is the same.
    alone = [jax.grad(ours)(layer, x, m) for x, m in zip(xs, mask, strict=True)]
    each = jax.vmap(jax.grad(ours), (None, 0, 0))(layer, xs, mask)
    for n, one in enumerate(alone):
        assert largest_difference(one, jax.tree.map(lambda x, n=n: x[n], each)) < 2e-6
    assert largest_difference(together, jax.tree.map(lambda x: x.sum(0), each)) < 5e-6


def test_the_decoders_gradient_is_that_of_stepping():
    """Stepping is differentiated by JAX alone, the loop over a sentence by ``recurrence``."""
    config = dataclasses.replace(CONFIG, layers=3, bidirectional=True)
    model = attention_lstm(config)
    one, shapes = jax.tree.map(lambda x: x[0], example(5)), params(model)

    def stepped(params):
        memory, state = model.encode(params, one.src)
        total = 0.0
        for n, word in enumerate(jnp.concatenate([jnp.array([BOS]), one.tgt[:-1]])):
            hidden, state = model.step(params, memory, state, word)
            total += (jnp.sin(hidden) * (n + 1)).sum()
        return total

    def scanned(params):
        hidden = model.hidden(params, one.src, one.tgt)
        return (jnp.sin(hidden) * jnp.arange(1, len(hidden) + 1)[:, None]).sum()

    want, got = jax.jit(jax.grad(stepped))(shapes), jax.jit(jax.grad(scanned))(shapes)
    assert largest_difference(want, got) < 5e-6


def test_parameters_may_be_arrays_of_numpy_in_a_traced_function():
    """As they are when they come from a file or from jax.device_get."""
    batch, plain = example(), jax.device_get(params())
    got = jax.jit(jax.vmap(lambda src, tgt: MODEL.hidden(plain, src, tgt)))(batch.src, batch.tgt)
    np.testing.assert_allclose(got, HIDDEN(params(), batch.src, batch.tgt), atol=1e-6)

    def first(src):
        memory, state = MODEL.encode(plain, src)
        return step_fn(MODEL, plain, memory)(state, jnp.asarray(BOS))[0]

    logits = jax.jit(jax.vmap(first))(batch.src)
    project = jax.vmap(MODEL.project, (None, 0))
    np.testing.assert_allclose(logits, project(params(), got[:, 0]), atol=1e-5)


def test_the_gradient_of_a_gradient_is_refused():
    layer = init_layer(jax.random.key(0), 2, 2, 0.5)
    loss = lambda layer: lstm_layer(layer, jnp.ones((3, 2)), jnp.ones(3, bool))[0].sum()  # noqa: E731
    with pytest.raises(NotImplementedError, match="differentiated once"):
        jax.hessian(loss)(layer)


def test_the_model_equals_the_equations_written_out_word_by_word():
    """Reference equations in numpy: input feeding, general attention, context first."""
    config = Config(SRC_VOCAB, TGT_VOCAB, embed=3, hidden=4, layers=2)
    p = jax.tree.map(np.asarray, params(attention_lstm(config)))
    src, tgt = np.array([5, 9, 4]), np.array([6, 7, 4, EOS])

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    def cell(layer, x, c, h, extra=0.0):
        a = x @ layer.inputs + layer.bias + h @ layer.recurrent + extra
        i, f, o, g = np.split(a, 4)
        c = sigmoid(f) * c + sigmoid(i) * np.tanh(g)
        return c, sigmoid(o) * np.tanh(c)

    states = [(np.zeros(4), np.zeros(4))] * 2
    context = []
    for word in src:
        x = p.encoder.embedding[word]
        for n, layer in enumerate(p.encoder.forward):
            states[n] = cell(layer, x, *states[n])
            x = states[n][1]
        context.append(x)
    context = np.stack(context)
    feed, attended = np.zeros(4), p.decoder.attention
    w_c = np.concatenate([attended.context, attended.query])  # context first
    for word, got in zip([BOS, *tgt[:-1]], hidden_of(config)(p, src, tgt), strict=True):
        x, extra = p.decoder.embedding[word], feed @ p.decoder.feed[0]
        for n, layer in enumerate(p.decoder.layers):
            states[n] = cell(layer, x, *states[n], extra)
            x, extra = states[n][1], 0.0
        scores = context @ (attended.scores @ x)
        weights = np.exp(scores) / np.exp(scores).sum()
        feed = np.tanh(np.concatenate([weights @ context, x]) @ w_c)
        np.testing.assert_allclose(got, feed, atol=1e-5)


def hidden_of(config):
    return jax.jit(attention_lstm(config).hidden)


TABLE = [
    ("4x1000", 4, 1000, 50004, 82_020_000, 89_020_000, 50_054_004, 221_094_004),
    ("2x500", 2, 500, 50004, 29_006_000, 30_756_000, 25_052_004, 84_814_004),
    ("2x300", 2, 300, 50004, 16_443_600, 17_073_600, 15_051_204, 48_568_404),
    ("2x500 thai", 2, 500, 25004, 16_506_000, 18_256_000, 12_527_004, 47_289_004),
    ("2x100", 2, 100, 25004, 2_661_200, 2_731_200, 2_525_404, 7_917_804),
    ("1x100", 1, 100, 25004, 2_580_800, 2_650_800, 2_525_404, 7_757_004),
]


@pytest.mark.parametrize("row", TABLE, ids=[row[0] for row in TABLE])
def test_parameter_counts_are_the_papers(row):
    _, layers, size, vocabulary, encoder, decoder, generator, total = row
    model = attention_lstm(Config(vocabulary, vocabulary, size, size, layers))
    shapes = jax.eval_shape(model.init, jax.random.key(0))
    assert count_parameters(shapes.encoder) == encoder
    assert count_parameters(shapes.decoder) == decoder
    assert count_parameters(shapes.generator) == generator
    assert count_parameters(shapes) == total


def test_stepping_equals_teacher_forcing():
    batch, p = example(), params()
    encode, step = jax.jit(MODEL.encode), jax.jit(MODEL.step)
    for src, tgt, want in zip(batch.src, batch.tgt, HIDDEN(p, batch.src, batch.tgt), strict=True):
        memory, state = encode(p, src)
        for token, expected in zip([BOS, *tgt[:-1]], want, strict=True):
            hidden, state = step(p, memory, state, token)
            np.testing.assert_allclose(hidden, expected, atol=1e-6)


def test_tables_are_made_where_they_pay():
    p, one = params(), params(TEACHER)
    both = ensemble([MODEL, renumbered(TEACHER, np.arange(SRC_VOCAB), np.arange(TGT_VOCAB))])
    faster, (wide, column) = for_teaching(both, (p, one))
    np.testing.assert_allclose(
        column.encoder.table, one.encoder.embedding @ one.encoder.forward[0].inputs, rtol=1e-6
    )
    assert column.decoder.table.shape == (TGT_VOCAB, 28)
    assert wide.encoder is p.encoder  # of two columns
    assert not hasattr(wide.decoder.layers[0], "inputs")
    assert wide.decoder.layers[1].inputs.shape == (8, 32)
    assert for_teaching(faster, (wide, column))[0] == faster
    assert for_search(TEACHER, one, TGT_VOCAB - 1) == (TEACHER, one)  # fewer than a side has
    assert isinstance(for_search(TEACHER, one, TGT_VOCAB)[1], InferenceParams)
    net = network(TEACHER_CONFIG)
    small, less = specialize(net, TEACHER, one, None, 1, table_bytes=4 * 28 * TGT_VOCAB - 1)
    assert less.encoder.table.shape == (SRC_VOCAB, 28)
    assert less.decoder is one.decoder  # the larger side is left
    pair = example().src[0], example().tgt[0]
    for model, table in (for_teaching(MODEL, p), (small, less)):
        with pytest.raises(ValueError, match="cannot be trained"):
            model.hidden(table, *pair, jax.random.key(0))


def test_a_faster_model_is_a_model_of_its_own():
    p = params(TEACHER)
    faster, read = for_search(TEACHER, p)
    assert faster == for_search(TEACHER, p)[0]  # so that a search of it is compiled once
    assert faster != TEACHER and faster != for_teaching(TEACHER, p)[0]
    shapes = jax.eval_shape(faster.init, jax.random.key(0))
    assert jax.tree.map(jnp.shape, shapes) == jax.tree.map(jnp.shape, read)
    both, other = ensemble([TEACHER, MODEL]), renumbered(TEACHER, np.arange(11), np.arange(13))
    for model, q in ((both, (p, params())), (other, p)):
        assert for_search(model, q)[0] == for_search(model, q)[0] != model


def test_a_bias_becomes_a_row_of_the_projection(monkeypatch):
    monkeypatch.setattr(jax, "default_backend", lambda: "cpu")
    p, hidden = jax.tree.map(np.asarray, params()), jax.random.normal(jax.random.key(0), (2, 8))
    want = MODEL.project(p, hidden)
    for make, width in ((for_teaching, TGT_VOCAB), (for_search, BLOCK_SIZE)):
        model, read = make(MODEL, p)
        assert read.generator.matrix.shape == (9, width)
        logits = model.project(read, hidden)
        np.testing.assert_allclose(logits[:, :TGT_VOCAB], want, atol=2e-6)
        assert np.all(logits[:, TGT_VOCAB:] == -np.inf)
        some = model.project(restrict(read, jnp.array([3, 12, 0])), hidden)
        np.testing.assert_allclose(some, want[:, [3, 12, 0]], atol=2e-6)
        again, same = make(model, read)  # asked twice, as by a command and a search
        assert again is model and same is read

    def generator(table_bytes):
        return specialize(network(CONFIG), MODEL, p, None, 1, table_bytes)[1].generator

    assert generator(4 * 9 * TGT_VOCAB - 1) is p.generator
    assert generator(4 * 9 * TGT_VOCAB) is not p.generator
    monkeypatch.setattr(jax, "default_backend", lambda: "tpu")  # it would round the bias
    assert for_teaching(MODEL, p)[1].generator is p.generator


def test_whoever_looks_at_logits_before_the_search_sees_those_of_the_vocabulary():
    p, hidden = params(), jnp.zeros(8)
    wrapped = MODEL._replace(project=lambda p, h: 2 * MODEL.project(p, h))
    assert for_search(wrapped, p) == (wrapped, p)  # another model, which has offered nothing
    model, read = for_search(renumbered(MODEL, np.arange(SRC_VOCAB), np.arange(TGT_VOCAB)), p)
    assert model.project(read, hidden).shape == (TGT_VOCAB,)
    both = ensemble([MODEL, MODEL], join=lambda logits: logits[0] - 0.5 * logits[1])
    model, read = for_search(both, (p, p))
    joined = model.project(read, (hidden, hidden))
    np.testing.assert_allclose(joined, 0.5 * MODEL.project(p, hidden), atol=2e-6)
    wide = attention_lstm(dataclasses.replace(CONFIG, tgt_vocab=TGT_VOCAB + 1))
    mixed = ensemble([MODEL, wide])
    with pytest.raises(ValueError, match="shape"):
        mixed.project((p, params(wide)), (hidden, hidden))


def test_a_model_made_of_other_parameters_offers_nothing_faster():
    model = reparametrised(TEACHER, lambda p: jax.tree.map(jnp.tanh, p), TEACHER.init)
    assert for_search(model, params(TEACHER)) == (model, params(TEACHER))


def test_padding_changes_nothing():
    batch, p = example(), params()
    alone = HIDDEN(p, batch.src, batch.tgt)
    padded = HIDDEN(p, np.pad(batch.src, ((0, 0), (0, 4))), np.pad(batch.tgt, ((0, 0), (0, 3))))
    np.testing.assert_allclose(padded[:, : alone.shape[1]], alone, atol=1e-6)


def test_a_word_depends_on_no_later_word():
    batch, p = example(), params()

    def of_words(words):
        changed = p.replace(decoder=p.decoder.replace(embedding=words))
        return MODEL.hidden(changed, batch.src[0], jnp.array([4, 5, 6, 7, 8]))[2].sum()

    gradient = jax.jit(jax.grad(of_words))(p.decoder.embedding)
    touched = set(np.flatnonzero(np.abs(gradient).sum(1)))
    assert touched == {BOS, 4, 5}


@pytest.mark.parametrize(
    "bidirectional",
    [pytest.param(False, marks=pytest.mark.slow), True],
    ids=["one direction", "two directions"],
)
def test_the_padding_row_starts_at_zero_and_gets_no_gradient(bidirectional):
    model = attention_lstm(dataclasses.replace(CONFIG, bidirectional=bidirectional))
    batch, p = example(), jax.jit(model.init)(jax.random.key(0))
    assert not p.encoder.embedding[PAD].any() and not p.decoder.embedding[PAD].any()

    def loss(p):
        hidden = jax.vmap(model.hidden, (None, 0, 0))(p, batch.src, batch.tgt)
        return (hidden * (batch.tgt != PAD)[..., None]).sum()

    gradient = jax.jit(jax.grad(loss))(p)
    assert not gradient.encoder.embedding[PAD].any()
    assert not gradient.decoder.embedding[PAD].any()
    assert gradient.encoder.embedding[4:].any()


def test_attention_is_zero_at_padding_and_sums_to_one():
    batch, p = example(), params()
    attention = jax.jit(lambda src, tgt: alignments(network(CONFIG), p, src, tgt))
    for src, tgt in zip(batch.src, batch.tgt, strict=True):
        weights = attention(src, tgt)
        assert not np.asarray(weights)[:, src == PAD].any()
        np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)


def test_dropout_happens_exactly_when_a_key_is_passed():
    batch, p = example(), params()
    src, tgt = batch.src[0], np.array([4, 5, 6, 7, EOS])
    draw = jax.jit(MODEL.hidden)
    keys = jax.random.split(jax.random.key(1), 2)
    first, second = draw(p, src, tgt, keys[0]), draw(p, src, tgt, keys[1])
    again = draw(p, src, tgt, jax.random.split(jax.random.key(1), 2)[0])
    assert largest_difference(first, second) > 0.01
    assert largest_difference(first, again) == 0
    # The vector that is classified is dropped out too, and rescaled.
    more = jax.random.split(jax.random.key(2), 50)
    zeros = np.mean([np.asarray(draw(p, src, tgt, k)) == 0 for k in more])
    assert abs(zeros - CONFIG.dropout) < 0.05


@pytest.mark.slow
def test_dropout_leaves_embeddings_and_first_layers_alone():
    """With one layer the only site is h~: without it the recurrence sees no noise."""
    config = Config(SRC_VOCAB, TGT_VOCAB, embed=4, hidden=64, layers=1, dropout=0.5)
    model, p = attention_lstm(config), params(attention_lstm(config))
    src, tgt = np.array([4, 5, 6]), np.array([7])
    clean, noisy = model.hidden(p, src, tgt), model.hidden(p, src, tgt, jax.random.key(3))
    kept = np.asarray(noisy[0]) != 0
    np.testing.assert_allclose(noisy[0][kept], 2 * clean[0][kept], atol=1e-5)
    assert 0.25 < kept.mean() < 0.75


def test_a_model_equals_only_what_has_the_same_faster_equivalent():
    plain = MODEL._replace()
    assert plain != MODEL and MODEL != plain and Seq2Seq(*MODEL) != MODEL and plain == plain
    assert MODEL != Seq2Seq(*MODEL) and Seq2Seq(*MODEL) == Seq2Seq(*plain)
    assert MODEL == attention_lstm(CONFIG) and hash(MODEL) == hash(attention_lstm(CONFIG))
    both = params(), params()
    of_plain, of_whole = ensemble([plain, MODEL]), ensemble([MODEL, MODEL])
    assert for_teaching(of_plain, both)[1][0] is both[0]
    assert isinstance(for_teaching(of_whole, both)[1][0], InferenceParams)


@pytest.mark.slow
def test_equal_networks_are_one_model_however_many_others_were_made():
    small = Config(9, 9, embed=1, hidden=1, layers=1)
    before = attention_lstm(small), ensemble([attention_lstm(small)])
    for hidden in range(2, 67):
        ensemble([attention_lstm(dataclasses.replace(small, hidden=hidden))])
    assert before == (attention_lstm(small), ensemble([attention_lstm(small)]))


@pytest.mark.slow
def test_gradients_of_words_are_summed_in_float32():
    """The gradient of a word that occurs often would lose most of its sum in bfloat16."""
    model = attention_lstm(dataclasses.replace(CONFIG, dtype="bfloat16"))
    src = jnp.full(200, 5)

    def read(p):
        return model.encode(p, src)[0].reader[0].astype(jnp.float32).sum()

    found = jax.grad(read)(params(model)).encoder.embedding[5]
    assert jnp.any(found != found.astype(jnp.bfloat16))


@pytest.mark.slow
def test_gradients_are_summed_in_float32():
    """Of both types the gradients are nearly the same: sums over steps lose nothing."""
    high = Config(
        SRC_VOCAB, TGT_VOCAB, embed=32, hidden=32, layers=2, bidirectional=True, dropout=0.0
    )
    low, rng = dataclasses.replace(high, dtype="bfloat16"), np.random.default_rng(0)
    src, tgt = rng.integers(4, SRC_VOCAB, (64, 20)), rng.integers(4, TGT_VOCAB, (64, 20))
    p = jax.tree.map(lambda x: 3 * x, attention_lstm(high).init(jax.random.key(0)))

    def gradients(config):
        loss = make_eval_step(attention_lstm(config))
        batch = Example(src, tgt, np.ones(64, np.float32), np.arange(64))
        return jax.jit(jax.grad(lambda p: loss(p, batch).sum / 64))(p)

    def distance(a, b):
        return float(jnp.linalg.norm(a - b) / jnp.linalg.norm(b))

    found = jax.tree.map(distance, gradients(low), gradients(high))
    assert max(jax.tree.leaves(found)) < 0.03, found


@pytest.mark.slow
def test_bfloat16_computes_low_and_returns_float32_logits():
    config = dataclasses.replace(CONFIG, dtype="bfloat16")
    model, batch, p = attention_lstm(config), example(), params()
    low = model.hidden(p, batch.src[0], batch.tgt[0])
    high = MODEL.hidden(p, batch.src[0], batch.tgt[0])
    assert low.dtype == jnp.bfloat16
    assert model.project(p, low[0]).dtype == jnp.float32
    faster, read = for_teaching(model, p)
    assert read.decoder.table.dtype == jnp.bfloat16
    for leaf in jax.tree.leaves((read.encoder, read.decoder)):
        assert leaf.dtype == (jnp.bfloat16 if leaf.ndim > 1 else jnp.float32)
    np.testing.assert_array_equal(read.generator.bias, p.generator.bias)  # it is not rounded
    np.testing.assert_array_equal(faster.project(read, low[0]), model.project(p, low[0]))
    table = faster.hidden(read, batch.src[0], batch.tgt[0])
    np.testing.assert_allclose(*(x.astype(jnp.float32) for x in (table, low)), atol=0.02)
    np.testing.assert_allclose(low.astype(jnp.float32), high, atol=0.15)
