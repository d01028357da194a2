"""What people bring: tables, empty files, other formats, files made to do harm."""

import bz2
import gzip
import io
import lzma
import tempfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from small import CONFIG, MODEL, SRC_VOCAB, TGT_VOCAB, params
from small_lab import CORPUS

from seqkd_jax.__main__ import main
from seqkd_jax.build import VOCABULARIES
from seqkd_jax.contrib.factors import build_factored
from seqkd_jax.contrib.guided_alignment import read_alignments
from seqkd_jax.data import (
    build_words,
    corpus_from_files,
    encode_pairs,
    load_vocabulary,
    load_words,
    open_vocabulary,
    read_lines,
    read_pairs,
    read_sources,
    require_kept,
    train_pieces,
    write_lines,
)
from seqkd_jax.data.vectors import read_vectors
from seqkd_jax.data.waiting import open_text, waiting_lines
from seqkd_jax.decode.unknown import read_dictionary
from seqkd_jax.distill.teacher_cache import open_teacher_cache
from seqkd_jax.errors import UsageError
from seqkd_jax.files import UNPACKED_BYTES, unpack_gzip
from seqkd_jax.model_folder import load_model
from seqkd_jax.models.attention_lstm import network
from seqkd_jax.recipes import compress
from seqkd_jax.sealed import write_record
from seqkd_jax.trained import TrainedModel

VOCAB = build_words(["a b c"])
SIZES = SRC_VOCAB, TGT_VOCAB
SHORT = ["--hidden", "4", "--embed", "4", "--epochs", "1", "--vocabulary", "words"]


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """The corpus as files of two kinds, and a model that was trained on them."""
    folder = tmp_path_factory.mktemp("files")
    for part in ("train", "valid", "test"):
        pairs = getattr(CORPUS, part)
        write_lines(folder / f"{part}.src", [source for source, _ in pairs])
        write_lines(folder / f"{part}.tgt", [target for _, target in pairs])
        write_lines(folder / f"{part}.tsv", ["\t".join(pair) for pair in pairs])
    write_lines(folder / "none", [])
    write_lines(folder / "blank", ["", " ", "\t"])
    src, tgt = (
        build_words(side, size)
        for side, size in zip(zip(*CORPUS.train, strict=True), SIZES, strict=True)
    )
    compress(folder / "model", TrainedModel(MODEL, params(), src, tgt, network(CONFIG)), bits=8)
    return folder


def shown(capsys, *arguments):
    assert main([str(a) for a in arguments]) == 0
    return capsys.readouterr().out


def refused(capsys, *arguments):
    assert main([str(a) for a in arguments]) == 2
    return capsys.readouterr().err.strip().split("\n")[-1]


# One table in place of two files, for every command.


def test_a_table_is_read_column_by_column(files):
    sides = files / "test.src", files / "test.tgt"
    table = files / "test.tsv"
    assert read_sources(table) == read_lines(sides[0]) == read_sources(sides[0])
    pairs = CORPUS.test
    for given_files in [(table,), (table, table), (sides[0], table), (table, sides[1]), sides]:
        assert read_pairs(*given_files) == pairs
    link = files / "link.tsv"
    link.symlink_to(table)
    assert read_pairs(table, link) == pairs


SEARCH = ["--beam-size", "2", "--n-best", "2", "--max-extra", "2", "--max-ratio", "1"]


