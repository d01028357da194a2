"""Encoder-decoders put together from other parts than the paper's."""

import dataclasses
import functools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import SRC_VOCAB, TGT_VOCAB, largest_difference, params

from seqkd_jax import recipes
from seqkd_jax.base import BOS, EOS, PAD, Example, for_teaching, shift_right
from seqkd_jax.build import build, config_of
from seqkd_jax.contrib.deep_att import fast_forward, peephole, peephole_equations
from seqkd_jax.errors import UsageError
from seqkd_jax.models import attentions
from seqkd_jax.models.attention import attention_weights, general
from seqkd_jax.models.attention_lstm import Config, attention_lstm, init_stack, model_of, network
from seqkd_jax.models.blocks import LayerOutput
from seqkd_jax.models.connections import plain, residual, skip
from seqkd_jax.models.inspection import alignments
from seqkd_jax.models.layers import from_states, lstm, run_layer, run_stack, word_layers
from seqkd_jax.settings import Parts, Size
from seqkd_jax.train.state import clipped_adam, init_state
from seqkd_jax.train.steps import make_train_step

KEY, LSTM = jax.random.key(0), lstm()
SMALL = Config(SRC_VOCAB, TGT_VOCAB, embed=3, hidden=4, layers=2, dropout=0.0)


def net(layers=2, bidirectional=False, hidden=4, encoder_layers=None, encoder_hidden=None, **parts):
    sizes = dataclasses.replace(
        SMALL,
        layers=layers,
        bidirectional=bidirectional,
        hidden=hidden,
        encoder_layers=encoder_layers,
        encoder_hidden=encoder_hidden,
    )
    return build(sizes, Parts(**parts))


def lstm_layer(layer, xs, mask, *, reverse=False, cell=LSTM):
    return run_layer(cell, layer, xs @ layer.inputs, mask, reverse=reverse)


DEEP_ATT = {
    "attention": "concat",
    "attends": "input",
    "cell": "peephole",
    "connections": "fast-forward",
    "join": "interleaved",
    "bridge": "zero",
}
SYSTEMS = {
    "dot": net(attention="dot"),
    "concat": net(attention="concat"),
    "location, no feeding": net(attention="location", input_feeding=False, max_source=9),
    "local-m, no feeding": net(alignment="local-m", window=1, input_feeding=False),
    "local-m": net(alignment="local-m", window=1),
    "local-p": net(alignment="local-p", window=2),
    "concat local-p, no feeding": net(
        attention="concat", alignment="local-p", window=2, input_feeding=False
    ),
    "lower attention": net(layers=3, lower_attention=2, connections="skip"),
    "no attention, reversed": net(attention="none", reverse_source=True),
    "residual, concatenated": net(2, True, connections="residual", join="concat"),
    "deep and wide encoder": net(1, True, encoder_layers=2, encoder_hidden=5),
    "shallow encoder, symbols": net(3, encoder_layers=1, start_symbols=True),
    "deep-att": net(2, True, **DEEP_ATT),
    "deep-att of three layers": net(3, True, **DEEP_ATT),
    "residual of three layers": net(3, True, connections="residual", join="concat"),
    "encoder of three layers": net(2, True, encoder_layers=3, encoder_hidden=5),
    "deep-ed": net(
        2,
        True,
        attention="none",
        attends="input",
        cell="peephole",
        connections="fast-forward",
        join="interleaved",
        bridge="zero",
        encoder_layers=3,
    ),
    "fast-forward, no attention": net(attention="none", connections="fast-forward"),
}


# Whose parts others have, too.
SLOW = {
    "dot",
    "concat",
    "local-m",
    "local-p",
    "local-m, no feeding",
    "deep-att of three layers",
    "residual of three layers",
    "encoder of three layers",
    "deep-ed",
    "shallow encoder, symbols",
    "fast-forward, no attention",
}


EACH_SYSTEM = pytest.mark.parametrize(
    "name", [pytest.param(n, marks=[pytest.mark.slow] if n in SLOW else []) for n in SYSTEMS]
)


