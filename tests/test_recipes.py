import dataclasses
import json
import os
import random
import shutil
import subprocess
import sys
import time

import numpy as np
import optax
import pytest
from small_lab import CORPUS, ONE_EPOCH, PLAN, pairs

import seqkd_jax as skd
from seqkd_jax import provenance, recipes
from seqkd_jax.data import grammar
from seqkd_jax.data.lines import lines_digest
from seqkd_jax.decode.nbest import read_nbest
from seqkd_jax.distill import select
from seqkd_jax.errors import UsageError
from seqkd_jax.model_folder import load_model
from seqkd_jax.report import read_results, table
from seqkd_jax.report.documents import fill_tables
from seqkd_jax.scoring import Scorer
from seqkd_jax.settings import Size


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """An experiment in which every row of the table has been run."""
    lab = recipes.experiment(CORPUS, tmp_path_factory.mktemp("lab"), PLAN)
    recipes.run(lab, anyway=True)
    return lab


def test_every_row_of_the_paper_is_in_the_table(finished):
    results = read_results(finished.folder / "results.json")
    assert [row.name for row in results.rows] == list(recipes.TABLE1)
    assert len(recipes.TABLE1) == 10
    text = (finished.folder / "table.txt").read_text()
    assert text == table(results.rows) + "\n"
    assert all(name in text for name in recipes.TABLE1)


def test_differences_are_to_the_rows_own_baseline(finished):
    rows = {row.name: row for row in read_results(finished.folder / "results.json").rows}
    for name, row in rows.items():
        reference = rows["teacher" if name.startswith("teacher") else "baseline"]
        assert bool(row.differences) == (row is not reference)
        for beam, difference in row.differences.items():
            mine, theirs = row.evaluation.decodings[beam], reference.evaluation.decodings[beam]
            np.testing.assert_allclose(difference.bleu, mine.bleu - theirs.bleu, atol=1e-9)
            assert 0 <= difference.p_value <= 1


def test_scores_are_those_of_the_outputs_on_disk(finished):
    references, bleu = [target for _, target in CORPUS.test], Scorer("13a").bleu
    for row in read_results(finished.folder / "results.json").rows:
        for beam, decoding in row.evaluation.decodings.items():
            outputs = (finished.folder / row.name / f"test.beam{beam}.txt").read_text()
            assert decoding.bleu == bleu(outputs.split("\n")[:-1], references)


def test_each_row_trains_on_what_the_paper_says(finished):
    """The data, the loss and the starting point of each row, from what its folder records."""

    def made_by(name):
        return json.loads((finished.folder / name / "config.json").read_bytes())["made_by"]

    digest = {name: load_model(finished.folder / name).digest for name in recipes.TABLE1}
    data = lines_digest([side for pair in CORPUS.train for side in pair])
    distilled, closest = made_by("seq-kd")["pairs"], made_by("seq-kd+seq-inter")["pairs"]
    assert len({data, distilled, closest}) == 3
    for name, of, weight, start in [
        ("teacher", data, 0, None),
        ("teacher+seq-inter", closest, 0, "teacher"),
        ("baseline", data, 0, None),
        ("word-kd", data, 0.5, None),
        ("seq-kd", distilled, 0, None),
        ("baseline+seq-inter", closest, 0, "baseline"),
        ("word-kd+seq-inter", closest, 0, "word-kd"),
        ("seq-kd+seq-inter", closest, 0, "seq-kd"),
        ("seq-kd+word-kd", distilled, 0.5, None),
        ("seq-kd+seq-inter+word-kd", closest, 0.5, "seq-kd"),
    ]:
        row = made_by(name)
        assert (row["pairs"], row.get("kd_weight", 0)) == (of, weight), name
        assert row["start"] == (start and digest[start]), name
        taught = weight or of != data
        assert row.get("teacher_digest") == (digest["teacher"] if taught else None), name


def test_the_on_policy_row_goes_on_from_the_baseline_with_the_teacher_alone(finished):
    trained = recipes.ROWS["on-policy"](finished)
    made_by = json.loads((finished.folder / "on-policy" / "config.json").read_bytes())["made_by"]
    digest = {name: load_model(finished.folder / name).digest for name in ("teacher", "baseline")}
    assert (made_by["start"], made_by["teacher_digest"]) == (digest["baseline"], digest["teacher"])
    assert (made_by["kd_weight"], made_by["on_policy"]) == (1, {"share": 1, "temperature": 1})
    assert trained.digest not in digest.values()


