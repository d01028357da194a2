"""The rows of Table 1 of Kim & Rush (2016), each a function of a ``Lab``.

A lab is one corpus, one teacher, one student and a folder. Every stage (a trained model, the
n-best lists of one beam) has its own folder in it and is done once: a row asks for the stages it
needs, and finds those that other rows, or an earlier start, have already made.

    lab = recipes.lab("grammar", "runs/grammar")
    student = recipes.seq_kd(lab)                       # a trained model
    results = recipes.run(lab, ["baseline", "seq-kd"])  # evaluated rows, and a table
"""

import functools
import json
import math
import os
import sys
from collections.abc import Callable, Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

import jax
import optax

from .data import (
    Corpus,
    Vocabulary,
    batches,
    build_words,
    check_same,
    describe,
    encode_pairs,
    grammar,
    load_corpus,
    load_vocabulary,
    number_of_batches,
    plan_buckets,
    train_pieces,
)
from .data.text import atomic_write
from .distill import select
from .distill.nbest import NBest
from .distill.translate import lines_digest, translate_corpus
from .evaluate import (
    Evaluation,
    corpus_bleu,
    evaluate,
    validation,
)
from .losses import Loss, mix, nll, smoothed_nll, word_kd
from .models.attention_lstm import Config, attention_lstm
from .plan import PLANS, Plan, Search, Size, Training
from .report.results import read_evaluation, write_results
from .report.table import Row, Truth, compared, table
from .train.fit import fit
from .train.model_folder import Trained, describe_model
from .train.state import clipped_adam, decayed_sgd, init_state
from .train.steps import make_train_step

Pairs = list[tuple[str, str]]


@dataclass(frozen=True)
class Lab:
    """One corpus, one plan, one folder."""

    folder: Path
    corpus: Corpus
    plan: Plan = field(default_factory=Plan)

    @functools.cached_property
    def vocabularies(self) -> tuple[Vocabulary, Vocabulary]:
        """Source and target vocabulary, the same for every model of the lab."""
        paths = [self.folder / "vocabulary" / f"{side}.vocab.json" for side in ("src", "tgt")]
        if not all(path.exists() for path in paths):
            paths[0].parent.mkdir(parents=True, exist_ok=True)
            for path, vocab in zip(paths, self._new_vocabularies(), strict=True):
                vocab.save(path)
        src, tgt = (load_vocabulary(path) for path in paths)
        return src, tgt

    def _new_vocabularies(self) -> tuple[Vocabulary, Vocabulary]:
        plan = self.plan

        def make(lines: list[str]) -> Vocabulary:
            if plan.vocabulary == "words":
                return build_words(lines, size=plan.vocabulary_size, lower=plan.lower)
            return train_pieces(
                lines, plan.vocabulary_size or 8000, kind=plan.vocabulary, lower=plan.lower
            )

        sides = [list(side) for side in zip(*self.corpus.train, strict=True)]
        if plan.shared_vocabulary:
            shared = make(sides[0] + sides[1])
            return shared, shared
        return make(sides[0]), make(sides[1])


def lab(
    corpus: Corpus | str, folder: str | Path, plan: Plan | None = None, pair: str = "en-de"
) -> Lab:
    """Opens a lab: a named corpus brings the plan that suits it (``PLANS``)."""
    if isinstance(corpus, str):
        plan = plan or PLANS.get(corpus, Plan())
        corpus = load_corpus(corpus, pair)
    return Lab(Path(folder), corpus, plan or Plan())


# The stages.


