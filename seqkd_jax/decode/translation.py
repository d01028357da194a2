"""Translating many sentences: length-sorted batches of a few fixed shapes, on all devices.

``translate`` keeps everything in memory. ``translate_corpus`` writes sharded n-best files; the job
can be resumed and shared by any number of workers, and the files name the teacher and search.
"""

import functools
import uuid
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from ..addresses import PathLike
from ..base import EOS, Array, Hypotheses, Params, Seq2Seq, State, StepFn, platform, step_fn
from ..data import source_batches
from ..data.encode import EXAMPLES, encode_line, lines_at
from ..data.lines import lines_digest
from ..errors import SourceCut, UsageError
from ..files import atomic_write, make_folder
from ..models.attention_lstm import AttentionLSTMParams
from ..models.inference import InferenceParams, restrict
from ..parallel import pmap_rows
from ..search import (
    BeamLoop,
    BeamStep,
    beam_loop,
    for_search,
    gnmt,
    mean_per_token,
    no_penalty,
    search_many,
    trace,
)
from ..settings import GREEDY, Search
from ..trained import TrainedModel
from .nbest import NBest, complete_shards, open_nbest, pack_shard, shard_path
from .shards import map_shards, process_shards
from .shortlist import Shortlist

LIVE_ROWS = 512  # hypotheses that a device decodes together, for sources of 16 tokens
LIVE_SENTENCES = 128  # limit of sentences decoded together on a CPU, where more are not faster
QUEUE_FACTOR = 4  # sentences of a batch for each slot, so that slots can be refilled
STREAM_SENTENCES = 8192  # largest group of a stream's lines that is translated together

Teacher = TrainedModel | Callable[[], TrainedModel]
Map = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[Any]]


def length_penalty(search: Search) -> Callable[[Array], Array]:
    """Returns the length rule of the settings, as a function of the length."""
    rules = {"none": no_penalty, "mean": mean_per_token, "gnmt": gnmt(search.length_alpha)}
    return rules[search.length_rule]


def search_function(
    model: Seq2Seq, search: Search, max_len: int, slots: int | None = None
) -> Callable[..., Hypotheses]:
    """Returns the search of one device: (params, src [B, S], limit [B]) -> Hypotheses [B, K, T].

    It decodes ``slots`` sentences together (``search_many``); None for all of them. With a
    shortlist the arguments are ((params, ids [C]), src, limit, own [B, C]), with the output of
    ``Shortlist.of_batch``; tokens are then indices in ``ids``, and probabilities are normalised
    over a sentence's own words.
    """

    def on_device(params: Params, src: Array, limit: Array, own: Array | None = None) -> Hypotheses:
        if own is not None:
            params = _restrict(*params)

        def loop(sentence: tuple) -> BeamLoop:
            memory, state, limit, own = sentence

            step = step_fn(model, params, memory)

            def restricted_step(state: Any, token: Array) -> tuple[Array, Any]:
                logits, state = step(state, token)
                return jnp.where(own, logits, -jnp.inf), state

            return _loop(step if own is None else restricted_step, state, search, max_len, limit)

        memory, state = jax.vmap(model.encode, (None, 0))(params, src)
        return search_many(loop, (memory, state, limit, own), slots or len(src))

    return on_device


def _loop(step: StepFn, state: State, search: Search, max_len: int, limit: int | Array) -> BeamLoop:
    return beam_loop(
        step,
        state,
        beam_size=search.beam_size,
        n_best=search.n_best,
        max_len=max_len,
        limit=limit,
        min_len=min(search.min_len, max_len - 1),  # the limit of a short source goes first
        length_penalty=length_penalty(search),
        stop_at_first=search.stop_at_first,
    )


def trace_search(trained: TrainedModel, source: str, search: Search = GREEDY) -> list[BeamStep]:
    """Translates one line as ``translate_texts`` does; returns the beam after each step.

    Raises UsageError if the line has no words.
    """
    ids = jnp.array(encode_line(trained.src_vocab, source, 0, "source")[: search.max_source])
    if not len(ids):
        raise UsageError("The source has no words, so there is nothing to search for.")
    memory, state = jax.jit(trained.model.encode)(trained.params, ids)
    step = step_fn(trained.model, trained.params, memory)
    limit = search.limit(len(ids))
    start, cond, body = _loop(step, state, search, limit, limit)
    return list(trace(BeamLoop(start, jax.jit(cond), jax.jit(body))))


@functools.lru_cache(maxsize=32)
def compile_search(
    model: Seq2Seq, search: Search, max_len: int, slots: int | None = None
) -> Callable[..., Hypotheses]:
    """Compiles ``search_function`` for all devices; the results are numpy arrays.

    There is one program for each (model, search, max_len, slots) and shape of the sources.
    """
    return pmap_rows(search_function(model, search, max_len, slots))


def live_tokens(search: Search) -> int:
    """Returns the source tokens, padding included, that a device decodes together."""
    sentences = LIVE_ROWS // search.beam_size
    if platform() == "cpu":
        sentences = min(sentences, LIVE_SENTENCES)
    return 16 * max(4, sentences)


