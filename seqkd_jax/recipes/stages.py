"""A lab: one corpus, one plan and a folder, and the stages that recipes are made of.

Every stage (a trained model, the n-best lists of one beam) has its own folder in the lab and is
done once: who asks for it again, or starts again, finds what has been made.
"""

import functools
import math
import sys
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import jax
import numpy as np
import optax

from ..base import Example, Params, for_teaching
from ..compress.deep import Shared, expand, shared_model
from ..compress.prune import apply_mask, masked
from ..data import (
    Corpus,
    Vocabulary,
    batches,
    build_words,
    check_same,
    describe,
    encode_pairs,
    load_corpus,
    load_vocabulary,
    number_of_batches,
    plan_buckets,
    require_kept,
    train_pieces,
)
from ..data.inputs import CHARACTERS, build_inputs, inputs_of, spelling_of
from ..distill.nbest import NBest
from ..distill.teacher_cache import TeacherCache
from ..distill.translate import lines_digest, translate_corpus
from ..errors import UsageError
from ..evaluate import validation
from ..files import check_folder
from ..losses import Loss, mix, nll, smoothed_nll, with_temperature, word_kd
from ..models.attention_lstm import Config, Inputs, attention_lstm
from ..plan import PLANS, OnPolicy, Plan, Search, Size, Training
from ..scoring import scorer_of
from ..train.checkpoint import params_digest
from ..train.fit import fit
from ..train.model_folder import Trained, describe_model, require_settings
from ..train.on_policy import drawn_at, sample_targets
from ..train.state import decayed_sgd, half_epoch_sgd, init_state, warm_adam
from ..train.steps import make_train_step

Pairs = list[tuple[str, str]]
# Settings of a plan that decide what its vocabularies are.
VOCABULARY = (
    "vocabulary",
    "vocabulary_size",
    "shared_vocabulary",
    "features",
    "characters",
    "lower",
)


@dataclass(frozen=True)
class Lab:
    """One corpus, one plan, one folder."""

    folder: Path
    corpus: Corpus
    plan: Plan = field(default_factory=Plan)
    given: tuple[Vocabulary | None, Vocabulary | None] = (None, None)  # in place of new ones

    def __post_init__(self) -> None:
        check_folder(self.folder)

    @functools.cached_property
    def vocabularies(self) -> tuple[Vocabulary, Vocabulary]:
        """Source and target vocabulary, the same for every model of the lab.

        Raises UsageError if those of the folder were made of other text or by other settings.
        """
        folder = self.folder / "vocabulary"
        paths = [folder / f"{side}.vocab.json" for side in ("src", "tgt")]
        made_of = {name: getattr(self.plan, name) for name in VOCABULARY}
        made_of |= {"text": _digest(self.corpus.train)}
        made_of |= {"given": [vocab and vocab.digest for vocab in self.given]}
        if not (folder / "made_of.json").exists():  # written last
            vocabularies = self._new_vocabularies()
            folder.mkdir(parents=True, exist_ok=True)
            for path, vocab in zip(paths, vocabularies, strict=True):
                vocab.save(path)
        require_settings(folder / "made_of.json", made_of)
        src, tgt = (load_vocabulary(path) for path in paths)
        return src, tgt

    def _new_vocabularies(self) -> tuple[Vocabulary, Vocabulary]:
        plan, (given_src, given_tgt) = self.plan, self.given
        if given_src and given_tgt:
            return given_src, given_tgt
        if plan.shared_vocabulary and (given_src or given_tgt):
            raise UsageError(
                "shared_vocabulary: give the vocabularies of both sides, or of neither."
            )

        def make(lines: list[str]) -> Vocabulary:
            if plan.vocabulary == "words":
                return build_words(lines, size=plan.vocabulary_size, lower=plan.lower)
            if plan.vocabulary_size is None:
                raise UsageError(
                    f"vocabulary_size is None (all words), but vocabulary is {plan.vocabulary}: "
                    "give the number of pieces (--vocabulary-size)."
                )
            return train_pieces(lines, plan.vocabulary_size, kind=plan.vocabulary, lower=plan.lower)

        sides = [list(side) for side in zip(*self.corpus.train, strict=True)]
        if plan.features or plan.characters != "none":
            if plan.vocabulary != "words" or plan.shared_vocabulary:
                raise UsageError(
                    "features and characters need a vocabulary of words for each side: give "
                    "--vocabulary words and --no-shared-vocabulary."
                )
            spelt = CHARACTERS if plan.characters in ("source", "both") else 0
            size, lower = plan.vocabulary_size, plan.lower
            src = given_src or build_inputs(sides[0], size, characters=spelt, lower=lower)
            return src, given_tgt or make(sides[1])
        if plan.shared_vocabulary:
            shared = make(sides[0] + sides[1])
            return shared, shared
        return given_src or make(sides[0]), given_tgt or make(sides[1])


