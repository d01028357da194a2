"""How good a model is: BLEU, chrF, perplexity, p(t = y_hat), size and speed.

BLEU and chrF are of all lines, so a file of outputs has the same ones. Everything else is of what
there was to decode or to predict, and what was left out for want of words is said.
"""

import functools
import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import jax
import jax.numpy as jnp
import numpy as np

from .base import PAD, Array, Params, Seq2Seq, Total
from .data import Bucket, Encoded, Vocabulary, batches, encode_pairs, plan_buckets
from .data.encode import EXAMPLES, lines_at
from .distill.shortlist import Shortlist
from .distill.translate import translate_texts
from .errors import UsageError
from .losses import nll
from .plan import GREEDY, Search
from .scoring import Scorer
from .search import for_search
from .train.parallel import pmap_rows, pmap_total, shard
from .train.steps import make_eval_step

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Decoding:
    """One test set decoded with one beam size."""

    bleu: float  # corpus BLEU, 0 to 100
    chrf: float  # corpus chrF2, 0 to 100
    sentences_per_second: float  # of those decoded, compilation left out
    words_per_second: float  # source tokens, as in Kim & Rush 2016, Table 2
    outputs: Sequence[str] | None = field(default=None, repr=False)  # None: only scores were kept


@dataclass(frozen=True)
class LeftOut:
    """Lines of a test set that something could not be measured on; they count from 1."""

    count: int = 0
    lines: tuple[int, ...] = ()  # the first few

    def __str__(self) -> str:
        return f"{self.count:,} {lines_at(self.lines, self.count)}"


@dataclass(frozen=True)
class Evaluation:
    """One row of a table of systems."""

    decodings: dict[int, Decoding]  # by beam size
    perplexity: float  # per target token, EOS counted
    mode_mass: float  # p(t = y_hat), mean over what was decoded of the greedy output's probability
    parameters: int
    bleu_signature: str
    chrf_signature: str
    sentences: int  # lines of the test set
    not_decoded: LeftOut = LeftOut()  # without a word in the source
    not_predicted: LeftOut = LeftOut()  # without a word on a side: not in the perplexity


@functools.lru_cache(maxsize=32)
def _pair_scorer(model: Seq2Seq) -> Callable[..., np.ndarray]:
    def one(params: Params, src: Array, tgt: Array) -> Array:
        hidden = model.hidden(params, src, tgt)
        losses = jax.vmap(lambda h, t: nll(model.project(params, h), t))(hidden, tgt)
        return -jnp.where(tgt != PAD, losses, 0).sum()

    return pmap_rows(jax.vmap(one, (None, 0, 0)))


@functools.lru_cache(maxsize=32)
def _nll_total(model: Seq2Seq) -> Callable[..., Total]:
    return pmap_total(make_eval_step(model, nll))


def log_probs(model: Seq2Seq, params: Params, encoded: Encoded) -> np.ndarray:
    """The model's log-probability (nats, EOS counted) of each encoded pair, [pairs] float32."""
    run = _pair_scorer(model)
    place_of = {int(index): place for place, index in enumerate(encoded.index)}
    scores = np.zeros(len(encoded.src), np.float32)
    # Small batches: logits of all their tokens exist at once.
    for batch in batches(encoded, _plan(encoded, tokens_per_batch=512), seed=0, epoch=None):
        for index, score in zip(batch.index, run(params, batch.src, batch.tgt), strict=True):
            if index >= 0:
                scores[place_of[int(index)]] = score
    return scores


def _plan(encoded: Encoded, tokens_per_batch: int) -> tuple[Bucket, ...]:
    src, tgt = ([len(ids) for ids in side] for side in (encoded.src, encoded.tgt))
    # Padding costs less here than the compilation of another shape.
    return plan_buckets(src, tgt, tokens_per_batch=tokens_per_batch, buckets=3)


def perplexity(model: Seq2Seq, params: Params, encoded: Encoded) -> float:
    """Exp of the mean negative log-likelihood per target token, EOS counted."""
    return _perplexity(model, encoded)(params)


def _perplexity(model: Seq2Seq, encoded: Encoded) -> Callable[[Params], float]:
    buckets = _plan(encoded, tokens_per_batch=4096)
    run = _nll_total(model)

    def measure(params: Params) -> float:
        nats = tokens = 0.0
        for batch in batches(encoded, buckets, seed=0, epoch=None):
            total = run(params, shard(batch))
            nats, tokens = nats + float(total.sum), tokens + float(total.tokens)
        return math.exp(min(nats / tokens, 700.0))

    return measure


