import functools
import gzip
import hashlib
import http.server
import json
import threading
from collections import Counter

import pytest

from seqkd_jax import console
from seqkd_jax.data import (
    Corpus,
    build_words,
    corpus_from_files,
    describe,
    encode_pairs,
    load_corpus,
    plan_buckets,
    train_pieces,
    write_lines,
)
from seqkd_jax.data.corpora import (
    GRAMMAR_TEST,
    GRAMMAR_TRAIN,
    GRAMMAR_VALID,
    multi30k,
    multi30k_sha256,
)
from seqkd_jax.settings import Messages

SPLITS = ("train", "val", "test_2016_flickr")


def write_small(folder):
    """Writes a folder like the real one, with a few lines in each file; returns their sha256."""
    known = {}
    for form, suffix in (("tok", ".lc.norm.tok"), ("raw", "")):
        (folder / form).mkdir(parents=True)
        for split in SPLITS:
            for language in ("en", "de"):
                name = f"{form}/{split}{suffix}.{language}"
                text = f"{split} {language}\nsecond line\n".encode()
                known[name] = hashlib.sha256(text).hexdigest()
                if form == "raw":
                    name, text = f"{name}.gz", gzip.compress(text)
                    known[name] = hashlib.sha256(text).hexdigest()
                (folder / name).write_bytes(text)
    return known


@pytest.fixture
def small(tmp_path, monkeypatch):
    """The folder of the files, and how to load them."""
    monkeypatch.setenv("SEQKD_DATA", str(tmp_path))
    folder = tmp_path / "multi30k" / "task1"
    return folder, functools.partial(multi30k, digests=write_small(folder))


EXPECTED = {
    split: [(f"{split} de", f"{split} en"), ("second line", "second line")] for split in SPLITS
}


@pytest.mark.parametrize("form", ["tok", "raw"])
def test_a_named_corpus_is_read_from_a_folder(small, form):
    corpus = small[1]("de-en", form)
    assert (corpus.name, corpus.src, corpus.tgt) == ("multi30k", "de", "en")
    assert (corpus.train, corpus.valid, corpus.test) == tuple(EXPECTED.values())
    assert str(corpus) == "multi30k de-en: 2 / 2 / 2 pairs (train / valid / test)"
    assert "second" not in repr(corpus)


def test_files_may_be_packed_or_not(small):
    folder, load = small
    for path in (folder / "raw").iterdir():
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    for path in (folder / "tok").iterdir():
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert load("de-en", "raw").train == EXPECTED["train"]
    assert load("de-en", "tok").train == EXPECTED["train"]


def test_a_file_that_is_not_the_published_one_is_named(small):
    folder, load = small
    path = folder / "tok" / "val.lc.norm.tok.de"
    path.write_bytes(path.read_bytes().replace(b"val", b"var"))
    with pytest.raises(ValueError, match=r"val\.lc\.norm\.tok\.de: not the published file"):
        load()


def test_a_missing_file_is_named(small):
    folder, load = small
    (folder / "raw" / "train.de.gz").unlink()
    with pytest.raises(FileNotFoundError, match=r"raw/train\.de: no such file.*SEQKD_DATA"):
        load(form="raw")


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args):
        pass


@pytest.fixture
def served(tmp_path, monkeypatch):
    """A folder behind a web server of this machine, how to load its files, and an empty cache."""
    folder = tmp_path / "served"
    known, handler = write_small(folder), functools.partial(Quiet, directory=str(folder))
    monkeypatch.delenv("SEQKD_DATA", raising=False)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.setattr("pooch.os_cache", lambda name: tmp_path / "cache" / name)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        url = f"http://127.0.0.1:{server.server_port}/"
        yield folder, functools.partial(multi30k, url=url, digests=known)
        server.shutdown()
        thread.join()


@pytest.mark.parametrize("form", ["tok", "raw"])
def test_a_named_corpus_is_downloaded_once(served, form):
    folder, load = served
    assert load("de-en", form).test == EXPECTED["test_2016_flickr"]
    for path in (folder / form).iterdir():
        path.unlink()
    assert load("de-en", form).test == EXPECTED["test_2016_flickr"]


def test_a_download_says_how_far_it_is_as_all_work_does(served, capfd):
    _, load = served
    console.speak(Messages(log_json=True))
    try:
        load("de-en", "tok")
    finally:
        console.speak(Messages())
    said = [json.loads(line) for line in capfd.readouterr().err.splitlines()]
    named = [one for one in said if one.get("what", "").startswith("downloading tok/")]
    done = [one for one in named if one["done"]]
    assert len({one["what"] for one in done}) == 6
    assert all(one["done"] == one["total"] and one["unit"] == "byte" for one in done)


