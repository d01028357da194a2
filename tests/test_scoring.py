"""How models are scored: in which tokens and case, of which sentences, and what is kept of it."""

import contextlib
import dataclasses
import json
import sys
import urllib.error
from typing import get_args

import pytest
import sacrebleu
from sacrebleu.tokenizers import tokenizer_ja_mecab, tokenizer_spm
from small import CONFIG, MODEL, params
from small_lab import CORPUS

from seqkd_jax import recipes
from seqkd_jax.__main__ import main
from seqkd_jax.commands.measure import _changed
from seqkd_jax.data import Corpus, build_words, encode_pairs, read_lines, write_lines
from seqkd_jax.data.vocab import WordVocabulary
from seqkd_jax.decode.translation import translate_texts
from seqkd_jax.errors import UsageError
from seqkd_jax.evaluation import Decoding, Evaluation, LeftOut, evaluate, perplexity, validation
from seqkd_jax.models.attention_lstm import network
from seqkd_jax.recipes import rows as stages
from seqkd_jax.report.compressed import CompressedRow, read_compressed_rows, write_compressed_rows
from seqkd_jax.report.documents import fill_tables
from seqkd_jax.report.pictures import mode_mass
from seqkd_jax.report.results import read_results, write_results
from seqkd_jax.report.speed import keep_speed, speed_tables
from seqkd_jax.report.table import Row, compared, table
from seqkd_jax.scoring import TOKENIZER_OF_LANGUAGE, Scorer, scorer_of, tokenizer
from seqkd_jax.settings import GREEDY, PLANS, Plan, Search, Tokenizer
from seqkd_jax.trained import TrainedModel

SRC = build_words(["a b c d e f g"])
LOWER = WordVocabulary(build_words(["r s t u v w x y z"]).words, lower=True)
CASED = dataclasses.replace(LOWER, lower=False)
SHORT = dataclasses.replace(GREEDY, max_extra=3, max_ratio=1.0)
SOURCES = ["a b c", "d e", "f g a b", "c", "e d c"]
TSV = Corpus("files", "source", "target", [], [], [("a b", "R S"), ("c", "T")])


def scored(pairs, vocab=CASED, **given):
    given = {"beams": (1,), "search": SHORT} | given
    return evaluate(trained(vocab), pairs, **given)


def trained(vocab=CASED):
    return TrainedModel(MODEL, params(), SRC, vocab, network(CONFIG))


@pytest.fixture(scope="module")
def outputs():
    """What the model writes, and the same in capitals as references."""
    nbest = translate_texts(trained(), SOURCES, SHORT)
    return [n.texts[0] for n in nbest]


# The case that a model writes.


def test_a_model_that_writes_lower_case_is_scored_in_lower_case(outputs):
    pairs = list(zip(SOURCES, map(str.upper, outputs), strict=True))
    sides = outputs, [[reference for _, reference in pairs]]
    e, cased = scored(pairs, LOWER), scored(pairs, CASED)
    for metric, value, signature in (
        (sacrebleu.BLEU(lowercase=True), e.decodings[1].bleu, e.bleu_signature),
        (sacrebleu.CHRF(lowercase=True), e.decodings[1].chrf, e.chrf_signature),
    ):
        assert value == metric.corpus_score(*sides).score > 99
        assert signature == str(metric.get_signature()) and "case:lc" in signature
    assert cased.decodings[1].bleu == 0 and "case:mixed" in cased.bleu_signature


def test_validation_chooses_by_the_case_that_the_model_writes():
    nbest = translate_texts(trained(), SOURCES, GREEDY)
    pairs = [(source, n.texts[0].upper()) for source, n in zip(SOURCES, nbest, strict=True)]
    assert validation(trained(LOWER), pairs)(params())["score"] > 99
    assert validation(trained(), pairs)(params())["score"] == 0


def test_significance_is_of_the_case_that_is_scored():
    references = ["A B C D", "E F G H"] * 20
    lower = [line.lower() for line in references]
    same = Scorer("none", lowercase=True).compare(references, lower, references, samples=50)
    assert (same.bleu, same.p_value) == (0, 1) and "case:lc" in same.signature
    assert Scorer("none").compare(references, lower, references, samples=50).bleu < -99


