import gzip
import io
import json
import re
import shutil

import numpy as np
import pytest
from small_lab import CORPUS, SHORT, SIZE, WORDS

import seqkd_jax as skd
from seqkd_jax.__main__ import main
from seqkd_jax.base import EOS
from seqkd_jax.bleu import gleu
from seqkd_jax.card import card_text, model_card
from seqkd_jax.commands.teach import how_distilled
from seqkd_jax.data import read_lines, write_lines
from seqkd_jax.decode.lists import NBest
from seqkd_jax.decode.nbest import pack_shard, read_nbest
from seqkd_jax.distill import select
from seqkd_jax.distill.similarity import choose, chrf
from seqkd_jax.model_folder import load_model
from seqkd_jax.models.inspection import states


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Parallel files, and models that the commands themselves have trained on them."""
    folder = tmp_path_factory.mktemp("files")
    for part in ("train", "valid", "test"):
        pairs = getattr(CORPUS, part)
        write_lines(folder / f"{part}.src", [source for source, _ in pairs])
        write_lines(folder / f"{part}.tgt", [target for _, target in pairs])
    write_lines(folder / "train.tsv.gz", ["\t".join(pair) for pair in CORPUS.train])
    write_lines(folder / "valid.tsv", ["\t".join(pair) for pair in CORPUS.valid])
    assert main(["train", *corpus(folder), *SIZE, *SHORT, *WORDS, "--out", f"{folder}/big"]) == 0
    return folder


def corpus(folder):
    """The same text, once as two files and once as one."""
    return ["--train", f"{folder}/train.tsv.gz", "--valid", f"{folder}/valid.src"] + [
        f"{folder}/valid.tgt"
    ]


@pytest.fixture
def refused(capsys):
    """Runs a command that must fail as a user's mistake, and gives its one message."""

    def run(*arguments):
        assert main([str(a) for a in arguments]) == 2
        error = capsys.readouterr().err.strip().split("\n")[-1]
        assert error.startswith("seqkd: ")
        return error

    return run


def shown(capsys, *arguments):
    assert main([str(a) for a in arguments]) == 0
    return capsys.readouterr().out


def test_lines_are_translated_one_by_one_and_stay_aligned(files, capsys, monkeypatch):
    lines = ["cat eats fish", "", "unheard words", "just kind"]
    write_lines(files / "in.txt", lines)
    shown(capsys, "translate", files / "big", "--source", files / "in.txt", "--out", files / "o.gz")
    written = read_lines(files / "o.gz")
    assert len(written) == 4 and written[1] == ""
    given = "\n".join(lines).encode()  # the last line has no end
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(given)))
    assert shown(capsys, "translate", files / "big") == "\n".join(written) + "\n"


def test_a_setting_that_makes_no_sense_is_refused_before_work(files, refused):
    never = files / "never"
    assert "warmup is -1" in refused("train", *corpus(files), "--warmup", "-1", "--out", never)
    assert "clip is 0" in refused("train", *corpus(files), "--clip", "0", "--out", never)
    assert not never.exists()


def test_no_input_gives_no_output(files, capsys, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"")))
    assert shown(capsys, "translate", files / "big") == ""


def test_scores_of_translations_are_those_that_score_prints(files, capsys):
    search = ["--beam-size", "3", "--max-extra", "2", "--max-ratio", "1"]
    given = ["translate", files / "big", "--source", files / "test.src", *search]
    lines = shown(capsys, *given, "--scores").splitlines()
    scores, texts = zip(*(line.split("\t") for line in lines), strict=True)
    write_lines(files / "texts", texts)
    printed = shown(
        capsys, "score", files / "big", "--source", files / "test.src", "--target", files / "texts"
    ).splitlines()
    both = [(a, b) for a, b, t in zip(scores, printed, texts, strict=True) if t]
    assert len(both) > 4
    np.testing.assert_allclose(*np.array(both, float).T, atol=2e-4)

    nbest = shown(capsys, *given, "--n-best", "3").splitlines()
    assert len(nbest) == 3 * len(texts)
    assert [re.split(r" \|\|\| ", line)[1] for line in nbest[::3]] == list(texts)