def test_a_stage_trains_on_weighted_pairs_and_records_them(finished):
    lists = recipes.nbest(finished, "nbest-2", recipes.teacher(finished), 2)
    chosen = select.weighted_seq_kd(CORPUS.train, lists)
    arguments = (
        finished,
        "weighted",
        recipes.new(finished, PLAN.student_size),
        chosen.pairs,
        ONE_EPOCH,
    )
    objective = recipes.Objective(pair_weights=chosen.weights)
    recipes.train(*arguments, objective=objective)
    with pytest.raises(ValueError, match="weights differs"):
        recipes.train(*arguments)


def test_trainings_that_differ_in_data_and_numbers_share_a_step(finished, tmp_path, monkeypatch):
    """Each step that is given to ``pmap_step`` is traced, and compiled for each shape."""
    from seqkd_jax.train import loop

    new, teacher = recipes.new(finished, PLAN.student_size), recipes.teacher(finished)
    given, pmap_step = [], loop.pmap_step
    monkeypatch.setattr(loop, "pmap_step", lambda step: given.append(step) or pmap_step(step))
    lab = dataclasses.replace(finished, folder=tmp_path)
    settings = dataclasses.replace(ONE_EPOCH, rate=0.2, clip=1.0)
    for number, (text, training, objective) in enumerate(
        [
            (CORPUS.train, ONE_EPOCH, recipes.Objective()),
            (CORPUS.train[:40], settings, recipes.Objective()),
            (CORPUS.train, ONE_EPOCH, recipes.word_kd_from(teacher, 0.5)),
            (CORPUS.train[:40], settings, recipes.word_kd_from(teacher, 0.5)),
            (CORPUS.train, ONE_EPOCH, recipes.word_kd_from(teacher, 0.25)),
        ]
    ):
        recipes.train(lab, f"stage{number}", new, text, training, objective=objective)
    assert given[0] == given[1] != given[2] == given[3] != given[4]


def test_an_optimiser_may_be_wrapped_in_any_of_optax(finished, tmp_path):
    """Also in one that does not know of epochs and perplexities."""
    lab, new = (
        dataclasses.replace(finished, folder=tmp_path),
        load_model(finished.folder / "word-kd"),
    )
    trainable = recipes.Trainable(new.model, new.params, wrap_tx=lambda tx: optax.scale(-0.1))
    trained = recipes.train(lab, "plain", new, CORPUS.train, ONE_EPOCH, trainable=trainable)
    assert trained.digest != new.digest


def test_distilled_lines_can_be_traced_to_the_teacher(finished):
    header, lists = read_nbest(finished.folder / "nbest-2")
    teacher = load_model(finished.folder / "teacher")
    assert header["teacher_digest"] == teacher.digest and header["search"]["beam_size"] == 2
    for (source, target), (given, _), n in zip(
        recipes.seq_kd_pairs(finished), CORPUS.train, lists, strict=True
    ):
        assert source == given and target in (*n.texts, CORPUS.train[n.index][1])


def test_how_often_seq_inter_chose_otherwise_is_in_the_results(finished):
    lists = read_nbest(finished.folder / "nbest-3")[1]
    best, closest = (way(CORPUS.train, lists) for way in (select.seq_kd, select.seq_inter))
    differ = sum(a != b for a, b in zip(best.pairs, closest.pairs, strict=True))
    about = read_results(finished.folder / "results.json").about["seq_inter"]
    assert about == {"similarity": "bleu", "differs": differ / 48, "sentences": 48}
    assert differ and recipes.seq_inter_pairs(finished) == closest.pairs


def test_a_row_refuses_another_beam_before_it_decodes(finished, tmp_path):
    shutil.copytree(finished.folder, tmp_path / "copy")
    plan = dataclasses.replace(PLAN, kd_beam=4)
    wider = recipes.experiment(CORPUS, tmp_path / "copy", plan)
    with pytest.raises(ValueError, match="kd_beam was 2 there and is 4 now"):
        recipes.seq_kd(wider)
    assert not (tmp_path / "copy" / "nbest-4").exists()


@pytest.fixture
def later(monkeypatch):
    """Another version of the library, on another day."""
    version = {"version": "9.9", "commit": "c0ffee", "jax": "9.9.9"}
    monkeypatch.setattr("seqkd_jax.provenance.library", lambda: version)
    monkeypatch.setattr("time.strftime", lambda *_: "2099-01-01")