def test_a_lab_in_lower_case_is_validated_and_tabled_in_lower_case(tmp_path, monkeypatch):
    class Made(Exception):
        pass

    def made(*arguments, **_):
        raise Made(arguments[-1])

    monkeypatch.setattr("seqkd_jax.recipes.stages.validation", made)
    for lower in (True, False):
        plan = Plan(vocabulary="words", lower=lower)
        lab = recipes.Experiment(tmp_path / str(lower), dataclasses.replace(CORPUS, tgt="zh"), plan)
        with pytest.raises(Made) as seen:
            recipes.baseline(lab)
        assert seen.value.args == (Scorer("zh", lower),) == (recipes.ready(lab),)


def test_a_teacher_in_lower_case_is_compared_with_its_references_in_lower_case(
    tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr("seqkd_jax.commands.teach.load_model", lambda _: trained(LOWER))
    search = Search(beam_size=3, n_best=3)
    nbest = translate_texts(trained(LOWER), SOURCES, search)
    references = [n.texts[-1].upper() for n in nbest]  # in lower case all are found
    write_lines(tmp_path / "src", SOURCES)
    write_lines(tmp_path / "tgt", references)
    given = ["--source", tmp_path / "src", "--reference", tmp_path / "tgt", "--out", tmp_path / "o"]
    beam = ["--beam-size", "3", "--n-best", "3", "--similarity", "chrf"]
    assert main(["distill", "teacher", *map(str, given), *beam]) == 0
    assert [line.upper() for line in read_lines(tmp_path / "o" / "train.tgt")] == references
    assert "By chrf, 100.0 % of the targets differ from Seq-KD's." in capsys.readouterr().out


# Tokenisers: one default everywhere, known before the work begins.


def test_the_default_is_chosen_by_language_and_by_what_is_known_of_the_text():
    assert set(get_args(Tokenizer)) == {"auto", *sacrebleu.BLEU.TOKENIZERS}
    for language, name in sacrebleu.BLEU._TOKENIZER_MAP.items():
        assert tokenizer("auto", language) == tokenizer("auto", f"{language.upper()}_XX") == name
    assert set(TOKENIZER_OF_LANGUAGE.values()) < set(sacrebleu.BLEU.TOKENIZERS)
    assert [tokenizer("auto", code) for code in ("th", "de", "target", "")] == [
        "flores200",
        "13a",
        "13a",
        "13a",
    ]
    assert tokenizer("auto", "zh", tokenised=True) == "none"
    assert tokenizer("intl", "zh", tokenised=True) == "intl"
    assert {plan.tokenize for plan in (Plan(), *PLANS.values())} == {"auto"}


@pytest.mark.slow
def test_corpora_that_are_known_to_be_tokenised_are_scored_as_they_are():
    assert scorer_of(recipes.experiment("grammar", "unused").corpus).tokenize == "none"
    assert scorer_of(TSV).tokenize == "13a"
    assert scorer_of(dataclasses.replace(TSV, tgt="zh")).tokenize == "zh"


def test_a_tokeniser_that_there_is_not_is_named_with_those_that_there_are():
    with pytest.raises(UsageError, match="tokenize is 'foo': give one of none, zh, 13a"):
        Scorer("foo")
    with pytest.raises(UsageError, match="tokenize is 'foo': give one of auto, none, 13a"):
        Plan(tokenize="foo")


@pytest.fixture
def no_mecab(monkeypatch):
    monkeypatch.setattr(tokenizer_ja_mecab, "MeCab", None)


def test_a_tokeniser_whose_package_or_model_is_missing_is_named(no_mecab, monkeypatch, tmp_path):
    def offline(*_):
        raise urllib.error.URLError("no such host")

    with pytest.raises(UsageError, match=r'ja-mecab cannot.*install "sacrebleu\[ja\]".*--tokeniz'):
        Scorer("ja-mecab")
    monkeypatch.setattr(tokenizer_spm, "SACREBLEU_DIR", str(tmp_path))
    monkeypatch.setattr(tokenizer_spm, "download_file", offline)
    with pytest.raises(UsageError, match="flores200 cannot.*no such host.*can be downloaded"):
        Scorer("flores200")


@pytest.fixture
def text(tmp_path):
    """Arguments that name training and validation text."""
    for part in ("train", "valid"):
        write_lines(tmp_path / f"{part}.tsv", ["\t".join(p) for p in getattr(CORPUS, part)])
    return [f"--{part}={tmp_path / part}.tsv" for part in ("train", "valid")]


@pytest.mark.parametrize("given", [["--tokenize", "ja-mecab"], ["--pair", "en-ja"]], ids=str)
@pytest.mark.parametrize("command", ["train", "run", "table3"])
def test_what_cannot_be_scored_is_not_trained(command, given, text, no_mecab, tmp_path, capsys):
    out = tmp_path / "out"
    shape = ["--vocabulary", "words", "--out", str(out)]
    assert main([command, *text, *shape, *given]) == 2
    assert "ja-mecab cannot be used here" in capsys.readouterr().err
    assert not out.exists()


@pytest.mark.parametrize("command", ["run", "table3"])
def test_what_cannot_be_kept_is_not_trained(command, text, tmp_path, capsys):
    out = tmp_path / "out"
    out.write_text("a file")
    assert main([command, *text, "--vocabulary", "words", "--out", str(out)]) == 2
    assert f"{out}: a file has this name, or that of a folder above it" in capsys.readouterr().err
    assert out.read_text() == "a file"


@pytest.mark.parametrize("work", [recipes.run, recipes.table3], ids=["run", "table3"])
@pytest.mark.parametrize("test", [[], [("a", ""), ("", "b")]], ids=["none", "empty"])
def test_what_cannot_be_tested_is_not_trained(work, test, tmp_path):
    corpus = dataclasses.replace(CORPUS, test=test)
    with pytest.raises(UsageError, match="none of the test pairs has words on both sides"):
        work(recipes.Experiment(tmp_path, corpus, Plan(vocabulary="words")))
    assert not list(tmp_path.glob("**/config.json"))


@pytest.mark.parametrize("work", [recipes.run, recipes.table3], ids=["run", "table3"])
def test_pairs_that_are_all_too_long_are_refused_before_a_vocabulary_is_made(work, tmp_path):
    corpus = dataclasses.replace(CORPUS, train=[("a b c " * 30, "A")] * 4)
    with pytest.raises(UsageError, match="all 4 pairs are longer than 60 tokens"):
        work(recipes.Experiment(tmp_path, corpus, Plan(vocabulary="words")))
    assert not list(tmp_path.iterdir())


def test_rows_and_ratios_are_looked_at_before_any_is_trained(tmp_path):
    corpus = dataclasses.replace(TSV, train=CORPUS.train, valid=CORPUS.valid)
    with pytest.raises(UsageError, match="no row 'seqkd'"):
        recipes.run(recipes.Experiment(tmp_path, corpus), ["teacher", "seqkd"])
    with pytest.raises(UsageError, match="must rise"):
        Plan(prune_ratios=(0.5, 0.8, 0.7))
    assert not list(tmp_path.glob("**/config.json"))


def test_all_models_are_loaded_before_one_is_evaluated(tmp_path, monkeypatch, capsys):
    def load(folder):
        if folder.name == "second":
            raise UsageError("second: damaged")
        return trained()

    monkeypatch.setattr("seqkd_jax.commands.measure.load_model", load)
    monkeypatch.setattr("seqkd_jax.commands.measure.evaluate_model", lambda *_, **__: 1 / 0)
    for side, line in ("source", "a"), ("reference", "b"):
        write_lines(tmp_path / side, [line])
    sides = [f"--{side}={tmp_path / side}" for side in ("source", "reference")]
    assert main(["evaluate", "first", "second", *sides]) == 2
    assert "second: damaged" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("given", "lower", "signature"),
    [
        ([], [False], "case:mixed|eff:no|tok:13a"),
        (["--pair", "en-zh"], [False], "case:mixed|eff:no|tok:zh"),
        (["--tokenize", "char"], [False, True], "case:lc|eff:no|tok:char"),
    ],
    ids=["files", "pair", "lower"],
)
def test_evaluate_scores_all_models_alike(given, lower, signature, tmp_path, monkeypatch, capsys):
    models = iter([trained(LOWER if low else CASED) for low in lower])
    monkeypatch.setattr("seqkd_jax.commands.measure.load_model", lambda _: next(models))
    write_lines(tmp_path / "test.src", SOURCES)
    write_lines(tmp_path / "test.tgt", [source.upper() for source in SOURCES])
    sides = [f"--source={tmp_path}/test.src", f"--reference={tmp_path}/test.tgt", "--beams", "1"]
    names = [f"model-{n}" for n in range(len(lower))]
    assert main(["evaluate", *names, *sides, *given]) == 0
    shown = capsys.readouterr().out
    assert shown.count("BLEU nrefs") == 1 and signature in shown
    assert ("diff: of BLEU, to model-0;" in shown) == (len(lower) == 2)
    assert "baseline" not in shown


