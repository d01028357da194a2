"""The programs of a run as they are on each device: training, Word-KD and the search, not compiled.

Nothing is computed: shapes stand for parameters and batches, so devices need not be there.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from ..base import Example, Params, Seq2Seq, for_teaching, traced_for
from ..decode.translation import search_function
from ..losses import mix, nll, word_kd
from ..parallel import rows_program, step_program
from ..search import for_search
from ..settings import Search
from ..train.state import clipped_adam, init_state
from ..train.steps import make_train_step
from ..train.stream import chunk_tokens
from .flops import search_flops, teaching_flops, training_flops


class Work(NamedTuple):
    """What one run of a program works on."""

    batch: int  # sentences of each device
    length: int  # S and T
    beam_size: int = 1  # K, of a search


class Program(NamedTuple):
    """A program that is ready to be compiled."""

    lowered: Any  # jax.stages.Lowered
    loops: tuple[int, ...]  # ``dynamic`` of ``hlo.kernels``
    flops: int  # of the model's own equations, for one device


# (work, devices) -> a program
Maker = Callable[[Work, Sequence[Any]], Program]


def training(model: Seq2Seq) -> Maker:
    """Returns the maker of a training step on the data: nll, clipping and Adam."""

    def make(work: Work, devices: Sequence[Any]) -> Program:
        lowered = _lowered_step(model, None, work, devices)
        own = work.batch * training_flops(model, work.length)
        return Program(lowered, _chunks(model, work, devices), own)

    return make


def word_kd_training(student: Seq2Seq, teacher_model: Seq2Seq) -> Maker:
    """Returns the maker of a training step of Word-KD, with the teacher in the same program."""

    def make(work: Work, devices: Sequence[Any]) -> Program:
        lowered = _lowered_step(student, teacher_model, work, devices)
        own = training_flops(student, work.length) + teaching_flops(teacher_model, work.length)
        return Program(lowered, _chunks(student, work, devices), work.batch * own)

    return make


def search(model: Seq2Seq) -> Maker:
    """Returns the maker of a beam search in which all sentences take T steps."""

    def make(work: Work, devices: Sequence[Any]) -> Program:
        with traced_for(devices[0].platform):
            faster, params = _faster(for_search, model)
            settings = Search(beam_size=work.beam_size, max_len=work.length)
            run = rows_program(search_function(faster, settings, work.length), devices)
            sources = _rows(devices, work.batch, work.length)
            lowered = run.lower(params, (sources, _rows(devices, work.batch)))
        own = work.batch * search_flops(model, work.length, work.beam_size)
        return Program(lowered, (1, work.length), own)

    return make


def _lowered_step(
    student: Seq2Seq, teacher_model: Seq2Seq | None, work: Work, devices: Sequence[Any]
) -> Any:
    tx = clipped_adam()
    key = jax.eval_shape(lambda: jax.random.key(0))
    state = jax.eval_shape(lambda: init_state(student, tx, jax.random.key(0)))
    words = _rows(devices, work.batch, work.length)
    numbers = _rows(devices, work.batch)
    weights = jax.ShapeDtypeStruct(numbers.shape, np.float32)
    batch = Example(words, words, weights, numbers)  # type: ignore[arg-type]
    with traced_for(devices[0].platform):
        guide, params = _faster(for_teaching, teacher_model) if teacher_model else (None, None)
        loss = mix(nll, word_kd, 0.5) if teacher_model else nll
        step = make_train_step(student, tx, loss, teacher=guide)
        return step_program(step, devices).lower(state, batch, key, params, None)


def _rows(devices: Sequence[Any], *shape: int) -> jax.ShapeDtypeStruct:
    return jax.ShapeDtypeStruct((len(devices), *shape), np.int32)


def _chunks(model: Seq2Seq, work: Work, devices: Sequence[Any]) -> tuple[int, ...]:
    """Returns the turns of the loop over chunks of tokens (``train.stream``)."""
    params = jax.eval_shape(lambda: model.init(jax.random.key(0)))
    words = jax.ShapeDtypeStruct((work.length,), np.int32)
    hidden = jax.eval_shape(model.hidden, params, words, words)
    one = jax.tree.map(lambda x: jax.ShapeDtypeStruct(x.shape[1:], x.dtype), hidden)
    tokens, logits = work.batch * work.length, jax.eval_shape(model.project, params, one)
    with traced_for(devices[0].platform):
        chunk = chunk_tokens(sum(x.size for x in jax.tree.leaves(logits)), tokens)
    return (-(-tokens // chunk),)


def _faster(specialise: Callable[..., Any], model: Seq2Seq) -> tuple[Seq2Seq, Params]:
    """Returns ``for_search`` or ``for_teaching`` of a model, and the shapes of its parameters."""
    made = []

    def specialised() -> Params:
        faster, params = specialise(model, model.init(jax.random.key(0)))
        made.append(faster)
        return params

    params = jax.eval_shape(specialised)
    return made[0], params