def test_a_finished_lab_is_not_worked_on_again(finished, monkeypatch, later):
    def never(*_, **__):
        raise AssertionError("a stage that was done is done again")

    before = (finished.folder / "results.json").read_bytes()
    monkeypatch.setattr("seqkd_jax.train.loop.pmap_step", lambda _: never)
    monkeypatch.setattr("seqkd_jax.decode.translation.translate_texts", never)
    monkeypatch.setattr("seqkd_jax.recipes.rows.evaluate", never)
    rows = recipes.run(recipes.experiment(CORPUS, finished.folder, PLAN), anyway=True)
    assert (finished.folder / "results.json").read_bytes() == before
    made = provenance.origin_lines(e.made for row in rows for e in row.evaluations)
    shown = " ".join((finished.folder / "table.txt").read_text().split())
    assert [line in shown for line in made] == [True]


def test_a_run_reads_its_teacher_once(finished, tmp_path, monkeypatch):
    folder, trained = tmp_path / "copy", []
    shutil.copytree(finished.folder, folder)

    def counted(exp, name, *rest, **settings):
        trained.append(name)
        return recipes.train(exp, name, *rest, **settings)

    monkeypatch.setattr("seqkd_jax.recipes.table1.train", counted)
    lab = recipes.experiment(CORPUS, folder, PLAN)
    recipes.run(lab, ["word-kd", "seq-kd", "seq-kd+word-kd"], anyway=True)
    assert trained.count("teacher") == 1


def test_a_model_of_one_version_that_another_evaluates_says_so(finished, tmp_path, later):
    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder)
    (folder / "baseline" / "evaluation.json").unlink()
    recipes.run(recipes.experiment(CORPUS, folder, PLAN), ["baseline"], anyway=True)
    shown = " ".join((folder / "table.txt").read_text().split())
    assert "made by seqkd_jax 9.9 (c0ffee), jax 9.9.9" in shown and "2099-01-01" in shown
    assert f"of a model whose training seqkd_jax {skd.__version__}" in shown


def test_a_student_of_another_versions_teacher_says_so(finished, tmp_path, later):
    folder = tmp_path / "copy"
    folder.mkdir()
    for part in "teacher", "vocabulary", "nbest-2":
        shutil.copytree(finished.folder / part, folder / part)
    recipes.run(recipes.experiment(CORPUS, folder, PLAN), ["seq-kd"], anyway=True)
    shown = " ".join((folder / "table.txt").read_text().split())
    assert f"of a student of a teacher whose training seqkd_jax {skd.__version__}" in shown


def test_an_evaluation_that_is_replaced_is_said(finished, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder)
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    other = dataclasses.replace(CORPUS, test=CORPUS.test[:2])
    with pytest.raises(UsageError, match="kd_beam was 2 there and is 3 now"):
        plan = dataclasses.replace(PLAN, kd_beam=3)
        recipes.run(recipes.experiment(other, folder, plan), ["baseline", "seq-kd"], anyway=True)
    assert {path: path.read_bytes() for path in before} == before
    recipes.run(recipes.experiment(other, folder, PLAN), ["baseline"])
    said = capsys.readouterr().err
    assert f"{folder / 'baseline'}: evaluated again" in said and "since: the test set." in said


def test_rows_are_a_list(tmp_path):
    with pytest.raises(UsageError, match="give \\[text\\]"):
        recipes.run(recipes.experiment(CORPUS, tmp_path, PLAN), "teacher")


def test_what_a_new_table_does_not_have_is_said(finished, tmp_path, capsys):
    folder = tmp_path / "copy"
    shutil.copytree(finished.folder, folder)
    (folder / "baseline" / "test.beam9.txt").write_text("of another test set\n")
    (folder / "baseline" / "evaluation.json").unlink()
    recipes.run(recipes.experiment(CORPUS, folder, PLAN), ["baseline", "word-kd"], anyway=True)
    said = capsys.readouterr().err
    assert "the table before also had teacher, teacher+seq-inter" in said and "seq-kd" in said
    assert not (folder / "baseline" / "test.beam9.txt").exists()
    (folder / "results.json").write_text("damaged")
    recipes.run(recipes.experiment(CORPUS, folder, PLAN), ["baseline", "word-kd"], anyway=True)
    assert [row.name for row in read_results(folder / "results.json").rows] == [
        "baseline",
        "word-kd",
    ]


