"""The rows of Table 1 of Kim & Rush (2016), each a function of a ``Lab``."""

import sys
from collections.abc import Callable
from typing import Any

import jax

from ..distill import select
from ..distill.similarity import choose
from ..sealed import read_record, write_record
from ..train.model_folder import Trained, require_made_by
from .stages import Lab, Pairs, nbest, train

FORMAT = "seqkd-seq-inter-1"
CHOSEN = "seq-inter.json"


def fine_tune(lab: Lab, name: str, start: Trained, *, alpha: float = 0.0) -> Trained:
    """Seq-Inter: goes on from a trained model at a lower rate, on the hypotheses closest to the
    references (Kim & Rush 2016, section 3.3).
    """
    plan = lab.plan
    made_of = _decoded(lab, name, inter_beam=plan.inter_beam, similarity=plan.similarity)
    return train(
        lab,
        name,
        start,
        seq_inter_pairs(lab),
        lab.plan.fine_tuning,
        alpha=alpha,
        teacher=teacher(lab) if alpha else None,
        made_of=made_of,
    )


def _decoded(lab: Lab, name: str, **made_of: int | str) -> dict[str, int | str]:
    """How a row's pairs are made; a row that was made otherwise is refused before they are."""
    require_made_by(lab.folder / name, **made_of)
    return made_of


def seq_kd_pairs(lab: Lab) -> Pairs:
    """The training sources with the teacher's best translations."""
    lists = nbest(lab, f"nbest-{lab.plan.kd_beam}", teacher(lab), lab.plan.kd_beam)
    return select.seq_kd(lab.corpus.train, lists).pairs


def seq_inter_pairs(lab: Lab) -> Pairs:
    """The training sources with the teacher's hypothesis that is closest to each reference.

    How many of them are not the teacher's best is printed, and kept in ``seq-inter.json``.
    """
    trained, pairs = teacher(lab), lab.corpus.train
    name, similarity = choose(lab.plan.similarity, texts=[target for _, target in pairs])
    lists = nbest(lab, f"nbest-{lab.plan.inter_beam}", trained, lab.plan.inter_beam)
    chosen = select.seq_inter(pairs, lists, similarity, lower=trained.tgt_vocab.lower)
    differs = select.share_differing(chosen, select.seq_kd(pairs, lists))
    record = {"similarity": name, "differs": differs, "sentences": len(pairs)}
    path = lab.folder / CHOSEN
    if jax.process_index() == 0 and not (path.exists() and read_record(path, FORMAT) == record):
        print(
            f"{lab.folder}: Seq-Inter, by {name}, chose another hypothesis than Seq-KD for "
            f"{100 * differs:.1f} % of {len(pairs):,} sentences",
            file=sys.stderr,
        )
        write_record(path, FORMAT, record)
    return chosen.pairs


def chosen_otherwise(lab: Lab) -> dict[str, Any]:
    """By which similarity Seq-Inter chose, and for which share otherwise than Seq-KD."""
    return read_record(lab.folder / CHOSEN, FORMAT)


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
    made_of = _decoded(lab, "seq-kd", kd_beam=plan.kd_beam)
    pairs = seq_kd_pairs(lab)
    return train(lab, "seq-kd", plan.student, pairs, plan.student_training, made_of=made_of)


def seq_kd_word_kd(lab: Lab) -> Trained:
    """The small model on the teacher's translations and its distribution of each of their words."""
    plan = lab.plan
    made_of = _decoded(lab, "seq-kd+word-kd", kd_beam=plan.kd_beam)
    return train(
        lab,
        "seq-kd+word-kd",
        plan.student,
        seq_kd_pairs(lab),
        plan.student_training,
        alpha=plan.alpha,
        teacher=teacher(lab),
        made_of=made_of,
    )


def teacher_seq_inter(lab: Lab) -> Trained:
    """The teacher, taught by itself."""
    return fine_tune(lab, "teacher+seq-inter", teacher(lab))


def baseline_seq_inter(lab: Lab) -> Trained:
    """The baseline, then Seq-Inter."""
    return fine_tune(lab, "baseline+seq-inter", baseline(lab))


def word_kd_seq_inter(lab: Lab) -> Trained:
    """Word-KD, then Seq-Inter."""
    return fine_tune(lab, "word-kd+seq-inter", word_kd_row(lab))


def seq_kd_seq_inter(lab: Lab) -> Trained:
    """Seq-KD, then Seq-Inter."""
    return fine_tune(lab, "seq-kd+seq-inter", seq_kd(lab))


def seq_kd_seq_inter_word_kd(lab: Lab) -> Trained:
    """Seq-KD, then Seq-Inter with the word-level mixture."""
    name = "seq-kd+seq-inter+word-kd"
    return fine_tune(lab, name, seq_kd(lab), alpha=lab.plan.alpha)


TABLE1: dict[str, Callable[[Lab], Trained]] = {
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
