"""One step of a row: training, or a search, as ``fit`` and ``translate`` run them."""

import itertools
import time
from collections.abc import Callable, Iterable
from functools import cache
from typing import Any

import jax
import numpy as np

from ..base import EOS, Example, Params, Seq2Seq, for_teaching
from ..decode.shortlist import Shortlist
from ..decode.translation import compile_search
from ..losses import Loss, mix, nll, word_kd
from ..models.attention_lstm import Config, attention_lstm
from ..parallel import pmap_step, replicate, shard
from ..search import for_search
from ..settings import Search
from ..train.state import clipped_adam, init_state
from ..train.steps import make_train_step
from .rows import Row, random_batches


class Trainer:
    """Runs training steps in the way that ``fit`` does."""

    def __init__(self, model: Seq2Seq, loss: Loss, rate: float, teacher=None, teacher_params=None):
        tx, self.key = clipped_adam(rate, clip=5.0), jax.random.key(0)
        self.run = pmap_step(make_train_step(model, tx, loss, teacher=teacher))
        self.state = replicate(init_state(model, tx, self.key))
        self.teacher_params = teacher_params

    def __call__(self, sharded: Example) -> Any:
        """Trains on a batch; returns its metrics."""
        self.state, metrics = self.run(self.state, sharded, self.key, self.teacher_params)
        return metrics

    def over(self, made: Iterable[Example]) -> float:
        """Trains on batches; returns the seconds spent waiting for batches to be made."""
        waited, before, asked = 0.0, None, time.perf_counter()
        for batch in map(shard, made):
            waited += time.perf_counter() - asked
            metrics = self(batch)
            jax.block_until_ready(before)  # ``fit`` reads metrics one step later
            before, asked = metrics, time.perf_counter()
        jax.block_until_ready(before)
        return waited


def step_of(row: Row) -> Callable[[], Any]:
    """Returns a function that runs one step of a row."""
    if row.beam:
        return _decoding(row)
    turn, model = itertools.cycle(random_batches(row)), attention_lstm(row.config)
    teacher = _model(row.teacher_config) if row.teacher_config else ()
    train = Trainer(model, mix(nll, word_kd, 0.5) if teacher else nll, 1e-3, *teacher)
    return lambda: train(shard(next(turn)))


def _decoding(row: Row) -> Callable[[], Any]:
    config, turn = row.config, itertools.cycle(random_batches(row))
    model, params = _model(config, searched=True)
    search = Search(beam_size=row.beam, min_len=row.length - 1, max_len=row.length)
    run, limit = compile_search(model, search, row.length), np.full(row.batch, row.length, np.int32)
    if not row.shortlist:
        return lambda: run(params, next(turn).src, limit)
    rng = np.random.default_rng(0)
    # Random target words hardly ever coincide, so a batch's shortlist is as long as it can be.
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
