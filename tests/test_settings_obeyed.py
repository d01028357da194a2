"""A setting is obeyed or refused, by every command that trains; what was made before stays true."""

import dataclasses
import json
import os
import re
import shutil
import subprocess
import sys
import typing
import warnings

import numpy as np
import pytest
from small_lab import CORPUS, ONE_EPOCH, PLAN, SHORT, SIZE, WORDS, pairs

from seqkd_jax import commands, recipes
from seqkd_jax.__main__ import main
from seqkd_jax.data import encode_pairs, train_pieces, write_lines
from seqkd_jax.evaluation import perplexity as measured
from seqkd_jax.model_folder import load_model
from seqkd_jax.sealed import write_record
from seqkd_jax.settings import Plan


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Text, and a model trained on it by the command."""
    folder = tmp_path_factory.mktemp("files")
    for part in ("train", "valid", "test"):
        write_lines(folder / f"{part}.tsv", ["\t".join(pair) for pair in getattr(CORPUS, part)])
    write_lines(folder / "other.tsv", ["\t".join(pair) for pair in pairs(9, 8)])
    assert main(trained(folder, "big")) == 0
    return folder


def trained(folder, name, *more, valid="valid"):
    text = ["--train", f"{folder}/train.tsv", "--valid", f"{folder}/{valid}.tsv"]
    return ["train", *text, *SIZE, *SHORT, *WORDS, "--out", f"{folder}/{name}", *more]


@pytest.fixture
def refused(capsys):
    """Runs a command that must fail as a user's mistake, and gives its one message."""

    def run(*given):
        assert main([str(a) for a in given]) == 2
        error = capsys.readouterr().err.strip().split("\n")[-1]
        assert error.startswith("seqkd: ")
        return error

    return run


# A folder that was begun with other settings.


def test_what_is_announced_is_what_is_loaded(files, capsys):
    assert main(trained(files, "big")) == 0
    assert load_model(files / "big").digest[:12] in capsys.readouterr().out


@pytest.mark.parametrize(
    "changed, named",
    [
        (["--epochs", "2"], "run: epochs was 1 there and is 2 now"),
        (["--hidden", "9"], "run: hidden was 8 there and is 9 now"),
        (["--dropout", "0.2"], "run: dropout was"),
        (["--seed", "2"], "run: seed was 1 there and is 2 now"),
        (["--tokenize", "13a"], "run: tokenize was 'none' there and is '13a' now"),
        (["--lower"], "lower was False there and is True now"),
        (["--vocabulary-size", "9"], "vocabulary_size was None there and is 9 now"),
        (["--vocabulary", "bpe", "--vocabulary-size", "40"], "vocabulary was 'words' there"),
        (["--vocabulary-size", "9", "--shared-vocabulary"], "shared_vocabulary"),
        (["--characters"], "characters was False there and is True now"),
        (["--parts.target-characters"], "run: parts.target_characters was False there"),
        (["--parts.attention", "dot"], "parts.attention"),
    ],
    ids=lambda x: x[0] if isinstance(x, list) else "",
)
def test_a_finished_folder_refuses_other_settings_by_their_names(files, refused, changed, named):
    before = load_model(files / "big").digest
    assert named in refused(*trained(files, "big", *changed))
    assert load_model(files / "big").digest == before


def test_a_finished_folder_refuses_other_text(files, refused):
    assert "run: the validation text differs" in refused(*trained(files, "big", valid="other"))
    other = trained(files, "big")
    other[2] = f"{files}/other.tsv"
    assert "text differs" in refused(*other)


def test_text_that_differs_is_called_by_its_name(files, refused):
    text = ["--train", f"{files}/other.tsv", "--valid", f"{files}/valid.tsv"]
    error = refused("train", *text, *SIZE, *SHORT, *WORDS, "--out", f"{files}/big")
    assert re.search("text differs", error)
    assert not re.search("[0-9a-f]{12}", error)  # digests would tell nobody anything


@pytest.mark.parametrize("rate", ["1e30", pytest.param("1e6", marks=pytest.mark.slow)])
def test_a_training_that_ends_in_nothing_is_not_called_trained(files, refused, rate):
    error = refused(*trained(files, f"diverged-{rate}", "--rate", rate, "--clip", "inf"))
    # Which of both comes first depends on the machine.
    assert "no validation had a perplexity below" in error or "gradient norm" in error


