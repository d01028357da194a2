"""How good a model is: sacreBLEU with its signature, perplexity, p(t = y_hat), size and speed."""

import functools
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from sacrebleu.metrics.bleu import BLEU
from sacrebleu.metrics.chrf import CHRF
from sacrebleu.significance import PairedTest

from .base import PAD, Array, Params, Seq2Seq, Total
from .data import Bucket, Encoded, Vocabulary, batches, encode_pairs, plan_buckets
from .distill.shortlist import Shortlist
from .distill.translate import translate_texts
from .losses import nll
from .plan import GREEDY, Search
from .search import for_search
from .train.parallel import pmap_rows, pmap_total, shard
from .train.steps import make_eval_step

Pairs = Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Decoding:
    """One test set decoded with one beam size."""

    bleu: float  # corpus BLEU, 0 to 100
    chrf: float  # corpus chrF2, 0 to 100
    sentences_per_second: float  # compilation left out
    words_per_second: float  # source tokens, as in Kim & Rush 2016, Table 2
    outputs: list[str] = field(repr=False)


@dataclass(frozen=True)
class Evaluation:
    """One row of a table of systems."""

    decodings: dict[int, Decoding]  # by beam size
    perplexity: float  # per target token, EOS counted
    mode_mass: float  # p(t = y_hat), mean over sentences of the greedy output's probability
    parameters: int
    bleu_signature: str
    chrf_signature: str


def corpus_bleu(outputs: Sequence[str], references: Sequence[str], tokenize: str = "13a") -> float:
    """Corpus BLEU, 0 to 100, of sacreBLEU; ``tokenize="none"`` for text that is tokenised."""
    return _bleu(tokenize).corpus_score(outputs, [references]).score


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


def _bleu(tokenize: str) -> BLEU:
    # ``force`` silences the advice to detokenise, which does not apply to tokenised corpora.
    return BLEU(tokenize=tokenize, force=True)


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
    *,
    tokenize: str = "13a",
) -> Callable[[Params], dict[str, float]]:
    """Builds what ``train.fit`` asks for after each epoch: params -> metrics.

    ``score``, by which the best parameters are chosen, is the BLEU of greedy decoding: after
    sequence-level distillation perplexity on real references rises while translations improve
    (Kim & Rush 2016, Table 1), so it cannot choose.
    """
    measure = _perplexity(model, encode_pairs(pairs, src_vocab, tgt_vocab, max_len=None))
    sources, references = zip(*pairs, strict=True)

    def validate(params: Params) -> dict[str, float]:
        nbest = translate_texts(model, params, sources, src_vocab, tgt_vocab, GREEDY)
        bleu = corpus_bleu([n.texts[0] for n in nbest], references, tokenize)
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
    tokenize: str = "13a",
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
      tokenize: of sacreBLEU.
      shortlist: to decode with.

    Source: the columns of Kim & Rush 2016, Tables 1 and 2.
    """
    sources, references = zip(*pairs, strict=True)
    bleu, chrf = _bleu(tokenize), CHRF()
    source_tokens = sum(len(src_vocab.encode(source)) for source in sources)
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
            mass = float(np.mean([math.exp(n.log_probs[0]) for n in nbest]))
        decodings[beam] = Decoding(
            bleu=bleu.corpus_score(outputs, [references]).score,
            chrf=chrf.corpus_score(outputs, [references]).score,
            sentences_per_second=len(sources) / seconds,
            words_per_second=source_tokens / seconds,
            outputs=outputs,
        )
    return Evaluation(
        decodings=decodings,
        perplexity=perplexity(
            model, params, encode_pairs(pairs, src_vocab, tgt_vocab, max_len=None)
        ),
        mode_mass=mass,
        parameters=count_parameters(params),
        bleu_signature=str(bleu.get_signature()),
        chrf_signature=str(chrf.get_signature()),
    )


def count_parameters(params: Params) -> int:
    """How many numbers a pytree of parameters holds."""
    return sum(int(np.prod(np.shape(leaf))) for leaf in jax.tree.leaves(params))


@dataclass(frozen=True)
class Difference:
    """System against baseline on one test set, by paired bootstrap resampling."""

    bleu: float  # system minus baseline
    p_value: float  # of the baseline being as good (Koehn 2004)
    signature: str


def compare(
    baseline: Sequence[str],
    system: Sequence[str],
    references: Sequence[str],
    *,
    tokenize: str = "13a",
    samples: int = 1000,
) -> Difference:
    """Tests whether two systems' BLEU differ, with sacreBLEU's paired bootstrap (Koehn 2004)."""
    test = PairedTest(
        [("baseline", list(baseline)), ("system", list(system))],
        {"BLEU": _bleu(tokenize)},
        [list(references)],
        test_type="bs",
        n_samples=samples,
    )
    signatures, scores = test()
    results: list[Any] = scores["BLEU"]
    difference = results[1].score - results[0].score
    return Difference(
        bleu=difference,
        # sacreBLEU counts resamples that differ by more than the systems do: of equal systems none.
        p_value=results[1].p_value if difference else 1.0,
        signature=str(signatures["BLEU"]),
    )
