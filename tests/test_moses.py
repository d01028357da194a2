"""N-best lists in the form of Moses: what ``translate --n-best`` prints, and what others write."""

import gzip
import json

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from small_folder import SRC, write_small

from seqkd_jax.__main__ import main
from seqkd_jax.data import read_lines, write_lines
from seqkd_jax.decode.lists import NBest, moses_lines
from seqkd_jax.decode.nbest import read_nbest
from seqkd_jax.distill import select
from seqkd_jax.errors import UsageError

SINGLE = st.floats(width=32, allow_nan=False, allow_infinity=False)
BARS = [
    "",
    " ",
    "|||",
    " ||| ",
    "a ||| b",
    "||| ",
    "a |||",
    "0 ||| b ||| -1",
    "| || |||| |",
    "x= 1",
]
TEXTS = st.one_of(
    st.sampled_from(BARS),
    st.text(st.characters(codec="utf-8", exclude_characters="\n\r\0"), max_size=8),
    st.lists(st.sampled_from(["|||", "|", " ", "a", "-1", "b="]), max_size=6).map("".join),
)


def written(path, nbest):
    write_lines(path, [line for n in nbest for line in moses_lines(n)])
    return path


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.tuples(
            st.booleans(), st.lists(st.tuples(TEXTS, SINGLE, SINGLE), min_size=1, max_size=4)
        ),
        min_size=1,
        max_size=4,
    ),
)
@example([(True, [(text, -1.5, -3.25) for text in BARS])])
@example([(False, [(text, 2.0**-70, 2.0**127) for text in BARS])])
def test_what_is_written_is_read_back_equal(tmp_path_factory, lists):
    nbest = []
    for index, (known, rows) in enumerate(lists):
        texts, scores, logs = zip(*rows, strict=True)
        nbest.append(NBest(index, texts, scores=scores, log_probs=logs if known else ()))
    path = written(tmp_path_factory.mktemp("moses") / "lists", nbest)
    assert read_nbest(path) == ({}, nbest)


THEIRS = """\
0 ||| das ist ein Haus ||| LM0= -11.2 Distortion0= 0 TM0= -0.6 -1.2 ||| -4.5
0 ||| das ist Haus ||| LM0= -12 Distortion0= 0 TM0= -0.6 -1.2 ||| -5e0
1 ||| ||| LM0= -1 ||| -.5
2 ||| ohne Merkmale ||| -7
2 ||| alte Form ||| d: 0 lm: -1.5 w: -2 ||| -8.
3 ||| Merkmale=1 ||| F0=1.5 F1=-2 ||| -9
"""
WANT = [
    NBest(0, ("das ist ein Haus", "das ist Haus"), scores=(-4.5, -5.0)),
    NBest(1, ("",), scores=(-0.5,)),
    NBest(2, ("ohne Merkmale", "alte Form"), scores=(-7.0, -8.0)),
    NBest(3, ("Merkmale=1",), scores=(-9.0,)),
]


@pytest.mark.parametrize("name", ["theirs", "theirs.nbest.gz"])
@pytest.mark.parametrize("first", [0, 1])
def test_lists_of_other_systems_are_read_from_0_or_from_1(tmp_path, name, first):
    lines = [
        f"{int(line.split()[0]) + first}{line.removeprefix(line.split()[0])}"
        for line in THEIRS.splitlines()
    ]
    data = "".join(line + "\r\n" for line in lines).encode()
    path = tmp_path / name
    path.write_bytes(gzip.compress(data) if name.endswith("gz") else data)
    assert read_nbest(path, first) == ({}, WANT)
    with pytest.raises(
        UsageError, match=f":1: begins with sentence {first}, but sentence {1 - first}"
    ):
        read_nbest(path, 1 - first)


BAD = {
    "two-fields": "1 ||| text",
    "no-score": "1 ||| text ||| good",
    "no-finite-score": "1 ||| text ||| -inf",
    "a-score-too-large": "1 ||| text ||| 1e99",
    "features-are-words": "1 ||| text ||| more text ||| -1",
    "no-index": "one ||| text ||| -1",
    "index-is-no-whole-number": "1.0 ||| text ||| -1",
    "negative": "-1 ||| text ||| -1",
    "empty": "",
    "json": '{"index": 1, "hypotheses": []}',
    "left-out": "2 ||| text ||| -1",
    "out-of-order": "7 ||| text ||| -1",
    "log-prob-of-some": "0 ||| text ||| log_prob= -1 ||| -1",
    "log-prob-is-a-word": "1 ||| text ||| log_prob= w= ||| -1",
}


@pytest.mark.parametrize("bad", BAD.values(), ids=BAD)
def test_a_bad_line_is_named_with_what_is_expected(tmp_path, bad):
    path = tmp_path / "theirs"
    write_lines(path, ["0 ||| gut ||| -1", bad, "1 ||| gut ||| -1"])
    with pytest.raises(UsageError) as error:
        read_nbest(path)
    assert str(error.value).startswith(f"{path}:2: ")
    assert "delete" not in str(error.value).lower()


def test_a_sentence_that_comes_twice_is_named(tmp_path):
    path = tmp_path / "theirs"
    write_lines(path, [f"{n} ||| gut ||| -1" for n in (0, 1, 0)])
    with pytest.raises(UsageError, match=":3: .*sentence 0 is repeated"):
        read_nbest(path)


