import functools
import inspect
import textwrap

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest
from flax import linen as nn
from flax import nnx
from flax_models import (
    MAX_LEN,
    MODELS,
    LinenLSTM,
    LinenTransformer,
    NnxTransformer,
    flax_params,
    in_batches,
)
from small import MODEL, TEACHER, batched, example, largest_difference, params

import seqkd_jax as skd
from seqkd_jax.base import BOS, EOS
from seqkd_jax.errors import UsageError
from seqkd_jax.losses import nll, word_kd
from seqkd_jax.models.ensemble import ensemble
from seqkd_jax.parallel import pmap_step, replicate, shard
from seqkd_jax.search import beam_search
from seqkd_jax.train.checkpoint import Checkpoints
from seqkd_jax.train.state import init_state
from seqkd_jax.train.steps import make_train_step
from seqkd_jax.trained import params_digest

EACH = pytest.mark.parametrize(
    "name",
    [pytest.param(n, marks=[] if n == "linen" else [pytest.mark.slow]) for n in MODELS],
)
BATCH = example(3)
KEY = jax.random.key(5)
TX = optax.sgd(0.1, momentum=0.9)  # Adam would blow up what rounding leaves of a gradient of 0


def read(tgt):
    """What a decoder reads, [B, T], by numpy."""
    return np.concatenate([np.full((len(tgt), 1), BOS), tgt[:, :-1]], axis=1).astype(np.int32)


@functools.cache
def logits_of(name):
    model = MODELS[name]

    def one(params, src, tgt):
        return jax.vmap(model.project, (None, 0))(params, model.hidden(params, src, tgt))

    return batched(one)


@functools.cache
def stepped(name):
    """Logits [B, T, V] by steps, one token after the other."""
    model = MODELS[name]

    def one(params, src, words):
        memory, state = model.encode(params, src)

        def go(state, word):
            hidden, state = model.step(params, memory, state, word)
            return state, model.project(params, hidden)

        return jax.lax.scan(go, state, words)[1]

    return batched(one)


@EACH
def test_logits_are_those_of_the_module_called_on_the_batch(name):
    got = logits_of(name)(flax_params(name), BATCH.src, BATCH.tgt)
    want = in_batches(name)(flax_params(name), BATCH.src, read(BATCH.tgt))
    assert np.std(want) > 0.2
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@EACH
def test_stepping_equals_teacher_forcing(name):
    want = logits_of(name)(flax_params(name), BATCH.src, BATCH.tgt)
    got = stepped(name)(flax_params(name), BATCH.src, read(BATCH.tgt))
    np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@EACH
def test_padding_changes_nothing(name):
    fill = ((0, 0), (0, 2))
    src, tgt = np.pad(BATCH.src, fill), np.pad(BATCH.tgt, fill)
    wide = logits_of(name)(flax_params(name), src, tgt)[:, :-2]
    np.testing.assert_allclose(
        wide, logits_of(name)(flax_params(name), BATCH.src, BATCH.tgt), atol=1e-5
    )


@EACH
def test_beam_search_equals_one_that_reads_everything_again(name):
    model, beam, longest = MODELS[name], 4, 7

    def search(params, src):
        memory, state = model.encode(params, src)

        def step(state, token):
            hidden, state = model.step(params, memory, state, token)
            return model.project(params, hidden), state

        def again(state, token):
            words, length = state  # those after BOS
            words = jnp.where(jnp.arange(longest) == length - 1, token, words)
            hidden = model.hidden(params, src, words)[length]
            return model.project(params, hidden), (words, length + 1)

        nothing = jnp.zeros(longest, jnp.int32), jnp.int32(0)
        return [
            beam_search(step, state, beam_size=beam, max_len=longest)
            for step, state in ((step, state), (again, nothing))
        ]

    got, want = batched(search)(flax_params(name), BATCH.src)
    assert np.isfinite(want.scores).all()
    np.testing.assert_array_equal(got.tokens, want.tokens)
    np.testing.assert_allclose(got.scores, want.scores, atol=1e-4)


def test_sentences_longer_than_the_cache_are_not_found():
    model, longer = MODELS["linen"], MAX_LEN + 4
    never_ends = jax.tree.map(jnp.array, flax_params("linen"))
    never_ends["output"]["bias"] = never_ends["output"]["bias"].at[EOS].set(-1e3)

    def search(params, src, limit):
        memory, state = model.encode(params, src)

        def step(state, token):
            hidden, state = model.step(params, memory, state, token)
            return model.project(params, hidden), state

        return beam_search(step, state, beam_size=2, max_len=longer, limit=limit)

    limits = np.array([longer, MAX_LEN])
    found = batched(search)(never_ends, np.repeat(BATCH.src[:1], 2, 0), limits)
    assert not np.isfinite(found.scores[0]).any()
    assert (found.tokens[1, :, MAX_LEN - 1] == EOS).all() and np.isfinite(found.scores[1]).all()