@pytest.mark.slow
def test_commands_take_the_column_of_a_table(files, capsys):
    src, tgt, table = (files / f"test.{ending}" for ending in ("src", "tgt", "tsv"))
    model = files / "model"
    translated = shown(capsys, "translate", model, "--source", src)
    assert shown(capsys, "translate", model, "--source", table) == translated
    scores = shown(capsys, "score", model, "--source", src, "--target", tgt)
    assert shown(capsys, "score", model, "--source", table) == scores
    assert shown(capsys, "score", model, "--source", table, "--target", table) == scores
    assert shown(capsys, "score", model, "--source", src, "--target", table) == scores
    shown(capsys, "extract", model, "--source", table, "--out", files / "states.npz")
    with np.load(files / "states.npz") as states:
        lengths = np.diff(states["source_offsets"]), np.diff(states["target_offsets"])
    sides = [[len(line.split()) for line in side] for side in zip(*CORPUS.test, strict=True)]
    assert [lengths[0].tolist(), (lengths[1] - 1).tolist()] == sides
    shown(capsys, "cache", model, "--source", table, "--k", "2", "--out", files / "cache")
    trained = load_model(model)
    encoded = encode_pairs(CORPUS.test, trained.src_vocab, trained.tgt_vocab)
    open_teacher_cache(files / "cache").require(encoded)
    for reference in ([], ["--reference", table]):
        given_files = ["--source", table, *reference]
        out = files / f"distilled-{len(reference)}"
        shown(capsys, "distill", model, *given_files, *SEARCH, "--out", out)
        assert read_lines(out / "train.src") == read_lines(src)
    row = shown(capsys, "evaluate", model, "--source", table, "--beams", "1")
    assert "BLEU" in row


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_table_with_another_number_of_columns_is_named(tmp_path, side):
    write_lines(tmp_path / "x.tsv", ["a\tb", "one"])
    write_lines(tmp_path / "y", ["a", "b"])
    paths = [tmp_path / "x.tsv", tmp_path / "y"]
    with pytest.raises(UsageError, match=r"x\.tsv:2: 1 columns"):
        read_pairs(*(paths if side == "source" else paths[::-1]))
    with pytest.raises(UsageError, match=r"x\.tsv:2: 1 columns"):
        read_sources(paths[0])


def test_one_text_file_is_not_both_sides(tmp_path):
    write_lines(tmp_path / "a", ["one", "two"])
    (tmp_path / "link").symlink_to(tmp_path / "a")
    write_lines(tmp_path / "copy", ["one", "two"])
    for other in ("a", "link"):
        with pytest.raises(UsageError, match="/a: given as source and as target"):
            read_pairs(tmp_path / "a", tmp_path / other)
    with pytest.warns(UserWarning, match="/a and .*/copy: source and target are the same"):
        read_pairs(tmp_path / "a", tmp_path / "copy")


# Files without text.

EMPTY = {"bytes": b"", "bom": b"\xef\xbb\xbf", "returns": b"\r\r", "lines": b"\n \n\t\r\n"}


@pytest.mark.parametrize("data", EMPTY.values(), ids=EMPTY.keys())
@pytest.mark.parametrize("side", ["source", "target", "both"])
def test_files_without_text_are_named_with_their_lines(tmp_path, data, side):
    count = len(data.decode("utf-8-sig").splitlines()) if data != EMPTY["returns"] else 1
    (tmp_path / "a").write_bytes(data)
    (tmp_path / "b").write_bytes(data if side == "both" else b"x\n" * count)
    paths = [tmp_path / "a", tmp_path / "b"]
    with pytest.raises(UsageError, match=f"/[ab] and .*/[ab]: {count} lines.*one sentence a line"):
        read_pairs(*(paths if side != "target" else paths[::-1]))


@pytest.mark.parametrize("part", ["train", "valid", "test"])
@pytest.mark.parametrize("kind", ["none", "blank"])
def test_training_without_text_is_refused_before_any_work(files, capsys, part, kind):
    write_lines(files / "three", ["a", "b", "c"] if kind == "blank" else [])
    parts = {name: [files / f"{name}.tsv"] for name in ("train", "valid", "test")}
    parts[part] = [files / kind, files / "three"]
    corpus = {name: [f"--{name}", *paths] for name, paths in parts.items()}
    never = ["--out", files / "never"]
    commands = [["run", *corpus["train"], *corpus["valid"], *corpus["test"], *never]]
    if part != "test":
        commands.append(["train", *corpus["train"], *corpus["valid"], *SHORT, *never])
    for command in commands:
        error = refused(capsys, *command)
        assert f"{files / kind} and {files / 'three'}: {3 * (kind == 'blank')} lines" in error
    assert not (files / "never").exists()


@pytest.mark.parametrize("kind", ["none", "blank"])
def test_commands_without_text_are_refused_with_the_file(files, capsys, kind):
    path, model = files / kind, files / "model"
    write_lines(files / "other", read_lines(path))
    two = ["--source", path, "--target", files / "other"]
    never = ["--out", files / "never"]
    for command in (["score", model, *two], ["cache", model, *two, *never]):
        assert f"{path} and {files / 'other'}: " in refused(capsys, *command)
    assert str(path) in refused(capsys, "extract", model, *two, *never)
    assert f"{path}: " in refused(capsys, "distill", model, "--source", path, *never)
    two[2] = "--reference"
    assert f"{path} and " in refused(capsys, "evaluate", model, *two)
    assert not (files / "never").exists()


