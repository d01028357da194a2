"""How fast this library is on this machine: everything behind ``seqkd bench``.

Fixed work: random ids from a fixed seed, S = T = 16, no padding, no dropout, four batches in turn.

    train   nll, Adam 1e-3, clipping at 5; target tokens per second
    kd      the student on mix(nll, word_kd, 0.5), the teacher's forward pass in the same step
    decode  beam K (1: greedy), the end forbidden before the last of 16 tokens, encoder included;
            sentences per second

FLOPs count the products of the model's equations, 2 * rows * inner * out each, words that
``for_search`` tabulates (for searches, and kd's teacher) among them, and twice as many backwards
as forwards. ``gemm_share`` is the seconds that they take by themselves, at the rate measured for
each shape on the CPU in the same run, over the seconds of the row; elsewhere a call takes longer
than its products, and there is none.

Machines share their cores: only what was measured in turns within one run can be compared.
"""

import itertools
import os
import resource
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from tqdm import tqdm

from . import recipes
from .base import EOS, PAD, Example, Params, Seq2Seq, for_teaching
from .data import batches, encode_pairs, plan_buckets
from .distill.shortlist import Shortlist
from .distill.translate import translate_texts, translator
from .errors import UsageError
from .losses import Loss, mix, nll, smoothed_nll, word_kd
from .models.attention_lstm import Config, attention_lstm
from .peer import turns_of
from .plan import Search, Timing
from .search import for_search
from .train.parallel import pmap_step, replicate, shard
from .train.state import clipped_adam, init_state
from .train.steps import make_train_step

Record = dict[str, Any]
# (times, batch, rows, inner, out): products of [batch, rows, inner] with [batch, inner, out];
# batch is B where each sentence has its own right-hand side, else 1.
Product = tuple[int, ...]

LENGTH = 16  # S and T of the fixed work
PAPER_LENGTH = 25  # words of a source, and tokens decoded for it, in ``measure_table2``
TURNS = 4  # batches that take turns
GEMM_FLOPS = 5e8  # of one timing of a product: small ones are repeated up to it,
GEMM_REPEATS = 256  # but no more often than this
MODELS = {
    name: Config(*vocabularies, embed=width, hidden=width, layers=layers, dropout=0.0)
    for name, vocabularies, layers, width in (
        ("student", (6000, 7859), 1, 128),
        ("teacher", (6000, 7859), 2, 512),
        ("big", (50_004, 50_004), 2, 500),
        ("2x300", (50_004, 50_004), 2, 300),
        ("4x1000", (50_004, 50_004), 4, 1000),
    )
}


@dataclass(frozen=True)
class Row:
    """One piece of fixed work."""

    work: str  # train, kd or decode
    model: str  # of MODELS
    batch: int  # B
    beam: int = 0  # K; 0 where nothing is searched
    length: int = LENGTH  # S and T
    shortlist: int = 0  # target words that each source word brings; 0 for the whole vocabulary

    def __str__(self) -> str:
        beam = f"-k{self.beam}" if self.beam else ""
        return f"{self.work}-{self.model}{beam}-b{self.batch}"

    @property
    def amount(self) -> int:
        """What one step does: sentences of decoding, target tokens of training."""
        return self.batch if self.beam else self.batch * self.length


TRAINING = (("train", "student"), ("kd", "student"), ("train", "teacher"), ("train", "big"))
DECODING = ((1, 1), (1, 64), (5, 1), (5, 64), (35, 32))  # K, B
FIXED = tuple(Row(work, model, 64) for work, model in TRAINING) + tuple(
    Row("decode", model, b, k) for model in ("student", "teacher", "big") for k, b in DECODING
)


def measure_fixed(rows: Sequence[str], timing: Timing) -> list[Record]:
    """Measures rows of the fixed work; ValueError if there is no such row."""
    return [row.record() for row in _in_turns(_chosen(FIXED, rows), timing)]


