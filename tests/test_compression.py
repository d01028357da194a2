"""Pruning and compression as stages of a lab and as commands, on a tiny model."""

import dataclasses
import json

import jax
import numpy as np
import pytest
from small_lab import CORPUS, PLAN, SHORT

from seqkd_jax import recipes
from seqkd_jax.__main__ import main
from seqkd_jax.card import model_card
from seqkd_jax.data import write_lines
from seqkd_jax.model_folder import load_model
from seqkd_jax.report.compressed import compressed_table, read_compressed_rows
from seqkd_jax.report.documents import fill_tables
from seqkd_jax.settings import Training

EPOCH = Training(epochs=1, tokens_per_batch=64)
pytestmark = pytest.mark.slow


def zeros(trained):
    return sum(int(np.sum(np.asarray(w) == 0)) for w in jax.tree.leaves(trained.params))


def count(trained):
    return sum(np.size(w) for w in jax.tree.leaves(trained.params))


@pytest.fixture(scope="module")
def lab(tmp_path_factory):
    plan = dataclasses.replace(PLAN, pruning=EPOCH, prune_ratios=(0.5, 0.9), bits=3)
    lab = recipes.experiment(CORPUS, tmp_path_factory.mktemp("lab"), plan)
    recipes.table3(lab)
    return lab


def test_table3_has_teacher_student_and_each_ratio(lab):
    rows = read_compressed_rows(lab.folder / "table3.json")
    assert [row.name for row in rows] == ["teacher", "seq-kd", "pruned-50", "pruned-90"]
    assert (lab.folder / "table3.txt").read_text() == compressed_table(rows) + "\n"
    whole = rows[1].evaluation.parameters
    for row in rows[2:]:
        trained = load_model(lab.folder / row.name)
        assert row.left == whole - zeros(trained) == whole - round(row.pruned * whole)
    assert rows[1].bytes > rows[2].bytes > rows[3].bytes
    for row in rows[1:]:
        file = lab.folder / f"{row.name}-3bit" / "params.seqkd"
        assert row.bytes == file.stat().st_size


def test_pruned_students_are_trained_on_the_teachers_translations(lab):
    def made_by(name):
        return json.loads((lab.folder / name / "config.json").read_bytes())["made_by"]

    assert made_by("pruned-50")["pairs"] == made_by("seq-kd")["pairs"]
    assert made_by("pruned-50")["mask"] != made_by("pruned-90")["mask"]
    half, tenth = (load_model(lab.folder / name).params for name in ("pruned-50", "pruned-90"))
    for a, b in zip(jax.tree.leaves(half), jax.tree.leaves(tenth), strict=True):
        assert not b[a == 0].any()
    moved = load_model(lab.folder / "pruned-50").params.generator.kernel
    before = load_model(lab.folder / "seq-kd").params.generator.kernel
    assert (moved[moved != 0] != before[moved != 0]).mean() > 0.5


def test_a_compressed_model_has_few_values_and_the_zeros_of_the_pruned_one(lab):
    pruned, read = (load_model(lab.folder / n) for n in ("pruned-90", "pruned-90-3bit"))
    for a, b in zip(jax.tree.leaves(pruned.params), jax.tree.leaves(read.params), strict=True):
        assert (b[a == 0] == 0).all() and len(np.unique(b)) <= 8
    assert not (lab.folder / "pruned-90-3bit" / "checkpoints").exists()
    taught, *rounds, written = read.history
    assert taught["kd_beam"] == lab.plan.kd_beam and written["bits"] == 3
    assert [record["training"]["epochs"] for record in rounds] == [1] * len(rounds) != []


def test_a_finished_table_is_not_worked_on_again(lab, monkeypatch):
    def never(*_, **__):
        raise AssertionError("a stage that was done is done again")

    before = (lab.folder / "table3.json").read_bytes()
    monkeypatch.setattr("seqkd_jax.train.loop.pmap_step", lambda _: never)
    monkeypatch.setattr("seqkd_jax.recipes.rows.evaluate", never)
    recipes.table3(lab)
    assert (lab.folder / "table3.json").read_bytes() == before


def test_the_table_in_a_text_is_that_of_its_file(lab):
    text = "before\n<!-- table3: table3.json -->\nold\n<!-- end -->\nafter\n"
    filled = fill_tables(text, lab.folder)
    printed = (lab.folder / "table3.txt").read_text().splitlines()
    assert set(printed) <= set(filled.splitlines()) and "\nold\n" not in filled
    assert "\nmade by seqkd_jax " in filled  # by this version, which a document has to say
    (lab.folder / "damaged.json").write_text("{}")
    with pytest.raises(ValueError, match=r"damaged\.json: not a file of this library"):
        read_compressed_rows(lab.folder / "damaged.json")