def test_pairs_that_are_all_too_long_are_named_with_a_limit_that_would_do(files, capsys):
    long = [(" ".join(["cat"] * n), "X") for n in (70, 65, 90)]
    write_lines(files / "long.tsv", ["\t".join(pair) for pair in long])
    corpus = ["--train", files / "long.tsv", "--valid", files / "valid.tsv"]
    error = refused(capsys, "train", *corpus, *SHORT, "--out", files / "never")
    assert "long.tsv: all 3 pairs are longer than 60 tokens" in error
    assert "the shortest has 65" in error and "max_tokens" in error
    assert not (files / "never").exists()
    corpus = corpus_from_files(files / "long.tsv", files / "valid.tsv")
    corpus.require_shorter(65)
    encoded = encode_pairs(corpus.train, VOCAB, VOCAB, max_len=64)
    with pytest.raises(UsageError, match=r"long\.tsv: nothing is left.*3 longer than 64.*has 65"):
        require_kept(encoded, corpus.where("train"))


# Files of other kinds.

TEXT = "süß\nmore text\n"
KINDS = {
    "gzip": gzip.compress(gzip.compress(TEXT.encode())),  # read as text once unpacked
    "UTF-16": TEXT.encode("utf-16"),
    "UTF-16 ": b"\xfe\xff" + TEXT.encode("utf-16-be"),
    "UTF-32": TEXT.encode("utf-32"),
    "NUL byte": TEXT.encode("utf-16-le"),
    "xz": lzma.compress(TEXT.encode()),
    "bzip2": bz2.compress(TEXT.encode()),
    "zstd": b"(\xb5/\xfd\x04\x00Y\x00\x00",
}
_zip = io.BytesIO()
with zipfile.ZipFile(_zip, "w") as archive:
    archive.writestr("a.txt", TEXT)
KINDS["zip"] = _zip.getvalue()


@pytest.mark.parametrize("kind", KINDS)
def test_a_file_that_is_no_text_is_called_what_it_is(tmp_path, kind):
    (tmp_path / "a.txt").write_bytes(KINDS[kind])
    with pytest.raises(UsageError, match=rf"a\.txt.*{kind.strip()}") as error:
        read_lines(tmp_path / "a.txt")
    assert ("iconv" in str(error.value)) == (kind[:3] in ("UTF", "NUL"))


def test_a_gzip_file_needs_no_ending_and_one_with_it_must_be_one(tmp_path):
    (tmp_path / "a.txt").write_bytes(gzip.compress(TEXT.encode()))
    assert read_lines(tmp_path / "a.txt") == TEXT.splitlines()
    with open_text(tmp_path / "a.txt") as (file, name):
        assert [line for some in waiting_lines(file, name, 9) for line in some] == TEXT.splitlines()
    (tmp_path / "b.txt.gz").write_bytes(TEXT.encode())
    with pytest.raises(UsageError, match=r"b\.txt\.gz: not a gzip file, though its name"):
        read_lines(tmp_path / "b.txt.gz")


def test_lines_that_end_in_carriage_returns_alone_are_not_one_line(tmp_path):
    (tmp_path / "a").write_bytes(b"one\rtwo\rthree\r")
    with pytest.raises(UsageError, match="/a: its lines end in a carriage return alone"):
        read_lines(tmp_path / "a")


# Files made to do harm.


def test_a_gzip_file_of_many_members_is_read_in_one_pass():
    members = 30_000
    data = gzip.compress(b"x", mtime=0) * members + bytes(10_000)
    assert unpack_gzip("a.gz", data) == b"x" * members


@pytest.mark.parametrize("read", [read_pairs, read_dictionary])
def test_a_packed_file_that_would_fill_the_memory_is_refused(tmp_path, read):
    path = tmp_path / "a.tsv.gz"
    path.write_bytes(gzip.compress(bytes(UNPACKED_BYTES + 1)))
    with pytest.raises(UsageError, match=r"a\.tsv\.gz: unpacks to more than"):
        read(path)


