"""Evaluation of a model: BLEU, chrF, perplexity, p(t = y_hat), size and speed. Floor 6.

BLEU and chrF are over all lines, so they equal the scores of a file of the outputs. All other
measures are over the lines that have words, and ``Evaluation`` names the lines that have none.
"""

import functools
import math
import time
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np

from .base import Params, Seq2Seq, Total
from .data import Bucket, Encoded, batches, encode_pairs, plan_buckets
from .data.encode import EXAMPLES, lines_at
from .decode.shortlist import Shortlist
from .decode.translation import translate_texts
from .errors import UsageError
from .losses import nll
from .parallel import own_rows, pmap_rows, pmap_total, shard
from .processes import share_out
from .progress import Bar
from .provenance import origin
from .scoring import Scorer
from .search import for_search
from .settings import GREEDY, Search
from .train.steps import log_prob, make_eval_step
from .trained import TrainedModel

Pairs = Sequence[tuple[str, str]]
# (sources, outputs, references) -> score of a system
Metric = Callable[[Sequence[str], Sequence[str], Sequence[str]], float]


@dataclass(frozen=True)
class Decoding:
    """The results of decoding a test set with one beam size."""

    bleu: float  # corpus BLEU, 0 to 100
    chrf: float  # corpus chrF2, 0 to 100
    sentences_per_second: float  # empty lines and compilation excluded
    words_per_second: float  # source tokens, as in Kim & Rush 2016, Table 2
    outputs: Sequence[str] | None = field(default=None, repr=False)  # None: only scores were kept
    metrics: Mapping[str, float] = field(default_factory=dict)  # the caller's own, such as COMET


@dataclass(frozen=True)
class LeftOut:
    """Lines of a test set that are left out of a measure; lines count from 1."""

    count: int = 0
    lines: tuple[int, ...] = ()  # the first ``EXAMPLES`` of them

    def __str__(self) -> str:
        return f"{self.count:,} {lines_at(self.lines, self.count)}"


@dataclass(frozen=True)
class Evaluation:
    """The measures of one system: a row of a table."""

    decodings: dict[int, Decoding]  # by beam size
    perplexity: float  # per target token, EOS counted
    mode_mass: float  # p(t = y_hat): the probability of the greedy output, mean over sentences
    parameters: int
    bleu_signature: str
    chrf_signature: str
    sentences: int  # lines of the test set
    not_decoded: LeftOut = LeftOut()  # lines with an empty source
    not_predicted: LeftOut = LeftOut()  # lines with an empty side, left out of the perplexity
    made: Mapping[str, Any] = field(default_factory=dict)  # what made it: see ``provenance.origin``


@functools.lru_cache(maxsize=32)
def _pair_scorer(model: Seq2Seq) -> Callable[..., np.ndarray]:
    return pmap_rows(jax.vmap(functools.partial(log_prob, model), (None, 0, 0)))


@functools.lru_cache(maxsize=32)
def _nll_total(model: Seq2Seq) -> Callable[..., Total]:
    return pmap_total(make_eval_step(model, nll))


def log_probs(model: Seq2Seq, params: Params, encoded: Encoded) -> np.ndarray:
    """Returns the model's log-probability (nats, EOS counted) of each pair, [pairs] float32."""
    run = _pair_scorer(model)
    row_of = {int(index): row for row, index in enumerate(encoded.index)}
    scores = np.zeros(len(encoded.src), np.float32)
    # Small batches, because the logits of all their tokens are in memory at once.
    buckets = _plan(encoded, tokens_per_batch=512)
    with Bar(desc="scoring", unit="pair", total=len(scores)) as bar:
        for batch in batches(encoded, buckets, seed=0, epoch=None):
            for index, score in zip(batch.index, run(params, batch.src, batch.tgt), strict=True):
                if index >= 0:
                    scores[row_of[int(index)]] = score
            bar.update(int((batch.index >= 0).sum()))
    return scores