@EACH
def test_dropout_acts_exactly_when_a_key_is_passed(name):
    model, p = MODELS[name], flax_params(name)
    src, tgt = BATCH.src[0], BATCH.tgt[0]
    run = jax.jit(model.hidden)
    plain, dropped = run(p, src, tgt), run(p, src, tgt, jax.random.key(1))
    assert largest_difference(dropped, run(p, src, tgt, jax.random.key(1))) == 0
    if name == "linen-lstm":  # has none
        assert largest_difference(plain, dropped) == 0
        return
    assert largest_difference(plain, dropped) > 0.1
    assert largest_difference(dropped, run(p, src, tgt, jax.random.key(2))) > 0.1
    if name == "linen":
        want = LinenTransformer(deterministic=False).apply(
            {"params": p}, src[None], read(tgt[None]), rngs={"dropout": jax.random.key(1)}
        )
        got = jax.vmap(model.project, (None, 0))(p, dropped)
        np.testing.assert_allclose(got, want[0], atol=1e-4)


@functools.cache
def training(name):
    """A step, compiled, and where it starts."""
    step = make_train_step(MODELS[name], TX, nll)
    return step, jax.jit(step), init_state(MODELS[name], TX, jax.random.key(0))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["linen", "nnx"])
def test_a_module_learns_as_a_student_on_one_device_and_on_four(name):
    step, on_one, one = training(name)
    on_many, many, losses = pmap_step(step), replicate(one), []
    for _ in range(12):
        one, metrics = on_one(one, BATCH, KEY)
        many, metrics_many = on_many(many, shard(BATCH), KEY)
        losses.append(float(metrics["loss"]))
    assert losses[-1] < 0.8 * losses[0]
    assert largest_difference(one.params, many.params) < 1e-4
    assert largest_difference(metrics, metrics_many) < 1e-4


def test_the_gradient_is_that_of_the_module_and_optax():
    model, p = MODELS["nnx"], flax_params("nnx")
    model = model._replace(hidden=lambda p, src, tgt, key: MODELS["nnx"].hidden(p, src, tgt))
    gradients = jax.jit(make_train_step(model, TX, nll).gradients)
    got, _ = gradients(init_state(model, TX, KEY, p), BATCH, KEY)

    def loss(params):
        logits = in_batches("nnx")(params, BATCH.src, read(BATCH.tgt))
        losses = optax.softmax_cross_entropy_with_integer_labels(logits, BATCH.tgt)
        return (losses * (BATCH.tgt != 0) * BATCH.weight[:, None]).sum() / BATCH.weight.sum()

    assert largest_difference(got, jax.jit(jax.grad(loss))(p)) < 1e-5


@pytest.mark.parametrize("name", [pytest.param("linen-lstm", marks=pytest.mark.slow), "nnx"])
def test_a_module_teaches_an_attention_lstm(name):
    step = jax.jit(make_train_step(MODEL, TX, word_kd, teacher=MODELS[name]))
    state, losses = init_state(MODEL, TX, jax.random.key(0), params()), []
    q = jax.nn.log_softmax(logits_of(name)(flax_params(name), BATCH.src, BATCH.tgt))
    weights = (BATCH.tgt != 0) * BATCH.weight[:, None]
    entropy = -(np.exp(q) * q).sum(-1)
    bound = (entropy * weights).sum() / weights.sum()
    for _ in range(25):
        state, metrics = step(state, BATCH, KEY, flax_params(name))
        losses.append(float(metrics["loss"]))
    assert bound < losses[-1] < bound + 0.7 * (losses[0] - bound)


@pytest.mark.slow
def test_modules_are_members_of_an_ensemble():
    names = ["linen", "nnx-lstm"]
    together = ensemble([TEACHER, *(MODELS[name] for name in names)])
    p = (params(TEACHER), *map(flax_params, names))

    def logits(model):
        return lambda p, s, t: jax.vmap(model.project, (None, 0))(p, model.hidden(p, s, t))

    each = [logits_of(name)(flax_params(name), BATCH.src, BATCH.tgt) for name in names]
    each.append(batched(logits(TEACHER))(p[0], BATCH.src, BATCH.tgt))
    want = np.mean([jax.nn.softmax(logits) for logits in each], axis=0)
    got = batched(logits(together))(p, BATCH.src, BATCH.tgt)
    np.testing.assert_allclose(np.exp(got), want, atol=1e-5)


@pytest.mark.parametrize("name", ["linen", pytest.param("nnx", marks=pytest.mark.slow)])
def test_a_checkpoint_gives_back_parameters_and_optimiser(name, tmp_path):
    _, step, start = training(name)
    start = start.replace(perplexity=jnp.float32(9))  # a difference of infinities is no number
    state, _ = step(start, BATCH, KEY)
    with Checkpoints(tmp_path) as checkpoints:
        checkpoints.save(state, {})
    with Checkpoints(tmp_path) as checkpoints:
        restored, _ = checkpoints.restore(start)
    assert jax.tree.structure(restored) == jax.tree.structure(state)
    assert largest_difference(restored, state) == 0
    assert params_digest(restored.params) == params_digest(state.params)
    assert params_digest(start.params) != params_digest(state.params)
    assert largest_difference(step(restored, BATCH, KEY), step(state, BATCH, KEY)) == 0


