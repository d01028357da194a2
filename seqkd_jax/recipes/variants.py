"""Variants of Seq-KD as rows: all hypotheses of a list, and filtered pairs. Floor 8.

Each has the student and the number of updates of the row ``seq-kd``.
"""

from collections.abc import Iterator
from dataclasses import asdict, replace
from functools import cache, partial

import numpy as np

from .. import console
from ..data import ParallelLines
from ..distill import filters, select
from ..distill.select import Selected
from ..errors import UsageError
from ..processes import is_first
from ..trained import TrainedModel
from .amount import in_updates
from .experiment import Experiment, Pairs
from .objectives import LIKELIHOOD
from .stages import new, train
from .table1 import made_lines, nbest_lists, teacher, with_extra


def seq_kd_all(exp: Experiment) -> TrainedModel:
    """Trains the small model on all hypotheses of the teacher's lists, with equal weights."""
    pairs, share = _all(exp).pairs, np.float32(1 / exp.plan.kd_beam)
    return _student(exp, "seq-kd-all", pairs, np.full(len(pairs), share))


def seq_kd_weighted(exp: Experiment) -> TrainedModel:
    """Trains the small model on all hypotheses, weighted by the teacher's probabilities.

    Source: Kim & Rush 2016, section 3.2, before the distribution is reduced to its mode.
    """
    chosen = _all(exp)
    return _student(exp, "seq-kd-weighted", chosen.pairs, chosen.weights)


def seq_kd_filtered(exp: Experiment) -> TrainedModel:
    """Trains the small model on the teacher's best translations that pass the plan's filters."""
    made_of = asdict(exp.plan.filters)
    return _student(exp, "seq-kd-filtered", filtered_pairs(exp), filters=made_of)


def filtered_pairs(exp: Experiment) -> Pairs:
    """Returns sources with the teacher's best translations, those that pass the plan's filters.

    Prints how many each filter has removed.

    Raises:
      UsageError: no pair passes, or a file belongs to another teacher or text.
    """
    exp = exp.teaching
    settings, beam = exp.plan.filters, exp.plan.kd_beam
    pairs = with_extra(exp)

    def best() -> Iterator[Selected]:
        lists = nbest_lists(exp, beam)
        return (chunk for (chunk,) in select.in_chunks(pairs, lists, select.seq_kd))

    @cache
    def tests() -> dict[str, filters.Filter]:
        log_probs = np.concatenate([chunk.log_probs for chunk in best()])
        lowest = float(np.nanquantile(log_probs, settings.lowest_share))
        return {
            "length ratio": filters.length_ratio(settings.max_ratio),
            "repeated phrases": filters.max_repeats(settings.max_repeats),
            "log-probability": filters.mean_log_prob(lowest),
        }

    def lines(side: int) -> Iterator[str]:
        removed: dict[str, int] = {}
        for kept, counts in filters.filter_chunks(best(), tests()):
            yield from (pair[side] for pair in kept.pairs)
            removed = counts
        if side and is_first():  # once for both sides
            by = ", ".join(f"{count:,} by {name}" for name, count in removed.items())
            left = f"{len(pairs) - sum(removed.values()):,} of {len(pairs):,}"
            console.note(f"{exp.folder}: {left} distilled pairs kept; removed: {by}")

    made_of = {"teacher_digest": teacher(exp).digest, "beam": beam, "filters": asdict(settings)}
    sides = (
        made_lines(exp, f"seq-kd-filtered-{beam}.{name}", made_of, pairs, partial(lines, side))
        for side, name in enumerate(("src", "tgt"))
    )
    kept = ParallelLines(*sides)
    if not kept:
        raise UsageError(
            f"{exp.folder}: no distilled pair passes the filters: allow a larger "
            "--filters.max-ratio or more --filters.max-repeats."
        )
    return kept


def _all(exp: Experiment) -> Selected:
    return select.weighted_seq_kd(with_extra(exp), nbest_lists(exp, exp.plan.kd_beam))


def _student(
    exp: Experiment,
    name: str,
    pairs: Pairs,
    weights: np.ndarray | None = None,
    **made_of: object,
) -> TrainedModel:
    objective = replace(LIKELIHOOD, pair_weights=weights)
    training = in_updates(exp.plan.student_training, exp.tokens)
    made_of |= {"kd_beam": exp.plan.kd_beam, "teacher_digest": teacher(exp).digest}
    model = new(exp, exp.plan.student_size)
    return train(exp, name, model, pairs, training, objective=objective, made_of=made_of)


VARIANTS = {
    "seq-kd-all": seq_kd_all,
    "seq-kd-weighted": seq_kd_weighted,
    "seq-kd-filtered": seq_kd_filtered,
}