def _plan(encoded: Encoded, tokens_per_batch: int) -> tuple[Bucket, ...]:
    # Few buckets: padding costs less here than the compilation of another shape.
    return plan_buckets(encoded, tokens_per_batch=tokens_per_batch, buckets=3)


def perplexity(model: Seq2Seq, params: Params, encoded: Encoded) -> float:
    """Returns exp of the mean negative log-likelihood per target token, EOS counted."""
    return _perplexity(model, encoded)(params)


def _perplexity(model: Seq2Seq, encoded: Encoded) -> Callable[[Params], float]:
    buckets = _plan(encoded, tokens_per_batch=4096)
    run = _nll_total(model)

    def measure(params: Params) -> float:
        nats = tokens = 0.0
        for batch in batches(encoded, buckets, seed=0, epoch=None, rows=own_rows):
            total = run(params, shard(batch))
            nats, tokens = nats + float(total.sum), tokens + float(total.tokens)
        return math.exp(min(nats / tokens, 700.0))

    return measure


def validation(
    trained: TrainedModel,
    pairs: Pairs,
    scorer: Scorer | None = None,
    *,
    max_source: int | None = GREEDY.max_source,
) -> Callable[[Params], dict[str, Any]]:
    """Builds the validation of ``train.fit``: params -> metrics.

    ``score``, by which the best parameters are chosen, is the BLEU of greedy decoding. Perplexity
    cannot choose them: after sequence-level distillation it rises on real references while
    translations improve (Kim & Rush 2016, Table 1). ``example`` is a source with its reference and
    the model's translation.

    Args:
      trained: a model with its vocabularies; its parameters are not used.
      pairs: (source, reference) lines.
      scorer: of the outputs; by default 13a, in lower case if the vocabulary is.
      max_source: number of tokens to which longer sources are cut; None for no limit.

    Raises:
      UsageError: no pair has words on both sides.
    """
    scorer = scorer or Scorer(lowercase=trained.tgt_vocab.lower)
    encoded = encode_pairs(pairs, trained.src_vocab, trained.tgt_vocab, max_len=None)
    if not encoded.src:
        raise UsageError(f"None of the {len(pairs):,} validation pairs has words on both sides.")
    if encoded.report.empty:
        left = LeftOut(encoded.report.empty, encoded.report.empty_lines)
        warnings.warn(
            f"Validation pairs with an empty side were left out of the perplexity: {left}.",
            stacklevel=2,
        )
    measure = _perplexity(trained.model, encoded)
    sources, references = zip(*pairs, strict=True)
    search = replace(GREEDY, max_source=max_source)
    shown = int(encoded.index[0])  # the first pair with words

    def validate(params: Params) -> dict[str, Any]:
        current = trained.with_params(params)

        def decode(first: int, lines: Sequence[str]) -> list[str]:
            return [n.texts[0] for n in translate_texts(current, lines, search, first=first)]

        outputs = share_out(decode, sources)
        bleu = scorer.bleu(outputs, references)
        example = [sources[shown], references[shown], outputs[shown]]
        return {"perplexity": measure(params), "bleu": bleu, "score": bleu, "example": example}

    return validate


