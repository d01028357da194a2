"""The stages that recipes are made of: training a model, and decoding n-best lists. Floor 8.

    exp = experiment("grammar", "runs/grammar")
    teacher = train(exp, "teacher", new(exp, exp.plan.teacher_size), exp.corpus.train, Training())
    student = train(
        exp, "word-kd", new(exp, exp.plan.student_size), exp.corpus.train, Training(),
        objective=word_kd_from(teacher, 0.5),
    )

A finished stage is read from the experiment's folder and not run again.
"""

import functools
import itertools
import math
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from typing import Any, NamedTuple

import jax
import numpy as np

from .. import console
from ..addresses import PathLike
from ..base import Example
from ..build import build, config_of
from ..data import (
    Bucket,
    Encoded,
    Vocabulary,
    batches,
    build_words,
    describe,
    encode_pairs,
    number_of_batches,
    pairs_digest,
    plan_buckets,
    require_kept,
)
from ..data.encode import folder_for
from ..data.lines import sources_of
from ..decode.corpus import translate_corpus
from ..decode.nbest import NBest
from ..evaluation import count_parameters, validation
from ..losses import nll
from ..model_folder import describe_model
from ..models.attention_lstm import model_of
from ..parallel import own_rows, rows_of_device
from ..processes import is_first
from ..scoring import Scorer, scorer_of
from ..settings import Search, Size, Training
from ..train.loop import Fitted, TrainingDiverged, fit
from ..train.metrics import OnRecord
from ..train.state import init_state
from ..train.steps import require_divisible
from ..trained import TrainedModel, params_digest
from .amount import rounds_of, settled, tokens_of
from .curve import validation_table
from .experiment import Experiment, Pairs
from .objectives import LIKELIHOOD, Objective, Trainable, all_weights
from .sharing import optimizer, shared_smoothed_nll, shared_step

USELESS = 1e9  # a perplexity that is worse than guessing from any vocabulary


def new(
    exp: Experiment,
    size: Size,
    *,
    vocabularies: tuple[Vocabulary, Vocabulary] | None = None,
    **own: Any,
) -> TrainedModel:
    """Returns a model that has not been trained yet; its ``params`` are None.

    Args:
      exp: the experiment, whose vocabularies the model gets.
      size: shape of the model.
      vocabularies: source and target vocabulary to use instead of the experiment's.
      **own: blocks of the user's own, as for ``attention_lstm``; ``load_model`` needs the same
        ones.

    Raises:
      UsageError: parts of the model do not fit together, or not to its vocabularies.
    """
    if vocabularies is None and not own:
        require_fitting(exp, size)
    return _new(size, vocabularies or exp.vocabularies, own)


def require_fitting(exp: Experiment, size: Size) -> None:
    """Refuses a shape whose parts do not fit together, before vocabularies are made.

    Raises:
      UsageError: the parts do not fit together, or not to a vocabulary that was given.
    """
    src_vocab, tgt_vocab = exp.given
    some = build_words(["word"])  # the fit does not depend on which words there are
    _new(size, (src_vocab or some, tgt_vocab or some), {})


def _new(
    size: Size, vocabularies: tuple[Vocabulary, Vocabulary], own: dict[str, Any]
) -> TrainedModel:
    src_vocab, tgt_vocab = vocabularies
    config = config_of(size, src_vocab.size, tgt_vocab.size)
    net = build(config, size.parts, (src_vocab, tgt_vocab), **own)
    return TrainedModel(model_of(net), None, src_vocab, tgt_vocab, net, size.parts)