class _Measured:
    """A row, compiled and warm, and what its repeats bring."""

    def __init__(self, row: Row, timing: Timing):
        self.row, self.step = row, step_of(row)
        self.facts, one = _first_calls(self.step)
        self.steps = timing.steps or max(2, round(timing.seconds / one))
        self.values: list[float] = []  # amount per second, of each repeat
        self.gemms: list[float] = []  # seconds of a step's products, beside it
        self.on_cpu = jax.default_backend() == "cpu"
        if self.on_cpu:
            gemm_seconds(row)  # compiles them

    def turn(self) -> None:
        jax.block_until_ready([self.step(), self.step()])  # after another's turn caches are cold
        taken = _seconds(lambda: [self.step() for _ in range(self.steps)])
        self.values.append(self.steps * self.row.amount / taken)
        if self.on_cpu:
            self.gemms.append(gemm_seconds(self.row))

    def record(self) -> Record:
        seconds = self.row.amount / statistics.median(self.values)
        unit = "sentences/s" if self.row.beam else "target tokens/s"
        work = {"gflops": flops(self.row) / seconds / 1e9}
        if self.gemms:
            work["gemm_share"] = statistics.median(self.gemms) / seconds
        return _speed(str(self.row), unit, self.values) | work | self.facts


def _in_turns(rows: Sequence[Row], timing: Timing) -> list[_Measured]:
    """Measures rows: all are set up, then each does a repeat, then each does the next."""
    ready = [_Measured(row, timing) for row in tqdm(rows, desc="compiling", disable=None)]
    for measured in tqdm(ready * timing.repeats, desc="repeats", disable=None):
        measured.turn()
    return ready


class _Trainer:
    """Does training steps as ``fit`` does them."""

    def __init__(self, model: Seq2Seq, loss: Loss, rate: float, teacher=None, teacher_params=None):
        tx, self.key = clipped_adam(rate, clip=5.0), jax.random.key(0)
        self.run = pmap_step(make_train_step(model, tx, loss, teacher=teacher))
        self.state = replicate(init_state(model, tx, self.key))
        self.teacher_params = teacher_params

    def __call__(self, sharded: Example) -> Any:
        self.state, metrics = self.run(self.state, sharded, self.key, self.teacher_params)
        return metrics

    def over(self, made: Iterable[Example]) -> float:
        """Trains on batches; returns the seconds that were spent on waiting for them."""
        waited, before, asked = 0.0, None, time.perf_counter()
        for batch in map(shard, made):
            waited += time.perf_counter() - asked
            metrics = self(batch)
            jax.block_until_ready(before)  # ``fit`` reads each step's metrics after the next
            before, asked = metrics, time.perf_counter()
        jax.block_until_ready(before)
        return waited


def step_of(row: Row) -> Callable[[], Any]:
    """What does one step of a row each time that it is called."""
    if row.beam:
        return _decoding(row)
    turn, model = itertools.cycle(_random_batches(row)), attention_lstm(MODELS[row.model])
    teacher = _model(MODELS["teacher"]) if row.work == "kd" else ()
    train = _Trainer(model, mix(nll, word_kd, 0.5) if teacher else nll, 1e-3, *teacher)
    return lambda: train(shard(next(turn)))


def _decoding(row: Row) -> Callable[[], Any]:
    config, turn = MODELS[row.model], itertools.cycle(_random_batches(row))
    model, params = _model(config, searched=True)
    search = Search(beam_size=row.beam, min_len=row.length - 1, max_len=row.length)
    run, limit = translator(model, search, row.length), np.full(row.batch, row.length, np.int32)
    if not row.shortlist:
        return lambda: run(params, next(turn).src, limit)
    rng = np.random.default_rng(0)
    # No word is brought twice: as many come together as can.
    words = rng.integers(EOS + 1, config.tgt_vocab, (config.src_vocab, row.shortlist), np.int32)
    short = Shortlist(words, np.arange(EOS + 1, dtype=np.int32), config.tgt_vocab)

    def shortened() -> Any:
        src = np.asarray(next(turn).src)
        ids, own = short.of_batch(src)
        return run((params, ids), src, limit, own)

    return shortened