def test_several_models_translate_as_their_ensemble(files, capsys):
    one = shown(capsys, "translate", files / "big", "--source", files / "test.src")
    both = ["translate", files / "big", files / "big", "--source", files / "test.src"]
    assert shown(capsys, *both) == one


@pytest.mark.filterwarnings("always")
def test_overlong_sources_are_cut_and_named(files, capsys):
    write_lines(files / "long", ["cat", " ".join(["dog"] * 300)])
    search = ["--max-len", "3"]
    assert main(["translate", f"{files}/big", "--source", f"{files}/long", *search]) == 0
    assert (
        "Sources longer than 250 tokens were cut to that length: 1 (line 2);"
        in capsys.readouterr().err
    )


def test_text_that_was_chosen_in_another_way_is_not_replaced(files, capsys, refused):
    out, mine = files / "kept", files / "mine"
    teacher = ["distill", files / "big", "--source", files / "train.src"]
    search = ["--beam-size", "2", "--n-best", "2"]
    shown(capsys, *teacher, *search, "--out", out)
    shown(capsys, *teacher, *search, "--out", out)  # the same again is no other choice
    from_lists = ["distill", "--source", files / "train.src", "--nbest", out]
    before = {path: path.read_bytes() for path in out.glob("train.*")}
    closest = ["--reference", files / "train.tgt"]
    for given, named in {
        ("--mbr",): "mbr was False there and is True now",
        ("--reference", files / "train.tgt"): "the reference differs",
        ("--beam-size", "3"): "beam_size was 2 there and is 3 now",
    }.items():
        error = refused(*teacher, *search, *given, "--out", out)
        assert named in error
        assert (f"give --nbest {out} there" in error) == ("--beam-size" not in given)
    assert "mbr was False there" in refused(*from_lists, "--mbr", "--out", out)
    shown(capsys, *from_lists, *closest, "--out", files / "nearer")
    assert "smoothing was None there and is 'none' now" in refused(
        *from_lists, *closest, "--smoothing", "none", "--out", files / "nearer"
    )
    mine.mkdir()
    for side in "tgt", "src":
        write_lines(mine / f"train.{side}", ["a corpus of one's own"])
        assert f"train.{side}: would be replaced" in refused(*teacher, *search, "--out", mine)
        (mine / f"train.{side}").unlink()
    assert {path: path.read_bytes() for path in before} == before
    with open(out / "train.tgt", "a") as file:
        file.write("added by hand\n")
    assert "has been changed since" in refused(*teacher, *search, "--out", out)
    for path in before:
        path.unlink()
    shown(capsys, *teacher, *search, "--out", out)
    assert {path: path.read_bytes() for path in before} == before


LISTS = """\
0 ||| eins zwei ||| log_prob= -1 ||| -1
0 ||| drei ||| log_prob= -2 ||| -2
1 ||| vier ||| log_prob= -1 ||| -1
"""


@pytest.mark.parametrize(
    "other",
    [
        LISTS.replace("vier", "fünf"),
        LISTS.replace("= -2", "= -3"),
        LISTS.replace("0 ||| drei", "1 ||| drei"),
    ],
    ids=["text", "probability", "boundary"],
)
def test_text_from_other_lists_is_not_replaced(tmp_path, capsys, refused, other):
    lists, source, out = (tmp_path / name for name in ("lists.txt", "two.src", "out"))
    write_lines(source, ["one", "two"])
    command = ["distill", "--nbest", lists, "--source", source, "--out", out]
    lists.write_text(LISTS)
    shown(capsys, *command)
    shown(capsys, *command)
    lists.write_text(other)
    assert "the text of the n-best lists differs" in refused(*command)
    assert read_lines(out / "train.tgt") == ["eins zwei", "vier"]