def _digest(pairs: Pairs) -> str:
    return lines_digest([side for pair in pairs for side in pair])


def lab(
    corpus: Corpus | str, folder: str | Path, plan: Plan | None = None, pair: str | None = None
) -> Lab:
    """Opens a lab: a named corpus brings the plan that suits it (``PLANS``).

    Args:
      corpus: or its name.
      folder: of the lab.
      plan: its settings.
      pair: languages of ``multi30k``; en-de if left out.

    Raises UsageError if ``pair`` is given with a corpus that has its own languages.
    """
    if pair is not None and corpus != "multi30k":
        raise UsageError(
            f"pair is {pair!r}, but only multi30k has languages to choose from: leave pair out."
        )
    if isinstance(corpus, str):
        plan = plan or PLANS.get(corpus, Plan())
        corpus = load_corpus(corpus, pair or "en-de")
    return Lab(Path(folder), corpus, plan or Plan())


def train(
    lab: Lab,
    name: str,
    begin: Size | Trained,
    pairs: Pairs,
    training: Training,
    *,
    alpha: float = 0.0,
    teacher: Trained | None = None,
    cache: TeacherCache | None = None,
    vocabularies: tuple[Vocabulary, Vocabulary] | None = None,
    mask: Params = None,
    shared: Shared | None = None,
    inputs: Inputs | None = None,
    weights: np.ndarray | None = None,
    on_policy: OnPolicy | None = None,
    made_of: dict[str, Any] | None = None,
) -> Trained:
    """Trains one model in the lab's folder ``name``; returns at once if that has been done.

    Whatever decides the outcome is kept in the folder, and others are refused there.

    Args:
      lab: the lab.
      name: of the stage.
      begin: the shape of a new model, or a trained one that goes on (fine-tuning).
      pairs: to train on.
      training: settings.
      alpha: weight of ``word_kd`` in the loss.
      teacher: for ``word_kd``; without weight it only has to share the vocabularies.
      cache: of the teacher on these pairs, read in place of letting the teacher run.
      vocabularies: of a new model, source and target; the lab's own if left out.
      mask: of the weights that are trained; all others are exactly 0.
      shared: the weights as shared values, of which training moves the values. They are what the
        folder's checkpoints hold.
      inputs: of a new model's characters: shapes, and whether target words are spelt. What the
        source's vocabulary has besides words is read.
      weights: of each pair; None for 1.
      on_policy: how often targets are the student's own; None for never.
      made_of: settings by which pairs, mask or shared values were made, as JSON, so that who
        changes them is told their names.

    Raises:
      UsageError: the folder was begun with other settings or data; the message names them.
    """
    folder, plan = lab.folder / name, lab.plan
    start = begin if isinstance(begin, Trained) else None
    if isinstance(begin, Trained):
        config, src_vocab, tgt_vocab = begin.config, begin.src_vocab, begin.tgt_vocab
    else:
        if training.max_tokens is not None:  # seen before a vocabulary is made
            lab.corpus.require_shorter(training.max_tokens)
        src_vocab, tgt_vocab = vocabularies or lab.vocabularies
        spelt = int(plan.characters in ("target", "both"))
        inputs = inputs_of(inputs or Inputs(tgt_characters=spelt), src_vocab, tgt_vocab)
        config = Config(src_vocab.size, tgt_vocab.size, **vars(begin), inputs=inputs)
    model = attention_lstm(config, spelling_of(config.inputs, tgt_vocab))
    if teacher:
        check_same(tgt_vocab, teacher.tgt_vocab)
        check_same(src_vocab, teacher.src_vocab)
    if cache and teacher and cache.header["teacher"] != teacher.digest:
        raise UsageError(
            f"{cache.folder}: made by another teacher than the one given; give that teacher, or "
            "make a new cache (seqkd cache)."
        )
    cache = cache if alpha else None  # of weight 0 a teacher would cost all the same
    encoded = encode_pairs(
        pairs, src_vocab, tgt_vocab, max_len=training.max_tokens, weights=weights
    )
    require_kept(encoded, lab.corpus.where("train"))
    if cache and on_policy:
        raise UsageError(
            "A teacher's cache has distributions for the targets of the corpus only, not for "
            "the student's own translations: leave the cache out."
        )
    if cache:
        cache.require(encoded)
    scorer = scorer_of(lab.corpus, plan.tokenize, tgt_vocab.lower)
    validate = validation(
        model, src_vocab, tgt_vocab, lab.corpus.valid, scorer, max_source=plan.max_source
    )
    describe_model(
        folder,
        config,
        src_vocab,
        tgt_vocab,
        {
            "training": asdict(training),
            "pairs": _digest(pairs),
            "validation": {
                "pairs": _digest(lab.corpus.valid),
                "tokenize": scorer.tokenize,
                "max_source": plan.max_source,
            },
            "alpha": alpha,
            "teacher": teacher and teacher.digest,
            "cache": cache and {n: cache.header[n] for n in ("teacher", "k", "temperature")},
            "start": start and start.digest,
            "seed": plan.seed,
            "mask": None if mask is None else params_digest(mask),
            "shared": shared and params_digest(shared),
            "weights": None if weights is None else params_digest(np.float32(weights)),
            "on_policy": on_policy and asdict(on_policy),
            **(made_of or {}),
        },
    )
    first, learner, whole = start and start.params, model, lambda params: params
    if mask is not None:
        first = apply_mask(first, mask)
    if shared:
        first, learner = shared.codebooks, shared_model(model, shared)
        whole = functools.partial(jax.jit(expand), shared.codes)
    loss: Loss = smoothed_nll(training.label_smoothing) if training.label_smoothing else nll
    soft = with_temperature(word_kd, cache.header["temperature"]) if cache else word_kd
    loss = mix(loss, soft, alpha) if alpha else loss
    teach, teach_params = None, None
    if alpha and teacher and not cache:
        teach, teach_params = for_teaching(teacher.model, teacher.params)
    buckets = plan_buckets(
        [len(s) for s in encoded.src],
        [len(t) for t in encoded.tgt],
        tokens_per_batch=training.tokens_per_batch,
        buckets=training.buckets,
    )
    steps = training.epochs * number_of_batches(encoded, buckets)
    if jax.process_index() == 0:
        print(f"{folder}: {encoded.report}; {describe(buckets)} an epoch", file=sys.stderr)
    tx = _optimizer(training, steps)
    tx = tx if mask is None else masked(tx, mask)

    def given(epoch: int, first: int) -> Iterator[Example]:
        of_epoch = batches(encoded, buckets, seed=plan.seed, epoch=epoch, start=first)
        return cache.taught(of_epoch) if cache else of_epoch

    init_key, run_key = jax.random.split(jax.random.key(plan.seed))
    step = make_train_step(learner, tx, loss, teacher=teach, microbatches=training.microbatches)
    if on_policy:
        step = sample_targets(step, learner, on_policy.share, drawn_at(on_policy.temperature))
    fitted = fit(
        folder,
        step,
        init_state(learner, tx, init_key, first),
        batches=given,
        batches_per_epoch=steps // training.epochs,
        validate=lambda params: validate(whole(params)),
        epochs=training.epochs,
        patience=training.patience,
        key=run_key,
        teacher_params=teach_params,
    )
    if fitted.progress.best_score == 0 and jax.process_index() == 0:
        epoch = min(fitted.validations, key=lambda v: v["perplexity"] or math.inf)["epoch"]
        print(
            f"{folder}: validation BLEU was 0 after every epoch, so the parameters with the "
            f"lowest perplexity were taken, those of epoch {epoch}. BLEU needs four words in a "
            "row as in the reference: more epochs or more validation pairs may help, or "
            "another --tokenize for text without spaces between words.",
            file=sys.stderr,
        )
    return Trained(config, model, whole(fitted.params), src_vocab, tgt_vocab)


def _optimizer(training: Training, steps: int) -> optax.GradientTransformation:
    # These numbers lie in the state, as arrays: to runs of other lengths the program is the same.
    numbers = {"rate": float(training.rate), "clip": float(training.clip)}
    if training.optimizer == "adam":
        numbers |= {"steps": float(steps), "warmup": float(training.warmup)}
        return optax.inject_hyperparams(warm_adam)(**numbers)
    if training.optimizer == "half-epoch-sgd":
        per_epoch = float(steps // training.epochs)
        return optax.inject_hyperparams(half_epoch_sgd)(steps_per_epoch=per_epoch, **numbers)
    return decayed_sgd(training.rate, training.clip)


def nbest(lab: Lab, name: str, trained: Trained, beam: int) -> list[NBest]:
    """Decodes the training sources with a beam; all K hypotheses are kept."""
    return translate_corpus(
        lab.folder / name,
        trained.model,
        trained.params,
        [source for source, _ in lab.corpus.train],
        trained.src_vocab,
        trained.tgt_vocab,
        Search(beam_size=beam, n_best=beam, max_source=lab.plan.max_source),
        teacher=trained.digest,
        progress=name,
    )
