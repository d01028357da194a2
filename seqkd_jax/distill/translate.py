"""Decoding many sentences: length-sorted batches of a few fixed shapes, on all devices.

``translate`` keeps everything in memory. ``translate_corpus`` writes sharded n-best files that
can be resumed, finished by any number of workers, and traced to what made them.
"""

import functools
import hashlib
import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from tqdm import tqdm

from ..base import EOS, Array, Hypotheses, Params, Seq2Seq
from ..data import Vocabulary, source_batches
from ..data.encode import EXAMPLES, encode_line, lines_at
from ..errors import UsageError
from ..files import make_folder
from ..models.attention_lstm import AttentionLSTMParams
from ..models.inference import InferenceParams, restrict
from ..plan import GREEDY, Search
from ..search import (
    BeamSteps,
    beam_steps,
    for_search,
    gnmt,
    mean_per_token,
    no_penalty,
    search_all,
)
from ..train.parallel import pmap_rows
from .nbest import NBest, complete_shards, read_nbest, shard_path, write_shard
from .shards import work_through
from .shortlist import Shortlist

LIVE_ROWS = 512  # hypotheses decoded together on a device, at 16 tokens of the source each
LIVE_SENTENCES = 128  # and no more of these on a CPU, where more at a time are not faster
WAITING = 4  # so many times as many sentences are given to a device at once
SHARD_SENTENCES = 2000
STREAM_SENTENCES = 8192  # of a stream, translated together where they are there


class SourceCut(UserWarning):
    """Sources were longer than the search takes."""


def length_penalty(search: Search) -> Callable[[Array], Array]:
    """The length rule of some settings, as a function of the length."""
    rules = {"none": no_penalty, "mean": mean_per_token, "gnmt": gnmt(search.alpha)}
    return rules[search.length_rule]


@functools.lru_cache(maxsize=32)
def translator(
    model: Seq2Seq, search: Search, max_len: int, places: int | None = None
) -> Callable[..., Hypotheses]:
    """Compiles the search: (params, src [B, S], limit [B]) -> Hypotheses [B, K, max_len], numpy.

    So many of the sentences as there are ``places`` are decoded together on a device; None for all.
    For a shortlist it is called with ((params, ids [C]), src, limit, own [B, C]), of ``of_batch``;
    tokens are then places in ``ids``, and probabilities those among a sentence's own words. One
    program for each (model, search, max_len, places) and shape of the sources.
    """

    def on_device(params: Params, src: Array, limit: Array, own: Array | None = None) -> Hypotheses:
        if own is not None:
            params = _restrict(*params)

        def steps(sentence: tuple) -> BeamSteps:
            memory, state, limit, own = sentence

            def step(state: Any, token: Array) -> tuple[Array, Any]:
                hidden, state = model.step(params, memory, state, token)
                logits = model.project(params, hidden)
                return logits if own is None else jnp.where(own, logits, -jnp.inf), state

            return beam_steps(
                step,
                state,
                beam_size=search.beam_size,
                n_best=search.n_best,
                max_len=max_len,
                limit=limit,
                min_len=search.min_len,
                length_penalty=length_penalty(search),
                stop_at_first=search.stop_at_first,
            )

        memory, state = jax.vmap(model.encode, (None, 0))(params, src)
        return search_all(steps, (memory, state, limit, own), places or len(src))

    return pmap_rows(on_device)