# The commands.


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """A model, a text, and the lists that the command prints for it."""
    folder = tmp_path_factory.mktemp("moses")
    write_small(folder / "model")
    rng = np.random.default_rng(0)
    lines = [" ".join(rng.choice(SRC.words[4:], rng.integers(1, 6))) for _ in range(9)]
    write_lines(folder / "text", [*lines[:4], "", *lines[4:]])
    write_lines(folder / "reference", ["über äh"] * 10)
    search = ["--beam-size", "3", "--n-best", "3", "--max-ratio", "1", "--max-extra", "2"]
    both = ["--source", folder / "text", "--out"]
    run("translate", folder / "model", *search, *both, folder / "lists")
    run("distill", folder / "model", *search, *both, folder / "distilled")
    return folder


def run(*arguments, status=0):
    assert main([str(a) for a in arguments]) == status


def test_what_translate_prints_is_what_the_search_found(files):
    printed, found = read_nbest(files / "lists")[1], read_nbest(files / "distilled" / "nbest")[1]
    assert [(n.index, n.texts) for n in printed] == [(n.index, n.texts) for n in found]
    for a, b in zip(printed, found, strict=True):
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)
        np.testing.assert_allclose(a.log_probs, b.log_probs, atol=1e-5)


@pytest.mark.parametrize("first", [0, 1])
@pytest.mark.parametrize("choice", ["best", "closest", "mbr"])
def test_a_corpus_is_distilled_from_lists_there_are(files, tmp_path, first, choice):
    lists = read_nbest(files / "lists")[1]
    lines = [line for n in lists for line in moses_lines(n)]
    if first:
        lines = [f"{int(i) + 1} {rest}" for i, rest in (line.split(" ", 1) for line in lines)]
    write_lines(tmp_path / "theirs", lines)
    text, reference = read_lines(files / "text"), read_lines(files / "reference")
    pairs = list(zip(text, reference, strict=True))
    more, want = {
        "best": ([], select.seq_kd([(s, "") for s in text], lists)),
        "closest": (["--reference", files / "reference"], select.seq_inter(pairs, lists)),
        "mbr": (["--mbr"], select.mbr([(s, "") for s in text], lists)),
    }[choice]
    from_lists = [
        "--nbest",
        tmp_path / "theirs",
        "--first-index",
        first,
        "--source",
        files / "text",
    ]
    run("distill", *from_lists, *more, "--out", tmp_path / "out")
    assert read_lines(tmp_path / "out" / "train.tgt") == [target for _, target in want.pairs]
    written = ["distill.json", "train.sha256", "train.src", "train.tgt"]
    assert sorted(p.name for p in (tmp_path / "out").iterdir()) == written


def test_shards_of_this_library_serve_as_well_and_must_be_of_this_text(files, tmp_path, capsys):
    given_lists = ["--nbest", files / "distilled" / "nbest", "--out", tmp_path / "out"]
    run("distill", *given_lists, "--source", files / "text")
    for side in "src", "tgt":
        want = read_lines(files / "distilled" / f"train.{side}")
        assert read_lines(tmp_path / "out" / f"train.{side}") == want
    run("distill", *given_lists, "--source", files / "reference", status=2)
    assert "from another text than" in capsys.readouterr().err


def test_the_folder_of_a_distilled_corpus_serves_as_its_lists(files, tmp_path):
    both = ["--source", files / "text", "--out", tmp_path / "out"]
    run("distill", "--nbest", files / "distilled", *both)
    want = read_lines(files / "distilled" / "train.tgt")
    assert read_lines(tmp_path / "out" / "train.tgt") == want


@pytest.mark.parametrize("reference", [False, True])
def test_lists_without_a_hypothesis_are_counted(tmp_path, capsys, reference):
    write_lines(tmp_path / "text", ["a b", "", "c"])
    write_lines(tmp_path / "reference", ["x", "", "z"])
    lists = [["y"], [], []]
    rows = [{"index": n, "hypotheses": [{"text": t} for t in each]} for n, each in enumerate(lists)]
    write_lines(tmp_path / "lists.jsonl", map(json.dumps, rows))
    more = ["--reference", tmp_path / "reference"] if reference else []
    given = ["--nbest", tmp_path / "lists.jsonl", "--source", tmp_path / "text"]
    run("distill", *given, *more, "--out", tmp_path / "out")
    assert read_lines(tmp_path / "out" / "train.tgt") == ["y", "", "z" if reference else ""]
    said = " ".join(capsys.readouterr().err.split())
    assert "no hypotheses for 1 source (line 3)" in said


def test_settings_that_lists_there_are_do_not_obey_are_refused(files, tmp_path, capsys):
    both = ["--source", files / "text", "--out", tmp_path / "out"]
    lists = ["--nbest", files / "lists"]
    for arguments, why in {
        (files / "model", *lists): "leave out the teacher's folder",
        (*lists, "--beam-size", "9"): "options of a search",
        (): "Name the folder of the teacher, or",
        (files / "model", "--first-index", "1"): "--first-index has no effect without --nbest",
        (*lists, "--first-index", "1"): "begins with sentence 0, but sentence 1 is expected",
        ("--nbest", files / "text"): "text:1: not JSON",
    }.items():
        run("distill", *arguments, *both, status=2)
        assert why in capsys.readouterr().err
    write_lines(tmp_path / "short", read_lines(files / "lists")[:6])
    run("distill", "--nbest", tmp_path / "short", *both, status=2)
    assert "lists of 2 sentences" in capsys.readouterr().err
    scored = ["translate", files / "model", "--source", files / "text", "--scores", "--n-best", "2"]
    run(*scored, status=2)
    assert "leave out --scores" in capsys.readouterr().err