def test_parameters_of_nnx_are_a_plain_dict_and_those_of_the_module():
    module = NnxTransformer(rngs=nnx.Rngs(jax.random.key(4)))
    of_module = nnx.to_pure_dict(nnx.state(module, nnx.Param))
    p = MODELS["nnx"].init(jax.random.key(4))
    assert largest_difference(p, of_module) == 0
    inner = [p]
    while inner:
        node = inner.pop()
        assert type(node) is dict or isinstance(node, jax.Array)
        inner += node.values() if type(node) is dict else []


def test_parameters_of_linen_are_those_of_its_init():
    got = jax.eval_shape(MODELS["linen"].init, KEY)
    module = LinenTransformer(deterministic=True)
    want = jax.eval_shape(module.init, KEY, BATCH.src, BATCH.tgt)["params"]
    assert got == want


class NotCached(nn.Module):
    def encode(self, src):
        return src

    def decode(self, memory, tgt):
        return jax.nn.one_hot(tgt, 7) + memory.sum()


class CountsBatches(nn.Module):
    @nn.compact
    def encode(self, src):
        return nn.BatchNorm(use_running_average=True)(jax.nn.one_hot(src, 7))

    def decode(self, memory, tgt):
        return jax.nn.one_hot(tgt, 7)

    init_state = step = decode


class GrowingState(LinenLSTM):
    def step(self, memory, state, token):
        x, state = super().step(memory, state, token)
        return x, (*state, token)


class WrongHidden(LinenLSTM):
    def step(self, memory, state, token):
        x, state = super().step(memory, state, token)
        return x[:, :3], state


class WithStatistics(NnxTransformer):
    def __init__(self, *, rngs):
        super().__init__(rngs=rngs)
        self.batches = nnx.BatchNorm(3, rngs=rngs)


class NoDecoder(nnx.Module):
    def __init__(self, *, rngs):
        pass

    def encode(self, src):
        return src


@pytest.mark.parametrize(
    "make, message",
    [
        (lambda: skd.from_linen(nn.Dense(3)), "Dense has no method encode"),
        (lambda: skd.from_linen(NotCached()), 'it needs a field "cached: bool = False", or the'),
        (lambda: skd.from_linen(CountsBatches()), "collection 'batch_stats'"),
        (lambda: skd.from_linen(GrowingState()), "a step turns the state"),
        (lambda: skd.from_linen(WrongHidden()), r"decode gives float32\[2, 13\], and a step float"),
        (lambda: skd.from_nnx(NoDecoder), "NoDecoder has no method decode"),
        (lambda: skd.from_nnx(WithStatistics), r"WithStatistics.batches.mean is a BatchStat"),
    ],
)
def test_a_module_that_does_not_fit_is_refused_by_name(make, message):
    with pytest.raises(ValueError, match=message):
        make()


@pytest.mark.parametrize("function", [skd.from_linen, skd.from_nnx])
def test_the_example_of_the_docstring_runs(function):
    text = inspect.getdoc(function)
    code = textwrap.dedent(text.split("Example:\n")[1].split("\n\nArgs:")[0])
    names = {"skd": skd, "jax": jax, "jnp": jnp, "np": np, "nn": nn, "nnx": nnx}
    exec(code, names)
    model, p = names["model"], names["params"]
    source, (tokens,) = jnp.array([5, 9, 4, 0]), names["found"].tokens
    assert EOS in tokens.tolist()
    every = jax.jit(model.hidden)(p, source, tokens)
    memory, state = jax.jit(model.encode)(p, source)
    step = jax.jit(model.step)
    for place, word in enumerate([BOS, *tokens[:3].tolist()]):
        hidden, state = step(p, memory, state, word)
        np.testing.assert_allclose(hidden, every[place], atol=1e-5)


@pytest.mark.parametrize(
    ("adapt", "given", "message"),
    [
        (skd.from_nnx, "built", "from_nnx was given a NnxTransformer that has been built, but"),
        (
            skd.from_nnx,
            "number",
            "from_nnx was given an object of type int, but expects a function that builds",
        ),
        (skd.from_nnx, "no-key", "a function that cannot be called with rngs= alone"),
        (skd.from_nnx, "no-module", "a function that builds an object of type int"),
        (skd.from_linen, "class", "from_linen was given LinenLSTM, but expects an instance"),
        (
            skd.from_linen,
            "number",
            "from_linen was given an object of type int, but expects an instance",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) and " " not in value else "",
)
def test_what_is_no_module_or_is_one_already_is_answered_with_what_is_expected(
    adapt, given, message
):
    things = {
        "built": NnxTransformer(rngs=nnx.Rngs(0)),
        "number": 3,
        "no-key": lambda: None,
        "no-module": lambda rngs: 3,
        "class": LinenLSTM,
    }
    with pytest.raises(UsageError, match=message):
        adapt(things[given])
