"""Rows of a table: trained, evaluated and compared. Floor 8."""

import itertools
import math
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from .. import console
from ..data import grammar, pairs_digest
from ..errors import UsageError, require_lines
from ..evaluation import Evaluation, evaluate
from ..files import atomic_write, make_folder
from ..model_folder import training_began, training_seconds
from ..processes import is_first
from ..provenance import other_origin_lines
from ..report.layout import TEXT
from ..report.page.kept import keep_test
from ..report.records import EVALUATION, evaluation_record, read_evaluation, unreadable
from ..report.results import read_results, write_results
from ..report.table import Row, Truth, baseline_of, compared, table
from ..scoring import Scorer, scorer_of
from ..sealed import digest_of, read_record, write_record
from ..settings import GREEDY, Layout
from ..trained import TrainedModel, had_teacher
from .experiment import Experiment, Pairs
from .on_policy import on_policy
from .stages import require_fitting
from .systems import SHAPES, SYSTEMS
from .table1 import TABLE1, chosen_otherwise, teacher, teachers_of
from .variants import VARIANTS
from .weak import require_able

# rows that need the teacher
NEEDS_TEACHER = {
    name for name in (*TABLE1, "on-policy", *VARIANTS) if name not in ("teacher", "baseline")
}
ROWS: dict[str, Callable[[Experiment], TrainedModel]] = {
    **TABLE1,
    "on-policy": on_policy,
    **VARIANTS,
    **SYSTEMS,
}


def run(
    exp: Experiment,
    rows: Iterable[str] = tuple(TABLE1),
    truth: Truth | None = None,
    *,
    seeds: Sequence[int] = (),
    new_teachers: bool = False,
    anyway: bool = False,
) -> list[Row]:
    """Trains and evaluates rows, and writes ``results.json``, ``table.txt`` and the test set.

    Students are compared with ``baseline``, and ``teacher+seq-inter`` with ``teacher``; the rows
    that others are compared with are evaluated too. Stages that are done are not run again.

    Args:
      exp: the experiment.
      rows: names of rows, of ``ROWS``.
      truth: what the corpus itself scores, if that is known; a line of the table.
      seeds: train each row once with each of these seeds; by default, with that of the plan.
      new_teachers: each seed has a teacher of its own, instead of the same for all students.
      anyway: proceed even if the teacher is too weak to teach.

    Raises:
      UsageError: a row's name is not one of ``ROWS``, there are no pairs to test on, the text of
        the test set cannot be scored, or the teacher is too weak.
    """
    wanted = with_baselines(rows)
    scorer = ready(exp, wanted)
    # The first seed's folder is that of the experiment, so their order must not matter.
    each = [exp.with_seed(seed, new_teachers) for seed in sorted(seeds) or (exp.plan.seed,)]
    if any(name in NEEDS_TEACHER for name in wanted):
        each = _with_teachers(each, anyway)
    if (exp.folder / "results.json").exists():
        # A row that is refused must leave the table there is and the evaluations behind it alone.
        for name, one in itertools.product(wanted, each):
            ROWS[name](_of_row(one, name))
    done = [_row(name, each) for name in wanted]
    result = compared(done, [target for _, target in exp.corpus.test], scorer, by_name=True)
    about = about_experiment(exp) | {"seeds": [one.plan.seed for one in each]}
    about["scorer"] = asdict(scorer)
    if any("seq-inter" in name for name in wanted):
        about["seq_inter"] = chosen_otherwise(each[0])
    if is_first():
        keep_test(exp.folder, exp.corpus.test)
        path = exp.folder / "results.json"
        _say_what_goes(path, about["seeds"], wanted)
        write_results(path, about, result, truth)
        atomic_write(exp.folder / "table.txt", (table_of(result, truth) + "\n").encode())
    return result


def _with_teachers(each: Sequence[Experiment], anyway: bool) -> list[Experiment]:
    """Reads each teacher once, for all rows; UsageError if one is too weak, unless ``anyway``."""
    teaching: dict[Path, Experiment] = {}
    for exp in each:
        one = exp.teaching
        if one.folder not in teaching:
            teaching[one.folder] = replace(one, loaded_teacher=teacher(one))
            for name in () if anyway else teachers_of(one):
                require_able(one.folder / name)
    known = [(exp, teaching[exp.teaching.folder]) for exp in each]
    return [replace(exp, base=one) if exp.base else one for exp, one in known]


def _say_what_goes(path: Path, seeds: Sequence[int], rows: Sequence[str]) -> None:
    """Says which rows and seeds of an earlier table the new one does not have."""
    try:
        before = read_results(path)
    except (FileNotFoundError, UsageError):  # a damaged table is replaced
        return
    gone = [row.name for row in before.rows if row.name not in rows]
    gone += [f"seed {seed}" for seed in before.about.get("seeds", ()) if seed not in seeds]
    if gone:
        console.note(
            f"{path}: the table before also had {', '.join(gone)}. Their models and "
            "evaluations stay in the folder; name all rows and seeds to have them in one table."
        )


def _row(name: str, each: Sequence[Experiment]) -> Row:
    """Trains and evaluates a row with each seed."""
    evaluations, seconds = [], []
    for exp in each:
        exp = _of_row(exp, name)
        evaluations.append(evaluated(exp, name, ROWS[name](exp)))
        seconds.append(training_seconds(exp.folder / name))
    return Row(name, tuple(evaluations), {}, statistics.fmean(seconds))