@pytest.mark.parametrize(
    "change, named",
    [
        ({"plan": dataclasses.replace(PLAN, seed=2)}, "another run: seed was 1 there and is 2"),
        (
            {"corpus": dataclasses.replace(CORPUS, train=pairs(3, 48))},
            "holds another run: the text differs",
        ),
        (
            {"plan": dataclasses.replace(PLAN, teacher_size=Size(embed=8, hidden=9, dropout=0.0))},
            "another run: hidden was 8 there and is 9",
        ),
    ],
    ids=["seed", "corpus", "size"],
)
def test_a_lab_with_other_settings_is_refused(finished, change, named):
    lab = dataclasses.replace(finished, **change)
    with pytest.raises(ValueError, match=named):
        recipes.teacher(lab)


def test_an_unknown_row_is_answered_with_the_known_ones(finished):
    with pytest.raises(ValueError, match=r"no row 'seqkd'; the rows are: teacher, teacher\+seq-in"):
        recipes.run(finished, ["seqkd"])


def test_the_grammars_own_values_are_the_exact_ones():
    test = grammar.sample_pairs(seed=5, n=30)
    truth = recipes.grammar_truth(test)
    modes = [grammar.mode(source) for source, _ in test]
    masses = [np.exp(grammar.log_prob(s, m)) for (s, _), m in zip(test, modes, strict=True)]
    nats = -sum(grammar.log_prob(source, target) for source, target in test)
    tokens = sum(len(target.split()) + 1 for _, target in test)
    assert truth.bleu == Scorer("none").bleu(modes, [target for _, target in test])
    np.testing.assert_allclose(truth.mode_mass, np.mean(masses))
    np.testing.assert_allclose(truth.perplexity, np.exp(nats / tokens))


def test_tables_in_a_text_are_those_of_the_files_it_names(finished):
    text = "before\n<!-- table: results.json -->\nold\n<!-- end -->\nafter\n"
    filled = fill_tables(text, finished.folder)
    results = read_results(finished.folder / "results.json")
    made = provenance.origin_lines(e.made for row in results.rows for e in row.evaluations)
    assert table(results.rows, notes=made) in filled and made and "old" not in filled
    assert filled.startswith("before\n") and filled.endswith("<!-- end -->\nafter\n")
    assert fill_tables(filled, finished.folder) == filled


def test_a_damaged_results_file_is_named(tmp_path):
    (tmp_path / "results.json").write_text('{"rows": [{}]}')
    with pytest.raises(ValueError, match=r"results\.json: not a file of this library"):
        read_results(tmp_path / "results.json")


SMALL_LAB = """
import os, sys
os.environ["JAX_PLATFORMS"] = "cpu"
import small_lab as t
from seqkd_jax import commands, recipes
commands.prepare()
exp = recipes.experiment(t.CORPUS, sys.argv[1], t.PLAN)
recipes.run(exp, ["word-kd", "seq-kd+seq-inter"], anyway=True)
"""


def lasting(folder):
    """Each file of a lab that may not depend on when it was stopped, by its name."""
    names = ["*/src.vocab.json", "*/config.json", "nbest-*/shard-*", "*/test.beam*.txt"]
    files = {p.relative_to(folder): p.read_bytes() for n in names for p in folder.glob(n)}
    models = {p.parent.name: load_model(p.parent).digest for p in folder.glob("*/config.json")}
    return files, models


@pytest.mark.slow
def test_a_lab_killed_again_and_again_ends_with_the_same_bits(tmp_path):
    rng = random.Random(0)
    command = [sys.executable, "-c", SMALL_LAB]
    place = {"cwd": os.path.dirname(__file__), "stderr": subprocess.DEVNULL}
    started = time.monotonic()
    subprocess.run([*command, f"{tmp_path}/whole"], check=True, **place)
    whole = time.monotonic() - started
    for _ in range(5):
        process = subprocess.Popen([*command, f"{tmp_path}/killed"], **place)
        time.sleep(rng.uniform(0.1, 0.6) * whole)
        process.kill()
        process.wait()
    subprocess.run([*command, f"{tmp_path}/killed"], check=True, **place)
    assert lasting(tmp_path / "killed") == lasting(tmp_path / "whole")
    tables = [read_results(tmp_path / n / "results.json").rows for n in ("killed", "whole")]
    bleu = [[(r.name, r.evaluation.decodings[1].bleu) for r in rows] for rows in tables]
    assert bleu[0] == bleu[1]
    assert [name for name, _ in bleu[0]] == ["baseline", "word-kd", "seq-kd+seq-inter"]