def test_lists_of_this_format_need_not_name_a_teacher(tmp_path, capsys):
    lists = [NBest(0, ("eins",), log_probs=(-1.0,))]
    (tmp_path / "lists.jsonl.gz").write_bytes(pack_shard({"made_with": "mine"}, lists))
    write_lines(tmp_path / "one.src", ["one"])
    given = ["--nbest", tmp_path / "lists.jsonl.gz", "--source", tmp_path / "one.src"]
    shown(capsys, "distill", *given, "--out", tmp_path / "out")
    assert read_lines(tmp_path / "out" / "train.tgt") == ["eins"]


def test_files_of_another_kind_are_not_replaced(files, refused):
    (files / "notes").write_text("a text\n")
    test = ["--source", files / "test.src", "--target", files / "test.tgt"]
    extract = ["extract", files / "big", *test, "--out", files / "notes"]
    report = ["report", files, "--out", files / "notes"]
    diagnose = ["diagnose", files / "big", "--source", files / "test.src", "--reference"]
    diagnose += [files / "test.tgt", "--out", files / "notes"]
    for command in extract, report, diagnose:
        assert "notes: holds something else than this command writes" in refused(*command)
    assert (files / "notes").read_text() == "a text\n"
    given = ["--source", files / "test.src", "--out", files / "test.src"]
    assert "is read by the same command" in refused("translate", files / "big", *given)
    (files / "link").symlink_to(files / "test.src")
    linked = [*given[:2], "--out", files / "link"]
    assert "is read by the same command" in refused("translate", files / "big", *linked)
    short = ["--shortlist", files / "train.src", files / "test.tgt", "--out", files / "test.tgt"]
    assert "is read by the same command" in refused("translate", files / "big", *given[:2], *short)
    for own in "config.json", "tgt.vocab.json":
        out = ["--out", files / "big" / own]
        assert "something else than this" in refused("translate", files / "big", *given[:2], *out)
    assert read_lines(files / "test.src") and load_model(files / "big")
    assert "a file, not the folder" in refused("translate", files / "notes", *given[:2])


def test_text_is_not_written_into_the_folder_of_a_model(files, refused):
    before = sorted(p.name for p in (files / "big").iterdir())
    for command in (
        ("distill", "--source", files / "test.src"),
        ("cache", "--source", files / "test.src", "--target", files / "test.tgt"),
    ):
        name, *given = command
        assert "holds a model" in refused(name, files / "big", *given, "--out", files / "big")
    assert sorted(p.name for p in (files / "big").iterdir()) == before


def test_a_model_that_is_given_twice_is_refused(files, refused, monkeypatch):
    monkeypatch.chdir(files / "big")
    test = ["--source", files / "test.src", "--reference", files / "test.tgt"]
    for command in "evaluate", "diagnose":
        assert "given twice" in refused(command, ".", files / "big", *test)


def test_a_compressed_model_is_not_trained_into_another(files, capsys, refused):
    out = files / "compressed"
    compress = ["compress", files / "big", "--bits", "4", "--out", out]
    shown(capsys, *compress)
    shown(capsys, *compress)
    assert "values_trained was False there and is True now" in refused(
        *compress, *corpus(files), "--updates", "2"
    )
    assert "bits was 4 there and is 3 now" in refused(*compress[:2], "--bits", "3", "--out", out)
    assert not (out / "values").exists()
    trained = ["compress", files / "big", "--out", files / "big2"]
    shutil.copytree(files / "big", files / "big2")
    assert "big2: this folder holds another run" in refused(*trained)