def train(
    lab: Lab,
    name: str,
    size: Size,
    pairs: Pairs,
    training: Training,
    *,
    alpha: float = 0.0,
    teacher: Trained | None = None,
    start: Trained | None = None,
    vocabularies: tuple[Vocabulary, Vocabulary] | None = None,
) -> Trained:
    """Trains one model in the lab's folder ``name``; returns at once if that has been done.

    Args:
      lab: the lab.
      name: of the stage.
      size: of the model.
      pairs: to train on.
      training: settings.
      alpha: weight of ``word_kd`` in the loss.
      teacher: for ``word_kd``; without weight it only has to share the vocabularies.
      start: the model to start from (fine-tuning).
      vocabularies: source and target; the lab's own if left out.
    """
    folder, plan = lab.folder / name, lab.plan
    src_vocab, tgt_vocab = vocabularies or lab.vocabularies
    if teacher:
        check_same(tgt_vocab, teacher.tgt_vocab)
        check_same(src_vocab, teacher.src_vocab)
    config = Config(src_vocab=src_vocab.size, tgt_vocab=tgt_vocab.size, **asdict(size))
    model = attention_lstm(config)
    describe_model(
        folder,
        config,
        src_vocab,
        tgt_vocab,
        {
            "training": asdict(training),
            "pairs": lines_digest([side for pair in pairs for side in pair]),
            "alpha": alpha,
            "teacher": teacher and teacher.digest,
            "start": start and start.digest,
            "seed": plan.seed,
        },
    )
    loss: Loss = smoothed_nll(training.label_smoothing) if training.label_smoothing else nll
    loss = mix(loss, word_kd, alpha) if alpha else loss
    teach = teacher if alpha else None  # of weight 0 it would cost a forward pass all the same
    encoded = encode_pairs(pairs, src_vocab, tgt_vocab, max_len=plan.max_len)
    buckets = plan_buckets(
        [len(s) for s in encoded.src],
        [len(t) for t in encoded.tgt],
        tokens_per_batch=training.tokens_per_batch,
        buckets=training.buckets,
    )
    steps = training.epochs * number_of_batches(encoded, buckets)
    if jax.process_index() == 0:
        print(f"{folder}: {encoded.report}; {describe(buckets)} an epoch", file=sys.stderr)
    if training.optimizer == "adam":
        tx = clipped_adam(optax.cosine_decay_schedule(training.rate, steps))
    else:
        tx = decayed_sgd(training.rate)
    init_key, run_key = jax.random.split(jax.random.key(plan.seed))
    fitted = fit(
        folder,
        make_train_step(
            model, tx, loss, teacher=teach and teach.model, microbatches=training.microbatches
        ),
        init_state(model, tx, init_key, start and start.params),
        batches=lambda epoch, first: batches(
            encoded, buckets, seed=plan.seed, epoch=epoch, start=first
        ),
        batches_per_epoch=steps // training.epochs,
        validate=validation(model, src_vocab, tgt_vocab, lab.corpus.valid, tokenize=plan.tokenize),
        epochs=training.epochs,
        patience=training.patience,
        key=run_key,
        teacher_params=teach and teach.params,
    )
    return Trained(config, model, fitted.params, src_vocab, tgt_vocab)


def nbest(lab: Lab, name: str, trained: Trained, beam: int) -> list[NBest]:
    """Decodes the training sources with a beam; all K hypotheses are kept."""
    return translate_corpus(
        lab.folder / name,
        trained.model,
        trained.params,
        [source for source, _ in lab.corpus.train],
        trained.src_vocab,
        trained.tgt_vocab,
        Search(beam_size=beam, n_best=beam),
        teacher=trained.digest,
        progress=name,
    )


def fine_tune(lab: Lab, name: str, start: Trained, size: Size, *, alpha: float = 0.0) -> Trained:
    """Seq-Inter: goes on from a trained model at a lower rate, on the hypotheses closest to the
    references (Kim & Rush 2016, section 3.3).
    """
    return train(
        lab,
        name,
        size,
        seq_inter_pairs(lab),
        lab.plan.fine_tuning,
        alpha=alpha,
        teacher=teacher(lab) if alpha else None,
        start=start,
    )


def seq_kd_pairs(lab: Lab) -> Pairs:
    """The training sources with the teacher's best translations."""
    lists = nbest(lab, f"nbest-{lab.plan.kd_beam}", teacher(lab), lab.plan.kd_beam)
    return select.seq_kd(lab.corpus.train, lists).pairs


def seq_inter_pairs(lab: Lab) -> Pairs:
    """The training sources with the teacher's hypothesis that is closest to each reference."""
    lists = nbest(lab, f"nbest-{lab.plan.inter_beam}", teacher(lab), lab.plan.inter_beam)
    return select.seq_inter(lab.corpus.train, lists).pairs


# The rows of Table 1.


def teacher(lab: Lab) -> Trained:
    """The big model on the corpus as it is."""
    plan = lab.plan
    return train(lab, "teacher", plan.teacher, lab.corpus.train, plan.teacher_training)


def baseline(lab: Lab) -> Trained:
    """The small model on the corpus as it is."""
    plan = lab.plan
    return train(lab, "baseline", plan.student, lab.corpus.train, plan.student_training)


def word_kd_row(lab: Lab) -> Trained:
    """The small model on the corpus and on the teacher's distribution of each word."""
    plan = lab.plan
    return train(
        lab,
        "word-kd",
        plan.student,
        lab.corpus.train,
        plan.student_training,
        alpha=plan.alpha,
        teacher=teacher(lab),
    )


def seq_kd(lab: Lab) -> Trained:
    """The small model on the teacher's translations."""
    plan = lab.plan
    return train(lab, "seq-kd", plan.student, seq_kd_pairs(lab), plan.student_training)


def seq_kd_word_kd(lab: Lab) -> Trained:
    """The small model on the teacher's translations and its distribution of each of their words."""
    plan = lab.plan
    return train(
        lab,
        "seq-kd+word-kd",
        plan.student,
        seq_kd_pairs(lab),
        plan.student_training,
        alpha=plan.alpha,
        teacher=teacher(lab),
    )


def teacher_seq_inter(lab: Lab) -> Trained:
    """The teacher, taught by itself."""
    return fine_tune(lab, "teacher+seq-inter", teacher(lab), lab.plan.teacher)


def baseline_seq_inter(lab: Lab) -> Trained:
    """The baseline, then Seq-Inter."""
    return fine_tune(lab, "baseline+seq-inter", baseline(lab), lab.plan.student)