def test_a_model_of_another_version_is_called_that(copied):
    description = json.loads((copied / "config.json").read_text())
    content = {k: v for k, v in description.items() if k not in ("format", "sha256", "history")}
    write_record(copied / "config.json", "seqkd-model-1", content)
    with pytest.raises(ValueError, match="another version of this library.*seqkd-model-1"):
        load_model(copied)


def test_pruning_and_compressing_refuse_other_settings_before_any_work(files, refused):
    text = ["--train", f"{files}/train.tsv", "--valid", f"{files}/valid.tsv"]
    rest = [*text, *SHORT, "--out", f"{files}/pruned"]
    prune = ["prune", f"{files}/big", *rest]
    assert main([*prune, "--ratio", "0.5"]) == 0
    made = sorted(files.glob("pruned/*"))
    assert "must rise" in refused(*prune[:-1], f"{files}/never", "--ratio", "0.5", "0.3")
    assert not (files / "never").exists()
    error = refused(*prune, "--ratio", "0.3", "0.5")
    assert "ratios was [0.5] there and is [0.3, 0.5] now" in error
    assert "scheme was 'blind'" in refused(*prune, "--ratio", "0.5", "--scheme", "uniform")
    assert "saliency was" in refused(*prune, "--ratio", "0.5", "--saliency", "obd")
    assert "prunable was" in refused(*prune, "--ratio", "0.5", "--keep-embeddings")
    assert sorted(files.glob("pruned/*")) == made
    again = ["prune", f"{files}/pruned", *rest[:-1], f"{files}/never", "--ratio", "0.3"]
    assert "50.0 % of the model's weights are 0 already" in refused(*again)
    error = refused(*prune[:-1], prune[1], "--ratio", "0.5")
    assert "folder of the model itself" in error
    compress = ["compress", f"{files}/pruned", "--out", f"{files}/small"]
    assert main([*compress, "--bits", "3"]) == 0
    assert "run: bits was 3 there and is 4 now" in refused(*compress, "--bits", "4")


# Options that others leave without effect.