def test_a_distilled_corpus_trains_a_student(files, capsys):
    out = files / "distilled"
    search = ["--beam-size", "3", "--n-best", "3"]
    command = ["distill", files / "big", "--source", files / "train.src", "--out", out, *search]
    assert "48 pairs" in shown(capsys, *command)
    best = [n.texts[0] for n in read_nbest(out / "nbest")[1]]
    for line, text in zip(read_lines(out / "train.tgt"), best, strict=True):
        assert line == text or not text.strip()
    closest = ["--reference", files / "train.tgt"]
    from_lists = ["distill", "--nbest", out, *command[2:4], "--out", files / "seq-inter"]
    shown(capsys, *from_lists, *closest)  # the same lists serve Seq-Inter
    assert len(read_lines(files / "seq-inter" / "train.tgt")) == 48

    distilled = ["--train", out / "train.src", out / "train.tgt", *corpus(files)[2:]]
    student = ["--embed", "4", "--hidden", "4", "--dropout", "0", *SHORT]
    teacher = ["--teacher", files / "big"]
    shown(capsys, "train", *distilled, *student, *teacher, "--out", files / "small")
    big, small = load_model(files / "big"), load_model(files / "small")
    assert small.tgt_vocab.digest == big.tgt_vocab.digest
    card = model_card(files / "small", small, files / "big")
    assert card["method"][0] == "Seq-KD on a teacher's translations, with a beam of 3"
    assert "Corpus: files source-target (train.src and train.tgt)." in card_text(card)
    changed = shutil.copytree(out, files / "changed")
    texts = changed / "train.src", changed / "train.tgt"
    assert how_distilled(texts) == how_distilled((out / "train.src", out / "train.tgt"))
    texts[1].write_text("x\n" + texts[1].read_text())
    assert how_distilled(texts) is None and how_distilled((files / "train.tsv.gz",)) is None
    test = ["--source", files / "test.src", "--reference", files / "test.tgt"]
    models = [files / "big", files / "small"]
    text = shown(capsys, "evaluate", *models, *test, "--tokenize", "none", "--beams", "1", "2")
    assert "\nsmall " in text and "tok:none" in text and "BLEU K=2" in text
    assert "different target vocabularies" not in text
    pieces = ["--vocabulary", "words", "--vocabulary-size", "9", "--out", files / "own"]
    shown(capsys, "train", *corpus(files), *student, *pieces)
    text = shown(capsys, "evaluate", files / "big", files / "own", *test, "--beams", "1")
    assert "PPL: the models have different target vocabularies; do not compare it" in text

    fitted = ["--shortlist", out / "train.src", out / "train.tgt"]
    text = shown(capsys, "evaluate", files / "small", *test, "--beams", "1", *fitted)
    assert "\nsmall, shortlist, K = 1: 100.0 % of translations unchanged, BLEU +0.00" in text
    translation = ["translate", files / "small", "--source", files / "test.src", *search[:2]]
    assert shown(capsys, *translation, *fitted) == shown(capsys, *translation)


def test_the_same_command_finds_its_work_done(files, capsys):
    before = load_model(files / "big").digest
    command = ["train", *corpus(files), *SIZE, *SHORT, *WORDS, "--out", files / "big"]
    assert before[:12] in shown(capsys, *command)


@pytest.mark.slow
def test_unknown_words_are_taken_over_or_looked_up(files, capsys):
    """A model that knows one word and has seen many that it does not know says <unk>."""
    rare = files / "rare.tsv"
    write_lines(rare, ["cat\tCAT"] * 200 + [f"x{n}\tX{n}" for n in range(600)])
    small = ["--vocabulary", "words", "--vocabulary-size", "5"]
    train = ["train", "--train", rare, *corpus(files)[2:], *SIZE, *SHORT, *small]
    shown(capsys, *train, "--rate", "0.05", "--out", files / "rare")
    write_lines(files / "in.txt", ["Oslo", "cat", "", "Rom Rom"])
    given = ["translate", files / "rare", "--source", files / "in.txt", "--max-ratio", "1"]
    plain = shown(capsys, *given).splitlines()
    copied = shown(capsys, *given, "--replace-unk").splitlines()
    write_lines(files / "words", ["Oslo|||Christiania"])
    looked_up = ["--replace-unk", "--dictionary", files / "words"]
    translated = shown(capsys, *given, *looked_up).splitlines()
    assert any("<unk>" in line for line in plain) and plain[2] == ""
    assert copied[0] == plain[0].replace("<unk>", "Oslo")
    assert copied[3] == plain[3].replace("<unk>", "Rom")
    assert translated == [copied[0].replace("Oslo", "Christiania"), *copied[1:]]