@EACH_SYSTEM
def test_stepping_equals_teacher_forcing_in_value_and_gradient(name):
    """Stepping has no recurrence with a gradient of its own; padding and tables change nothing."""
    model = model_of(SYSTEMS[name])
    src, tgt = jnp.array([5, 9, 4, 7]), jnp.array([6, 7, 4, 8, EOS])
    padded = jnp.pad(src, (0, 3)), jnp.pad(tgt, (0, 2))

    def stepped(p, model=model):
        memory, state = model.encode(p, src)
        step = lambda state, word: model.step(p, memory, state, word)[::-1]  # noqa: E731
        return jax.lax.scan(step, state, shift_right(tgt))[1]

    def scanned(p, model=model):
        return model.hidden(p, *padded)[: len(tgt)]

    @jax.jit
    def both(p):
        def of(run):
            def loss(p):
                hidden = run(p)
                return (jnp.sin(hidden) ** 3).sum(), hidden

            (_, hidden), gradient = jax.value_and_grad(loss, has_aux=True)(p)
            return hidden, gradient

        faster, read = for_teaching(model, p)
        assert read.decoder.table.shape == (TGT_VOCAB, 4 * SYSTEMS[name].config.hidden)
        tables = stepped(read, faster), scanned(read, faster)
        return of(stepped), of(scanned), tables

    want, got, tables = both(params(model))
    for table in tables:
        np.testing.assert_allclose(table, want[0], atol=2e-6)
    np.testing.assert_allclose(got[0], want[0], atol=2e-6)
    assert largest_difference(got[1], want[1]) < 2e-5
    used = jax.tree_util.tree_flatten_with_path(got[1])[0]
    silent = [jax.tree_util.keystr(k) for k, x in used if not np.asarray(x).any()]
    assert set(silent) <= {".generator.kernel", ".generator.bias"}


@EACH_SYSTEM
def test_bfloat16_is_for_products_alone(name):
    """What is added up from step to step is float32, and stays so."""
    high = SYSTEMS[name]
    config = dataclasses.replace(high.config, dtype="bfloat16")
    words = word_layers(config, high.blocks.src_embedding, high.blocks.tgt_embedding)
    model = model_of(high._replace(config=config, words=words))
    src, tgt, token = jnp.array([5, 9, 4, 7]), jnp.array([6, 7, EOS]), jnp.array(6)

    def used(p):
        types = []
        for one, read in (model, p), for_teaching(model, p):
            memory, state = one.encode(read, src)
            hidden, after = one.step(read, memory, state, token)
            types.append((state, after, hidden, one.hidden(read, src, tgt)))
        return types

    for state, after, *hidden in jax.eval_shape(lambda key: used(model.init(key)), KEY):
        assert {x.dtype for x in jax.tree.leaves((state, after))} == {jnp.dtype("float32")}
        assert {x.dtype for x in hidden} == {jnp.dtype("bfloat16")}


SCORES = {
    "dot": attentions.dot(),
    "general": general(),
    "concat": attentions.concat(),
    "location": attentions.location(max_source=7),
}
ALIGNMENTS = {
    "global": attentions.global_,
    "local-m": functools.partial(attentions.local_m, window=2),
    "local-p": functools.partial(attentions.local_p, window=2),
}