@cache
def _model(config: Config, searched: bool = False) -> tuple[Seq2Seq, Params]:
    model = attention_lstm(config)
    faster = for_search if searched else for_teaching
    model, params = faster(model, model.init(jax.random.key(0)))
    return model, replicate(params)


def _random_batches(row: Row) -> list[Example]:
    config, shape = MODELS[row.model], (TURNS, row.batch, row.length)
    vocabularies, rng = (config.src_vocab, config.tgt_vocab), np.random.default_rng(0)
    src, tgt = (rng.integers(EOS + 1, size, shape, np.int32) for size in vocabularies)
    tgt[:, :, -1] = EOS
    rest: Any = (np.ones(row.batch, np.float32), np.arange(row.batch, dtype=np.int32))
    return [Example(*sides, *rest) for sides in zip(src, tgt, strict=True)]


def _seconds(call: Callable[[], Any]) -> float:
    started = time.perf_counter()
    jax.block_until_ready(call())
    return time.perf_counter() - started


def _first_calls(call: Callable[[], Any]) -> tuple[Record, float]:
    """Calls twice: what the compiler took and made, and the seconds of the second call.

    ``compile_s`` is the first call less the second, tracing included; ``temp_mb`` the temporary
    memory of the largest program; ``peak_mb`` the most that the process has held so far, so only
    a row that is measured alone shows its own.
    """
    client = jax.local_devices()[0].client
    before = {id(program): program for program in client.live_executables()}
    first, second = _seconds(call), _seconds(call)
    new = [x.get_compiled_memory_stats() for x in client.live_executables() if id(x) not in before]
    unit = 1 if sys.platform == "darwin" else 1024  # of ru_maxrss, in bytes
    return {
        "compile_s": max(0.0, first - second),
        "programs": len(new),
        "temp_mb": max((x.temp_size_in_bytes for x in new), default=0) / 2**20,
        "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20,
    }, second


def products(row: Row) -> list[Product]:
    """All matrix products of one step."""
    forward, backward = _forward(row, MODELS[row.model]), []
    for times, batch, rows, inner, out in () if row.beam else forward:
        backward.append((times, batch, rows, out, inner))
        # Of the weights, in one go for all steps of a loop.
        backward.append((1, batch, inner, times * rows, out))
    return forward + backward + (_forward(row, MODELS["teacher"]) if row.work == "kd" else [])


def _forward(row: Row, config: Config) -> list[Product]:
    """Products of encoding B sentences, in one direction, and of T decoder steps of B * K rows.

    In training target words are known: their embeddings and hidden states are each one product.
    """
    b, t, k, e, h = row.batch, row.length, row.beam or 1, config.embed, config.hidden
    step = (t, 1, b * k)
    all_steps = step if row.beam else (1, 1, b * t)
    return [
        (1, 1, b * t, e, 4 * h),
        *[(1, 1, b * t, h, 4 * h)] * (config.layers - 1),
        *[(t, 1, b, h, 4 * h)] * config.layers,  # encoder, recurrent
        *[(1, 1, b * t, h, h)] * 2,  # keys and values
        (*all_steps, e, 4 * h),
        # Layer 1 reads the last h~ and its own h, each other the layer below and its own h.
        *[(*step, h, 4 * h)] * (2 * config.layers),
        (t, b, k, h, t),  # scores
        (t, b, k, t, h),  # weighted sum of values
        (*step, h, h),  # query
        (*all_steps, h, row.shortlist * row.length or config.tgt_vocab),
    ]


def flops(row: Row) -> int:
    """Floating point operations of one step's matrix products."""
    return sum(2 * int(np.prod(product)) for product in products(row))