def test_gold_scores_are_averaged_and_give_the_perplexity(files, capsys):
    pairs = ["--source", files / "test.src", "--target", files / "test.tgt"]
    assert main(["score", f"{files}/big", *map(str, pairs)]) == 0
    printed = capsys.readouterr()
    scores = np.array(printed.out.split(), float)
    tokens = sum(len(line.split()) + 1 for line in read_lines(files / "test.tgt"))
    average, per_token, ppl = map(
        float,
        re.search(
            r"average (\S+) per pair, (\S+) per token; perplexity (\S+)", printed.err
        ).groups(),
    )
    np.testing.assert_allclose(average, scores.mean(), atol=1e-4)
    np.testing.assert_allclose(per_token, scores.sum() / tokens, atol=1e-4)
    np.testing.assert_allclose(ppl, np.exp(-scores.sum() / tokens), rtol=1e-4)


def test_states_and_attention_are_written_for_each_token(files, capsys):
    pairs = ["--source", files / "test.src", "--target", files / "test.tgt"]
    shown(capsys, "extract", files / "big", *pairs, "--out", files / "states.npz")
    trained, arrays = load_model(files / "big"), np.load(files / "states.npz")
    (source, target), n = CORPUS.test[3], 3
    src = np.array(trained.src_vocab.encode(source), np.int32)
    tgt = np.array([*trained.tgt_vocab.encode(target), EOS], np.int32)
    want = states(trained.network, trained.params, src, tgt)
    of_src, of_tgt = (slice(*arrays[f"{side}_offsets"][n : n + 2]) for side in ("source", "target"))
    np.testing.assert_allclose(arrays["encoder"][of_src], want["encoder"], atol=1e-5)
    np.testing.assert_allclose(arrays["decoder_h"][of_tgt], want["decoder_h"], atol=1e-5)
    area = [len(s.split()) * (len(t.split()) + 1) for s, t in CORPUS.test]
    attention = arrays["attention"][sum(area[:n]) : sum(area[: n + 1])].reshape(len(tgt), len(src))
    np.testing.assert_allclose(attention, want["attention"], atol=1e-5)
    assert arrays["lines"].tolist() == list(range(1, 9))


@pytest.mark.slow
def test_words_with_features_are_spelt_and_translated(files, capsys):
    folder = files / "rich"
    folder.mkdir()
    for part in ("train", "valid"):
        lines = [
            " ".join(f"{word}-|-{len(word)}" for word in source.split())
            for source, _ in getattr(CORPUS, part)
        ]
        write_lines(folder / f"{part}.src", lines)
        write_lines(folder / f"{part}.tgt", [target for _, target in getattr(CORPUS, part)])
    text = ["--train", folder / "train.src", folder / "train.tgt"]
    text += ["--valid", folder / "valid.src", folder / "valid.tgt"]
    rich = ["--features", "--characters", "--parts.target-characters", "--out", folder / "model"]
    shown(capsys, "train", *text, *SIZE, *SHORT, *WORDS, *rich)
    out = shown(capsys, "translate", folder / "model", "--source", folder / "valid.src")
    assert len(out.split("\n")) == 9
    assert load_model(folder / "model").src_vocab.columns == 2 + 35


def test_features_without_words_are_refused(files, refused):
    error = refused("train", *corpus(files), *SIZE, "--features", "--out", files / "pieces")
    assert "give --vocabulary words" in error


