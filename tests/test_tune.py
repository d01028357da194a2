"""Settings chosen on the validation set, and plans as files."""

import dataclasses
import json

import pytest
import small_lab

from seqkd_jax import recipes
from seqkd_jax.__main__ import main
from seqkd_jax.errors import UsageError
from seqkd_jax.model_folder import load_model, validations
from seqkd_jax.parsing import parse
from seqkd_jax.plans import read_plan, with_settings, write_plan
from seqkd_jax.report.documents import fill_tables
from seqkd_jax.report.trials import read_trials, trials_table
from seqkd_jax.settings import PLANS, Plan

RATES = {"student_training.rate": [0.2, 0.001], "student_size.hidden": [4, 6]}


@pytest.fixture(scope="module")
def tuned(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tuned")
    # Nobody may look at the test set: there is none.
    corpus = dataclasses.replace(small_lab.CORPUS, test=[])
    exp = recipes.experiment(corpus, folder, small_lab.PLAN)
    return exp, *recipes.tune(exp, "baseline", RATES, seeds=(1, 2))


@pytest.mark.slow
def test_settings_are_chosen_one_after_the_other_by_the_mean_over_seeds(tuned):
    exp, plan, trials = tuned
    first = [{"student_training.rate": rate} for rate in RATES["student_training.rate"]]
    assert [trial.settings for trial in trials[:2]] == first
    best = max(trials[:2], key=lambda trial: trial.rank).settings
    assert [trial.settings for trial in trials[2:]] == [
        best | {"student_size.hidden": hidden} for hidden in (4, 6)
    ]
    winner = max(trials, key=lambda trial: trial.rank)
    assert plan == with_settings(exp.plan, winner.settings)
    assert all(len(trial.scores) == 2 for trial in trials)


@pytest.mark.slow
def test_all_trials_are_kept_with_what_their_folders_say(tuned):
    exp, plan, trials = tuned
    about, kept = read_trials(exp.folder / "tuning.json")
    assert kept == trials and about["seeds"] == [1, 2] and about["row"] == "baseline"
    assert read_plan(exp.folder / "plan.json") == plan
    folders = sorted(exp.folder.glob("trial-*"))
    # The first value of the second setting is what the plan has: the trial is not run twice.
    assert len(folders) == 3
    scores = {
        max(v["score"] for v in validations(folder / part / "baseline"))
        for folder in folders
        for part in (".", "seed-2")
    }
    assert scores == {score for trial in trials for score in trial.scores}
    assert trials_table(trials).count("*") == 1
    text = fill_tables("<!-- trials: tuning.json -->\nold\n<!-- end -->\n", exp.folder)
    assert trials_table(trials) in text and "made by seqkd_jax" in text and "old" not in text


@pytest.mark.slow
def test_students_of_all_trials_learn_from_one_teacher(tmp_path):
    exp = recipes.experiment(small_lab.CORPUS, tmp_path, small_lab.PLAN)
    recipes.tune(exp, "seq-kd", {"student_training.rate": [0.1, 0.01]}, seeds=(1,))
    assert [str(p.relative_to(tmp_path)) for p in tmp_path.rglob("teacher")] == ["teacher"]
    assert len(list(tmp_path.glob("trial-*/seq-kd"))) == 2


@pytest.mark.parametrize(
    "row, choices, message",
    [
        ("seqkd", {"kd_weight": [0.5]}, "no row 'seqkd'"),
        ("baseline", {"student_size.depth": [1]}, "no setting 'student_size.depth'"),
        ("word-kd", {"kd_weight.x": [1]}, "no setting 'kd_weight.x'"),
        ("word-kd", {"kd_weight": [0.5, 2]}, "kd_weight is 2"),
        ("baseline", {"kd_weight": [0.5]}, "kd_weight cannot be tuned for baseline"),
        ("baseline", {"inter-beam": [2]}, "inter-beam cannot be tuned"),
        ("baseline", {"tokenize": ["13a", "char"]}, "tokenize cannot be tuned.* how it is meas"),
        ("baseline", {"teacher_size.hidden": [2]}, "hidden cannot be tuned for baseline"),
        ("seq-kd", {"kd-beam": [2, 3]}, "kd-beam cannot be tuned.*teacher that all trials share"),
        ("seq-kd", {"vocabulary-size": [10, 12]}, "vocabulary-size cannot be tuned for seq-kd"),
        ("seq-kd", {"teacher_size.hidden": [8]}, "hidden cannot be tuned for seq-kd"),
        ("teacher", {"student_size.hidden": [8]}, "hidden cannot be tuned for teacher"),
        ("luong-dot", {"student_size.hidden": [8]}, "hidden cannot be tuned for luong-dot"),
        ("deep-att", {"teacher_size.hidden": [8]}, "hidden cannot be tuned for deep-att"),
    ],
)
def test_wrong_choices_are_refused_before_anything_is_trained(tmp_path, row, choices, message):
    exp = recipes.experiment(small_lab.CORPUS, tmp_path / "new", small_lab.PLAN)
    with pytest.raises(UsageError, match=message):
        recipes.tune(exp, row, choices)
    assert not (tmp_path / "new").exists()


@pytest.mark.slow
def test_trials_are_added_to_those_of_before_and_to_no_others(tuned):
    exp, plan, trials = tuned
    more = {"student_training.rate": [0.001, 0.05]}
    again, all_trials = recipes.tune(exp, "baseline", more, seeds=(1, 2))
    assert all_trials[: len(trials)] == trials and len(all_trials) == len(trials) + 1
    best = max(all_trials, key=lambda trial: trial.rank)
    assert again == with_settings(exp.plan, best.settings) == read_plan(exp.folder / "plan.json")
    before = (exp.folder / "tuning.json").read_bytes()
    with pytest.raises(UsageError, match="seeds was .* there and is .* now"):
        recipes.tune(exp, "baseline", more, seeds=(1,))
    with pytest.raises(UsageError, match="row was 'baseline' there and is 'teacher' now"):
        recipes.tune(exp, "teacher", {"teacher_training.rate": [0.1]}, seeds=(1, 2))
    assert (exp.folder / "tuning.json").read_bytes() == before


@pytest.mark.slow
def test_vocabularies_are_tuned_where_nothing_is_shared(tmp_path):
    exp = recipes.experiment(small_lab.CORPUS, tmp_path, small_lab.PLAN)
    _, trials = recipes.tune(exp, "baseline", {"vocabulary_size": [9, 12]}, seeds=(1,))
    sizes = {load_model(path.parent).src_vocab.size for path in tmp_path.glob("*/*/config.json")}
    assert len(trials) == 2 and len(sizes) == 2


@pytest.mark.parametrize("change", [{"kd_beam": 7}, {"lower": True}, {"teachers": 2}])
def test_an_experiment_shares_only_what_has_the_same_settings(tmp_path, change):
    exp = recipes.experiment(small_lab.CORPUS, tmp_path, small_lab.PLAN)
    other = dataclasses.replace(small_lab.PLAN, **change)
    with pytest.raises(UsageError, match=f"{next(iter(change))} is .*are to be shared"):
        recipes.Experiment(tmp_path / "other", small_lab.CORPUS, other, base=exp)
    same = dataclasses.replace(small_lab.CORPUS, train=list(small_lab.CORPUS.train))
    recipes.Experiment(tmp_path / "same", same, small_lab.PLAN, base=exp)
    fewer = dataclasses.replace(small_lab.CORPUS, train=small_lab.CORPUS.train[:9])
    with pytest.raises(UsageError, match="those of the same corpus"):
        recipes.Experiment(tmp_path / "other", fewer, small_lab.PLAN, base=exp)


@pytest.mark.parametrize("plan", [Plan(), *PLANS.values(), small_lab.PLAN])
def test_a_plan_is_read_as_it_was_written(tmp_path, plan):
    write_plan(tmp_path / "plan.json", plan)
    assert read_plan(tmp_path / "plan.json") == plan


def test_run_starts_from_a_file_of_settings(tmp_path):
    plan = with_settings(PLANS["grammar"], {"student-training.rate": 0.123, "beams": (1, 2)})
    write_plan(tmp_path / "plan.json", plan)
    files = ["--settings", str(tmp_path / "plan.json"), "--out", str(tmp_path / "run")]
    command = parse(["run", "--data", "grammar", *files, "--student-size.hidden", "7"])
    assert command.plan == with_settings(plan, {"student_size.hidden": 7})
    record = json.loads((tmp_path / "plan.json").read_text())
    record["plan"]["kd_beam"] = 9
    (tmp_path / "plan.json").write_text(json.dumps(record))
    with pytest.raises(UsageError, match=r"plan\.json: damaged or edited"):
        parse(["run", "--data", "grammar", *files])


@pytest.mark.parametrize("text", ["kd-weight", "=1,2", "kd-weight="])
def test_choices_that_cannot_be_read_are_refused(tmp_path, capsys, text):
    out = str(tmp_path / "tuned")
    assert main(["tune", "--data", "grammar", "--out", out, "--choices", text]) == 2
    assert "write setting=value,value" in capsys.readouterr().err


def test_the_command_reads_numbers_and_words():
    from seqkd_jax.commands.options import choice_of

    read = choice_of("student-training.optimizer=adam,sgd")
    assert read == ("student_training.optimizer", ["adam", "sgd"])
    assert choice_of("student_size.layers=1,2")[1] == [1, 2]
    assert choice_of("patience=null,3")[1] == [None, 3]


@pytest.mark.parametrize(
    "options, message",
    [
        (["--bits", "3"], "--bits has no effect here; it is for table3"),
        (["--kd-weight", "0.3"], "--kd-weight has no effect when no row has word-kd"),
        (["--seeds", "1", "1"], "give each seed once"),
    ],
)
def test_options_that_tuning_a_row_does_not_use_are_refused(tmp_path, capsys, options, message):
    assert main(["tune", "--data", "grammar", "--out", str(tmp_path / "tuned"), *options]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "tuned").exists()
