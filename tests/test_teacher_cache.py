import dataclasses
import functools
import mmap
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from small import MODEL, SRC_VOCAB, TEACHER, TGT_VOCAB, largest_difference, params

from seqkd_jax.base import EOS
from seqkd_jax.data import (
    WordVocabulary,
    batches,
    build_words,
    encode_pairs,
    plan_buckets,
    renumbering,
)
from seqkd_jax.distill import teacher_cache as file
from seqkd_jax.distill.teacher_cache import cache_teacher, open_teacher_cache
from seqkd_jax.distill.topk_shards import FORMAT
from seqkd_jax.errors import UsageError
from seqkd_jax.losses import jensen_shannon, mix, nll, with_temperature, word_kd, word_kl
from seqkd_jax.models.renumber import renumbered
from seqkd_jax.parallel import pmap_step, pmap_total, replicate, shard
from seqkd_jax.sealed import seal, unseal
from seqkd_jax.train.state import clipped_adam, init_state
from seqkd_jax.train.steps import make_eval_step, make_train_step
from seqkd_jax.trained import TrainedModel

SRC, TGT = build_words(["a b c d e f g"]), build_words(["r s t u v w x y z"])
KEY, TX = jax.random.key(7), clipped_adam(1e-2)
TAUGHT_BY = params(TEACHER, 1)


@functools.cache
def corpus(count=40, seed=0):
    rng = np.random.default_rng(seed)

    def line(vocab):
        return " ".join(rng.choice(vocab.words[4:], rng.integers(1, 6)))

    return [(line(SRC), line(TGT)) for _ in range(count)]


def encoded(pairs=None, vocabularies=(SRC, TGT)):
    return encode_pairs(pairs or corpus(), *vocabularies)


def make(folder, pairs=None, k=TGT_VOCAB, by=TAUGHT_BY, temperature=1.0):
    return cache_teacher(
        folder,
        TrainedModel(TEACHER, by, SRC, TGT),
        pairs or encoded(),
        k=k,
        temperature=temperature,
        tokens_per_batch=64,
        shard_pairs=13,
        progress=None,
    )


def one_epoch(pairs, seed=0, tokens=64, buckets=2):
    plan = plan_buckets(pairs, tokens_per_batch=tokens, buckets=buckets)
    return batches(pairs, plan, seed=seed, epoch=0)


@functools.cache
def direct_of(loss):
    return jax.jit(make_eval_step(MODEL, loss, teacher=TEACHER))


@functools.cache
def cached_of(loss):
    return jax.jit(make_eval_step(MODEL, loss))


def direct(loss, given):
    return sum(float(direct_of(loss)(params(), b, TAUGHT_BY).sum) for b in given)


def cached(loss, given):
    return sum(float(cached_of(loss)(params(), b).sum) for b in given)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """A cache of all V tokens."""
    return make(tmp_path_factory.mktemp("whole"))


def shards(folder):
    return {p.name: p.read_bytes() for p in sorted(Path(folder).glob("shard-*.topk"))}


JS = jensen_shannon()


@pytest.mark.parametrize(
    "loss", [word_kd, pytest.param(JS, marks=pytest.mark.slow)], ids=["word-kd", "js"]
)
def test_at_k_equal_to_v_the_cached_loss_is_the_direct_one(whole, loss):
    got = cached(loss, whole.attach_to(one_epoch(encoded())))
    np.testing.assert_allclose(got, direct(loss, one_epoch(encoded())), rtol=1e-3)


def test_distributions_are_the_teachers_to_half_precision(whole):
    for batch in whole.attach_to(one_epoch(encoded())):
        hidden = jax.vmap(TEACHER.hidden, (None, 0, 0))(TAUGHT_BY, batch.src, batch.tgt)
        project = jax.vmap(jax.vmap(TEACHER.project, (None, 0)), (None, 0))
        want = jax.nn.log_softmax(project(TAUGHT_BY, hidden))
        real = batch.tgt != 0
        got = batch.teacher_targets.log_probs[real]
        want = np.take_along_axis(np.asarray(want)[real], batch.teacher_targets.ids[real], -1)
        # Half precision keeps 11 bits of the distance to the most probable token.
        bound = 2e-4 + 2.0**-11 * (want.max(-1, keepdims=True) - want)
        assert (np.abs(got - want) <= bound).all()
        np.testing.assert_allclose(np.exp(got).sum(-1), 1, atol=1e-6)