@pytest.mark.parametrize("attention", SCORES)
@pytest.mark.parametrize("alignment", ALIGNMENTS)
def test_attention_is_the_papers_equations(attention, alignment):
    """Luong et al. 2015, equations 7 to 10, for one decoder output, in numpy."""
    value = ALIGNMENTS[alignment](SCORES[attention])
    p = value.init(jax.random.key(0), 4, 4, 0.8)
    rng = np.random.default_rng(0)
    context, h, mask = rng.normal(size=(6, 4)), rng.normal(size=4), np.arange(6) < 5
    position = 3
    w = jax.tree.map(lambda x: np.asarray(x, np.float64), p)
    of_scores = w.scores if alignment == "local-p" else w
    scores = {
        "dot": lambda w: context @ h,
        "general": lambda w: context @ (w @ h),
        "concat": lambda w: np.tanh(context @ w.of_context + h @ w.of_h) @ w.v,
        "location": lambda w: (h @ w)[:6],
    }[attention](of_scores)[:5]
    if alignment == "local-m":
        centre = position + 1.0
    elif alignment == "local-p":
        place = np.tanh(h @ w.of_h) @ w.v[:, 0]
        centre = 5 / (1 + np.exp(-place))
    distance = np.arange(1, 6) - (0 if alignment == "global" else centre)
    inside = np.ones(5, bool) if alignment == "global" else np.abs(distance) <= 2
    weights = np.where(inside, np.exp(scores - scores[inside].max()), 0)
    weights /= weights.sum()
    if alignment == "local-p":
        weights *= np.exp(-(distance**2) / (2 * 1.0**2))  # sigma = D / 2
    sums = value.sums(p, value.memory(p, jnp.asarray(context, jnp.float32)))
    got = attention_weights(
        value, sums, jnp.asarray(mask), jnp.asarray(h, jnp.float32), jnp.float32(position)
    )
    np.testing.assert_allclose(got[:5], weights, atol=2e-6)
    assert not got[5] and not np.asarray(got[:5])[~inside].any()


def with_scores(p, scores):
    attention = dataclasses.replace(p.decoder.attention, scores=scores)
    return dataclasses.replace(p, decoder=dataclasses.replace(p.decoder, attention=attention))


def test_general_attention_with_the_identity_is_dot_attention():
    general, dot = net(), net(attention="dot")
    p = params(model_of(general))
    p, q = (with_scores(p, scores) for scores in (jnp.eye(4), ()))
    src, tgt = jnp.array([5, 9, 4, 7]), jnp.array([6, 7, EOS])
    of = [jax.jit(model_of(c).hidden)(x, src, tgt) for c, x in ((general, p), (dot, q))]
    np.testing.assert_allclose(*of, atol=1e-6)


def test_a_wide_window_is_global_attention():
    wide = net(alignment="local-p", window=10**6)
    p = params(model_of(wide))
    q = with_scores(p, p.decoder.attention.scores.scores)
    src, tgt = jnp.array([5, 9, 4, 7]), jnp.array([6, 7, EOS])
    of = [jax.jit(model_of(c).hidden)(x, src, tgt) for c, x in ((wide, p), (net(), q))]
    np.testing.assert_allclose(*of, atol=1e-6)


def test_a_monotonic_window_never_leaves_the_source():
    """After the source's end it stays where it still holds the last word."""
    c = net(alignment="local-m", window=1)
    tgt = jnp.array([4, 5, 6, 7, 8, 9, EOS])
    src = jnp.array([5, 9, 4, PAD])
    run = jax.jit(functools.partial(alignments, c))
    weights = np.asarray(run(params(model_of(c)), src, tgt))
    np.testing.assert_allclose(weights.sum(1), 1, atol=1e-6)
    seen = [set(np.flatnonzero(row)) for row in weights]
    assert seen == [{0, 1}, {0, 1, 2}, {1, 2}, {2}, {2}, {2}, {2}]


