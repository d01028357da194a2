"""The page that compares students: what it is made of, and what a browser makes of it."""

import json
import re
import shutil

import numpy as np
import pytest
from small_folder import SRC, TGT
from small_run import HOSTILE, PAIRS, ROWS, outputs, write_run

from seqkd_jax.__main__ import main
from seqkd_jax.decode.nbest import read_nbest
from seqkd_jax.distill import select
from seqkd_jax.distill.similarity import choose
from seqkd_jax.errors import UsageError
from seqkd_jax.model_folder import load_model
from seqkd_jax.models.inspection import alignments
from seqkd_jax.report.page import assemble, page_content, read_run, write_page
from seqkd_jax.report.page.assemble import SCRIPTS, json_block
from seqkd_jax.report.page.kept import require_comparable
from seqkd_jax.report.page.units import digits, unit_weights, units_of
from seqkd_jax.scoring import Scorer


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_run(tmp_path_factory.mktemp("runs") / "mine", (1, 2))


@pytest.fixture(scope="module")
def content(folder):
    return page_content([read_run(folder)])


def content_of(page: str):
    block = re.search(r'<script type="application/json" id="content">(.*?)</script>', page, re.S)
    return json.loads(block[1])


# What is shown.


def test_every_output_of_every_seed_and_beam_is_there(content):
    found = {(o["system"], o["seed"], o["beam"]): o["texts"] for o in content["outputs"]}
    assert found.keys() == {(n, s, k) for n in range(4) for s in (1, 2) for k in (1, 2)}
    for (system, seed, beam), numbers in found.items():
        texts = [t[n] for t, n in zip(content["sentences"]["texts"], numbers, strict=True)]
        assert texts == outputs(ROWS[system], seed, beam)
    assert content["sentences"]["source"] == [source for source, _ in PAIRS]
    assert content["sentences"]["reference"] == [reference for _, reference in PAIRS]


def test_scores_are_sacrebleus_sentence_scores(content):
    bleu = Scorer("none").sentence_bleu
    for texts, scores, (_, reference) in zip(
        content["sentences"]["texts"], content["sentences"]["bleu"], PAIRS, strict=True
    ):
        assert scores == [round(score, 1) for score in bleu(texts, [reference] * len(texts))]
        assert len(set(texts)) == len(texts)


def test_the_table_is_that_of_the_results(folder, content):
    for row, system in zip(read_run(folder).results.rows, content["systems"], strict=True):
        assert (system["row"], system["parameters"]) == (row.name, row.evaluation.parameters)
        for beam, decoding in system["decodings"].items():
            difference = row.differences.get(int(beam))
            assert decoding["bleu"] == row.mean(lambda e, k=int(beam): e.decodings[k].bleu)
            assert (decoding["difference"] is None) == (difference is None)
            if difference:
                assert decoding["difference"]["bleu"] == difference.bleu
                assert decoding["difference"]["seeds"] == difference.by_seed
    assert [system["compared_to"] for system in content["systems"]] == [None, None, 1, 1]


def test_attention_is_that_of_the_model(folder, content):
    source, text = PAIRS[1][0], content["sentences"]["texts"][1][0]
    system = next(o["system"] for o in content["outputs"] if o["texts"][1] == 0)
    trained = load_model(folder / ROWS[system])
    src, tgt = (np.array(ids) for ids in (SRC.encode(source), TGT.encode(text)))
    want = alignments(trained.network, trained.params, src, np.array([*tgt, 3]))[:-1]
    assert content["attention"][system][1][0] == digits(np.asarray(want))
    assert content["attention"][system][7] == {}  # a source without words


def test_lists_show_what_students_would_be_taught(folder, content):
    _, lists = read_nbest(folder / "nbest-3-test")
    _, best = read_nbest(folder / "nbest-2-test")
    similarity = choose("bleu")[1]
    seq_kd, seq_inter = select.seq_kd(PAIRS, best), select.seq_inter(PAIRS, lists, similarity)
    for n, shown in enumerate(content["lists"][0]):
        assert [h[1] for h in shown["hypotheses"]] == list(lists[n].texts)
        assert shown["seq_kd"] == seq_kd.pairs[n][1]
        assert shown["seq_inter"] == seq_inter.pairs[n][1]


def test_what_the_models_said_is_asked_once(folder, content, monkeypatch):
    def never(*_, **__):
        raise AssertionError("computed again")

    for name in ("load_model", "attention_weights"):
        monkeypatch.setattr(f"seqkd_jax.report.page.insides.{name}", never)
    run = read_run(folder)
    monkeypatch.setattr("seqkd_jax.report.page.content.lists_of_test", lambda *_: None)
    assert page_content([run])["attention"] == content["attention"]


def test_a_run_without_its_models_is_shown_without_what_they_know(folder, tmp_path):
    bare = tmp_path / "bare"
    keep = shutil.ignore_patterns("config.json", "attention.json", "nbest-*")
    shutil.copytree(folder, bare, ignore=keep)
    shown = page_content([read_run(bare)], 3)
    assert shown["attention"] == [None] * 4 and shown["lists"] == [None]
    assert len(shown["sentences"]["source"]) == 3 and shown["total"] == len(PAIRS)
    assert any("no attention of baseline" in note for note in shown["runs"][0]["notes"])


def test_several_runs_stand_in_one_page(folder):
    run = read_run(folder)
    shown = page_content([run, run])
    assert [s["name"] for s in shown["systems"][:5:4]] == ["mine (1) teacher", "mine (2) teacher"]
    assert shown["systems"][7]["compared_to"] == 5


