"""The rows of Table 1 of Kim & Rush (2016), each a function of an ``Experiment``."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from .. import console
from ..data import ParallelLines, pairs_digest
from ..data.encode import folder_for
from ..data.lines import sources_of, targets_of
from ..data.store import kept_lines
from ..decode.nbest import NBest
from ..distill import select
from ..distill.similarity import choose
from ..model_folder import require_made_by
from ..models.ensemble import ensemble
from ..processes import is_first
from ..sealed import read_record, write_record
from ..trained import TrainedModel
from .experiment import Experiment, Pairs
from .objectives import LIKELIHOOD, Objective, word_kd_from
from .stages import nbest, new, train

FORMAT = "seqkd-seq-inter-1"
CHOSEN = "seq-inter.json"


def fine_tune(
    exp: Experiment,
    name: str,
    start: TrainedModel,
    *,
    objective: Objective = LIKELIHOOD,
) -> TrainedModel:
    """Trains a model further with Seq-Inter, at a lower rate (Kim & Rush 2016, section 3.3).

    The targets are the teacher's hypotheses that are closest to the references.
    """
    plan = exp.plan
    made_of = _decoded(exp, name, inter_beam=plan.inter_beam, similarity=plan.similarity)
    pairs = seq_inter_pairs(exp)
    return train(exp, name, start, pairs, plan.fine_tuning, objective=objective, made_of=made_of)


def _decoded(exp: Experiment, name: str, **made_of: int | str) -> dict[str, int | str]:
    """Returns what a row's pairs are made of; refuses a row that was made with other settings."""
    require_made_by(exp.folder / name, **made_of)  # before a teacher is trained
    return made_of | {"teacher_digest": teacher(exp).digest}


def seq_kd_pairs(exp: Experiment) -> Pairs:
    """Returns sources with the teacher's best translations: of the training text, and more text.

    Raises:
      UsageError: a file belongs to another teacher or text.
    """
    exp = exp.teaching
    beam, trained = exp.plan.kd_beam, teacher(exp)
    pairs = with_extra(exp)

    def targets() -> Iterator[str]:
        lists = nbest_lists(exp, beam)
        for (best,) in select.in_chunks(pairs, lists, select.seq_kd):
            yield from (target for _, target in best.pairs)

    made_of = {"teacher_digest": trained.digest, "beam": beam}
    return ParallelLines(
        sources_of(pairs), made_lines(exp, f"seq-kd-{beam}.tgt", made_of, pairs, targets)
    )


def made_lines(
    exp: Experiment,
    name: str,
    settings: dict[str, Any],
    pairs: Pairs,
    lines: Callable[[], Iterator[str]],
) -> Sequence[str]:
    """Returns lines that are made of pairs: in memory, or for a large corpus in a file.

    Args:
      exp: the experiment, whose folder has the file.
      name: of the file.
      settings: what else decides the lines, as JSON.
      pairs: the pairs.
      lines: makes them.
    """
    folder = folder_for(pairs, exp.folder / "distilled")
    if folder is None:
        return list(lines())
    made_of = {"pairs": pairs_digest(pairs), "max_source": exp.plan.max_source, **settings}
    return kept_lines(Path(folder) / name, made_of, lines)


def with_extra(exp: Experiment) -> Pairs:
    """Returns the training pairs, followed by the sources that have no translation."""
    pairs, extra = exp.corpus.train, exp.corpus.extra
    if not extra:
        return pairs
    sources = [*sources_of(pairs), *extra]
    return ParallelLines(sources, [*targets_of(pairs), *[""] * len(extra)])


def nbest_lists(exp: Experiment, beam: int) -> Sequence[NBest]:
    """Returns the teacher's n-best lists of the pairs of ``with_extra``."""
    exp = exp.teaching
    trained = teacher(exp)
    lists = nbest(exp, f"nbest-{beam}", trained, beam)
    if not exp.corpus.extra:
        return lists
    first = len(lists)
    more = nbest(exp, f"nbest-{beam}-extra", trained, beam, exp.corpus.extra)
    return [*lists, *(replace(n, index=first + n.index) for n in more)]


def seq_inter_pairs(exp: Experiment) -> Pairs:
    """Returns the training sources with the teacher's hypotheses closest to the references.

    Prints how many of these are not the teacher's best, and keeps the number in
    ``seq-inter.json``.
    """
    exp = exp.teaching
    trained, pairs = teacher(exp), exp.corpus.train
    beam = exp.plan.inter_beam
    name, similarity = choose(exp.plan.similarity, texts=targets_of(pairs))
    selection = select.closest_to_reference(similarity, trained.tgt_vocab.lower)

    def targets() -> Iterator[str]:
        lists, differing = nbest(exp, f"nbest-{beam}", trained, beam), 0
        for best, chosen in select.in_chunks(pairs, lists, select.seq_kd, selection):
            differing += select.differing(chosen, best)
            yield from (target for _, target in chosen.pairs)
        _record_choices(exp, name, differing)

    settings = {"teacher_digest": trained.digest, "beam": beam, "similarity": name}
    return ParallelLines(
        sources_of(pairs), made_lines(exp, f"seq-inter-{beam}.tgt", settings, pairs, targets)
    )