def test_fewer_tokens_leave_an_exact_rest(tmp_path, whole):
    few = make(tmp_path, k=3)
    pairs = encoded()
    for a, b in zip(
        few.attach_to(one_epoch(pairs)), whole.attach_to(one_epoch(pairs)), strict=True
    ):
        real = a.tgt != 0
        listed, rest = (
            np.exp(a.teacher_targets.log_probs[real]).sum(-1),
            np.exp(a.teacher_targets.rest[real]),
        )
        np.testing.assert_allclose(listed + rest, 1, atol=1e-6)
        others = np.exp(b.teacher_targets.log_probs[real][:, 3:]).sum(-1)
        np.testing.assert_allclose(rest, others, rtol=2e-3)
        np.testing.assert_array_equal(
            a.teacher_targets.ids[real], b.teacher_targets.ids[real][:, :3]
        )


def test_kl_and_bytes_are_those_of_the_files(tmp_path, whole):
    sizes = []
    for k in 3, 6:
        few = make(tmp_path / str(k), k=k)
        divergence, tokens = 0.0, 0
        pairs = encoded(list(dict.fromkeys(corpus())))
        given = zip(
            few.attach_to(one_epoch(pairs)),
            whole.attach_to(one_epoch(pairs)),
            strict=True,
        )
        for a, b in given:
            real = (a.tgt != 0) & (a.weight[:, None] > 0)
            order = b.teacher_targets.ids[real]
            full = np.exp(b.teacher_targets.log_probs[real].astype(np.float64))
            kept = (
                np.exp(a.teacher_targets.rest[real])[:, None]
                / (TGT_VOCAB - k)
                * np.ones(order.shape)
            )
            listed = np.exp(a.teacher_targets.log_probs[real])
            kept[:, :k] = listed  # both list the most probable first
            divergence += (full * np.log(full / kept)).sum()
            tokens += real.sum()
        np.testing.assert_allclose(few.mean_kl, divergence / tokens, rtol=0.02, atol=1e-5)
        sizes.append(few.bytes_per_token)
        arrays = tokens * (4 + k * 4) + len(pairs.src) * 20
        headers = sum(len(x.split(b"\n", 1)[0]) + 1 for x in shards(few.folder).values())
        np.testing.assert_allclose(few.bytes_per_token, (arrays + headers) / tokens, rtol=1e-9)
        assert f"k = {k} of 13" in str(few)
    assert sizes == sorted(sizes)
    assert whole.mean_kl < 1e-5


def test_batches_seed_and_order_of_the_corpus_change_nothing(whole):
    pairs = encoded()
    want = cached(word_kd, whole.attach_to(one_epoch(pairs)))
    again = encoded(corpus()[::-1])
    got = [
        cached(word_kd, whole.attach_to(one_epoch(pairs, seed=5))),
        cached(word_kd, whole.attach_to(one_epoch(pairs, tokens=200, buckets=1))),
        cached(word_kd, whole.attach_to(one_epoch(again))),
    ]
    np.testing.assert_allclose(got, want, rtol=1e-5)


def test_the_order_of_the_corpus_and_pairs_that_repeat_change_no_byte(tmp_path, whole):
    again = make(tmp_path, encoded([*corpus()[::-1], *corpus()[:7]]))
    assert shards(tmp_path) == shards(whole.folder)
    assert len(again.keys) == len(set(corpus()))