def live_tokens(search: Search) -> int:
    """Source tokens, padding among them, of the sentences that a device decodes together."""
    sentences = LIVE_ROWS // search.beam_size
    if jax.default_backend() == "cpu":
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
    """Translates sentences of ids; what comes out does not depend on how they are batched.

    Args:
      model: any ``Seq2Seq``, an ensemble included.
      params: its parameters.
      sources: ids [S] of each sentence, none empty.
      search: settings.
      shortlist: the words that each sentence may hold; of attention LSTMs and their ensembles.
      bar: a progress bar to move on by one for each sentence.

    Returns:
      For each source, in its order, numpy ``Hypotheses`` [n_best, T].
    """
    results: list[Hypotheses | None] = [None] * len(sources)
    lengths = np.array([len(source) for source in sources])
    model, params = for_search(model, params, int(lengths.sum()))
    tokens = WAITING * live_tokens(search) * jax.local_device_count()
    for src, places in source_batches(sources, tokens_per_batch=tokens):
        # Rows that only fill the batch end at once.
        limits = np.array(
            [search.limit(int(lengths[p])) if p >= 0 else 1 for p in places], np.int32
        )
        live = max(1, live_tokens(search) // src.shape[1])
        run = translator(model, search, search.limit(src.shape[1]), live)
        if shortlist is None:
            found = run(params, src, limits)
        else:
            ids, own = shortlist.of_batch(src)
            found = run((params, ids), src, limits, own)
            found = Hypotheses(ids[found.tokens], found.scores, found.log_probs)
        for row, place in enumerate(places):
            if place >= 0:
                results[place] = Hypotheses(
                    found.tokens[row], found.scores[row], found.log_probs[row]
                )
        if bar is not None:
            bar.update(int((places >= 0).sum()))
    return [result for result in results if result is not None]


def _restrict(params: Params, ids: Array) -> Params:
    """``restrict`` of an attention LSTM, or of each member of an ensemble."""
    kinds = AttentionLSTMParams | InferenceParams

    def one(params: Any) -> Params:
        if not isinstance(params, kinds):
            raise UsageError("A shortlist needs an attention LSTM or an ensemble of them.")
        return restrict(params, ids)

    return jax.tree.map(one, params, is_leaf=lambda p: isinstance(p, kinds))


def sentence(tokens: np.ndarray) -> list[int]:
    """The ids of a hypothesis [T] up to its end, EOS left out."""
    ids = tokens.tolist()
    return ids[: ids.index(EOS)] if EOS in ids else []


def translate_texts(
    model: Seq2Seq,
    params: Params,
    lines: Sequence[str],
    src_vocab: Vocabulary,
    tgt_vocab: Vocabulary,
    search: Search = GREEDY,
    *,
    shortlist: Shortlist | None = None,
    first: int = 0,
    bar: tqdm | None = None,
) -> list[NBest]:
    """Translates lines of text; an empty line has one empty hypothesis, so lines stay aligned.

    Sources of more than ``search.max_source`` tokens are cut there, with a warning (``SourceCut``)
    that names the lines. ``first`` is the index of the first line in its corpus.
    """
    ids = [
        np.array(encode_line(src_vocab, line, first + n, "source"), np.int32)
        for n, line in enumerate(lines)
    ]
    most = search.max_source
    if most is not None:
        if overlong := [first + n + 1 for n, source in enumerate(ids) if len(source) > most]:
            warnings.warn(
                f"Sources longer than {most} tokens were cut to that length: {len(overlong):,} "
                f"{lines_at(overlong[:EXAMPLES], len(overlong))}; --max-source (max_source) sets "
                "the limit.",
                SourceCut,
                stacklevel=2,
            )
        ids = [source[:most] for source in ids]
    full = [place for place, source in enumerate(ids) if len(source)]
    sources = [ids[place] for place in full]
    found = translate(model, params, sources, search, shortlist=shortlist, bar=bar)
    nbest = [NBest(first + n, ("",), ((),), (0.0,), (0.0,)) for n in range(len(lines))]
    for place, hypotheses in zip(full, found, strict=True):
        rows = [n for n, score in enumerate(hypotheses.scores) if np.isfinite(score)]
        tokens = tuple(tuple(sentence(np.asarray(hypotheses.tokens[n]))) for n in rows)
        nbest[place] = NBest(
            index=first + place,
            texts=tuple(tgt_vocab.decode(t) for t in tokens),
            tokens=tokens,
            scores=tuple(float(hypotheses.scores[n]) for n in rows),
            log_probs=tuple(float(hypotheses.log_probs[n]) for n in rows),
        )
    return nbest


def translate_stream(
    model: Seq2Seq,
    params: Params,
    given: Iterable[Sequence[str]],
    src_vocab: Vocabulary,
    tgt_vocab: Vocabulary,
    search: Search = GREEDY,
    *,
    shortlist: Shortlist | None = None,
    bar: tqdm | None = None,
) -> Iterator[tuple[Sequence[str], list[NBest]]]:
    """Translates text without end: each time the lines that are given together (``waiting_lines``).

    Args:
      model: as of ``translate_texts``, and so all others.
      params: its parameters.
      given: lines, some at a time.
      src_vocab: of the source side.
      tgt_vocab: of the target side.
      search: settings.
      shortlist: the words that each sentence may hold.
      bar: a progress bar.

    Yields:
      The lines and their translations, whose indices go on counting.
    """
    first = words = 0
    for lines in given:
        words += sum(len(line.split()) for line in lines)
        # Laid out for speed once more has been read than that takes, and then for good.
        model, params = for_search(model, params, words)
        yield (
            lines,
            translate_texts(
                model,
                params,
                lines,
                src_vocab,
                tgt_vocab,
                search,
                shortlist=shortlist,
                first=first,
                bar=bar,
            ),
        )
        first += len(lines)


def translate_corpus(
    folder: str | Path,
    model: Seq2Seq,
    params: Params,
    lines: Sequence[str],
    src_vocab: Vocabulary,
    tgt_vocab: Vocabulary,
    search: Search,
    *,
    teacher: str,
    progress: str | None = "decoding",
) -> list[NBest]:
    """Decodes a corpus into sharded n-best files, and reads them back in order.

    Each sentence is decoded exactly once. A shard appears in one piece or not at all; started
    again, the job goes on with the shards that are missing. Several workers may run this on one
    folder at once: each takes the shards that no other holds, and the files are the same bytes
    however many there were.

    Args:
      folder: for the shards.
      model: the teacher.
      params: its parameters.
      lines: source sentences.
      src_vocab: of the teacher's source side.
      tgt_vocab: of its target side.
      search: settings; written into each shard's header.
      teacher: digest of the teacher's parameters; written into each shard's header.
      progress: label of the progress bar; None for no bar.

    Raises:
      UsageError: the folder holds lists of another teacher, corpus or search.
    """
    folder = make_folder(folder)
    header = {
        "teacher": teacher,
        "search": asdict(search),
        "source": lines_digest(lines),
        "sentences": len(lines),
    }
    shards = max(1, -(-len(lines) // SHARD_SENTENCES))
    # Once, and the same programs for all shards.
    model, params = for_search(model, params)
    whole: set[int] = set()

    def decode(shard: int) -> None:
        first = shard * SHARD_SENTENCES
        part = lines[first : first + SHARD_SENTENCES]
        nbest = translate_texts(
            model, params, part, src_vocab, tgt_vocab, search, first=first, bar=bar
        )
        write_shard(folder, shard, shards, header, nbest)

    with tqdm(total=len(lines), desc=progress, unit="sent", disable=progress is None) as bar:
        work_through(
            folder,
            shards,
            lambda shard: shard_path(folder, shard, shards),
            lambda: complete_shards(folder, header, whole),
            decode,
            bar,
            SHARD_SENTENCES,
        )
    return read_nbest(folder)[1]


def lines_digest(lines: Sequence[str]) -> str:
    """The sha256 of lines of text: a corpus' identity."""
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()