@pytest.mark.parametrize("way", [{"scheme": "uniform", "obd": True}, {"scheme": "distribution"}])
def test_rounds_reach_the_last_ratio_under_every_rule(lab, tmp_path, way):
    student, pairs = recipes.seq_kd(lab), recipes.seq_kd_pairs(lab)
    inner = dataclasses.replace(lab, folder=tmp_path)
    trained = recipes.prune(inner, "", student, pairs, EPOCH, ratios=(0.4, 0.8), **way)
    assert abs(zeros(trained) / count(trained) - 0.8) < 0.02  # each class by itself is rounded
    first = load_model(tmp_path / "round-40")
    assert abs(zeros(first) / count(first) - 0.4) < 0.02
    for a, b in zip(jax.tree.leaves(first.params), jax.tree.leaves(trained.params), strict=True):
        assert (b[a == 0] == 0).all()


def test_the_history_of_a_pruned_model_has_every_round(lab, tmp_path):
    student, pairs = recipes.seq_kd(lab), recipes.seq_kd_pairs(lab)
    inner = dataclasses.replace(lab, folder=tmp_path)
    trained = recipes.prune(inner, "p", student, pairs, EPOCH, ratios=(0.3, 0.5, 0.7))
    assert [bool(record.get("mask")) for record in trained.history] == [False, True, True, True]
    as_kept = json.loads(json.dumps(trained.history))
    assert list(load_model(tmp_path / "p").history) == as_kept
    assert len(model_card(tmp_path / "p", trained)["method"]) == 2  # Seq-KD, pruned


def test_what_does_not_go_together_is_refused(lab):
    student = recipes.seq_kd(lab)
    with pytest.raises(ValueError, match="distribution is for magnitudes only"):
        recipes.prune(lab, "x", student, [], EPOCH, ratios=(0.5,), scheme="distribution", obd=True)


# The commands.


def shown(capsys, *arguments):
    assert main([str(a) for a in arguments]) == 0
    return capsys.readouterr().out


def test_a_pruned_and_compressed_model_translates(lab, tmp_path, capsys):
    for part in ("train", "valid", "test"):
        pairs = getattr(CORPUS, part)
        write_lines(tmp_path / f"{part}.src", [source for source, _ in pairs])
        write_lines(tmp_path / f"{part}.tgt", [target for _, target in pairs])
    text = ["--train", tmp_path / "train.src", tmp_path / "train.tgt"]
    text += ["--valid", tmp_path / "valid.src", tmp_path / "valid.tgt"]
    student, pruned, small = lab.folder / "seq-kd", tmp_path / "pruned", tmp_path / "small"
    out = shown(capsys, "prune", student, *text, *SHORT, "--ratio", "0.75", "--out", pruned)
    model = load_model(pruned)
    left = count(model) - zeros(model)
    assert f"{left:,} of {count(model):,} weights left" in out
    assert zeros(model) == round(0.75 * count(model))

    out = shown(capsys, "compress", pruned, "--bits", "8", "--out", small)
    sizes = [int(line.split()[-2].replace(",", "")) for line in out.splitlines()[2:]]
    assert sizes[0] == 4 * count(model) and sizes[-1] == (small / "params.seqkd").stat().st_size
    test = ["--source", tmp_path / "test.src"]
    one = shown(capsys, "translate", pruned, *test)
    assert shown(capsys, "translate", small, *test).count("\n") == one.count("\n") == 8
    again = shown(capsys, "compress", pruned, "--bits", "8", "--out", small)
    assert again == out
    trained = tmp_path / "trained"
    shown(capsys, "compress", pruned, *text, *SHORT, "--bits", "2", "--out", trained)
    reference = ["--reference", tmp_path / "test.tgt", "--beams", "1"]
    out = shown(capsys, "evaluate", pruned, trained, *test, *reference, "--tokenize", "none")
    assert trained.name in out

    file = small / "params.seqkd"
    file.write_bytes(file.read_bytes()[:-3])
    assert main(["translate", str(small), *map(str, test)]) == 2
    assert "params.seqkd: damaged" in capsys.readouterr().err


def test_embeddings_can_be_kept(lab, tmp_path, capsys):
    text = []
    for part in ("train", "valid"):
        write_lines(tmp_path / f"{part}.tsv", ["\t".join(p) for p in getattr(CORPUS, part)])
        text += [f"--{part}", tmp_path / f"{part}.tsv"]
    given = [lab.folder / "seq-kd", *text, *SHORT, "--keep-embeddings", "--out", tmp_path / "kept"]
    shown(capsys, "prune", *given)
    params = load_model(tmp_path / "kept").params
    assert np.mean(params.decoder.embedding != 0) > 0.9  # but for that of PAD
    assert np.mean(params.generator.kernel != 0) < 0.5


def test_a_model_is_needed(tmp_path, capsys):
    assert main(["compress", str(tmp_path), "--out", str(tmp_path / "x")]) == 2
    assert "has no trained model" in capsys.readouterr().err