@pytest.mark.slow
def test_a_training_step_on_devices_and_in_microbatches_is_the_direct_one(whole):
    loss = mix(nll, word_kd, 0.5)
    batch = next(iter(one_epoch(encoded(), tokens=48)))
    taught = next(iter(whole.attach_to([batch])))
    start = init_state(MODEL, TX, jax.random.key(0), params())
    want, metrics = jax.jit(make_train_step(MODEL, TX, loss, teacher=TEACHER))(
        start, batch, KEY, TAUGHT_BY
    )
    one, mine = jax.jit(make_train_step(MODEL, TX, loss))(start, taught, KEY)
    np.testing.assert_allclose(mine["loss"], metrics["loss"], rtol=1e-3)
    np.testing.assert_allclose(mine["gradient_norm"], metrics["gradient_norm"], rtol=1e-2)
    many, _ = pmap_step(make_train_step(MODEL, TX, loss))(replicate(start), shard(taught), KEY)
    parts, _ = jax.jit(make_train_step(MODEL, TX, loss, microbatches=2))(start, taught, KEY)
    for other in many, parts:
        assert largest_difference(one.params, other.params) < 1e-6
    assert largest_difference(one.params, want.params) < 2e-2
    total = pmap_total(make_eval_step(MODEL, loss))(params(), shard(taught))
    np.testing.assert_allclose(total.sum, cached_of(loss)(params(), taught).sum, rtol=1e-5)


@pytest.mark.slow
def test_a_temperature_is_kept_and_must_be_asked_for(tmp_path):
    warm = make(tmp_path, temperature=2.0)
    loss = with_temperature(word_kl, 2.0)
    got = cached(loss, warm.attach_to(one_epoch(encoded())))
    np.testing.assert_allclose(got, direct(loss, one_epoch(encoded())), rtol=1e-3)
    with pytest.raises(ValueError, match="at temperature 2, but the loss asks for 1"):
        cached(word_kl, warm.attach_to(one_epoch(encoded())))


def test_missing_shards_are_made_again_with_the_same_bytes(tmp_path, whole):
    make(tmp_path)
    before = shards(tmp_path)
    assert len(before) == 4 and before == shards(whole.folder)
    for name in list(before)[1:3]:
        (tmp_path / name).unlink()
    with pytest.raises(ValueError, match=r"shards \[1, 2\] are missing"):
        open_teacher_cache(tmp_path)
    make(tmp_path)
    assert shards(tmp_path) == before


def test_a_job_that_is_killed_leaves_whole_shards_and_is_gone_on_with(tmp_path, whole, monkeypatch):
    write, made = file.write_shard, []

    def killed(path, *rest):
        if len(made) == 2:
            raise KeyboardInterrupt
        made.append(path)
        write(path, *rest)

    monkeypatch.setattr(file, "write_shard", killed)
    with pytest.raises(KeyboardInterrupt):
        make(tmp_path)
    assert len(shards(tmp_path)) == 2
    monkeypatch.setattr(file, "write_shard", counted := Counted(write))
    make(tmp_path)
    assert counted.calls == 2 and shards(tmp_path) == shards(whole.folder)
    make(tmp_path)
    assert counted.calls == 2


class Counted:
    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, *arguments):
        self.calls += 1
        return self.function(*arguments)


WORKER = """
import sys
sys.path[:0] = {paths!r}
import conftest, test_teacher_cache as t
t.make(sys.argv[1])
"""