def test_a_corpus_is_distilled_by_other_choices_than_the_best(files, capsys):
    lists = files / "choices-best"
    search = ["--source", files / "train.src", files / "big", "--beam-size", "3", "--n-best", "3"]
    texts = {}
    for name, flags in {
        "best": [],
        "gleu": ["--reference", files / "train.tgt", "--similarity", "gleu"],
        "none": ["--reference", files / "train.tgt", "--smoothing", "none"],
        "mbr": ["--mbr", "--similarity", "chrf"],
    }.items():
        out = files / f"choices-{name}"
        said = shown(capsys, "distill", *search, *flags, "--out", out)
        search = [*search[:2], "--nbest", lists]
        texts[name] = read_lines(out / "train.tgt")
        differ = sum(a != b for a, b in zip(texts["best"], texts[name], strict=True))
        share = f"{100 * differ / 48:.1f} % of the targets differ from Seq-KD's."
        assert (share in said) == (name != "best")
    nbest = read_nbest(lists / "nbest")[1]
    pairs = list(zip(read_lines(files / "train.src"), read_lines(files / "train.tgt"), strict=True))
    assert texts["gleu"] == [target for _, target in select.seq_inter(pairs, nbest, gleu).pairs]
    unsmoothed = choose("bleu", "none")[1]
    assert texts["none"] == [t for _, t in select.seq_inter(pairs, nbest, unsmoothed).pairs]
    assert texts["mbr"] == [
        target for _, target in select.mbr([(s, "") for s, _ in pairs], nbest, chrf).pairs
    ]
    assert texts["best"] != texts["gleu"]


# What a user can get wrong.


def test_choices_that_exclude_each_other_are_named(files, refused):
    given = ["distill", files / "big", "--source", files / "train.src", "--out", files / "z"]
    assert "--reference or --mbr" in refused(*given, "--mbr", "--reference", files / "train.tgt")
    for flags in (["--similarity", "gleu"], ["--smoothing", "floor"]):
        assert "no effect without --reference (Seq-Inter) or --mbr" in refused(*given, *flags)
    both = ["--mbr", "--similarity", "chrf", "--smoothing", "floor"]
    assert "A smoothing is for bleu only" in refused(*given, *both)
    assert not (files / "z").exists()
    translate = ["translate", files / "big", "--source", files / "test.src"]
    assert "no effect without --replace-unk" in refused(*translate, "--dictionary", files / "words")
    several = ["translate", files / "big", files / "big", "--source", files / "test.src"]
    assert "single attention LSTM" in refused(*several, "--replace-unk")


LINES = ["--source", "train.src"]


@pytest.mark.parametrize(
    "given, named",
    [
        (["cache", "big", *LINES, "--target", "train.tgt", "--k", "99999"], "k is 99999; it must"),
        (["cache", "nobody", *LINES, "--target", "train.tgt"], "nobody: no such folder"),
        (["distill", *LINES], "Name the folder of the teacher"),
        (["distill", "nobody", *LINES], "nobody: no such folder"),
        (["distill", "big", *LINES, "--first-index", "1"], "--first-index has no effect"),
        (["distill", "big", *LINES, "--nbest", "lists"], "--nbest brings the teacher's lists"),
        (["distill", *LINES, "--nbest", "nowhere"], "nowhere: no such file"),
        (["distill", *LINES, "--nbest", "lists"], "lists has lists of 1 sentences"),
        (["distill", "--source", "one", "--nbest", "lists", "--mbr"], "has no log_prob"),
        (["distill", "big", *LINES, "--stop-at-first"], "n_best is 5, but a search with stop"),
        (["distill", "big", *LINES, "--min-len", "200"], "min_len is 200 and max_len is 200"),
    ],
    ids=lambda x: " ".join(x) if isinstance(x, list) else "",
)
def test_what_is_refused_leaves_no_folder(files, refused, monkeypatch, given, named):
    write_lines(files / "one", ["cat"])
    write_lines(files / "lists", [json.dumps({"index": 0, "hypotheses": [{"text": "CAT"}]})])
    monkeypatch.chdir(files)
    assert named in refused(*given, "--out", "never")
    assert not (files / "never").exists()


def test_a_missing_file_is_named(files, refused):
    missing = files / "no.src"
    assert f"{missing}: no such file" in refused("translate", files / "big", "--source", missing)


def test_a_folder_without_a_model_is_named(files, refused):
    assert "a file, not the folder" in refused("translate", files / "train.src", "--source", files)
    (files / "empty").mkdir()
    translate = ["translate", files / "empty", "--source", files / "train.src"]
    assert "empty: has no trained model (no config.json)." in refused(*translate)
    assert "those of this folder are in big" in refused("translate", files, *translate[2:])