# Units.


@pytest.mark.parametrize(
    "tokens, units, want",
    [
        (["▁ein", "▁Haus"], ["ein", "Haus"], [[1, 0], [0, 1]]),
        (["▁ein", "▁Ha", "us"], ["ein", "Haus"], [[1, 0], [0, 0.5]]),
        (["▁我们", "好"], ["我", "们", "好"], [[1, 0], [1, 0], [0, 1]]),
    ],
    ids=["words", "pieces", "characters"],
)
def test_attention_of_tokens_becomes_that_of_units(tokens, units, want):
    weights = np.eye(len(tokens))[:, :2]
    found = unit_weights(weights, (tokens, ["a", "b"]), (units, ["a", "b"]))
    np.testing.assert_allclose(found, want)


def test_source_pieces_of_a_word_are_added_up():
    found = unit_weights(
        np.array([[0.2, 0.3, 0.5]]), (["x"], ["▁Ha", "us", "▁x"]), (["x"], ["Haus", "x"])
    )
    np.testing.assert_allclose(found, [[0.5, 0.5]])


def test_tokens_that_are_not_in_the_text_have_no_picture():
    two = np.ones((2, 2))
    assert unit_weights(two, (["▁fi", "ne"], ["a", "b"]), (["ﬁne"], ["a", "b"])) is None
    assert (
        unit_weights(two, (["<unk>", "▁x"], ["a", "b"]), (["one", "two", "x"], ["a", "b"])) is None
    )


def test_units_and_digits():
    assert units_of("a  b\u00a0c\td", True) == ["a", "b\u00a0c", "d"]
    assert units_of("我们 好", False) == ["我", "们", "好"]
    assert digits(np.array([[0, 0.5], [1, 1.001]])) == "0izz"


# The file.


def test_text_cannot_leave_the_block_of_data():
    text = json_block([HOSTILE, "<!--<script>"])
    assert "<" not in text and json.loads(text) == [HOSTILE, "<!--<script>"]
    page = assemble({"title": HOSTILE, "x": "<!--policy--><!--title-->"})
    assert page.count("<script") == 1 + len(SCRIPTS) == page.count("</script>")
    assert content_of(page)["x"] == "<!--policy--><!--title-->"
    assert "&lt;/script&gt;" in page.partition("</title>")[0]


def test_the_page_needs_no_network():
    page = assemble({"title": "empty"})
    assert not re.search(r'(src|href)="(?!#)', page) and "default-src &#x27;none&#x27;" in page
    assert "@import" not in page and "fetch(" not in page
    assert "Copyright (c) 2022 Leon Sorokin" in page


def test_the_command_writes_the_page(folder, content, tmp_path, capsys):
    out = tmp_path / "page.html"
    assert main(["report", str(folder), "--out", str(out), "--sentences", "2"]) == 0
    assert f"{out}: open it" in capsys.readouterr().out
    assert content_of(out.read_text())["sentences"]["source"] == [s for s, _ in PAIRS[:2]]


# What is refused.


@pytest.fixture
def copy(folder, tmp_path):
    return shutil.copytree(folder, tmp_path / "copy")


def refused(folder, error=UsageError):
    with pytest.raises(error) as found:
        write_page(folder / "page.html", [folder])
    assert not (folder / "page.html").exists()
    return str(found.value)


def test_a_folder_without_results_is_refused(tmp_path, capsys):
    assert "give the --out folder of seqkd run" in refused(tmp_path, FileNotFoundError)
    assert main(["report", str(tmp_path), "--out", str(tmp_path / "page.html")]) == 2
    assert "has no results" in capsys.readouterr().err


@pytest.mark.parametrize("lost", ["test.source.txt", "test.reference.txt"])
def test_a_run_without_its_test_set_is_told_what_to_do(copy, lost):
    (copy / lost).unlink()
    assert f"{lost}: no such file: run the seqkd run command" in refused(copy, FileNotFoundError)


def test_another_test_set_is_noticed(copy):
    lines = (copy / "test.source.txt").read_text()
    (copy / "test.source.txt").write_text(lines.replace("c", "x", 1))
    assert "of another test set" in refused(copy)
    (copy / "test.source.txt").write_text(lines + "one more\n")
    assert "has 9 lines" in refused(copy)


def test_an_edited_evaluation_is_noticed(copy):
    path = copy / "baseline" / "evaluation.json"
    path.write_text(path.read_text().replace("über", "aber", 1))
    assert "does not match its digest" in refused(copy)


def test_results_of_other_evaluations_are_noticed(copy):
    shutil.copy(copy / "teacher" / "evaluation.json", copy / "baseline" / "evaluation.json")
    assert "not what" in refused(copy) and "of baseline with seed 1" in refused(copy)


def test_another_model_than_the_evaluated_one_is_not_shown(copy):
    for path in (copy / "teacher").glob("*"):
        if path.name not in ("evaluation.json", "attention.json"):
            shutil.copy(path, copy / "baseline" / path.name)
    (copy / "baseline" / "attention.json").unlink()
    assert "holds another model than" in refused(copy)


def test_runs_that_cannot_be_compared_are_refused(folder, tmp_path):
    run = read_run(folder)
    other = write_run(tmp_path / "other", pairs=PAIRS[:5], rows=("baseline",))
    with pytest.raises(UsageError, match="has another test set than"):
        require_comparable([run, read_run(other)])
    lower = write_run(tmp_path / "lower", rows=("baseline",), scorer=Scorer("none", True))
    with pytest.raises(UsageError, match="was scored with"):
        require_comparable([run, read_run(lower)])