def translate(
    model: Seq2Seq,
    params: Params,
    sources: Sequence[np.ndarray],
    search: Search = GREEDY,
    *,
    shortlist: Shortlist | None = None,
    bar: tqdm | None = None,
) -> list[Hypotheses]:
    """Translates sentences of ids; the results do not depend on how they are batched.

    Args:
      model: any ``Seq2Seq``, or an ensemble.
      params: its parameters.
      sources: ids [S] of each sentence, none empty.
      search: settings.
      shortlist: restricts the output words; for attention LSTMs and their ensembles only.
      bar: a progress bar that counts sentences.

    Returns:
      Numpy ``Hypotheses`` [n_best, T] of each source, in their order.
    """
    results: list[Hypotheses | None] = [None] * len(sources)
    lengths = np.array([len(source) for source in sources])
    model, params = for_search(model, params, int(lengths.sum()))
    tokens = QUEUE_FACTOR * live_tokens(search) * jax.local_device_count()
    for src, indices in source_batches(sources, tokens_per_batch=tokens):
        # Rows that only fill up the batch end after one token.
        limits = np.array(
            [search.limit(int(lengths[i])) if i >= 0 else 1 for i in indices], np.int32
        )
        slots = max(1, live_tokens(search) // src.shape[1])
        run = compile_search(model, search, search.limit(src.shape[1]), slots)
        if shortlist is None:
            batch = run(params, src, limits)
        else:
            ids, own = shortlist.of_batch(src)
            batch = run((params, ids), src, limits, own)
            batch = Hypotheses(ids[batch.tokens], batch.scores, batch.log_probs)
        for row, index in enumerate(indices):
            if index >= 0:
                results[index] = Hypotheses(
                    batch.tokens[row], batch.scores[row], batch.log_probs[row]
                )
        if bar is not None:
            bar.update(int((indices >= 0).sum()))
    return [result for result in results if result is not None]


def _restrict(params: Params, ids: Array) -> Params:
    """Returns the ``restrict`` of an attention LSTM, or of each member of an ensemble."""
    allowed = AttentionLSTMParams | InferenceParams

    def restrict_member(params: Any) -> Params:
        if not isinstance(params, allowed):
            raise UsageError("A shortlist needs an attention LSTM or an ensemble of them.")
        return restrict(params, ids)

    return jax.tree.map(restrict_member, params, is_leaf=lambda p: isinstance(p, allowed))


def sentence(tokens: np.ndarray) -> list[int]:
    """Returns the ids of a hypothesis [T] up to EOS, which is left out."""
    ids = tokens.tolist()
    return ids[: ids.index(EOS)] if EOS in ids else []


def translate_texts(
    translator: TrainedModel,
    lines: Sequence[str],
    search: Search = GREEDY,
    *,
    shortlist: Shortlist | None = None,
    first: int = 0,
    bar: tqdm | None = None,
) -> list[NBest]:
    """Translates lines of text; an empty line gets one empty hypothesis, so lines stay aligned.

    Sources are cut to ``search.max_source`` tokens, with a warning (``SourceCut``) that names the
    lines. ``first`` is the index of the first line in its corpus.
    """
    ids = [
        np.array(encode_line(translator.src_vocab, line, first + n, "source"), np.int32)
        for n, line in enumerate(lines)
    ]
    limit = search.max_source
    if limit is not None:
        if overlong := [first + n + 1 for n, source in enumerate(ids) if len(source) > limit]:
            warnings.warn(
                f"Sources longer than {limit} tokens were cut to that length: {len(overlong):,} "
                f"{lines_at(overlong[:EXAMPLES], len(overlong))}; --max-source (max_source) sets "
                "the limit.",
                SourceCut,
                stacklevel=2,
            )
        ids = [source[:limit] for source in ids]
    nonempty = [index for index, source in enumerate(ids) if len(source)]
    sources = [ids[index] for index in nonempty]
    results = translate(
        translator.model, translator.params, sources, search, shortlist=shortlist, bar=bar
    )
    nbest = [NBest(first + n, ("",), ((),), (0.0,), (0.0,)) for n in range(len(lines))]
    for index, hypotheses in zip(nonempty, results, strict=True):
        rows = [n for n, score in enumerate(hypotheses.scores) if np.isfinite(score)]
        tokens = tuple(tuple(sentence(np.asarray(hypotheses.tokens[n]))) for n in rows)
        nbest[index] = NBest(
            index=first + index,
            texts=tuple(translator.tgt_vocab.decode(t) for t in tokens),
            tokens=tokens,
            scores=tuple(float(hypotheses.scores[n]) for n in rows),
            log_probs=tuple(float(hypotheses.log_probs[n]) for n in rows),
        )
    return nbest


def translate_stream(
    translator: TrainedModel,
    line_groups: Iterable[Sequence[str]],
    search: Search = GREEDY,
    *,
    shortlist: Shortlist | None = None,
    bar: tqdm | None = None,
) -> Iterator[tuple[Sequence[str], list[NBest]]]:
    """Translates a stream of text, one group of lines at a time (see ``waiting_lines``).

    Args:
      translator: a model with its vocabularies.
      line_groups: groups of lines that are translated together.
      search: settings.
      shortlist: restricts the output words.
      bar: a progress bar that counts sentences.

    Yields:
      A group of lines and its translations; indices count on from group to group.
    """
    first = words = 0
    for lines in line_groups:
        words += sum(len(line.split()) for line in lines)
        # The model is specialised after enough words for it to pay off, and only once.
        model, params = for_search(translator.model, translator.params, words)
        translator = translator.with_params(params, model)
        nbest = translate_texts(
            translator, lines, search, shortlist=shortlist, first=first, bar=bar
        )
        yield lines, nbest
        first += len(lines)


def translate_corpus(
    folder: PathLike,
    teacher: Teacher,
    lines: Sequence[str],
    search: Search,
    *,
    map: Map | None = None,
    shard_sentences: int = 2000,
    progress: str | None = "decoding",
) -> Sequence[NBest]:
    """Decodes a corpus into sharded n-best files, and returns its lists, which stay in the files.

    Each sentence is decoded exactly once. Shards are written atomically; a job that is started
    again makes only the missing ones. Several workers may run this on the same local folder at
    once: each takes shards that no other is making. Or one process runs it with the ``map`` of an
    engine, whose workers decode and need not see the folder. The files have the same bytes for any
    number of workers on machines of the same kind.

    Args:
      folder: for the shards; may be an address (``files.as_path``).
      teacher: with its vocabularies; the digest of its parameters is written into each shard's
        header. Workers in other processes need a function that loads it and can be pickled, such as
        ``functools.partial(load_model, "/shared/teacher")``; each calls it once.
      lines: source sentences.
      search: settings; written into each shard's header.
      map: like the builtin ``map``: applies a function, which can be pickled, to each missing shard
        and yields the results, in any order. ``concurrent.futures``' ``Executor.map``, the
        ``imap_unordered`` of a pool, or ``cluster.ray_map``; None decodes in this process.
      shard_sentences: sentences of a shard, all of which a worker decodes.
      progress: label of the progress bar; None for no bar.

    Raises:
      UsageError: the folder holds lists of another teacher, corpus or search; a worker loaded
        another teacher; or the teacher cannot be sent to the workers.
    """
    folder = make_folder(folder)
    here = teacher() if callable(teacher) else teacher
    header = {
        "teacher": here.digest,
        "search": asdict(search),
        "source": lines_digest(lines),
        "sentences": len(lines),
    }
    shards = max(1, -(-len(lines) // shard_sentences))
    job = _Job(uuid.uuid4().hex, here if map is None else teacher, search, header)
    verified: set[int] = set()

    def path(shard: int) -> Path:
        return shard_path(folder, shard, shards)

    def part(shard: int) -> _Part:
        first = shard * shard_sentences
        return _Part(shard, first, lines[first : first + shard_sentences])

    def done() -> set[int]:
        return complete_shards(folder, header, verified)

    with tqdm(total=len(lines), desc=progress, unit="sent", disable=progress is None) as bar:
        # Sentences of an earlier start count for the progress, and not for the rate.
        bar.n = bar.initial = sum(len(part(shard).lines) for shard in done())
        bar.refresh()
        if map is None:

            def make(shard: int) -> None:
                atomic_write(path(shard), _decode_part(job, part(shard), bar)[1])

            process_shards(folder, shards, path, done, make, bar, shard_sentences)
        else:

            def keep(shard: int, data: bytes) -> None:
                atomic_write(path(shard), data)
                bar.update(min(shard_sentences, len(lines) - shard * shard_sentences))

            decode = functools.partial(_decode_part, job)
            map_shards(folder, shards, done, lambda n: map(decode, (part(i) for i in n)), keep)
    _prepared.cache_clear()
    return open_nbest(folder)


class _Part(NamedTuple):
    """The lines of a shard."""

    shard: int
    first: int  # index of the first line in its corpus
    lines: Sequence[str]


@dataclass(frozen=True)
class _Job:
    """What a worker needs to know of a corpus, whichever part of it comes."""

    name: str  # of no other job; the worker's teacher is kept by it
    teacher: Teacher = field(compare=False)
    search: Search = field(compare=False)
    header: dict[str, Any] = field(compare=False)


def _decode_part(job: _Job, part: _Part, bar: tqdm | None = None) -> tuple[int, bytes]:
    """Returns the number and the bytes of a shard."""
    nbest = translate_texts(_prepared(job), part.lines, job.search, first=part.first, bar=bar)
    return part.shard, pack_shard(job.header, nbest)


@functools.lru_cache(maxsize=1)
def _prepared(job: _Job) -> TrainedModel:
    """Returns a job's teacher, made ready once for all shards, which then share its programs."""
    teacher = job.teacher() if callable(job.teacher) else job.teacher
    if teacher.digest != job.header["teacher"]:
        raise UsageError(
            "A worker has loaded another teacher than the process that started it: give both the "
            "same folder, one that all machines see."
        )
    model, params = for_search(teacher.model, teacher.params)
    return teacher.with_params(params, model)