def gemm_seconds(row: Row) -> float:
    """Measures how long the products of one step take by themselves."""
    total = 0.0
    for (times, batch, rows, inner, out), count in Counter(products(row)).items():
        loops = int(min(GEMM_REPEATS, max(1, GEMM_FLOPS // (2 * batch * rows * inner * out))))
        several = (batch,) if batch > 1 else ()
        left, right = jnp.ones((loops, *several, rows, inner)), jnp.ones((*several, inner, out))
        total += count * times * _seconds(partial(_products, left, right)) / loops
    return total


@jax.jit
def _products(left: jax.Array, right: jax.Array) -> jax.Array:
    """One product after the other, as in a model's loop, without the cost of many calls."""
    return lax.map(lambda one: one @ right, left)


def measure_against(command: str, timing: Timing) -> list[Record]:
    """Measures own repeats and a peer's in turns: the ratio of medians, and quartiles of the pairs.

    The peer's command prints a JSON line with mode (train, kd, decode), model, batch, beam (null
    in training) and value, in the units of this file. It stays or is started for each turn, as
    ``turns_of`` says. Its first turn tells which row to measure, and is not counted. Raises
    ValueError if there is no such line or row.
    """
    with closing(turns_of(command)) as turns:
        line, peer = next(turns), []
        work, model, beam = line["mode"], line["model"], line["beam"] or 1
        _chosen([f"{row.work}-{row.model}" for row in FIXED], [f"{work}-{model}"])
        row = Row(work, model, line["batch"], beam if work == "decode" else 0)
        measured = _Measured(row, timing)
        for _ in tqdm(range(timing.repeats), desc=str(row), disable=None):
            measured.turn()
            peer.append(float(next(turns)["value"]))
    record = {"row": str(row), "peer": line.get("system", command)}
    record |= _ratio(measured.values, peer) | {"peer_median": statistics.median(peer)}
    return [record | measured.record() | {"peer_repeats": peer, "peer_line": line}]


def measure_table2(timing: Timing) -> list[Record]:
    """Students decoding greedily against the teacher with a beam of 5, one sentence at a time.

    V = 50,004, random parameters, random sources of 25 words, 25 tokens decoded for each: real
    lengths would only tell how well each model was trained. The value is source words per second.
    With a shortlist, which the paper does not have, each source word brings 50 target words.
    Source: Kim & Rush 2016, Table 2, on a CPU.
    """
    models = ("4x1000", 5, 0), ("big", 1, 0), ("2x300", 1, 0), ("big", 1, 50), ("2x300", 1, 50)
    rows = [Row("decode", model, 1, beam, PAPER_LENGTH, short) for model, beam, short in models]
    names = ["teacher 4x1000, beam 5", "student 2x500, greedy", "student 2x300, greedy"]
    names += [f"{name}, shortlist" for name in names[1:]]
    records, measured = [], _in_turns(rows, timing)
    for name, paper, one in zip(names, (7.9, 63.6, 104.3, 63.6, 104.3), measured, strict=True):
        speed = _speed(name, "source words/s", [PAPER_LENGTH * value for value in one.values])
        ratio = _ratio(one.values, measured[0].values) | {"paper_ratio": paper / 7.9}
        records.append(one.record() | speed | ratio)
    return records


def measure_real(rows: Sequence[str], timing: Timing) -> list[Record]:
    """What a user feels: an epoch with real lengths, buckets and padding, and the test set.

    Corpora are ``grammar``, and ``multi30k`` where SEQKD_DATA is set; models and settings those of
    their plans. ``padding`` is the share of ids, on both sides, that are no part of the corpus;
    ``input`` that of the time in which the loop waited for its next batch to be made (devices may
    go on computing: no more than that is lost). All shapes are compiled before. With ``steps`` only
    so many batches of the epoch, and 8 test sentences for each. ValueError if a row is not known.
    """
    corpora = ("grammar", "multi30k") if os.environ.get("SEQKD_DATA") else ("grammar",)
    names = [f"{corpus}-{model}" for corpus in corpora for model in ("student", "teacher")]
    records = []
    with tempfile.TemporaryDirectory() as folder:
        for name in tqdm(_chosen(names, rows), desc="real", disable=None):
            lab = recipes.lab(name.split("-")[0], Path(folder) / name)
            records += _real(name, lab, timing)
    return records


def _real(name: str, lab: recipes.Lab, timing: Timing) -> Iterator[Record]:
    plan, (src_vocab, tgt_vocab) = lab.plan, lab.vocabularies
    size, training = plan.student, plan.student_training
    if name.endswith("teacher"):
        size, training = plan.teacher, plan.teacher_training
    model = attention_lstm(Config(src_vocab.size, tgt_vocab.size, **vars(size)))
    loss = smoothed_nll(training.label_smoothing) if training.label_smoothing else nll
    train = _Trainer(model, loss, training.rate)
    encoded = encode_pairs(lab.corpus.train, src_vocab, tgt_vocab, max_len=training.max_tokens)
    lengths = ([len(ids) for ids in side] for side in (encoded.src, encoded.tgt))
    buckets = plan_buckets(
        *lengths, tokens_per_batch=training.tokens_per_batch, buckets=training.buckets
    )

    def epoch() -> Iterator[Any]:
        return itertools.islice(batches(encoded, buckets, seed=plan.seed, epoch=0), timing.steps)

    made = list(epoch())
    ids = sum(batch.src.size + batch.tgt.size for batch in made)
    sides = [np.stack([(b.src != PAD).sum(1), (b.tgt != PAD).sum(1)]) @ b.weight for b in made]
    src, tgt = np.sum(sides, axis=0).tolist()
    shapes = {(batch.src.shape, batch.tgt.shape): batch for batch in made}
    facts, _ = _first_calls(lambda: train.over(shapes.values()))
    waited: list[float] = []
    seconds = _seconds(lambda: waited.append(train.over(epoch())))
    shares = {"padding": 1 - (src + tgt) / ids, "input": waited[0] / seconds}
    yield _speed(f"train-{name}", "target tokens/s", [tgt / seconds]) | shares | facts

    said = [source for source, _ in lab.corpus.test if src_vocab.encode(source)]
    lines = said[: timing.steps and 8 * timing.steps]
    translate = partial(translate_texts, model, train.state.params, lines, src_vocab, tgt_vocab)
    for beam in (1, 5):
        decode = partial(translate, Search(beam_size=beam))
        facts, _ = _first_calls(decode)
        values = [len(lines) / _seconds(decode) for _ in range(timing.repeats)]
        yield _speed(f"decode-{name}-k{beam}", "sentences/s", values) | facts


def _chosen(known: Sequence[Any], names: Sequence[str]) -> list[Any]:
    """Those of ``known`` that a name names, in full or by a part of it; all for no name."""
    chosen = {name: [x for x in known if f"-{name}-" in f"-{x}-"] for name in names}
    for name, found in chosen.items():
        if not found:
            listed = ", ".join(dict.fromkeys(map(str, known)))
            raise UsageError(f"There is no row {name!r}; the rows are: {listed}.")
    return [x for x in known if not names or any(x in found for found in chosen.values())]


def _speed(row: str, unit: str, values: Sequence[float]) -> Record:
    spread = {"median": statistics.median(values), "min": min(values), "max": max(values)}
    return {"row": row, "unit": unit} | spread | {"repeats": list(values)}


def _ratio(own: Sequence[float], other: Sequence[float]) -> Record:
    """The ratio of medians, and the quartiles of pairs measured one after the other."""
    lower, upper = np.quantile([a / b for a, b in zip(own, other, strict=True)], [0.25, 0.75])
    ratio = statistics.median(own) / statistics.median(other)
    return {"ratio": ratio, "lower_quartile": float(lower), "upper_quartile": float(upper)}