def train(
    exp: Experiment,
    name: str,
    model: TrainedModel,
    pairs: Pairs,
    training: Training,
    *,
    objective: Objective = LIKELIHOOD,
    trainable: Trainable | None = None,
    made_of: dict[str, Any] | None = None,
) -> TrainedModel:
    """Trains one model in the experiment's folder ``name``, or reads it if that has been done.

    The folder keeps a record of everything that decides the outcome. A later call with other
    settings or data is refused.

    Args:
      exp: the experiment, with its plan, validation pairs and seed.
      name: name of the stage.
      model: a ``new`` model, or a trained one to fine-tune.
      pairs: sentence pairs to train on.
      training: settings of the training.
      objective: the loss, and what a teacher contributes.
      trainable: which numbers are trained; all parameters if omitted.
      made_of: settings that the pairs were made with, as JSON; if one of them changes, the message
        can name it.

    Raises:
      UsageError: the folder was begun with other settings or data; the message names them.
      TrainingDiverged: a loss was not finite, or no validation had a perplexity of any use.
    """
    folder, plan = exp.folder / name, exp.plan
    trainable = trainable or all_weights(model)
    training, encoded, buckets, scorer = prepared(exp, model, pairs, training, objective)
    valid = exp.corpus.valid
    validate = validation(model, valid, scorer, max_source=plan.max_source)
    weights = objective.pair_weights
    made_by = {
        "training": asdict(training),
        "pairs": pairs_digest(pairs),
        "weights": None if weights is None else params_digest(np.float32(weights)),
        "validation": {
            "pairs": pairs_digest(valid),
            "tokenize": scorer.tokenize,
            "max_source": plan.max_source,
        },
        "start": None if model.params is None else model.digest,
        "seed": plan.seed,
        "text": exp.corpus.text,
    }
    made_by |= {**objective.made_by, **trainable.made_by, **(made_of or {})}
    per_pass = number_of_batches(encoded, buckets)
    rounds, per_round = rounds_of(training, per_pass)
    describe_model(folder, model, made_by)
    if is_first():
        console.note(f"{folder}: {encoded.report}; {describe(buckets)} a pass; {_sizes(model)}")
        if training.optimizer == "adam" and training.warmup >= rounds * per_round:
            console.warn(
                f"{folder}: warmup is {training.warmup:,}, but there are {rounds * per_round:,} "
                "updates, so the learning rate never reaches what was asked for."
            )

    def of_round(round: int, first: int) -> Iterator[Example]:
        done = round * per_round + first
        of_passes = _passes(encoded, buckets, plan.seed, *divmod(done, per_pass))
        return objective.attach(itertools.islice(of_passes, per_round - first))

    smoothing = training.label_smoothing
    tx = trainable.wrap_tx(optimizer(training, rounds * per_round, per_pass))
    step = shared_step(
        trainable.model,
        tx,
        objective.loss(shared_smoothed_nll(smoothing) if smoothing else nll),
        teacher=objective.teacher_model,
        microbatches=training.microbatches,
        ema=training.ema,
    )
    init_key, run_key = jax.random.split(jax.random.key(plan.seed))
    fitted = fit(
        folder,
        objective.wrap_step(step, trainable.model),
        init_state(trainable.model, tx, init_key, trainable.start, averaged=training.ema > 0),
        batches=of_round,
        batches_per_epoch=per_round,
        validate=lambda params: validate(trainable.to_params(params)),
        epochs=rounds,
        patience=training.patience,
        average_last=training.average_last,
        key=run_key,
        teacher_params=objective.teacher_params,
        on_validation=validation_table(per_pass),
        log=exp.log and functools.partial(_log_of, folder, exp.log),
    )
    if all((metrics["perplexity"] or math.inf) > USELESS for metrics in fitted.validations):
        raise TrainingDiverged(
            f"{folder}: no validation had a perplexity below {USELESS:.0e}, so the parameters are "
            f"of no use. A lower learning rate than {training.rate:g} (--rate; in run "
            "--student-training.rate) usually helps; give another folder with it."
        )
    if is_first() and fitted.progress.best_score == 0:
        console.warn(f"{folder}: {_without_bleu(fitted)}")
    trained = model.with_params(trainable.to_params(fitted.params))
    return replace(trained, history=(*model.history, made_by))


def _sizes(model: TrainedModel) -> str:
    words = f"{model.src_vocab.size:,} and {model.tgt_vocab.size:,}"
    parameters = count_parameters(jax.eval_shape(model.model.init, jax.random.key(0)))
    return f"{parameters / 1e6:.3g} million parameters, vocabularies of {words}"


def _log_of(folder: PathLike, log: OnRecord, record: dict[str, Any]) -> None:
    log({"run": str(folder), **record})


def _passes(
    encoded: Encoded, buckets: tuple[Bucket, ...], seed: int, number: int, first: int
) -> Iterator[Example]:
    """Yields batches of one pass after the other, beginning in pass ``number``; without end."""
    for epoch in itertools.count(number):
        yield from batches(encoded, buckets, seed=seed, epoch=epoch, start=first, rows=own_rows)
        first = 0


class Prepared(NamedTuple):
    """What a training derives from its text."""

    training: Training  # in which nothing is left open
    encoded: Encoded
    buckets: tuple[Bucket, ...]  # the shapes of batches
    scorer: Scorer  # of validations


def prepared(
    exp: Experiment,
    model: TrainedModel,
    pairs: Pairs,
    training: Training,
    objective: Objective = LIKELIHOOD,
) -> Prepared:
    """Returns what a training needs that follows from its text.

    Raises:
      UsageError: the model, its vocabularies or this machine do not allow such a training; nothing
        has been written yet but the ids of a large corpus.
    """
    scorer = scorer_of(exp.corpus, exp.plan.tokenize, model.tgt_vocab.lower)
    encoded = encode_pairs(
        pairs,
        model.src_vocab,
        model.tgt_vocab,
        max_len=training.max_tokens,
        weights=objective.pair_weights,
        folder=folder_for(pairs, exp.folder / "encoded"),
    )
    require_kept(encoded, exp.corpus.where("train"))
    objective.check(model, encoded)
    training = settled(training, tokens_of(encoded), trained=model.params is not None)
    assert training.tokens_per_batch is not None
    buckets = plan_buckets(
        encoded, tokens_per_batch=training.tokens_per_batch, buckets=training.buckets
    )
    for bucket in buckets:
        require_divisible(rows_of_device(bucket.rows), training.microbatches)
    # A model with one weight for each position refuses a longer source when it is traced.
    params = jax.eval_shape(model.model.init, jax.random.key(0))
    longest = encoded.src[int(encoded.src.lengths.argmax())]
    jax.eval_shape(model.model.hidden, params, longest, encoded.tgt[0])
    return Prepared(training, encoded, buckets, scorer)


def _without_bleu(fitted: Fitted) -> str:
    epoch = min(fitted.validations, key=lambda v: v["perplexity"] or math.inf)["epoch"]
    return (
        "validation BLEU was 0 every time, so the parameters with the lowest perplexity "
        f"were taken, those of validation {epoch}. BLEU is 0 where no translation has four "
        "words, or none has a word of its reference: more --updates may help, or another "
        "--tokenize for text without spaces between words."
    )


def nbest(
    exp: Experiment,
    name: str,
    trained: TrainedModel,
    beam: int,
    sources: Sequence[str] | None = None,
) -> Sequence[NBest]:
    """Decodes sources, by default those of the training text, and keeps all K hypotheses."""
    return translate_corpus(
        exp.folder / name,
        trained,
        sources_of(exp.corpus.train) if sources is None else sources,
        Search(beam_size=beam, n_best=beam, max_source=exp.plan.max_source),
        progress=name,
    )