def _record_choices(exp: Experiment, similarity: str, differing: int) -> None:
    sentences = len(exp.corpus.train)
    share = differing / max(1, sentences)
    record = {"similarity": similarity, "differs": share, "sentences": sentences}
    path = exp.folder / CHOSEN
    if is_first() and not (path.exists() and read_record(path, FORMAT) == record):
        console.note(
            f"{exp.folder}: by {similarity}, Seq-Inter chose another hypothesis than Seq-KD for "
            f"{100 * share:.1f} % of {sentences:,} sentences"
        )
        write_record(path, FORMAT, record)


def chosen_otherwise(exp: Experiment) -> dict[str, Any]:
    """Returns the similarity that Seq-Inter chose by, and its share of choices unlike Seq-KD's."""
    return read_record(exp.teaching.folder / CHOSEN, FORMAT)


def teacher(exp: Experiment) -> TrainedModel:
    """Trains the big model on the corpus itself."""
    exp = exp.teaching
    if exp.loaded_teacher is not None:
        return exp.loaded_teacher
    plan, pairs = exp.plan, exp.corpus.train
    model = new(exp, plan.teacher_size)
    members = [
        train(one, name, model, pairs, plan.teacher_training)
        for name, one in teachers_of(exp).items()
    ]
    if len(members) == 1:
        return members[0]
    return replace(
        model,
        model=ensemble([member.model for member in members]),
        params=[member.params for member in members],
        net=None,
    )


def teachers_of(exp: Experiment) -> dict[str, Experiment]:
    """Returns the experiment of each teacher, which differ in their seeds, by its folder's name."""
    # Far apart, so that ensembles of experiments with other seeds have no member in common.
    seeds = [(exp.plan.seed + 10_000 * n) % 2**32 for n in range(exp.plan.teachers)]
    names = ["teacher", *(f"teacher-{n + 1}" for n in range(1, len(seeds)))]
    plans = [replace(exp.plan, seed=seed) for seed in seeds]
    return {name: replace(exp, plan=plan) for name, plan in zip(names, plans, strict=True)}


def student(
    exp: Experiment,
    name: str,
    pairs: Pairs,
    objective: Objective = LIKELIHOOD,
    made_of: dict[str, Any] | None = None,
) -> TrainedModel:
    """Trains a new small model on these pairs."""
    plan = exp.plan
    model = new(exp, plan.student_size)
    return train(
        exp,
        name,
        model,
        pairs,
        plan.student_training,
        objective=objective,
        made_of=made_of,
    )


def word_kd_objective(exp: Experiment) -> Objective:
    """Returns the objective that mixes the teacher's distribution over each word into the loss."""
    return word_kd_from(teacher(exp), exp.plan.kd_weight)


def baseline(exp: Experiment) -> TrainedModel:
    """Trains the small model on the corpus itself."""
    return student(exp, "baseline", exp.corpus.train)


def word_kd_row(exp: Experiment) -> TrainedModel:
    """Trains the small model on the corpus with Word-KD."""
    objective = word_kd_objective(exp)
    return student(exp, "word-kd", exp.corpus.train, objective)


def seq_kd(exp: Experiment) -> TrainedModel:
    """Trains the small model on the teacher's translations."""
    made_of = _decoded(exp, "seq-kd", kd_beam=exp.plan.kd_beam)
    return student(exp, "seq-kd", seq_kd_pairs(exp), made_of=made_of)


def seq_kd_word_kd(exp: Experiment) -> TrainedModel:
    """Trains the small model on the teacher's translations with Word-KD."""
    made_of = _decoded(exp, "seq-kd+word-kd", kd_beam=exp.plan.kd_beam)
    pairs, objective = seq_kd_pairs(exp), word_kd_objective(exp)
    return student(exp, "seq-kd+word-kd", pairs, objective, made_of)


def teacher_seq_inter(exp: Experiment) -> TrainedModel:
    """Trains the teacher with Seq-Inter on its own hypotheses."""
    return fine_tune(exp, "teacher+seq-inter", teacher(exp))


def baseline_seq_inter(exp: Experiment) -> TrainedModel:
    """Trains the baseline, then applies Seq-Inter."""
    return fine_tune(exp, "baseline+seq-inter", baseline(exp))


def word_kd_seq_inter(exp: Experiment) -> TrainedModel:
    """Trains with Word-KD, then applies Seq-Inter."""
    return fine_tune(exp, "word-kd+seq-inter", word_kd_row(exp))


def seq_kd_seq_inter(exp: Experiment) -> TrainedModel:
    """Trains with Seq-KD, then applies Seq-Inter."""
    return fine_tune(exp, "seq-kd+seq-inter", seq_kd(exp))


def seq_kd_seq_inter_word_kd(exp: Experiment) -> TrainedModel:
    """Trains with Seq-KD, then applies Seq-Inter together with Word-KD."""
    name = "seq-kd+seq-inter+word-kd"
    objective = word_kd_objective(exp)
    return fine_tune(exp, name, seq_kd(exp), objective=objective)


TABLE1: dict[str, Callable[[Experiment], TrainedModel]] = {
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
