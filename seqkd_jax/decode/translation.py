"""Translating many sentences: length-sorted batches of a few fixed shapes, on all devices."""

import functools
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from ..base import EOS, Array, Hypotheses, Params, Seq2Seq, State, StepFn, platform, step_fn
from ..data import source_batches
from ..data.encode import EXAMPLES, encode_line, lines_at
from ..errors import SourceCut, UsageError, require_lines
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
from .nbest import NBest
from .shortlist import Shortlist

LIVE_ROWS = 512  # hypotheses that a device decodes together, for sources of 16 tokens
LIVE_SENTENCES = 128  # limit of sentences decoded together on a CPU, where more are not faster
QUEUE_FACTOR = 4  # sentences of a batch for each slot, so that slots can be refilled
STREAM_SENTENCES = 8192  # largest group of a stream's lines that is translated together


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
        min_len=min(search.min_len, max_len - 1),  # the limit of a short source takes precedence
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
      sources: ids [S] of each sentence in the model's source vocabulary, none empty; rows of ids
        where a token is one. An id beyond the vocabulary is not noticed: ``jax`` reads the last row
        of a table in its place.
      search: settings.
      shortlist: restricts the output words; for attention LSTMs and their ensembles only.
      bar: a progress bar that counts sentences.

    Returns:
      Numpy ``Hypotheses`` [n_best, T] of each source, in their order.

    Raises:
      UsageError: a source is empty, or does not hold ids.

    >>> import jax
    >>> from seqkd_jax import Config, attention_lstm
    >>> model = attention_lstm(Config(6, 6, embed=4, hidden=4, layers=1))
    >>> params = model.init(jax.random.key(0))
    >>> found = translate(model, params, [np.array([4, 5]), np.array([5])], Search(max_len=3))
    >>> [hypotheses.tokens.shape[0] for hypotheses in found]
    [1, 1]
    """
    for n, ids in enumerate(map(np.asarray, sources)):
        if not ids.size or ids.ndim == 0 or ids.dtype.kind not in "iu":
            raise UsageError(f"sources[{n}]: expected ids [S], at least one and whole numbers.")
    results: list[Hypotheses | None] = [None] * len(sources)
    lengths = np.array([len(source) for source in sources])
    model, params = for_search(model, params, int(lengths.sum()))
    tokens = QUEUE_FACTOR * live_tokens(search) * jax.local_device_count()
    for src, indices in source_batches(sources, tokens_per_batch=tokens):
        if src.min() < 0:
            n = next(int(n) for n in indices if np.min(sources[n]) < 0)
            raise UsageError(f"sources[{n}]: {np.min(sources[n])} is no id; they count from 0.")
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
    trained: TrainedModel,
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

    Raises:
      UsageError: ``lines`` is one text, or the model has no parameters yet.

    >>> import jax
    >>> from seqkd_jax import Config, TrainedModel, attention_lstm, build_words
    >>> words = build_words(["a dog sleeps"])
    >>> model = attention_lstm(Config(words.size, words.size, embed=4, hidden=4, layers=1))
    >>> trained = TrainedModel(model, model.init(jax.random.key(0)), words, words)  # or load_model
    >>> best, empty = translate_texts(trained, ["a dog", ""], Search(beam_size=2, n_best=2))
    >>> len(best.texts), empty.texts
    (2, ('',))
    """
    require_lines(lines)
    if trained.params is None:
        raise UsageError("The model has no parameters: train it, or give trained.with_params.")
    ids = [
        np.array(encode_line(trained.src_vocab, line, first + n, "source"), np.int32)
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
        trained.model, trained.params, sources, search, shortlist=shortlist, bar=bar
    )
    nbest = [NBest(first + n, ("",), ((),), (0.0,), (0.0,)) for n in range(len(lines))]
    for index, hypotheses in zip(nonempty, results, strict=True):
        rows = [n for n, score in enumerate(hypotheses.scores) if np.isfinite(score)]
        tokens = tuple(tuple(sentence(np.asarray(hypotheses.tokens[n]))) for n in rows)
        nbest[index] = NBest(
            index=first + index,
            texts=tuple(trained.tgt_vocab.decode(t) for t in tokens),
            tokens=tokens,
            scores=tuple(float(hypotheses.scores[n]) for n in rows),
            log_probs=tuple(float(hypotheses.log_probs[n]) for n in rows),
        )
    return nbest


def translate_stream(
    trained: TrainedModel,
    line_groups: Iterable[Sequence[str]],
    search: Search = GREEDY,
    *,
    shortlist: Shortlist | None = None,
    bar: tqdm | None = None,
) -> Iterator[tuple[Sequence[str], list[NBest]]]:
    """Translates a stream of text, one group of lines at a time (see ``waiting_lines``).

    Args:
      trained: a model with its vocabularies.
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
        model, params = for_search(trained.model, trained.params, words)
        trained = trained.with_params(params, model)
        nbest = translate_texts(trained, lines, search, shortlist=shortlist, first=first, bar=bar)
        yield lines, nbest
        first += len(lines)