def test_unequal_files_are_named_with_their_counts(files, refused):
    write_lines(files / "short.tgt", [target for _, target in CORPUS.train[:-1]])
    error = refused(
        *("train", "--train", files / "train.src", files / "short.tgt"),
        *(*corpus(files)[2:], "--out", files / "x"),
    )
    assert "48 lines" in error and "47" in error
    assert not (files / "x").exists()


@pytest.mark.parametrize("packed", [False, True], ids=["plain", "gz"])
def test_invalid_utf8_is_named_by_file_and_line(files, refused, packed):
    path = files / ("bad.gz" if packed else "bad")
    data = b"cat\ndog\n\xff\xfe\n"
    path.write_bytes(gzip.compress(data) if packed else data)
    assert f"{path}:3: not valid UTF-8" in refused("translate", files / "big", "--source", path)


def test_invalid_utf8_on_standard_input_is_named_by_line(files, refused, monkeypatch):
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"cat\n\xff\n")))
    assert "standard input:2: not valid UTF-8" in refused("translate", files / "big")


@pytest.mark.parametrize(
    "given, said",
    [
        (["translat"], "There is no command 'translat'; did you mean seqkd translate?"),
        (["qqq"], "There is no command 'qqq'; the commands are: demo, run, "),
        (["--out", "x"], "--out: options follow a command, as in seqkd run --out"),
    ],
)
def test_an_unknown_command_is_answered_with_a_known_one(refused, given, said):
    assert said in refused(*given)


def test_the_program_says_its_version(capsys):
    with pytest.raises(SystemExit) as ended:
        main(["--version"])
    assert ended.value.code == 0
    assert f"seqkd_jax {skd.__version__}" in capsys.readouterr().out


@pytest.mark.slow
def test_few_pairs_for_many_pieces_are_said(files, capsys):
    given = ["train", *corpus(files), *SIZE, *SHORT, "--vocabulary", "bpe", "--vocabulary-size"]
    main([*given, "250", "--out", f"{files}/few"])  # even refused: so small a text has fewer pieces
    said = capsys.readouterr().err
    assert "48 pairs to train on are few for a vocabulary of 250 pieces" in said


def test_an_unknown_corpus_is_answered_with_the_known_ones(tmp_path, refused):
    error = refused("run", "--data", "wmt99", "--out", tmp_path / "x")
    assert "grammar" in error and "multi30k" in error


def test_nothing_to_train_on_is_answered_with_what_to_give(tmp_path, refused):
    assert "--data grammar" in refused("train", "--out", tmp_path / "x")
    error = refused("train", "--data", "grammar", "--train", "a", "b", "--out", tmp_path / "x")
    assert "not both" in error


def test_three_training_files_are_refused(files, refused):
    three = [files / "train.src", files / "train.tgt", files / "test.tgt"]
    error = refused("train", "--train", *three, *corpus(files)[2:], "--out", files / "x")
    assert "two files, source and target, or one .tsv" in error


def test_an_unknown_row_is_answered_with_the_known_ones(files, refused):
    given = [*corpus(files), "--out", files / "rows", "--rows", "seq-kd", "best"]
    assert "no row 'best'; the rows are: teacher," in refused("run", *given)


def test_a_folder_that_holds_another_run_is_refused(files, refused):
    command = ["train", *corpus(files), *SIZE, *SHORT, *WORDS, "--out", files / "big"]
    error = refused(*command, "--rate", "0.5")
    assert "holds another run: rate was 0.0005 there and is 0.5 now" in error


def test_models_with_different_vocabularies_are_not_mixed(files, refused):
    """Vocabularies of one size with two words changed about, as after a retraining."""
    write_lines(other := files / "permuted.tsv", ["\t".join(p) for p in CORPUS.train[:40]])
    command = ["train", "--train", other, *corpus(files)[2:], *SIZE, *SHORT, *WORDS]
    assert main([*map(str, command), "--out", f"{files}/other"]) == 0
    error = refused("translate", files / "big", files / "other", "--source", files / "test.src")
    assert f"{files}/big and {files}/other have different vocabularies: both have" in error
    assert "but id" in error and "student" not in error and "teacher" not in error
    error = refused(
        *("train", *corpus(files), *SHORT, "--out", files / "y"),
        *("--teacher", files / "big", "--start", files / "other"),
    )
    assert "different vocabularies" in error
    begun = ["train", *corpus(files), *SIZE, "--out", files / "y", "--start", files / "other"]
    assert "--start brings the shape of the model" in refused(*begun)


