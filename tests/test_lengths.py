"""No text is dropped or cut without a setting for it, and without a count of it."""

import dataclasses
import re

import numpy as np
import pytest
from small_folder import write_small
from small_lab import PLAN

from seqkd_jax import recipes
from seqkd_jax.__main__ import main
from seqkd_jax.data import Corpus, read_lines, write_lines
from seqkd_jax.decode.nbest import read_nbest
from seqkd_jax.decode.translation import SourceCut, translate_texts
from seqkd_jax.evaluation import evaluate, validation
from seqkd_jax.model_folder import load_model
from seqkd_jax.settings import GREEDY, Search, Training

LONG = " ".join(["b"] * 300)
SHORT = {"max_len": 4, "beam_size": 2}
FLAGS = ["--max-len", "4", "--beam-size", "2"]


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return write_small(tmp_path_factory.mktemp("lengths") / "model")


def log_prob(trained, line, **search):
    found = translate_texts(trained, [line], Search(**SHORT, **search))
    return found[0].log_probs[0]


def test_a_source_is_cut_where_the_search_says_and_nowhere_else(model):
    trained = load_model(model)
    whole = log_prob(trained, LONG, max_source=None)
    assert log_prob(trained, LONG, max_source=300) == whole
    with pytest.warns(
        SourceCut, match="longer than 299 tokens were cut to that length: 1 .line 1."
    ):
        log_prob(trained, LONG, max_source=299)
    with pytest.warns(SourceCut):
        cut = log_prob(trained, "c " + LONG, max_source=1)
    assert cut == log_prob(trained, "c", max_source=None) != whole


@pytest.mark.filterwarnings("always")
@pytest.mark.parametrize(
    "limit",
    [
        pytest.param("None", marks=pytest.mark.slow),
        pytest.param("300", marks=pytest.mark.slow),
        "7",
        None,
    ],
)
@pytest.mark.parametrize("name", ["translate", "distill", "evaluate"])
def test_every_command_that_translates_has_the_setting(model, tmp_path, capsys, name, limit):
    write_lines(tmp_path / "text", ["b c", LONG])
    write_lines(tmp_path / "reference", ["r s", "t"])
    out = tmp_path / "out"
    arguments = {
        "translate": [model, "--source", tmp_path / "text", "--out", out, *FLAGS],
        "distill": [model, "--source", tmp_path / "text", "--out", out, *FLAGS, "--n-best", "2"],
        "evaluate": [model, "--source", tmp_path / "text", "--reference"],
    }[name]
    arguments += [tmp_path / "reference", "--beams", "1"] if name == "evaluate" else []
    arguments += [] if limit is None else ["--max-source", limit]
    assert main([name, *map(str, arguments)]) == 0
    said = capsys.readouterr().err
    if limit in ("None", "300"):
        assert "cut to that length" not in said
    else:
        assert f"longer than {limit or 250} tokens were cut to that length: 1 (line 2)" in said
    if name == "distill":
        want = {"None": None, "300": 300, "7": 7, None: 250}[limit]
        assert read_nbest(out / "nbest")[0]["search"]["max_source"] == want


@pytest.mark.filterwarnings("always")
def test_validation_and_evaluation_obey_it(model):
    trained = load_model(model)
    pairs = [(LONG, "r s")]
    with pytest.warns(SourceCut, match="longer than 5"):
        validation(trained, pairs, max_source=5)(trained.params)
    with pytest.warns(SourceCut, match="longer than 5"):
        search = dataclasses.replace(GREEDY, max_source=5)
        evaluate(trained, pairs, beams=(1,), search=search)


@pytest.mark.slow
def test_pairs_of_any_length_are_trained_on_where_there_is_no_limit(tmp_path, capsys):
    some = [("cat dog", "DOG CAT")] * 8
    long = [(" ".join(["cat"] * 70), "CAT"), ("cat", " ".join(["CAT"] * 70))]
    lab = recipes.experiment(
        Corpus("long", "lower", "upper", some + long, some, some), tmp_path, PLAN
    )
    training = Training(epochs=1, buckets=1, max_tokens=None)
    recipes.train(lab, "model", recipes.new(lab, PLAN.student_size), lab.corpus.train, training)
    assert "10 pairs kept;" in capsys.readouterr().err


@pytest.mark.slow
def test_what_a_teacher_wrote_is_counted_where_the_student_drops_it(tmp_path, capsys):
    write_lines(tmp_path / "src", ["cat dog"] * 4 + ["cat"])
    write_lines(tmp_path / "tgt", ["DOG CAT"] * 4 + [" ".join(["CAT"] * 9)])
    files = ["--train", "src", "tgt", "--valid", "src", "tgt"]
    files = [str(tmp_path / f) if f in ("src", "tgt") else f for f in files]
    small = ["--embed", "4", "--hidden", "4", "--epochs", "1", "--vocabulary", "words"]
    out = ["--out", str(tmp_path / "student"), "--max-tokens", "8"]
    assert main(["train", *files, *small, "--tokenize", "none", *out]) == 0
    assert "4 pairs kept; 1 longer than 8 tokens left out (line 5)" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train", "run", "prune", "compress", "table3"])
def test_every_command_that_trains_has_both_settings(capsys, name):
    with pytest.raises(SystemExit) as stopped:
        main([name, "--help"])
    assert stopped.value.code == 0
    shown = re.sub(r"\s+", " ", capsys.readouterr().out)
    prefix = "student-training." if name in ("run", "table3") else ""
    assert f"--{prefix}max-tokens" in shown and "--max-source" in shown


def test_pairs_without_a_token_are_counted_by_cache_and_extract(model, tmp_path, capsys):
    write_lines(tmp_path / "src", ["b c", "", "d"])
    write_lines(tmp_path / "tgt", ["r s", "r", ""])
    both = ["--source", str(tmp_path / "src"), "--target", str(tmp_path / "tgt")]
    for name, out, *more in ("cache", "topk", "--k", "4"), ("extract", "states.npz"):
        assert main([name, str(model), *both, *more, "--out", str(tmp_path / out)]) == 0
        said = capsys.readouterr().err
        assert "1 pair kept; 2 with an empty side left out (lines 2, 3)" in said
    assert np.load(tmp_path / "states.npz")["lines"].tolist() == [1]
    assert len(read_lines(tmp_path / "src")) == 3