@pytest.mark.parametrize("symbols", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_reversed_source_is_reversed_when_decoding_too(symbols):
    straight = net(start_symbols=symbols)
    turned = net(start_symbols=symbols, reverse_source=True)
    src, backwards = jnp.array([5, 9, 4, PAD, PAD]), jnp.array([4, 9, 5, PAD, PAD])

    def run(c, p, src):
        tgt, model = jnp.array([6, 7, EOS]), model_of(c)
        memory, state = model.encode(p, src)
        first, _ = model.step(p, memory, state, jnp.int32(BOS))
        return model.hidden(p, src, tgt), first, alignments(c, p, src, tgt)

    p = params(model_of(straight))
    want, first, weights = jax.jit(functools.partial(run, straight))(p, backwards)
    got, first_turned, weights_turned = jax.jit(functools.partial(run, turned))(p, src)
    np.testing.assert_allclose(got, want, atol=1e-6)
    np.testing.assert_allclose(first_turned, first, atol=1e-6)
    # Attention is reported at the words as they stand in the source.
    np.testing.assert_allclose(weights_turned[:, :3], weights[:, :3][:, ::-1], atol=1e-6)


def test_the_peephole_cell_is_zhous():
    rng = np.random.default_rng(0)
    c, gates, theta = rng.normal(size=5), rng.normal(size=20), rng.normal(size=(3, 5))

    def sigmoid(x):
        return 1 / (1 + np.exp(-x))

    z_rho, z_phi, z_pi, z = np.split(gates, 4)
    s = np.tanh(z) * sigmoid(z_rho + theta[0] * c) + sigmoid(z_phi + theta[1] * c) * c
    h = np.tanh(s) * sigmoid(z_pi + theta[2] * s)
    carry = jnp.asarray(c), jnp.zeros(5)
    got = peephole_equations(jnp.asarray(theta), carry, jnp.asarray(gates))
    np.testing.assert_allclose(got, (s, h), rtol=1e-5)


def test_what_a_layer_reads_from_those_below():
    outputs = [LayerOutput(jnp.arange(8.0) + n, jnp.full(2, 10.0**n)) for n in range(3)]
    read = {
        kind: [kind().read(outputs[: n + 1]) for n in range(3)]
        for kind in (plain, skip, residual, fast_forward)
    }
    assert [float(x[0]) for x in read[plain]] == [1, 10, 100]
    assert [float(x[0]) for x in read[skip]] == [1, 11, 110]  # it does not accumulate
    assert [float(x[0]) for x in read[residual]] == [1, 10, 100]
    np.testing.assert_array_equal(read[fast_forward][1], [1, 2, 3, 4, 10, 10])
    height = []
    for h in (1.0, 10.0, 100.0):
        height.append(residual().output(height, h, h))
    assert [output.h for output in height] == [1, 11, 111]  # it does
    # Dropout is of h alone: the linear path stays whole.
    dropped = fast_forward().drop(read[fast_forward][1], jnp.zeros(2))
    np.testing.assert_array_equal(dropped, [1, 2, 3, 4, 0, 0])


def stack_of(connections, layers, width, hidden, cell=LSTM, scale=0.1, key=None):
    keys = list(jax.random.split(jax.random.key(0) if key is None else key, layers))
    return init_stack(cell, connections, keys, width, hidden, scale)


def through(connections, layers, xs, mask, cell=LSTM):
    """The top of a stack that reads xs [S, E] from left to right."""
    on = layers, xs @ layers[0].inputs, mask, (False,) * len(layers)
    return run_stack(cell, connections, *on)[0]


def test_without_its_linear_part_fast_forward_is_a_plain_stack():
    layers = stack_of(fast_forward(), 3, 3, 4)
    cut = [layers[0]]
    for n in (1, 2):
        cut.append(dataclasses.replace(layers[n], inputs=layers[n].inputs.at[:8].set(0)))
    bare = [layers[0]]
    bare += [dataclasses.replace(layer, inputs=layer.inputs[8:]) for layer in cut[1:]]
    xs, mask = jax.random.normal(jax.random.key(1), (5, 3)), jnp.arange(5) < 4

    def run(connections, layers):
        of = lambda layers: through(connections, layers, xs, mask).h  # noqa: E731
        return jax.jit(of)(tuple(layers))

    np.testing.assert_allclose(run(fast_forward(), cut), run(plain(), bare), atol=1e-6)
    assert largest_difference(run(fast_forward(), layers), run(plain(), bare)) > 1e-3


def test_what_goes_on_of_f_starts_unchanged():
    """Whatever h is, its share of f comes on top of the half that the layer below passes on."""
    layers = stack_of(fast_forward(), 9, 4, 8)
    for layer in layers[1:]:
        np.testing.assert_array_equal(layer.inputs[:16, :16], jnp.eye(16))
        assert abs(layer.inputs[16:]).max() <= 0.1 and abs(layer.inputs[:16, 16:]).max() <= 0.1
    silent = [layer.replace(inputs=layer.inputs.at[16:].set(0)) for layer in layers]
    xs, mask = jax.random.normal(jax.random.key(1), (6, 4)), jnp.ones(6, bool)
    top = through(fast_forward(), tuple(silent), xs, mask)
    np.testing.assert_allclose(top.products[:, :16], (xs @ layers[0].inputs)[:, :16], atol=1e-6)


def test_word_embeddings_may_start_larger_than_other_weights():
    model = model_of(network(dataclasses.replace(SMALL, init_scale=0.1, embed_scale=2.0)))
    p = jax.jit(model.init)(jax.random.key(0))
    for table in (p.encoder.embedding, p.decoder.embedding):
        assert 1 < abs(table).max() <= 2 and not table[PAD].any()
    assert abs(p.generator.kernel).max() <= 0.1


@pytest.mark.slow
def test_interleaved_columns_alternate_their_directions():
    c = net(3, True, join="interleaved")
    p = params(model_of(c))
    src = jnp.array([5, 9, 4, 7, PAD])

    @jax.jit
    def outputs(encoder):
        tops = []
        for column, first in ((encoder.forward, False), (encoder.backward, True)):
            h = encoder.embedding[src]
            for n, layer in enumerate(column):
                h, _ = lstm_layer(layer, h, src != PAD, reverse=first ^ (n % 2 == 1))
            tops.append(h)
        return jnp.concatenate(tops, axis=-1)

    context = outputs(p.encoder)
    memory, _ = jax.jit(model_of(c).encode)(p, src)
    keys, _ = memory.reader
    np.testing.assert_allclose(keys, context @ p.decoder.attention.scores, atol=1e-5)


def test_the_shapes_of_deep_att_are_the_papers():
    """Zhou et al. 2016, section 4.2: 9 + 7 layers of 512, 256-dimensional embeddings."""
    c = build(Config(30_000, 30_000, 256, 512, 7, True, encoder_layers=9), recipes.systems.DEEP)
    shapes = jax.eval_shape(model_of(c).init, jax.random.key(0))
    encoder, decoder = shapes.encoder, shapes.decoder
    assert len(encoder.forward) == len(encoder.backward) == 9 and len(decoder.layers) == 7
    assert encoder.forward[0].inputs.shape == (256, 2048)
    for layer in (*encoder.forward[1:], *encoder.backward[1:], *decoder.layers[1:]):
        assert layer.inputs.shape == (1536, 2048)
        assert layer.recurrent.shape == (512, 2048) and layer.cell.shape == (3, 512)
    assert decoder.attention.context.shape == (5120, 1280)
    assert [matrix.shape for matrix in decoder.feed] == [(1280, 2048)]
    memory, _ = jax.eval_shape(model_of(c).encode, shapes, jnp.zeros(5, jnp.int32))
    _, values = memory.reader
    assert values.shape == (5, 1280)


@pytest.mark.slow
def test_fast_forward_brings_more_gradient_to_the_lowest_of_nine_layers():
    xs, mask = jax.random.normal(jax.random.key(1), (6, 4)), jnp.ones(6, bool)

    def gradient(connections):
        @jax.jit
        def norm(key):
            layers = stack_of(connections, 9, 4, 8, peephole(), key=key)
            loss = lambda layers: through(connections, layers, xs, mask, peephole()).h.sum()  # noqa: E731
            return jnp.linalg.norm(jax.grad(loss)(layers)[0].inputs)

        return float(norm(jax.random.key(0)))

    assert gradient(fast_forward()) > 100 * gradient(plain())


def test_a_zero_peephole_is_a_plain_lstm():
    cells = lstm(), peephole()
    layers = [cell.init(jax.random.key(0), 3, 4, 0.5) for cell in cells]
    xs, mask = jax.random.normal(jax.random.key(1), (5, 3)), jnp.arange(5) < 4
    runs = [lstm_layer(y, xs, mask, cell=c) for y, c in zip(layers, cells, strict=True)]
    assert largest_difference(*runs) < 1e-6


@pytest.mark.parametrize(
    "parts, named",
    [
        (dict(join="interleaved"), "needs bidirectional=True"),
        (dict(attention="dot", encoder_hidden=5), "use the general attention"),
        (dict(attention="none", alignment="local-p"), "needs an attention"),
        (dict(lower_attention=3), "from 2 to layers, 2"),
        (dict(window=0), "at least 1"),
    ],
)
def test_parts_that_do_not_fit_are_refused(parts, named):
    encoder = {"encoder_hidden": parts.pop("encoder_hidden", None)}
    with pytest.raises(UsageError, match=named):
        size = Size(8, 4, layers=2, parts=Parts(**parts), **encoder)
        model_of(build(config_of(size, 12, 12), size.parts))


def test_networks_are_checked_whatever_their_sizes_come_from():
    with pytest.raises(UsageError, match="needs bidirectional=True"):
        build(SMALL, Parts(join="interleaved"))


def test_a_bridge_of_another_width_is_refused():
    config = dataclasses.replace(SMALL, encoder_hidden=5)
    with pytest.raises(UsageError, match="states of width 5, but its layers have width 4"):
        attention_lstm(config, bridge=from_states())
    assert params(attention_lstm(config)).decoder.bridge  # by itself it has matrices


def test_a_source_beyond_the_weights_of_attention_by_location_is_refused():
    model = model_of(net(attention="location", max_source=3))
    with pytest.raises(ValueError, match="larger max_source"):
        shapes = jax.eval_shape(model.init, jax.random.key(0))
        jax.eval_shape(model.encode, shapes, jnp.array([4, 5, 6, 7]))


def test_the_decoder_starts_from_the_layers_beside_it():
    """Layers are paired from the top down."""
    deep, shallow = net(2, encoder_layers=3), net(3, encoder_layers=1)
    src = jnp.array([5, 9, 4, PAD])
    for c in (deep, shallow):

        @jax.jit
        def finals(encoder):
            x, found = encoder.embedding[src], []
            for layer in encoder.forward:
                x, final = lstm_layer(layer, x, src != PAD)
                found.append(final)
            return found

        p, zero = params(model_of(c)), (jnp.zeros(4), jnp.zeros(4))
        want = ([zero] * 3 + finals(p.encoder))[-c.config.layers :]
        _, state = jax.jit(model_of(c).encode)(p, src)
        assert largest_difference(state.layers, tuple(want)) < 1e-6


@pytest.mark.slow
def test_without_attention_a_reversed_source_is_copied_sooner():
    """Sutskever et al. 2014, section 3.3; the same parameters, sentences and steps."""
    words, length, rows, steps = 8, 6, 32, 400

    def loss_after_training(reverse):
        parts = Parts("none", reverse_source=reverse)
        c = build(Config(12, 12, 16, 48, 1, dropout=0.0), parts)
        model, tx = model_of(c), clipped_adam(5e-3)
        step = make_train_step(model, tx)

        def learn(state, number):
            key = jax.random.fold_in(jax.random.key(4), number)
            src = jax.random.randint(key, (rows, length), 4, 4 + words)
            tgt = jnp.pad(src, ((0, 0), (0, 1)), constant_values=EOS)
            batch = Example(src, tgt, jnp.ones(rows), jnp.arange(rows))
            state, metrics = step(state, batch, jax.random.key(0))
            return state, metrics["loss"]

        run = jax.jit(lambda state: jax.lax.scan(learn, state, jnp.arange(steps)))
        return float(run(init_state(model, tx, jax.random.key(3)))[1][-20:].mean())

    assert loss_after_training(True) < 0.8 * loss_after_training(False)