def npz(path, **members):
    """A file with members as they are given, whatever their headers say."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, data in members.items():
            packed.writestr(f"{name}.npy", data)


def npy(array):
    file = io.BytesIO()
    np.save(file, array, allow_pickle=True)
    return file.getvalue()


def test_arrays_that_lie_about_their_size_are_refused(tmp_path):
    path = tmp_path / "v.npz"
    words, vectors = npy(np.array(["a", "b"])), npy(np.ones((2, 3)))
    npz(path, words=words, vectors=vectors)
    np.testing.assert_array_equal(read_vectors(path, VOCAB)[1], np.ones((2, 3)))
    shape = b"(2, 3), }"
    assert shape in vectors
    for lie in (b"(2, 3000000000), }", b"(2, 2), }", b"(-2, -3), }"):
        npz(path, words=words, vectors=vectors.replace(shape, lie))
        with pytest.raises(UsageError, match=r"v\.npz: .*damaged"):
            read_vectors(path, VOCAB)
    npz(path, words=words, vectors=bytes(UNPACKED_BYTES + 1))
    with pytest.raises(UsageError, match=r"v\.npz: unpacks to more than"):
        read_vectors(path, VOCAB)


@pytest.mark.parametrize(
    "arrays",
    [
        {"words": npy(np.array(["a", "b"], object)), "vectors": npy(np.ones((2, 3)))},
        {"words": npy(np.array(["a", "b"])), "vectors": npy(np.array([[1, np.inf], [0, 0]]))},
        {"words": npy(np.array(["a", "b"])), "vectors": npy(np.full((2, 2), 1e300))},
        {"words": npy(np.array(["a", "b"])), "vectors": npy(np.full((2, 2), "x"))},
        {"words": npy(np.array([["a", "b"]] * 2)), "vectors": npy(np.ones((2, 3)))},
        {"words": npy(np.array(1)), "vectors": npy(np.ones((2, 3)))},
        {"words": npy(np.array(["a", "b"])), "vectors": npy(np.ones((2, 0)))},
        {"word_vecs": npy(np.ones(7))},
        {"other": npy(np.ones(7))},
    ],
    ids=["pickle", "inf", "large", "text", "square", "scalar", "no-numbers", "flat", "other"],
)
def test_arrays_of_other_kinds_are_refused_by_name(tmp_path, arrays):
    npz(tmp_path / "v.npz", **arrays)
    with pytest.raises(UsageError, match=r"v\.npz: "):
        read_vectors(tmp_path / "v.npz", VOCAB)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["1000000000 300", "a 1 2"], r"v: its first line promises 1000000000 words of 300"),
        (["2 2", "a 1 2"], r"v: its first line promises 2 words"),
        (["a Infinity 1"], r"v:1: has a number that is not finite"),
        (["b 1 1", "a nan 1"], r"v:2: has a number that is not finite"),
        (["a 1e39 1"], r"v:1: has a number that is not finite, or too large"),
        (["a x 1"], r"v:1: is not a word followed by numbers"),
        (["a 1 1", "", "b 1 1"], r"v:2: does not have as many"),
    ],
)
def test_vectors_that_are_none_are_named_by_line(tmp_path, lines, message):
    write_lines(tmp_path / "v", lines)
    with pytest.raises(UsageError, match=message):
        read_vectors(tmp_path / "v", VOCAB)


def test_links_with_more_digits_than_a_number_has_are_refused(tmp_path):
    write_lines(tmp_path / "a", ["0-" + "1" * 5000])
    with pytest.raises(UsageError, match=r"/a:1: .* is not a link"):
        read_alignments(tmp_path / "a", [("x", "y")])


def test_a_list_of_one_word_a_million_times_is_refused_at_the_second(tmp_path):
    (tmp_path / "words").write_bytes(b"the\n" * 1_000_000)
    with pytest.raises(UsageError, match=r"words:2: 'the' occurs twice, first as number 1\."):
        load_words(tmp_path / "words")


@pytest.mark.parametrize(
    "change",
    [
        {"words": None},
        {"words": ["a", "b"]},
        {"words": [1, 2]},
        {"lower": 1},
        {"kind": "other"},
        {"kind": "bpe"},
        {"kind": "factored"},
        {"kind": "factored", "features": [["a"]], "max_word": 9, "characters": []},
        {"kind": "factored", "features": [], "max_word": 10**9, "characters": []},
        {"kind": "factored", "features": [], "max_word": 9, "characters": ["a"]},
    ],
    ids=str,
)
def test_a_vocabulary_that_is_sealed_but_none_is_refused(tmp_path, change):
    record = {"kind": "words", "lower": False, "words": list(VOCAB.words)}
    write_record(tmp_path / "a", "seqkd-vocabulary-1", record)
    assert load_vocabulary(tmp_path / "a", VOCABULARIES) == VOCAB
    write_record(tmp_path / "a", "seqkd-vocabulary-1", record | change)
    with pytest.raises(UsageError, match="/a: damaged vocabulary: .*Restore"):
        load_vocabulary(tmp_path / "a", VOCABULARIES)


# Any bytes: a value, or an error that names the file.

LINES = ["a-|-x b-|-y", "c-|-z"]


def _examples() -> list[bytes]:
    """Files of every kind, to be bent by the fuzzer."""
    with tempfile.TemporaryDirectory() as folder:
        return _files(Path(folder))


def _files(folder: Path) -> list[bytes]:
    build_words(["a b"]).save(folder / "words")
    train_pieces(["a b"], 20).save(folder / "pieces")
    build_factored(LINES, characters=9).save(folder / "factored")
    (folder / "model").write_bytes(train_pieces(["a b ab"], 20).model)
    npz(folder / "npz", words=npy(np.array(["a", "b"])), vectors=npy(np.ones((2, 3))))
    write_lines(folder / "packed.gz", ["a\tb", "c\td"])
    return [path.read_bytes() for path in sorted(folder.iterdir())] + [
        b"a\tb\n",
        b"2 2\na 1 2\nb 1 nan\n",
        b"0-0 1-1\n",
        b"a ||| b\nc|||d\n",
        b'{"a": 0, "\\ud800": 1}',
        b'["a", "b"]',
        b'"a": 0\nb: 1\n',
        b"0 ||| a b ||| -1.5\n",
        b"the 12\na 3\n",
        b"[" * 100_000,
        b"1" * 5_000,
        b"\r",
    ]


EXAMPLES = _examples()
READERS = {
    "lines": ("a", read_lines),
    "lines-gz": ("a.gz", read_lines),
    "sources": ("a.tsv", read_sources),
    "pairs": ("a.tsv.gz", read_pairs),
    "alignments": ("a", lambda path: read_alignments(path, [("a b", "c d")])),
    "dictionary": ("a", read_dictionary),
    "vectors": ("a.vec", lambda path: read_vectors(path, VOCAB)),
    "npz": ("a.npz", lambda path: read_vectors(path, VOCAB)),
    "vocabulary": ("a.vocab.json", lambda path: load_vocabulary(path, VOCABULARIES)),
    "words": ("a.txt", open_vocabulary),
    "words-lower": ("a.txt", lambda path: open_vocabulary(path, lower=True)),
    "words-json": ("a.json", open_vocabulary),
    "words-yml": ("a.yml", open_vocabulary),
    "pieces": ("a.model", open_vocabulary),
}


@st.composite
def bent(draw) -> bytes:
    """Bytes of any kind, or a good file with a few bytes changed, cut off or put in."""
    data = bytearray(draw(st.one_of(st.binary(), st.sampled_from(EXAMPLES))))
    for _ in range(draw(st.integers(0, 4))):
        place = draw(st.integers(0, len(data)))
        data[place : place + draw(st.integers(0, 3))] = draw(st.binary(max_size=3))
    return bytes(data)


def check_reader(reader, data, folder):
    name, read = READERS[reader]
    path = folder / name
    path.write_bytes(data)
    try:
        value = read(path)
    except UsageError as error:
        assert str(path) in str(error)
        return
    if hasattr(value, "encode"):  # a vocabulary that was loaded is one that works
        assert isinstance(value.decode(x for x in range(value.size)), str)
        if reader != "vocabulary":
            value.encode("a b <unk>\u00a0日本")


fuzzed = pytest.mark.parametrize("reader", READERS)
shared_folder = [HealthCheck.function_scoped_fixture, HealthCheck.too_slow]


@fuzzed
@settings(deadline=None, max_examples=100, suppress_health_check=shared_folder)
@given(data=bent())
@example(data=EXAMPLES[-3])
@example(data=EXAMPLES[-2])
def test_readers_of_any_bytes_give_a_value_or_name_the_file(tmp_path, reader, data):
    check_reader(reader, data, tmp_path)


@pytest.mark.parametrize("reader", READERS)
def test_readers_name_a_file_that_is_missing_and_a_folder(tmp_path, reader):
    name, read = READERS[reader]
    with pytest.raises(FileNotFoundError, match=f"{name}: no such file"):
        read(tmp_path / name)
    (tmp_path / name).mkdir()
    with pytest.raises(UsageError, match=f"{name}: .*"):
        read(tmp_path / name)