def evaluate(
    trained: TrainedModel,
    pairs: Pairs,
    *,
    beams: Sequence[int] = (1, 5),
    search: Search = GREEDY,
    scorer: Scorer | None = None,
    shortlist: Shortlist | None = None,
    metrics: Mapping[str, Metric] | None = None,
    progress: str | None = "evaluating",
) -> Evaluation:
    """Evaluates a model on a test set.

    Args:
      trained: the model with its vocabularies.
      pairs: (source, reference) lines.
      beams: beam sizes to decode with; 1 is always added, for p(t = y_hat).
      search: all other settings of the search; ``beams`` takes the place of its ``beam_size``.
      scorer: of the outputs; by default 13a, in lower case if the vocabulary is.
      shortlist: restricts the output words.
      metrics: more metrics by name, such as COMET: functions of the test set's sources, a system's
        outputs, and the references. They are columns of the table.
      progress: label of the progress bar; None for no bar.

    Raises:
      UsageError: no pair has words on both sides, or ``search`` has a beam of its own.

    Source: the columns of Kim & Rush 2016, Tables 1 and 2.

    >>> import jax
    >>> from seqkd_jax import Config, TrainedModel, attention_lstm, build_words
    >>> words = build_words(["a dog sleeps"])
    >>> model = attention_lstm(Config(words.size, words.size, embed=4, hidden=4, layers=1))
    >>> trained = TrainedModel(model, model.init(jax.random.key(0)), words, words)  # or load_model
    >>> found = evaluate(trained, [("a dog sleeps", "a dog sleeps")], beams=(), progress=None)
    >>> found.sentences, list(found.decodings), found.bleu_signature
    (1, [1], 'nrefs:1|case:mixed|eff:no|tok:13a|smooth:exp|version:...')
    """
    if search.beam_size > 1:
        raise UsageError(
            f"search has a beam_size of {search.beam_size}, but beams says which beam sizes are "
            f"measured: give beams={tuple(sorted({1, *beams, search.beam_size}))}, and a search "
            "with beam_size=1."
        )
    scorer = scorer or Scorer(lowercase=trained.tgt_vocab.lower)
    encoded = encode_pairs(pairs, trained.src_vocab, trained.tgt_vocab, max_len=None)
    if not encoded.src:
        raise UsageError(
            f"None of the {len(pairs):,} pairs to evaluate on has words on both sides."
        )
    sources, references = zip(*pairs, strict=True)
    lengths = np.array([len(trained.src_vocab.encode(source)) for source in sources])
    if search.max_source is not None:
        lengths = np.minimum(lengths, search.max_source)
    decoded, source_tokens = np.flatnonzero(lengths), int(lengths.sum())
    decodings, mass = {}, math.nan
    model, params = for_search(trained.model, trained.params, source_tokens)
    searched = trained.with_params(params, model)
    sizes = sorted({1, *beams})
    with Bar(desc=progress, unit="translation", total=2 * len(sizes) * len(decoded)) as bar:
        for beam in sizes:
            settings = replace(search, beam_size=beam, n_best=1)

            def decode(settings: Search = settings):
                bar.doing = f"K={settings.beam_size}"
                return translate_texts(searched, sources, settings, shortlist=shortlist, bar=bar)

            nbest = decode()
            started = time.perf_counter()
            decode()  # measured the second time, when everything is compiled
            seconds = time.perf_counter() - started
            outputs = [n.texts[0] for n in nbest]
            if beam == 1:
                mass = float(np.mean([math.exp(nbest[n].log_probs[0]) for n in decoded]))
            decodings[beam] = Decoding(
                bleu=scorer.bleu(outputs, references),
                chrf=scorer.chrf(outputs, references),
                sentences_per_second=len(decoded) / seconds,
                words_per_second=source_tokens / seconds,
                outputs=outputs,
                metrics={
                    name: float(metric(sources, outputs, references))
                    for name, metric in (metrics or {}).items()
                },
            )
        bar.doing = "perplexity"
        ppl = perplexity(trained.model, trained.params, encoded)
    empty = (np.flatnonzero(lengths == 0) + 1).tolist()
    return Evaluation(
        decodings=decodings,
        perplexity=ppl,
        mode_mass=mass,
        parameters=count_parameters(trained.params),
        bleu_signature=scorer.bleu_signature,
        chrf_signature=scorer.chrf_signature,
        sentences=len(pairs),
        not_decoded=LeftOut(len(empty), tuple(empty[:EXAMPLES])),
        not_predicted=LeftOut(encoded.report.empty, encoded.report.empty_lines),
        made=origin(),
    )


def count_parameters(params: Params) -> int:
    """Returns the number of scalars in a pytree of parameters."""
    return sum(int(np.prod(np.shape(leaf))) for leaf in jax.tree.leaves(params))