def test_a_damaged_model_is_named_and_not_loaded(files, refused):
    damaged = files / "damaged"
    shutil.copytree(files / "big", damaged)
    vocabulary = damaged / "tgt.vocab.json"
    text = vocabulary.read_text()
    vocabulary.write_text(text.replace("ANBEN", "BEN").replace("CAT", "COT"))
    assert "tgt.vocab.json: damaged or edited" in refused(
        "translate", damaged, "--source", files / "test.src"
    )
    (damaged / "config.json").write_text("{")
    assert "config.json: damaged" in refused("translate", damaged, "--source", files / "test.src")


def test_a_lab_runs_from_files_and_prints_its_table(files, capsys):
    shape = [
        "--student-size.embed",
        "4",
        "--student-size.hidden",
        "4",
        "--student-training.epochs",
        "1",
    ]
    given = [*corpus(files), "--test", files / "test.src", files / "test.tgt", *WORDS, *shape]
    rest = ["--beams", "1", "--out", files / "lab", "--rows", "baseline"]
    printed = shown(capsys, "run", *given, *rest)
    page = files / "lab" / "page.html"
    told = f"{page}: all outputs, sentence by sentence; open it in a browser.\n"
    assert printed == (files / "lab" / "table.txt").read_text() + told
    assert CORPUS.test[0][0] in page.read_text()
    assert printed.splitlines()[2].split()[0] == "baseline"
    # Without a test set the validation text takes its place, which is said.
    assert main(list(map(str, ["run", *corpus(files), *WORDS, *shape, *rest]))) == 0
    said = capsys.readouterr().err
    assert "rows are tested on the validation text" in said and "evaluated again" in said


@pytest.mark.slow
def test_a_student_is_taught_from_a_cache(files, capsys, refused):
    out = files / "topk"
    given = ["cache", files / "big", "--source", files / "train.src", "--target"]
    said = shown(capsys, *given, files / "train.tgt", "--out", out, "--k", "5")
    assert "48 pairs of 240 tokens, k = 5 of 16" in said and "nats of KL" in said
    for side in "src", "tgt":
        twice = (files / f"train.{side}").read_text() * 2
        (files / f"twice.{side}").write_text(twice)
    again = ["cache", files / "big", "--source", files / "twice.src", "--target"]
    again = [*again, files / "twice.tgt", "--out", files / "topk-twice", "--k", "5"]
    assert main(list(map(str, again))) == 0
    assert "48 repeated pairs: stored once" in capsys.readouterr().err
    small = ["--embed", "4", "--hidden", "4", "--dropout", "0", *SHORT, "--teacher-cache", out]
    train = ["train", *corpus(files), *small, "--out"]
    shown(capsys, *train, files / "cached", "--teacher", files / "big")
    made_by = json.loads((files / "cached" / "config.json").read_bytes())["made_by"]
    teacher = load_model(files / "big").digest
    assert made_by["cache"] == {"k": 5, "temperature": 1.0, "teacher_digest": teacher}
    assert made_by["kd_weight"] == 0.5

    assert "needs --teacher" in refused(*train, files / "cached")
    other = ["train", "--train", files / "test.src", files / "test.tgt", *corpus(files)[2:]]
    error = refused(*other, *small, "--out", files / "x", "--teacher", files / "big")
    assert "line 1 is not in this cache" in error
    tsv = ["train", *corpus(files), *SIZE, *SHORT, *WORDS, "--seed", "2", "--out", files / "two"]
    shown(capsys, *tsv)
    assert "another teacher" in refused(*train, files / "y", "--teacher", files / "two")
