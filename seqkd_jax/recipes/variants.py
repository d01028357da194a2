"""Variants of Seq-KD as rows: all hypotheses of a list, and filtered pairs. Floor 8.

Each has the student and the number of updates of the row ``seq-kd``.
"""

from dataclasses import asdict, replace

import numpy as np

from .. import console
from ..distill import filters, select
from ..distill.select import Selected
from ..errors import UsageError
from ..processes import is_first
from ..trained import TrainedModel
from .amount import in_updates
from .experiment import Experiment
from .objectives import LIKELIHOOD
from .stages import new, train
from .table1 import nbest_lists, teacher, with_extra


def seq_kd_all(exp: Experiment) -> TrainedModel:
    """Trains the small model on all hypotheses of the teacher's lists, with equal weights."""
    chosen = _all(exp)
    share = np.float32(1 / exp.plan.kd_beam)
    return _student(exp, "seq-kd-all", replace(chosen, weights=np.full(len(chosen.pairs), share)))


def seq_kd_weighted(exp: Experiment) -> TrainedModel:
    """Trains the small model on all hypotheses, weighted by the teacher's probabilities.

    Source: Kim & Rush 2016, section 3.2, before the distribution is reduced to its mode.
    """
    return _student(exp, "seq-kd-weighted", _all(exp))


def seq_kd_filtered(exp: Experiment) -> TrainedModel:
    """Trains the small model on the teacher's best translations that pass the plan's filters."""
    best = select.seq_kd(with_extra(exp), nbest_lists(exp, exp.plan.kd_beam))
    settings = exp.plan.filters
    lowest = float(np.nanquantile(best.log_probs, settings.lowest_share))
    kept, counts = filters.filter_pairs(
        best,
        {
            "length ratio": filters.length_ratio(settings.max_ratio),
            "repeated phrases": filters.max_repeats(settings.max_repeats),
            "log-probability": filters.mean_log_prob(lowest),
        },
    )
    if is_first():
        removed = ", ".join(f"{count:,} by {name}" for name, count in counts.items())
        left = f"{len(kept.pairs):,} of {len(best.pairs):,}"
        console.note(f"{exp.folder}: {left} distilled pairs kept; removed: {removed}")
    if not kept.pairs:
        raise UsageError(
            f"{exp.folder}: no distilled pair passes the filters: allow a larger "
            "--filters.max-ratio or more --filters.max-repeats."
        )
    return _student(exp, "seq-kd-filtered", kept, filters=asdict(settings))


def _all(exp: Experiment) -> Selected:
    return select.weighted_seq_kd(with_extra(exp), nbest_lists(exp, exp.plan.kd_beam))


def _student(exp: Experiment, name: str, chosen: Selected, **made_of: object) -> TrainedModel:
    objective = replace(LIKELIHOOD, pair_weights=chosen.weights)
    training = in_updates(exp.plan.student_training, exp.tokens)
    made_of |= {"kd_beam": exp.plan.kd_beam, "teacher_digest": teacher(exp).digest}
    model = new(exp, exp.plan.student_size)
    return train(exp, name, model, chosen.pairs, training, objective=objective, made_of=made_of)


VARIANTS = {
    "seq-kd-all": seq_kd_all,
    "seq-kd-weighted": seq_kd_weighted,
    "seq-kd-filtered": seq_kd_filtered,
}
