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
from ..errors import UsageError
from ..model_folder import training_began, validations
from ..plans import with_settings, write_plan
from ..report.trials import Trial, write_trials
from ..sealed import digest_of
from ..settings import Plan
from ..train.loop import TrainingDiverged
from .experiment import Experiment
from .rows import ROWS
from .stages import USELESS


def tune(
    exp: Experiment,
    row: str,
    choices: Mapping[str, Sequence[Any]],
    *,
    seeds: Sequence[int] = (1, 2),
) -> tuple[Plan, list[Trial]]:
    """Chooses settings of one row of a table on the validation set.

    Trials are stages of the experiment, in ``trial-DIGEST``; what has been tried is not tried
    again. Students of all trials learn from one teacher, unless the row is a teacher's.

    Args:
      exp: the experiment, whose plan is started from.
      row: name of the row, of ``ROWS``.
      choices: for each setting (``student.hidden``, ``student_training.rate``) the values to try;
        settings are chosen in this order.
      seeds: that each trial is trained with.

    Returns:
      The plan with the best settings, and all trials in their order. ``tuning.json`` and
      ``plan.json`` are written into the experiment's folder.

    Raises:
      UsageError: there is no such row or setting, or a value is out of range.
    """
    if row not in ROWS:
        raise UsageError(f"There is no row {row!r}; the rows are: {', '.join(ROWS)}.")
    for name, values in choices.items():
        for value in values:
            with_settings(exp.plan, {name: value})  # refuses before anything is trained
    trials: list[Trial] = []
    best: Trial | None = None
    for name, values in choices.items():
        for value in values:
            settings = {**(best.settings if best else {}), name: value}
            known = next((t for t in trials if t.settings == settings), None)
            trial = known or _tried(exp, row, settings, seeds)
            if known is None:
                trials.append(trial)
                _keep(exp, row, seeds, trials)
                console.note(f"{exp.folder}: {_shown(trial)}", "trial", **asdict(trial))
        best = max(trials, key=lambda trial: trial.rank)
    assert best is not None
    plan = with_settings(exp.plan, best.settings)
    write_plan(exp.folder / "plan.json", plan)
    return plan, trials


def _tried(exp: Experiment, row: str, settings: dict[str, Any], seeds: Sequence[int]) -> Trial:
    plan = with_settings(exp.plan, settings)
    folder = exp.folder / f"trial-{digest_of({'plan': asdict(plan)})[:10]}"
    base = None if row.startswith("teacher") else exp
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


def _keep(exp: Experiment, row: str, seeds: Sequence[int], trials: Sequence[Trial]) -> None:
    about = {"corpus": str(exp.corpus), "row": row, "seeds": list(seeds)}
    write_trials(exp.folder / "tuning.json", about | {"plan": asdict(exp.plan)}, trials)


def _shown(trial: Trial) -> str:
    settings = ", ".join(f"{name} {value}" for name, value in trial.settings.items())
    return f"{settings}: validation BLEU {trial.rank[0]:.2f}, perplexity {-trial.rank[1]:.2f}"