def test_pictures_ask_for_their_library_before_anything_is_drawn(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(UsageError, match="need matplotlib .*pip install matplotlib"):
        mode_mass({"student": [-1.0]})


# Of which sentences.


def test_a_bleu_of_nothing_beside_matches_is_explained():
    """Three words have no four in a row, which BLEU counts."""
    e = scored([(source, "r s t") for source in SOURCES])
    told = dataclasses.replace(e.decodings[1], bleu=0.0, chrf=100.0)
    for decoding, explained in ((told, True), (dataclasses.replace(told, bleu=1.0), False)):
        text = table([Row("model", (dataclasses.replace(e, decodings={1: decoding}),), {})])
        assert ("none has a word of its reference: compare chrF" in text) == explained


def test_lines_without_words_are_neither_averaged_nor_timed_and_are_said():
    full = [(source, "r s t") for source in SOURCES]
    holes = [*full[:2], ("", "r"), (" ", ""), *full[2:], ("a", ""), *[("", "s")] * 20]
    whole, e = scored(full), scored(holes)
    one = scored([*full, ("a", "t")])
    assert e.mode_mass == pytest.approx(one.mode_mass) and whole.mode_mass != one.mode_mass
    assert e.perplexity == pytest.approx(whole.perplexity)
    speed = e.decodings[1]
    tokens = sum(len(source.split()) for source, _ in holes)
    assert speed.sentences_per_second / speed.words_per_second == pytest.approx(6 / tokens)
    assert e.not_decoded == LeftOut(22, (3, 4, 9, 10, 11))
    assert e.not_predicted == LeftOut(23, (3, 4, 8, 9, 10))
    shown = table([Row("model", (e,), {})])
    assert (
        "sources without a word, of 28, left out of p(t=y^) and of sent/s: 22 (lines 3, 4" in shown
    )
    assert "pairs without a word on a side, of 28, left out of PPL: 23 (lines 3, 4, 8" in shown
    assert "left out" not in table([Row("model", (whole,), {})])
    # BLEU is of all lines, as of the file of outputs.
    lines = [r for _, r in holes], e.decodings[1].outputs
    assert (
        e.decodings[1].bleu == sacrebleu.BLEU(force=True).corpus_score(lines[1], [lines[0]]).score
    )


def test_what_a_shortlist_changes_is_a_share_of_what_was_decoded():
    def row(*outputs):
        decodings = {1: dataclasses.replace(ONE, outputs=outputs)}
        return Row("m", (dataclasses.replace(E, decodings=decodings),), {})

    shown = _changed(row("a", "", "b"), row("a", "", "c"), [True, False, True])
    assert "K = 1: 50.0 % of translations unchanged" in shown[0]


@pytest.mark.filterwarnings("ignore:Sources longer than 2")
def test_words_after_the_cut_are_not_timed():
    pairs = [("a b c d e f", "r"), ("a", "s")]
    speed = scored(pairs, search=dataclasses.replace(SHORT, max_source=2)).decodings[1]
    assert speed.sentences_per_second / speed.words_per_second == pytest.approx(2 / 3)


@pytest.mark.parametrize("pairs", [[], [("", "r"), ("a", "")]], ids=["none", "empty"])
def test_nothing_to_measure_is_said(pairs):
    with pytest.raises(
        UsageError, match=f"None of the {len(pairs)} pairs to evaluate on has words"
    ):
        scored(pairs)
    with pytest.raises(UsageError, match=f"None of the {len(pairs)} validation pairs has words"):
        validation(trained(), pairs)


def test_validation_says_which_pairs_perplexity_leaves_out():
    pairs = [("a", "r"), ("", "s"), ("b", "t")]
    with pytest.warns(UserWarning, match=r"left out of the perplexity: 1 \(line 2\)"):
        validate = validation(trained(), pairs)
    want = perplexity(MODEL, params(), encode_pairs([pairs[0], pairs[2]], SRC, CASED))
    assert validate(params())["perplexity"] == pytest.approx(want)


# What is kept, and believed.

ONE = Decoding(43.5, 60.0, 9.0, 99.0, ("x y",))
E = Evaluation({1: ONE}, 2.5, 0.25, 12, "b", "c", 1)


def _results(path):
    write_results(path, {}, compared([Row("one", (E,), {}), Row("two", (E,), {})], ["x"], Scorer()))
    return read_results


def _table3(path):
    write_compressed_rows(path, {}, [CompressedRow("teacher", 0.0, 12, E, 43, E)])
    return read_compressed_rows


def _speed(path):
    keep_speed(path, "fixed", [{"row": "a", "median": 43.5}])
    return speed_tables


KEPT = pytest.mark.parametrize("write", [_results, _table3, _speed])


@KEPT
def test_a_number_typed_in_is_refused_by_the_name_of_the_file(write, tmp_path):
    read = write(tmp_path / "kept.json")
    read(tmp_path / "kept.json")
    text = (tmp_path / "kept.json").read_text()
    for edited in (text.replace("43.5", "93.50"), text.replace('"sha256"', '"sha"'), text[:-9]):
        assert edited != text
        (tmp_path / "kept.json").write_text(edited)
        with pytest.raises(UsageError, match=r"kept\.json: .*Restore the file.* delete it"):
            read(tmp_path / "kept.json")
    kind = {_results: "table", _table3: "table3", _speed: "speed"}[write]
    with pytest.raises(UsageError, match=r"kept\.json"):
        fill_tables(f"<!-- {kind}: kept.json -->\n<!-- end -->", tmp_path)


@KEPT
def test_one_kind_of_record_is_not_taken_for_another(write, tmp_path):
    write(tmp_path / "kept.json")
    for other in {_results, _table3, _speed} - {write}:
        read = other(tmp_path / f"{other.__name__}.json")
        with pytest.raises(UsageError, match=r"kept\.json: its format is"):
            read(tmp_path / "kept.json")


@pytest.mark.parametrize("write", [_results, _table3])
def test_outputs_are_no_part_of_results(write, tmp_path):
    read = write(tmp_path / "kept.json")
    assert "outputs" not in (tmp_path / "kept.json").read_text()
    rows = getattr(read(tmp_path / "kept.json"), "rows", None) or read(tmp_path / "kept.json")
    kept = rows[0].evaluation
    assert kept == dataclasses.replace(
        E, decodings={1: dataclasses.replace(E.decodings[1], outputs=None)}
    )
    if write is _results:
        with pytest.raises(UsageError, match="one: its outputs were not kept"):
            compared(rows, ["x"], Scorer())


def test_an_evaluation_is_kept_with_its_outputs_and_refused_when_edited(tmp_path, monkeypatch):
    lab = recipes.Experiment(tmp_path, TSV, Plan(beams=(1,)))
    (tmp_path / "stage").mkdir()
    first = stages.evaluated(lab, "stage", trained())
    with monkeypatch.context() as patch:
        patch.setattr(stages, "evaluate", lambda *_, **__: pytest.fail("evaluated again"))
        again = stages.evaluated(lab, "stage", trained())
    assert list(again.decodings[1].outputs) == list(first.decodings[1].outputs)
    assert again.mode_mass == first.mode_mass and again.not_decoded == first.not_decoded
    # Another case or another tokeniser is another evaluation.
    assert "case:lc" in stages.evaluated(lab, "stage", trained(LOWER)).bleu_signature

    path = tmp_path / "stage" / "evaluation.json"
    record = json.loads(path.read_text())
    record["evaluation"]["decodings"]["1"]["bleu"] = 93.5
    path.write_text(json.dumps(record))
    with pytest.raises(UsageError, match=r"evaluation\.json: damaged or edited"):
        stages.evaluated(lab, "stage", trained(LOWER))


# What tables say.


def rows_named(*names):
    each = [dataclasses.replace(E, decodings={1: dataclasses.replace(E.decodings[1])})] * len(names)
    return [Row(name, (e,), {}) for name, e in zip(names, each, strict=True)]


def test_a_table_names_what_its_differences_are_to():
    names = ["teacher", "baseline", "seq-kd", "teacher+seq-inter"]
    first = compared(rows_named(*names), ["x"], Scorer())
    assert [row.compared_to for row in first] == [None, "teacher", "teacher", "teacher"]
    assert "\ndiff: of BLEU, to the teacher; paired bootstrap" in table(first)
    by_name = compared(rows_named(*names), ["x"], Scorer(), by_name=True)
    assert [row.compared_to for row in by_name] == [None, None, "baseline", "teacher"]
    paths = compared(rows_named("runs/big", "runs/baseline"), ["x"], Scorer())
    assert "\ndiff: of BLEU, to runs/big; paired" in table(paths)
    assert "diff: of" not in table(rows_named("alone"))


def test_a_difference_to_another_row_is_said_of_that_row():
    rows = compared(rows_named("baseline", "a", "b", "teacher+x"), ["x"], Scorer(), by_name=True)
    rows[-1] = dataclasses.replace(rows[-1], compared_to="teacher")
    assert "to the baseline; that of teacher+x to the teacher; paired" in table(rows)


def test_rows_scored_in_different_ways_show_it():
    rows = rows_named("one", "two")
    other = dataclasses.replace(rows[1].evaluation, bleu_signature="case:lc")
    assert (
        table([rows[0], Row("two", (other,), {})]).count("BLEU ") == 3
    )  # in the head, and two lines


# What the command line says.


@pytest.mark.parametrize("option", ["--rows", "--epochs", "--bogus"])
def test_an_unknown_option_is_answered_with_the_help_of_its_own_command(option, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["translate", "model", option, "3"])
    error = capsys.readouterr().err
    assert stopped.value.code == 2 and option in error
    assert "seqkd translate --help" in error
    assert not any(f"seqkd {other}" in error for other in ("train", "run", "bench", "compress"))


def test_help_and_unknown_commands_name_all_commands(capsys):
    for arguments in (["--help"], ["bogus"], []):
        with contextlib.suppress(SystemExit):
            assert main(arguments) == 2
        shown = capsys.readouterr()
        assert all(name in shown.out + shown.err for name in ("translate", "table3", "evaluate"))


def test_a_metric_of_the_callers_own_is_a_column_and_kept(tmp_path):
    def with_metric(value):
        decoding = dataclasses.replace(ONE, metrics={"COMET": value})
        return dataclasses.replace(E, decodings={1: decoding})

    rows = [Row("one", (with_metric(0.5), with_metric(0.7)), {})]
    head, _, line = table(rows).splitlines()[:3]
    assert "COMET" in head and " 0.6 " in line
    write_results(tmp_path / "results.json", {}, rows)
    assert table(read_results(tmp_path / "results.json").rows) == table(rows)
    assert "COMET" not in table([Row("one", (E,), {})])