def _of_row(exp: Experiment, name: str) -> Experiment:
    """Returns the experiment of a row; the teacher that students share has one for all seeds."""
    return exp.teaching if name == "teacher" else exp


def table_of(rows: Sequence[Row], truth: Truth | None = None, layout: Layout = TEXT) -> str:
    """Renders rows of an experiment, and says below them if another version has made some."""
    made = [evaluation.made for row in rows for evaluation in row.evaluations]
    return table(rows, truth, layout, other_origin_lines(made))


def with_baselines(rows: Iterable[str]) -> list[str]:
    """Returns the rows, each once, preceded by the rows that they are compared with.

    Raises UsageError for a name that is not one of ``ROWS``.
    """
    require_lines(rows)
    wanted = list(dict.fromkeys(rows))
    for name in wanted:
        if name not in ROWS:
            raise UsageError(f"There is no row {name!r}; the rows are: {', '.join(ROWS)}.")
    for name in tuple(wanted):
        if baseline_of(name) not in wanted:
            wanted.insert(0, baseline_of(name))
    return wanted


def ready(exp: Experiment, rows: Iterable[str] = ()) -> Scorer:
    """Returns the scorer of an experiment's rows; call it before any of them is trained.

    Args:
      exp: the experiment, of which the shapes of teacher and student are checked.
      rows: their names; the shapes of other systems are checked, too.

    Raises:
      UsageError: no test pair has words on both sides, all training pairs are too long, the text
        cannot be scored, or parts of a model do not fit together.
      OSError: the experiment's folder cannot be written to.
    """
    if not any(source.strip() and target.strip() for source, target in exp.corpus.test):
        raise UsageError(f"{exp.corpus}: none of the test pairs has words on both sides.")
    scorer = scorer_of(exp.corpus, exp.plan.tokenize)
    for training in (exp.plan.teacher_training, exp.plan.student_training):
        exp.corpus.require_shorter(training.max_tokens)
    systems = [SHAPES[name].size(exp.plan) for name in rows if name in SHAPES]
    for size in (exp.plan.teacher_size, exp.plan.student_size, *systems):
        require_fitting(exp, size)
    make_folder(exp.folder)
    return replace(scorer, lowercase=exp.vocabularies[1].lower)


def about_experiment(exp: Experiment) -> dict[str, Any]:
    """Returns what rows were made with: corpus and plan. Their evaluations say what made them."""
    plan = asdict(exp.plan)
    return {"corpus": str(exp.corpus), "plan": plan, "plan_digest": digest_of(plan)}


# What messages call that which an evaluation depends on.
STAMP = {
    "model": "the model",
    "test": "the test set",
    "beams": "the beam sizes",
    "bleu": "how BLEU is measured",
    "max_source": "the longest source",
}


def evaluated(exp: Experiment, name: str, trained: TrainedModel) -> Evaluation:
    """Evaluates a stage on the test set once; a later call reads the evaluation from its folder.

    The outputs are kept there as text files.

    Raises:
      UsageError: the file of the evaluation is damaged or was edited.
    """
    plan, path = exp.plan, exp.folder / name / "evaluation.json"
    scorer = scorer_of(exp.corpus, plan.tokenize, trained.tgt_vocab.lower)
    stamp = {
        "model": trained.digest,
        "test": pairs_digest(exp.corpus.test),
        "beams": list(plan.beams),
        "bleu": scorer.bleu_signature,
        "max_source": plan.max_source,
    }
    if path.exists():
        kept = read_record(path, EVALUATION)
        try:
            if kept["of"] == stamp:
                return read_evaluation(kept["evaluation"])
            changed = [STAMP[name] for name in stamp if kept["of"].get(name) != stamp[name]]
        except (LookupError, TypeError, AttributeError, ValueError) as error:
            raise unreadable(path, error) from None
        if is_first():
            console.warn(
                f"{path.parent}: evaluated again, and the outputs kept there are replaced; what "
                f"has changed since: {', '.join(changed)}."
            )
    evaluation = evaluate(
        trained,
        exp.corpus.test,
        beams=plan.beams,
        search=replace(GREEDY, max_source=plan.max_source),
        scorer=scorer,
        progress=f"{name}, evaluation" if is_first() else None,
    )
    made = {**evaluation.made, "trained_by": training_began(exp.folder / name).get("library")}
    if had_teacher(trained.history):
        began = training_began(exp.teaching.folder / "teacher")
        made["taught_by"] = began.get("library")
    evaluation = replace(evaluation, made=made)
    if is_first():
        for old in (exp.folder / name).glob("test.beam*.txt"):
            old.unlink()
        for beam, decoding in evaluation.decodings.items():
            lines = "".join(line + "\n" for line in decoding.outputs or ())
            atomic_write(exp.folder / name / f"test.beam{beam}.txt", lines.encode())
        record = {"of": stamp, "evaluation": evaluation_record(evaluation, outputs=True)}
        write_record(path, EVALUATION, record)
    return evaluation


def grammar_truth(pairs: Pairs) -> Truth:
    """Computes what the grammar itself scores on sentence pairs that it generated."""
    modes, nats, tokens, mass = [], 0.0, 0, 0.0
    for source, target in pairs:
        targets = grammar.targets(source)
        modes.append(grammar.mode(source))
        nats -= math.log(targets[target])
        tokens += len(target.split()) + 1
        mass += targets[modes[-1]]
    references = [target for _, target in pairs]
    return Truth(
        bleu=Scorer("none").bleu(modes, references),
        perplexity=math.exp(nats / tokens),
        mode_mass=mass / len(pairs),
    )