def validation(
    model: Seq2Seq,
    src_vocab: Vocabulary,
    tgt_vocab: Vocabulary,
    pairs: Pairs,
    scorer: Scorer | None = None,
    *,
    max_source: int | None = GREEDY.max_source,
) -> Callable[[Params], dict[str, float]]:
    """Builds what ``train.fit`` asks for after each epoch: params -> metrics.

    ``score``, by which the best parameters are chosen, is the BLEU of greedy decoding: after
    sequence-level distillation perplexity on real references rises while translations improve
    (Kim & Rush 2016, Table 1), so it cannot choose.

    Args:
      model: any ``Seq2Seq``.
      src_vocab: of the source side.
      tgt_vocab: of the target side.
      pairs: (source, reference) lines.
      scorer: of the outputs; left out, 13a in the case that the vocabulary writes.
      max_source: tokens that longer sources are cut to; None for any length.

    Raises:
      UsageError: not one pair has words on both sides.
    """
    scorer = scorer or Scorer(lowercase=tgt_vocab.lower)
    encoded = encode_pairs(pairs, src_vocab, tgt_vocab, max_len=None)
    if not encoded.src:
        raise UsageError(f"None of the {len(pairs):,} validation pairs has words on both sides.")
    if encoded.report.empty:
        left = LeftOut(encoded.report.empty, encoded.report.empty_lines)
        warnings.warn(
            f"Validation pairs with an empty side were left out of the perplexity: {left}.",
            stacklevel=2,
        )
    measure = _perplexity(model, encoded)
    sources, references = zip(*pairs, strict=True)
    search = replace(GREEDY, max_source=max_source)

    def validate(params: Params) -> dict[str, float]:
        nbest = translate_texts(model, params, sources, src_vocab, tgt_vocab, search)
        bleu = scorer.bleu([n.texts[0] for n in nbest], references)
        return {"perplexity": measure(params), "bleu": bleu, "score": bleu}

    return validate


def evaluate(
    model: Seq2Seq,
    params: Params,
    src_vocab: Vocabulary,
    tgt_vocab: Vocabulary,
    pairs: Pairs,
    *,
    beams: Sequence[int] = (1, 5),
    search: Search = GREEDY,
    scorer: Scorer | None = None,
    shortlist: Shortlist | None = None,
) -> Evaluation:
    """Measures a model on a test set.

    Args:
      model: any ``Seq2Seq``.
      params: its parameters.
      src_vocab: of the source side.
      tgt_vocab: of the target side.
      pairs: (source, reference) lines.
      beams: beam sizes to decode with; the greedy output also gives p(t = y_hat).
      search: all other settings of the search.
      scorer: of the outputs; left out, 13a in the case that the vocabulary writes.
      shortlist: to decode with.

    Raises:
      UsageError: not one pair has words on both sides.

    Source: the columns of Kim & Rush 2016, Tables 1 and 2.
    """
    scorer = scorer or Scorer(lowercase=tgt_vocab.lower)
    encoded = encode_pairs(pairs, src_vocab, tgt_vocab, max_len=None)
    if not encoded.src:
        raise UsageError(
            f"None of the {len(pairs):,} pairs to evaluate on has words on both sides."
        )
    sources, references = zip(*pairs, strict=True)
    lengths = np.array([len(src_vocab.encode(source)) for source in sources])
    if search.max_source is not None:
        lengths = np.minimum(lengths, search.max_source)
    decoded, source_tokens = np.flatnonzero(lengths), int(lengths.sum())
    decodings, mass = {}, math.nan
    searched, searched_params = for_search(model, params, source_tokens)
    for beam in sorted({1, *beams}):
        settings = replace(search, beam_size=beam, n_best=1)

        def decode(settings: Search = settings):
            return translate_texts(
                searched,
                searched_params,
                sources,
                src_vocab,
                tgt_vocab,
                settings,
                shortlist=shortlist,
            )

        nbest = decode()
        started = time.perf_counter()
        decode()  # again, now that everything is compiled
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
        )
    empty = (np.flatnonzero(lengths == 0) + 1).tolist()
    return Evaluation(
        decodings=decodings,
        perplexity=perplexity(model, params, encoded),
        mode_mass=mass,
        parameters=count_parameters(params),
        bleu_signature=scorer.bleu_signature,
        chrf_signature=scorer.chrf_signature,
        sentences=len(pairs),
        not_decoded=LeftOut(len(empty), tuple(empty[:EXAMPLES])),
        not_predicted=LeftOut(encoded.report.empty, encoded.report.empty_lines),
    )


def count_parameters(params: Params) -> int:
    """How many numbers a pytree of parameters holds."""
    return sum(int(np.prod(np.shape(leaf))) for leaf in jax.tree.leaves(params))
