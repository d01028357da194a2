"""Settings of a row, chosen on the validation set over several seeds. Floor 8.

    rates = {"student_training.rate": [1e-3, 3e-3]}
    plan, trials = recipes.tune(exp, "seq-kd", rates, seeds=(1, 2))

The test set is not read. One setting is tried after the other, with the best values of those before
it; everything that was tried is kept, with every seed. A training that diverges scores 0.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from typing import Any

from .. import console
from ..errors import UsageError, quoted
from ..model_folder import training_began, validations
from ..plans import with_settings, write_plan
from ..report.trials import Trial, read_trials, write_trials
from ..sealed import differences, digest_of
from ..settings import Plan, Size
from ..train.loop import TrainingDiverged
from .experiment import SHARED, VOCABULARY, Experiment
from .rows import NEEDS_TEACHER, ROWS
from .stages import USELESS
from .systems import SHAPES

TUNING = "tuning.json"
# Settings of rows with a part in their names.
OF_PARTS = {
    "word-kd": ("kd_weight",),
    "filtered": ("filters",),
    "on-policy": ("on_policy", "fine_tuning"),
    "seq-inter": ("fine_tuning", "inter_beam", "similarity"),
}


def tune(
    exp: Experiment,
    row: str,
    choices: Mapping[str, Sequence[Any]],
    *,
    seeds: Sequence[int] = (1, 2),
) -> tuple[Plan, list[Trial]]:
    """Chooses settings of one row of a table on the validation set.

    Trials are stages of the experiment, in ``trial-DIGEST``; what has been tried is not tried
    again, and counts when the best settings are chosen. Students of all trials learn from one
    teacher and its lists.

    Args:
      exp: the experiment, whose plan is started from.
      row: name of the row, of ``ROWS``.
      choices: for each setting, such as ``student_size.hidden``, the values to try; settings are
        chosen in this order.
      seeds: that each trial is trained with.

    Returns:
      The plan with the best settings, and all trials in their order. ``tuning.json`` and
      ``plan.json`` are written into the experiment's folder.

    Raises:
      UsageError: there is no such row or setting, a setting is not one of the row's own, a value
        is out of range, or the folder holds trials of another row, plan or other seeds.
    """
    if row not in ROWS:
        raise UsageError(f"There is no row {row!r}; the rows are: {', '.join(ROWS)}.")
    for name, values in choices.items():
        _require_of_row(row, name)
        for value in values:
            with_settings(exp.plan, {name: value})  # refuses before anything is trained
    about = {"corpus": str(exp.corpus), "row": row, "seeds": list(seeds), "plan": asdict(exp.plan)}
    trials = _kept(exp, about)
    best: Trial | None = None
    for name, values in choices.items():
        for value in values:
            settings = {**(best.settings if best else {}), name: value}
            known = next((t for t in trials if t.settings == settings), None)
            if known is None:
                trials.append(_tried(exp, row, settings, seeds))
                write_trials(exp.folder / TUNING, about, trials)
                trial = trials[-1]
                console.note(f"{exp.folder}: {_shown(trial)}", "trial", **asdict(trial))
        best = max(trials, key=lambda trial: trial.rank)
    assert best is not None
    plan = with_settings(exp.plan, best.settings)
    write_plan(exp.folder / "plan.json", plan)
    return plan, trials


def _tried(exp: Experiment, row: str, settings: dict[str, Any], seeds: Sequence[int]) -> Trial:
    plan = with_settings(exp.plan, settings)
    folder = exp.folder / f"trial-{digest_of({'plan': asdict(plan)})[:10]}"
    same = all(getattr(plan, name) == getattr(exp.plan, name) for name in SHARED)
    base = exp if same and not row.startswith("teacher") else None
    trial = replace(exp, folder=folder, plan=plan, base=base)
    scores, perplexities, made = [], [], []
    for seed in seeds:
        one = replace(trial.with_seed(seed), base=base)
        try:
            ROWS[row](one)
            curve = validations(one.folder / row)
        except TrainingDiverged as error:
            console.warn(str(error))
            curve = ()
        made.append(training_began(one.folder / row))
        scores.append(max((metrics["score"] or 0.0 for metrics in curve), default=0.0))
        found = (metrics["perplexity"] or USELESS for metrics in curve)
        perplexities.append(min(found, default=USELESS))
    return Trial(settings, tuple(scores), tuple(perplexities), tuple(made))


def _stands_alone(row: str) -> bool:
    """Returns whether a row shares nothing: it is a teacher's, or learns from no teacher."""
    return row.startswith("teacher") or row not in NEEDS_TEACHER


def _require_of_row(row: str, setting: str) -> None:
    """Refuses settings that change nothing of a row, or nothing but how it is measured."""
    name = setting.replace("-", "_")
    parts = ["student_size", "student_training"]
    if row.startswith("teacher") or row in SHAPES and _like_teacher(row):
        parts = ["teacher_size", "teacher_training"]
    for part, own in OF_PARTS.items():
        parts += own if part in row else ()
    if _stands_alone(row):
        parts += VOCABULARY
    else:
        parts = [part for part in parts if part not in SHARED]
    if name.partition(".")[0] not in parts:
        raise UsageError(
            f"{setting} cannot be tuned for {row}: it changes nothing of this row, or only how it "
            "is measured, or it belongs to the teacher that all trials share. Its settings are "
            f"those of {', '.join(parts)}."
        )


def _like_teacher(system: str) -> bool:
    """Returns whether another system has the shape of the plan's teacher, not of its student."""
    size = SHAPES[system].size
    return size(Plan(student_size=Size(hidden=7))) == size(Plan())


def _kept(exp: Experiment, about: dict[str, Any]) -> list[Trial]:
    """Returns the trials of the folder; refuses those of another row, or with another plan."""
    path = exp.folder / TUNING
    if not path.exists():
        return []
    before, trials = read_trials(path)
    if changes := differences(before, about):
        name, old, new = changes[0]
        raise UsageError(
            f"{path}: holds other trials: {name} was {quoted(old)} there and is {quoted(new)} "
            "now. Choose another folder."
        )
    return trials


def _shown(trial: Trial) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in trial.settings.items())
    return f"{settings}: validation BLEU {trial.rank[0]:.2f}, perplexity {-trial.rank[1]:.2f}"