def test_a_damaged_download_is_fetched_again_or_refused(served, tmp_path):
    folder, load = served
    load()
    cached = tmp_path / "cache" / "seqkd_jax" / "multi30k" / "train.lc.norm.tok.en"
    whole = cached.read_bytes()
    cached.write_bytes(whole[:-3])
    load()
    assert cached.read_bytes() == whole
    cached.unlink()
    (folder / "tok" / cached.name).write_bytes(b"something else\n")
    with pytest.raises(ValueError, match=cached.name):
        load()
    (folder / "tok" / cached.name).unlink()
    with pytest.raises(ConnectionError, match=f"{cached.name}: download failed.*SEQKD_DATA"):
        load()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("wmt",), "multi30k, grammar"),
        (("multi30k", "en-xx"), "en, de, fr, cs"),
        (("multi30k", "en-en"), "two different"),
        (("multi30k", "ende"), 'as in "en-de"'),
        (("multi30k", "en-de", "bpe"), '"tok" and "raw"'),
    ],
    ids=["name", "language", "same", "pair", "form"],
)
def test_unknown_names_are_answered_with_the_known_ones(arguments, message):
    with pytest.raises(ValueError, match=message):
        load_corpus(*arguments)


def test_any_files_make_a_corpus(tmp_path):
    write_lines(tmp_path / "a.en", ["one", "two"])
    write_lines(tmp_path / "a.de", ["eins", "zwei"])
    write_lines(tmp_path / "b.tsv.gz", ["three\tdrei"])
    train = (tmp_path / "a.en", tmp_path / "a.de")
    corpus = corpus_from_files(train, tmp_path / "b.tsv.gz", pair="en-de")
    assert corpus.train == [("one", "eins"), ("two", "zwei")]
    assert corpus.valid == [("three", "drei")] and corpus.test == []
    assert (corpus.name, corpus.src, corpus.tgt) == ("files", "en", "de")
    same = corpus_from_files(train, tmp_path / "b.tsv.gz", name="other")
    assert same.digest == corpus.digest


def test_swapped_files_are_said(tmp_path, capsys):
    lines = {
        "en": ["a dog sleeps .", "a cat eats ."],
        "de": ["ein Hund schläft .", "die Katze isst ."],
    }
    for language, texts in lines.items():
        (tmp_path / language).write_text("\n".join(texts) + "\n", encoding="utf-8")
    train, swapped = (tmp_path / "en", tmp_path / "de"), (tmp_path / "de", tmp_path / "en")
    corpus_from_files(train, train, train)
    assert "swapped" not in capsys.readouterr().err
    corpus_from_files(train, swapped, train)
    corpus_from_files(train, train, swapped)
    said = f"{tmp_path / 'de'} and {tmp_path / 'en'}: the sources have words of the training"
    assert capsys.readouterr().err.count(said) == 2


def test_the_digest_tells_the_parts_apart():
    a, b, c = ("1", "2"), ("3", "4"), ("5", "6")
    parts = [([a, b], [c], []), ([a], [b, c], []), ([a, b, c], [], []), ([b, a], [c], [])]
    assert len({Corpus("x", "s", "t", *part).digest for part in parts}) == len(parts)


def test_every_multi30k_file_has_its_sha256():
    known = multi30k_sha256()
    assert len(known) == 36 and all(len(digest) == 64 for digest in known.values())
    assert Counter(name.split("/")[0] for name in known) == {"raw": 24, "tok": 12}


@pytest.mark.slow
def test_the_grammar_is_a_corpus():
    pytest.importorskip("seqkd_jax.data.grammar")
    corpus = load_corpus("grammar")
    sizes = [len(part) for part in (corpus.train, corpus.valid, corpus.test)]
    assert sizes == [GRAMMAR_TRAIN, GRAMMAR_VALID, GRAMMAR_TEST]
    assert corpus.digest == load_corpus("grammar").digest


@pytest.mark.parametrize("form", ["tok", "raw"])
@pytest.mark.slow
def test_multi30k_itself_is_read_and_batched(corpora_folder, form):
    corpus = load_corpus("multi30k", form=form)
    assert [len(p) for p in (corpus.train, corpus.valid, corpus.test)] == [29000, 1014, 1000]
    assert load_corpus("multi30k", "de-en", form).train[0] == corpus.train[0][::-1]
    pieces = [train_pieces(side, 8000) for side in zip(*corpus.train, strict=True)]
    for vocab, side in zip(pieces, zip(*corpus.train, strict=True), strict=True):
        # bytes.split, unlike str.split, leaves the German text its no-break spaces.
        text = [b" ".join(line.encode().split()).decode() for line in side]
        assert all(vocab.decode(vocab.encode(line)) == line for line in text)
    encoded = encode_pairs(corpus.train, *pieces, max_len=60)
    assert encoded.report.kept + encoded.report.overlong == 29000
    plan = plan_buckets(encoded, tokens_per_batch=2048)
    assert float(describe(plan).split(", ")[-1].split("%")[0]) < 20
    assert build_words([t for _, t in corpus.train], 10_000).size == 10_000