@pytest.mark.slow
def test_two_workers_make_the_same_bytes_as_one(tmp_path, whole):
    paths = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    command = [sys.executable, "-c", WORKER.format(paths=paths), str(tmp_path)]
    workers = [subprocess.Popen(command) for _ in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    assert shards(tmp_path) == shards(whole.folder)


@pytest.mark.parametrize("where", [0.01, 0.2, 0.5, 0.99], ids=str)
@pytest.mark.parametrize("how", ["flip", "cut", "append"])
def test_damaged_files_are_named(tmp_path, whole, where, how):
    for name, data in shards(whole.folder).items():
        (tmp_path / name).write_bytes(data)
    path = sorted(tmp_path.glob("shard-*"))[2]
    data = bytearray(path.read_bytes())
    at = int(where * len(data))
    match how:
        case "flip":
            data[at] ^= 4
        case "cut":
            data = data[:at]
        case "append":
            data += b"\0" * (at + 1)
    path.write_bytes(data)
    with pytest.raises(ValueError) as error:
        open_teacher_cache(tmp_path)
    assert str(path) in str(error.value) and len(str(error.value)) < 700


def test_headers_that_lie_are_refused_before_they_cost_anything(tmp_path, whole):
    """The digest is right, and the numbers are not."""
    for name, data in shards(whole.folder).items():
        (tmp_path / name).write_bytes(data)
    path = sorted(tmp_path.glob("shard-*"))[2]
    data = path.read_bytes()
    header, body = unseal(path, data, FORMAT)
    numbers = (-1, 0, 10**12, 1e12, 3.0, "3", None, True, [3])
    lies = [
        {field: n} for field in ("pairs", "tokens", "k", "vocabulary", "shards") for n in numbers
    ]
    lies += [{"shard": 1}, {"nats": "few"}, {"nats": None}, {"temperature": -1.0}]
    for lie in lies:
        path.write_bytes(seal(FORMAT, header | lie, bytes(body), 64))
        for read in open_teacher_cache, make:
            with pytest.raises(UsageError) as error:
                read(tmp_path)
            assert str(path) in str(error.value) and len(str(error.value)) < 700, lie
    path.write_bytes(data.replace(b'"nats": ', b'"nats":Infinity, "x":', 1))
    with pytest.raises(UsageError, match="Infinity is not a JSON number"):
        open_teacher_cache(tmp_path)
    path.write_bytes(b"")
    with pytest.raises(UsageError, match="topk: the file is empty"):
        open_teacher_cache(tmp_path)
    lengths = np.frombuffer(data, np.uint8).copy()
    at = len(data) - len(body) + 16 * header["pairs"]
    lengths[at : at + 4] = 255
    path.write_bytes(seal(FORMAT, header, lengths.tobytes()[-len(body) :], 64))
    with pytest.raises(UsageError, match="do not add up"):
        open_teacher_cache(tmp_path)


def test_arrays_are_mapped_and_not_read(whole):
    for mapped in whole.shards:
        base = mapped.ids
        while getattr(base, "base", None) is not None:
            base = base.base
        assert isinstance(getattr(base, "obj", base), np.memmap | mmap.mmap)


def test_folders_of_something_else_are_refused(tmp_path, whole):
    with pytest.raises(FileNotFoundError, match="has no teacher cache"):
        open_teacher_cache(tmp_path)
    for name, change in {
        "teacher": {"by": TEACHER.init(jax.random.key(99))},
        "k": {"k": 5},
        "temperature": {"temperature": 2.0},
    }.items():
        with pytest.raises(ValueError, match=f"made with another {name}"):
            make(whole.folder, **change)
    with pytest.raises(ValueError, match="made with another corpus"):
        make(whole.folder, encoded(corpus()[:-1]))
    with pytest.raises(ValueError, match="k is 14; .* number of tokens, 13"):
        make(tmp_path / "never", k=14)
    with pytest.raises(ValueError, match="there are none"):
        make(tmp_path / "never", dataclasses.replace(encoded(), src=[], tgt=[]))
    assert not (tmp_path / "never").exists()


def test_a_pair_that_is_missing_is_named_by_its_line(whole):
    other = encoded([*corpus()[:8], ("a b c", "z z z z"), *corpus()[8:]])
    for ask in whole.require, lambda pairs: list(whole.attach_to(one_epoch(pairs))):
        with pytest.raises(ValueError, match="line 9 is not in this cache.*seqkd cache"):
            ask(other)
    whole.require(encoded())


def test_tokens_that_are_rows_of_ids_are_found_again(tmp_path):
    """Features and characters beside each word, with PAD among them."""
    plain = encoded()
    rng = np.random.default_rng(0)
    beside = [rng.integers(0, 3, (len(s), 2)).astype(np.int32) for s in plain.src]
    rich = [np.concatenate([s[:, None], b], 1) for s, b in zip(plain.src, beside, strict=True)]
    rich = dataclasses.replace(plain, src=rich)
    words_only = TEACHER._replace(
        hidden=lambda p, src, tgt, key=None: TEACHER.hidden(p, src[:, 0], tgt, key)
    )
    made = cache_teacher(
        tmp_path,
        TrainedModel(words_only, TAUGHT_BY, SRC, TGT),
        rich,
        k=3,
        tokens_per_batch=64,
        progress=None,
    )
    made.require(rich)
    got = sum(
        (b.teacher_targets.rest * (b.tgt != 0)).sum() for b in made.attach_to(one_epoch(rich))
    )
    few = make(tmp_path / "plain", k=3)
    want = sum(
        (b.teacher_targets.rest * (b.tgt != 0)).sum() for b in few.attach_to(one_epoch(plain))
    )
    np.testing.assert_allclose(got, want, rtol=1e-5)
    with pytest.raises(ValueError, match="not in this cache"):
        made.require(plain)


def test_a_step_takes_one_teacher(whole):
    batch = next(iter(whole.attach_to(one_epoch(encoded()))))
    with pytest.raises(ValueError, match="leave out one of the two"):
        make_eval_step(MODEL, word_kd, teacher=TEACHER)(params(), batch, TAUGHT_BY)


def shuffled(vocab, seed):
    order = np.random.default_rng(seed).permutation(np.arange(4, vocab.size))
    return WordVocabulary((*vocab.words[:4], *(vocab.words[n] for n in order)))


def test_a_student_that_numbers_the_pieces_differently_gets_the_same_distributions(whole):
    theirs = shuffled(SRC, 1), shuffled(TGT, 2)
    maps = [renumbering(mine, teachers) for mine, teachers in zip(theirs, (SRC, TGT), strict=True)]
    model = renumbered(TEACHER, *maps)
    for (source, target), s, t in zip(corpus(), encoded().src, encoded().tgt, strict=True):
        src = np.array(theirs[0].encode(source))
        tgt = np.array([*theirs[1].encode(target), EOS])
        np.testing.assert_array_equal(maps[0][src], s)
        np.testing.assert_array_equal(maps[1][tgt], t)
    batch = next(iter(one_epoch(encoded(vocabularies=theirs))))
    plain = next(iter(one_epoch(encoded())))
    of = jax.jit(lambda b: jax.vmap(TEACHER.hidden, (None, 0, 0))(TAUGHT_BY, b.src, b.tgt))
    np.testing.assert_allclose(
        of(plain)[0],
        jax.jit(model.hidden)(TAUGHT_BY, batch.src[0], batch.tgt[0]),
        atol=1e-6,
    )

    taught = next(iter(whole.renumbered(*maps).attach_to([batch])))
    evaluate = make_eval_step(MODEL, word_kd, teacher=model)
    want = float(jax.jit(evaluate)(params(), batch, TAUGHT_BY).sum)
    np.testing.assert_allclose(cached(word_kd, [taught]), want, rtol=1e-3)
    straight = next(iter(whole.attach_to([plain])))
    real = plain.tgt != 0
    np.testing.assert_array_equal(
        maps[1][np.asarray(taught.teacher_targets.ids)[real]],
        np.asarray(straight.teacher_targets.ids)[real],
    )


def test_vocabularies_of_other_pieces_are_refused_with_what_is_left():
    assert SRC.size == SRC_VOCAB
    with pytest.raises(ValueError, match="Seq-KD, Seq-Inter.* still possible"):
        renumbering(build_words(["r s t u v w x y q"]), TGT)
    with pytest.raises(ValueError, match="has 5 entries"):
        renumbering(build_words(["r"]), TGT)
    np.testing.assert_array_equal(renumbering(TGT, TGT), np.arange(TGT_VOCAB))