def word_kd_seq_inter(lab: Lab) -> Trained:
    """Word-KD, then Seq-Inter."""
    return fine_tune(lab, "word-kd+seq-inter", word_kd_row(lab), lab.plan.student)


def seq_kd_seq_inter(lab: Lab) -> Trained:
    """Seq-KD, then Seq-Inter."""
    return fine_tune(lab, "seq-kd+seq-inter", seq_kd(lab), lab.plan.student)


def seq_kd_seq_inter_word_kd(lab: Lab) -> Trained:
    """Seq-KD, then Seq-Inter with the word-level mixture."""
    name = "seq-kd+seq-inter+word-kd"
    return fine_tune(lab, name, seq_kd(lab), lab.plan.student, alpha=lab.plan.alpha)


ROWS: dict[str, Callable[[Lab], Trained]] = {
    "teacher": teacher,
    "teacher+seq-inter": teacher_seq_inter,
    "baseline": baseline,
    "word-kd": word_kd_row,
    "seq-kd": seq_kd,
    "baseline+seq-inter": baseline_seq_inter,
    "word-kd+seq-inter": word_kd_seq_inter,
    "seq-kd+seq-inter": seq_kd_seq_inter,
    "seq-kd+word-kd": seq_kd_word_kd,
    "seq-kd+seq-inter+word-kd": seq_kd_seq_inter_word_kd,
}
# The table.


def run(lab: Lab, rows: Iterable[str] = tuple(ROWS), truth: Truth | None = None) -> list[Row]:
    """Trains and evaluates rows of Table 1, and writes ``results.json`` and ``table.txt``.

    The differences of students are to ``baseline``, that of ``teacher+seq-inter`` to
    ``teacher``; both are evaluated with them. Done stages are not done again.

    Raises:
      ValueError: a row's name is not one of ``ROWS``.
    """
    wanted = list(dict.fromkeys(rows))
    for name in wanted:
        if name not in ROWS:
            raise ValueError(f"There is no row {name!r}; the rows are: {', '.join(ROWS)}.")
    for name in tuple(wanted):
        baseline_of = "teacher" if name.startswith("teacher") else "baseline"
        if baseline_of not in wanted:
            wanted.insert(0, baseline_of)
    done = []
    for name in wanted:
        trained = ROWS[name](lab)
        done.append(Row(name, _evaluated(lab, name, trained), {}, _seconds(lab.folder / name)))
    result = compared(done, [target for _, target in lab.corpus.test], lab.plan.tokenize)
    about = {
        "corpus": str(lab.corpus),
        "plan": asdict(lab.plan),
        "jax": jax.__version__,
        "devices": f"{jax.device_count()} x {jax.devices()[0].device_kind}",
        "cores": os.cpu_count(),
    }
    write_results(lab.folder / "results.json", about, result, truth)
    atomic_write(lab.folder / "table.txt", (table(result, truth) + "\n").encode())
    return result


def _seconds(folder: Path) -> float:
    """The time that a stage's training steps took, all starts together."""
    lines = (folder / "metrics.jsonl").read_bytes().splitlines()
    return [record["seconds"] for record in map(json.loads, lines) if "valid" in record][-1]


def _evaluated(lab: Lab, name: str, trained: Trained) -> Evaluation:
    """Evaluates a stage on the test set, once; outputs are kept as text files beside it."""
    plan, path = lab.plan, lab.folder / name / "evaluation.json"
    stamp = {
        "model": trained.digest,
        "test": lines_digest([side for pair in lab.corpus.test for side in pair]),
        "beams": list(plan.beams),
        "tokenize": plan.tokenize,
    }
    if path.exists():
        kept = json.loads(path.read_bytes())
        if kept.pop("of") == stamp:
            return read_evaluation(kept)
    evaluation = evaluate(
        trained.model,
        trained.params,
        trained.src_vocab,
        trained.tgt_vocab,
        lab.corpus.test,
        beams=plan.beams,
        tokenize=plan.tokenize,
    )
    for beam, decoding in evaluation.decodings.items():
        lines = "".join(line + "\n" for line in decoding.outputs)
        atomic_write(lab.folder / name / f"test.beam{beam}.txt", lines.encode())
    atomic_write(path, json.dumps({"of": stamp, **asdict(evaluation)}, indent=1).encode())
    return evaluation


def grammar_truth(pairs: Pairs) -> Truth:
    """Computes the grammar's own values on sentence pairs that it generated."""
    modes, nats, tokens, mass = [], 0.0, 0, 0.0
    for source, target in pairs:
        targets = grammar.targets(source)
        mode = max(targets, key=lambda t: targets[t])
        modes.append(mode)
        nats -= math.log(targets[target])
        tokens += len(target.split()) + 1
        mass += targets[mode]
    references = [target for _, target in pairs]
    return Truth(
        bleu=corpus_bleu(modes, references, "none"),
        perplexity=math.exp(nats / tokens),
        mode_mass=mass / len(pairs),
    )