@pytest.mark.parametrize(
    "given, named",
    [
        (["--kd-weight", "0.5"], "--kd-weight has no effect without --teacher"),
        (["--teacher", "big", "--lower"], "--lower has no effect with --teacher"),
        (["--teacher", "big", "--no-lower"], "--no-lower has no effect with --teacher"),
        (["--teacher", "big", "--vocabulary", "words"], "--vocabulary has no effect"),
        (["--teacher", "big", "--vocabulary-size", "None"], "--vocabulary-size has no effect"),
        (["--teacher", "big", "--shared-vocabulary"], "--shared-vocabulary has no effect"),
        (["--teacher", "big", "--features"], "--features has no effect"),
        (["--teacher", "big", "--characters"], "--characters has no effect with --teacher"),
        (["--start", "big", "--lower"], "--lower has no effect with --start"),
        (["--start", "big", "--no-characters"], "--no-characters has no effect with --start"),
        (["--start", "big", "--hidden", "256"], "--hidden has no effect with --start"),
        (["--form", "raw"], "--form has no effect with files of your own"),
        (
            ["--optimizer", "sgd", "--warmup", "9"],
            "--warmup has no effect when --optimizer is sgd",
        ),
        (["--parts.window", "3"], "--parts.window has no effect when --parts.alignment is global"),
        (["--parts.join", "concat"], "--parts.join has no effect"),
        (
            ["--teacher", "big", "--kd-weight", "1", "--label-smoothing", "0.1"],
            "--label-smoothing has no effect when --kd-weight is 1",
        ),
        (
            ["--epochs", "2", "--average-last", "3", *WORDS],
            "average_last is 3, but there are only 2",
        ),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_train_refuses_what_it_would_not_obey(files, refused, monkeypatch, given, named):
    monkeypatch.chdir(files)
    text = ["--train", "train.tsv", "--valid", "valid.tsv", "--out", "never", *SHORT]
    assert named in refused("train", *text, *given)
    assert not (files / "never").exists()


@pytest.mark.parametrize(
    "given, named",
    [
        (["run", "--data", "grammar", "--form", "raw"], "--form has no effect"),
        (["run", "--data", "grammar", "--pair", "en-de"], "--pair has no effect"),
        (["run", "--data", "grammar", "--test", "x.tsv"], "--test has no effect with --data"),
        (["train", "--data", "grammar", "--valid", "x.tsv"], "--valid has no effect with --data"),
        (
            ["run", "--data", "grammar", "--bits", "3"],
            "--bits has no effect here; it is for table3",
        ),
        (["run", "--data", "grammar", "--pruning.epochs", "3"], "--pruning.epochs has no effect"),
        (["run", "--data", "grammar", "--inter-beam", "3", "--rows", "seq-kd"], "--inter-beam"),
        (["run", "--data", "grammar", "--on-policy.share", "1"], "--on-policy.share has no"),
        (
            ["table3", "--data", "grammar", "--kd-weight", "1"],
            "--kd-weight has no effect",
        ),
        (["prune", "big", "--data", "grammar", "--optimizer", "sgd", "--warmup", "9"], "--warmup"),
        (["compress", "big", "--epochs", "3"], "--epochs has no effect without --data"),
        (["compress", "big", "--valid", "valid.tsv"], "--valid has no effect without"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_other_commands_refuse_what_they_would_not_obey(files, refused, monkeypatch, given, named):
    monkeypatch.chdir(files)
    assert named in refused(*given, "--out", "never")
    assert not (files / "never").exists()


# Options that do not fit the model, its vocabularies or the text: nothing is made.


SHAPES = {
    "lower_attention is 2; it must name": {"parts.lower-attention": 2},
    "needs an attention": {"parts.attention": "none", "parts.alignment": "local-m"},
    "make the widths equal": {"parts.attention": "dot", "encoder-hidden": 6},
}


@pytest.mark.parametrize("named", SHAPES)
@pytest.mark.parametrize(
    "command, prefix",
    [("train", ""), *(("run", f"{who}-size.") for who in ("student", "teacher"))]
    + [("table3", "student-size.")],
)
def test_parts_that_do_not_fit_together_are_refused(files, refused, command, prefix, named):
    options = [f"--{prefix}{option}={value}" for option, value in SHAPES[named].items()]
    text = ["--train", f"{files}/train.tsv", "--valid", f"{files}/valid.tsv", *WORDS]
    assert named in refused(command, *text, *options, "--out", files / "never")
    assert not (files / "never").exists()


@pytest.mark.parametrize(
    "given, named",
    [
        (["table3", "--prune-ratios", "0.5", "0.3"], "the ratios must rise"),
        (
            ["run", "--rows", "luong-dot", "--teacher-size.encoder-hidden", "6"],
            "make the widths equal",
        ),
        (
            ["run", "--vocab", "pieces.vocab.json", "--student-size.parts.target-characters"],
            "Only whole words can be spelt",
        ),
        (["train", "--start", "big", *SHORT, "--microbatches", "3"], "does not divide the 2 "),
        (
            ["train", "--teacher", "big", "--parts.attention", "location"]
            + ["--parts.max-source", "2"],
            "weights for only 2",
        ),
        (["prune", "big", *SHORT, "--microbatches", "3"], "does not divide the 2 "),
        (["prune", "big", "--max-tokens", "2"], "nothing is left to work on"),
        (["compress", "big", *SHORT, "--microbatches", "3"], "does not divide the 2 "),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_what_does_not_fit_is_refused_before_anything_is_made(
    files, refused, monkeypatch, given, named
):
    train_pieces([side for pair in CORPUS.train for side in pair], 60).save(
        files / "pieces.vocab.json"
    )
    monkeypatch.chdir(files)
    text = ["--train", "train.tsv", "--valid", "valid.tsv"]
    assert named in refused(*given, *text, "--out", "never")
    assert not (files / "never").exists()


def test_a_folder_is_free_for_the_next_try(files, refused):
    assert "does not divide" in refused(*trained(files, "again", "--microbatches", "3"))
    assert main(trained(files, "again", "--microbatches", "2")) == 0


def test_train_has_no_option_for_test_files(files, capsys):
    with pytest.raises(SystemExit):
        main([*trained(files, "never"), "--test", f"{files}/test.tsv"])
    assert "--test" in capsys.readouterr().err


def test_the_text_that_is_missing_is_named(files, refused):
    given = ["train", "--out", f"{files}/never"]
    assert "train on: --train SOURCE TARGET is missing" in refused(*given)
    given += ["--train", f"{files}/train.tsv"]
    assert "validate with: --valid SOURCE TARGET is missing" in refused(*given)


def test_pieces_need_a_number_of_them(files, refused):
    given = [*trained(files, "never"), "--vocabulary", "bpe"]
    assert "give the number of pieces" in refused(*given)


def test_a_pair_of_languages_is_not_ignored():
    with pytest.raises(ValueError, match="only multi30k has languages to choose from"):
        recipes.experiment("grammar", "never", pair="en-fr")


# One meaning, one name, one default.


@pytest.mark.parametrize("data", [None, "grammar", "multi30k"])
def test_train_and_run_have_the_same_defaults(data, monkeypatch):
    """Both as the command line itself makes them."""
    seen = []
    monkeypatch.setattr(commands, "run", seen.append)
    monkeypatch.setattr(commands, "train", seen.append)
    named = ["--data", data] if data else []
    assert main(["run", *named, "--out", "x"]) == main(["train", *named, "--out", "x"]) == 0
    plan, train = seen[0].plan, seen[1]
    types = typing.get_type_hints(Plan, include_extras=True)
    both = set()
    for given in (train, train.validation):
        mine = typing.get_type_hints(type(given), include_extras=True)
        for name in mine.keys() & types.keys():
            both.add(name)
            assert getattr(given, name) == getattr(plan, name), name
            assert mine[name] == types[name], name
    assert both >= {"vocabulary", "vocabulary_size", "lower", "tokenize", "max_source", "kd_weight"}


# What the user has set for JAX and Python.

SETTINGS = """
import jax, sys, warnings
before = warnings.showwarning
from seqkd_jax.commands import prepare
prepare()
assert warnings.showwarning is before
print(jax.config.jax_compilation_cache_dir)
print(jax.config.jax_persistent_cache_min_compile_time_secs)
"""


@pytest.mark.parametrize("own", [True, pytest.param(False, marks=pytest.mark.slow)])
def test_the_cache_that_the_user_has_named_is_used(tmp_path, own):
    named = {
        "JAX_COMPILATION_CACHE_DIR": f"{tmp_path}/mine",
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "7",
    }
    environment = {k: v for k, v in os.environ.items() if not k.startswith("JAX_")}
    environment |= {"JAX_PLATFORMS": "cpu", "XDG_CACHE_HOME": f"{tmp_path}/cache"}
    done = subprocess.run(
        [sys.executable, "-c", SETTINGS],
        env=environment | (named if own else {}),
        capture_output=True,
        text=True,
        check=True,
    )
    ours = [f"{tmp_path}/cache/seqkd_jax/compiled", "0.5"]
    assert done.stdout.split() == ([f"{tmp_path}/mine", "7.0"] if own else ours)


def test_warnings_are_python_s_own_again_after_a_command(files, capsys):
    before = warnings.showwarning
    assert main(trained(files, "big")) == 0
    assert warnings.showwarning is before


def test_a_warm_up_longer_than_the_training_is_said(files, capsys):
    assert main(trained(files, "warm", "--warmup", "500")) == 0
    assert "warmup is 500, but there are" in capsys.readouterr().err


# The choice of the best checkpoint.


@pytest.mark.slow
def test_a_run_without_a_word_right_says_what_chose_its_parameters(tmp_path, capsys):
    """No word of the references is in the vocabulary; the perplexity falls all the same."""
    short = [(f"a{n} b", f"A{n} A{n + 1}") for n in range(60)]
    corpus = dataclasses.replace(CORPUS, train=short, valid=short[-8:])
    training = dataclasses.replace(ONE_EPOCH, epochs=3, rate=0.02)
    lab = recipes.Experiment(tmp_path, corpus, dataclasses.replace(PLAN, vocabulary_size=6))
    recipes.train(lab, "short", recipes.new(lab, PLAN.student_size), corpus.train, training)
    assert "validation BLEU was 0 every time" in capsys.readouterr().err
    lines = map(json.loads, (tmp_path / "short" / "metrics.jsonl").read_text().splitlines())
    perplexity = [line["valid"]["perplexity"] for line in lines if "valid" in line]
    assert np.argmin(perplexity) == 2  # the last epoch is better than the first,
    loaded = load_model(tmp_path / "short")
    encoded = encode_pairs(corpus.valid, loaded.src_vocab, loaded.tgt_vocab)
    now = measured(loaded.model, loaded.params, encoded)
    np.testing.assert_allclose(now, perplexity[2], rtol=1e-5)  # and it is what was kept


# Files that say what a model is.


@pytest.fixture
def copied(files, tmp_path):
    return shutil.copytree(files / "big", tmp_path / "copy")


def edited(folder, change, sealed=False):
    """Changes config.json by hand; sealed anew where that is asked for."""
    path = folder / "config.json"
    record = json.loads(path.read_bytes())
    change(record)
    if sealed:
        del record["sha256"]
        write_record(path, record.pop("format"), record)
    else:
        path.write_text(json.dumps(record))


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m["model"].update(dropout=0.5),
        lambda m: m["model"].update(dtype="bfloat16"),
        lambda m: m["parts"].update(window=3),
        lambda m: m["parts"].update(alignment="local-m"),
        lambda m: m["parts"].update(bridge="zero"),
        lambda m: m["parts"].update(reverse_source=True),
    ],
    ids="dropout dtype window alignment bridge reverse_source".split(),
)
def test_an_edited_configuration_is_refused(copied, change):
    edited(copied, change)
    with pytest.raises(ValueError, match=r"config\.json: damaged or edited"):
        load_model(copied)


@pytest.mark.parametrize(
    "change, named",
    [
        (lambda m: m["model"].update(layers=10_000_000), "layers is 10000000"),
        (lambda m: m["model"].update(hidden=1 << 40), "hidden is"),
        (lambda m: m["model"].update(src_vocab=1 << 40), "src_vocab is"),
        (lambda m: m.update(parts=[]), "cannot be read"),
        (lambda m: m["model"].update(colour="red"), "colour"),
    ],
)
def test_a_hostile_configuration_is_refused_at_once(copied, change, named):
    edited(copied, change, sealed=True)
    with pytest.raises(ValueError, match=rf"config\.json: .*{named}"):
        load_model(copied)


def test_a_deep_configuration_is_refused(copied):
    (copied / "config.json").write_text("[" * 200_000)
    with pytest.raises(
        ValueError, match=r"config\.json: damaged or not JSON \(nested too deeply\)"
    ):
        load_model(copied)


def test_checkpoints_without_a_configuration_are_not_taken_over(files, copied, refused):
    (copied / "config.json").unlink()
    given = trained(files, "big")
    given[given.index("--out") + 1] = str(copied)
    assert "only this file says what model they hold" in refused(*given)


def flip(folder, number):
    files = [p for p in (folder / "checkpoints" / str(number) / "params").rglob("*") if p.is_file()]
    victim = max(files, key=lambda path: path.stat().st_size)
    data = bytearray(victim.read_bytes())
    data[len(data) // 2] ^= 1
    victim.write_bytes(data)


def signed(folder):
    return sorted(int(path.stem) for path in (folder / "checkpoints").glob("*.sha256"))


def test_a_damaged_best_checkpoint_is_told_with_a_remedy_and_trained_again(files, copied, capsys):
    digest, best = load_model(copied).digest, signed(copied)[-1]
    flip(copied, best)
    with pytest.raises(ValueError, match=rf"checkpoints/{best}: it is damaged.*the best .*Restore"):
        load_model(copied)
    given = trained(files, "big")
    given[given.index("--out") + 1] = str(copied)
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        assert main(given) == 0
    said = capsys.readouterr()
    assert f"checkpoints/{best}: it is damaged" in said.err
    assert f"checkpoint {best - 1} is used instead" in said.err
    assert load_model(copied).digest == digest


def test_a_lost_manifest_is_told_with_what_is_used_instead(copied):
    *_, before, best = signed(copied)
    (copied / "checkpoints" / f"{best}.sha256").unlink()
    told = rf"checkpoints/{best}: its .sha256 file is missing.*checkpoint {before} is used instead"
    with pytest.warns(UserWarning, match=told), pytest.raises(ValueError, match="been validated"):
        load_model(copied)  # the one before is from before the first validation


def test_when_all_checkpoints_are_lost_nobody_is_told_to_train_further(copied):
    for path in (copied / "checkpoints").glob("*.sha256"):
        path.write_text("{}")
    with pytest.raises(ValueError, match="no checkpoint can be used .*Restore .*from a copy"):
        load_model(copied)


def test_a_lost_vocabulary_is_named_before_training_goes_on(files, copied, refused):
    (copied / "tgt.vocab.json").unlink()
    given = trained(files, "big")
    given[given.index("--out") + 1] = str(copied)
    assert "tgt.vocab.json: no such file" in refused(*given)
