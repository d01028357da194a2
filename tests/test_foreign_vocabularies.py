"""Vocabularies that others made: SentencePiece models of any ids, and lists of words."""

import functools
import io
import json
from dataclasses import replace

import pytest
import sentencepiece
from hypothesis import given, settings
from hypothesis import strategies as st
from small_lab import CORPUS

from seqkd_jax.__main__ import main
from seqkd_jax.base import BOS, EOS, PAD, UNK
from seqkd_jax.contrib.factors import build_factored
from seqkd_jax.data import (
    build_words,
    load_pieces,
    load_vocabulary,
    load_words,
    open_vocabulary,
    read_lines,
    train_pieces,
    write_lines,
)
from seqkd_jax.errors import UsageError
from seqkd_jax.model_folder import load_model
from seqkd_jax.recipes.stages import Experiment
from seqkd_jax.settings import Plan

TEXT = ["the cat sat on the mat", "a dog sees the cat <sep>", "Ein Hund läuft schnell", "½ ﬁsh"] * 4
LINES = [
    *TEXT[:4],
    "the  cat \u00a0sat",
    "ﬁsh\u200bcat Ｃａｔ ½",
    "dog▁cat ▁",
    "a<sep>dog <mask> cat <s> </s> <pad>",
    "the\tcat ",
    " a",
    "",
]
UNSEEN = "日本 dog"
LAYOUTS = {
    "ours": dict(pad_id=0, unk_id=1, bos_id=2, eos_id=3),
    "T5": dict(pad_id=0, eos_id=1, unk_id=2, bos_id=-1),
    "default": dict(unk_id=0, bos_id=1, eos_id=2, pad_id=-1),
    "fairseq": dict(bos_id=0, pad_id=1, eos_id=2, unk_id=3),
    "custom": dict(unk_id=7, bos_id=-1, eos_id=3, pad_id=5, eos_piece="<END>", unk_piece="<UNK>"),
    "bare": dict(unk_id=0, bos_id=-1, eos_id=-1, pad_id=-1),
}
OPTIONS = {
    "plain": dict(model_type="unigram", normalization_rule_name="identity"),
    "nfkc": dict(model_type="bpe", normalization_rule_name="nmt_nfkc"),
    "bytes": dict(model_type="bpe", byte_fallback=True, normalization_rule_name="identity"),
    "symbols": dict(
        model_type="unigram",
        user_defined_symbols=["<sep>", "cat"],
        control_symbols=["<mask>", "<2de>"],
        normalization_rule_name="nmt_nfkc",
    ),
    "spaces": dict(
        model_type="bpe",
        add_dummy_prefix=False,
        remove_extra_whitespaces=False,
        normalization_rule_name="identity",
    ),
    "suffix": dict(treat_whitespace_as_suffix=True, normalization_rule_name="identity"),
}


@functools.cache
def model(layout="default", options="plain"):
    """A SentencePiece model as others train it."""
    file = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(TEXT),
        model_writer=file,
        vocab_size=340 if options == "bytes" else 70,
        hard_vocab_limit=False,
        num_threads=1,
        minloglevel=2,
        **LAYOUTS[layout],
        **OPTIONS[options],
    )
    return file.getvalue()


@pytest.mark.parametrize("options", OPTIONS)
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_model_of_any_ids_gives_its_own_pieces_and_text(tmp_path, layout, options):
    path = tmp_path / "a.model"
    path.write_bytes(model(layout, options))
    vocab = open_vocabulary(path)
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model(layout, options))

    assert vocab.tokens([PAD, UNK, BOS, EOS]) == ["<blank>", "<unk>", "<s>", "</s>"]
    special = {theirs.pad_id(), theirs.unk_id(), theirs.bos_id(), theirs.eos_id()}
    others = [n for n in range(theirs.get_piece_size()) if n not in special]
    assert vocab.tokens(range(4, vocab.size)) == [theirs.id_to_piece(n) for n in others]

    for line in LINES:
        ids = vocab.encode(line)
        assert all(n == UNK or EOS < n < vocab.size for n in ids)
        known = [theirs.id_to_piece(n) for n in theirs.encode(line) if n != theirs.unk_id()]
        assert [piece for n, piece in zip(ids, vocab.tokens(ids), strict=True) if n != UNK] == known
        if UNK not in ids:
            text = theirs.decode(theirs.encode(line)).strip(" ")
            assert vocab.decode([BOS, *ids, EOS, 5]) == text
    unseen = vocab.encode(UNSEEN)
    assert (UNK in unseen) == (options != "bytes")
    expected = UNSEEN if options == "bytes" else "<unk> dog"
    assert vocab.decode(unseen).split() == expected.split()
    assert vocab.encode("cat <unk> <unk> dog").count(UNK) == 2
    assert vocab.decode(vocab.encode("cat <unk> <unk> dog")) == "cat <unk> <unk> dog"

    vocab.save(tmp_path / "a.vocab.json")
    loaded = load_vocabulary(tmp_path / "a.vocab.json")
    assert loaded == vocab and loaded.digest == vocab.digest
    assert [loaded.encode(line) for line in LINES] == [vocab.encode(line) for line in LINES]
    lower = open_vocabulary(path, lower=True)
    assert lower.encode("The CAT") == vocab.encode("the cat") and lower.digest != vocab.digest


@functools.cache
def byte_pieces(folder):
    (folder / "a.model").write_bytes(model("T5", "bytes"))
    return load_pieces(folder / "a.model")


@settings(deadline=None, max_examples=100)
@given(data=st.data())
def test_any_ids_of_byte_pieces_give_one_line_of_valid_text(tmp_path_factory, data):
    vocab = byte_pieces(tmp_path_factory.getbasetemp())
    names = vocab.tokens(range(vocab.size))
    place = {name: n for n, name in enumerate(names)}
    ids = [place["<0x0A>"], place["<0x00>"], place["<0xE6>"]]
    ids = data.draw(st.permutations(ids + data.draw(st.lists(st.integers(4, vocab.size - 1)))))
    text = vocab.decode(ids)
    assert "\n" not in text and "\0" not in text
    assert text.encode().decode() == text


HARD = [
    "U+2581 ▁ and ▁inside▁ words",
    "U+2585 ▅ and in▅side",
    "<s> in </s> text <blank> a<s>b <pad>",
    "10\u00a0km and \u00a0",
    "zero\u200bwidth \u200b",
    "ideographic\u3000space next\u0085line line\u2028separator",
]


@pytest.mark.parametrize("kind", ["words", "bpe", "unigram"])
def test_every_character_comes_back_as_it_went_in(kind):
    vocab = build_words(HARD) if kind == "words" else train_pieces(HARD, 200, kind=kind)
    for line in HARD:
        ids = vocab.encode(line)
        assert not {PAD, UNK, BOS, EOS} & set(ids)
        assert vocab.decode(ids) == line
        assert vocab.decode(vocab.encode(f" {line}\t<unk> ")) == f"{line} <unk>"


def test_source_tokens_with_features_may_be_any_words():
    vocab = build_factored(["<s>-|-X 10\u00a0km-|-Y"], characters=20)
    assert vocab.decode(vocab.encode("<s>-|-X 10\u00a0km-|-Y")) == "<s> 10\u00a0km"


# Lists of words.

LISTED = ["the", "cat", "süß", "10\u00a0km", "1", "a:b", '"quoted"']
LISTS = {
    "plain.txt": "\n".join(LISTED),
    "plain.txt.gz": "\n".join(["<unk>", *LISTED, "</s>", "<pad>", "<s>"]),
    "fairseq.txt": "\n".join(f"{word} {99 - n}" for n, word in enumerate(LISTED)),
    "opennmt.vocab": "\n".join(f"{word}\t{n}" for n, word in enumerate(["<blank>", *LISTED])),
    "logs.txt": "\n".join(f"{word}\t-{n}.5e-03" for n, word in enumerate(LISTED)),
    "list.json": json.dumps(LISTED),
    "ids.json": json.dumps({word: -n for n, word in enumerate(["<s>", *LISTED[::-1]])}),
    "marian.yml": "\n".join(
        f"{json.dumps(word, ensure_ascii=n > 3)}: {n}"
        for n, word in enumerate(["</s>", "<unk>", *LISTED])
    ),
    "amun.yml": "</s>: 0\n<unk>: 1\n" + "\n".join(f"{w}: {n}" for n, w in enumerate(LISTED[:-1])),
}


@pytest.mark.parametrize("name", LISTS)
def test_a_list_of_words_is_a_vocabulary_in_its_order(tmp_path, name):
    path = tmp_path / name
    if name.endswith("gz"):
        write_lines(path, LISTS[name].split("\n"))
    else:
        path.write_text(LISTS[name], encoding="utf-8")
    vocab = open_vocabulary(path)
    wanted = LISTED[:-1] if name == "amun.yml" else LISTED
    assert vocab.tokens(range(4, vocab.size)) == wanted
    assert vocab.decode(vocab.encode("the süß dog 10\u00a0km")) == "the süß <unk> 10\u00a0km"


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("a.txt", "the\ncat\nthe\n", r"a\.txt:3: 'the' occurs twice, first as number 1"),
        ("a.txt", "the\n\ncat\n", r"a\.txt:2: '' is not of the form one word"),
        ("a.txt", "the\ntwo words\n", r"a\.txt:2: 'two words' is not of the form one word"),
        ("a.txt", "the 7\ncat\n", r"a\.txt:2: 'cat' is not of the form a word and a number"),
        ("a.vocab", "<unk>\t0\n▁the\t-3.5\n", r"a\.vocab:2: '▁the' is a piece.*\.model"),
        ("a.yml", '"the": 0\nthe\n', r"a\.yml:2: 'the' is not of the form \"word\": id"),
        ("a.json", '{"a": "b"}', r"a\.json: neither a list of words nor an object"),
        ("a.json", '["a", "b c"]', r"a\.json:2: 'b c' is not a word"),
        ("a.json", '["\\ud800"]', r"a\.json:1: .* holds half of a surrogate pair"),
        ("a.json", "[" * 99_999, r"a\.json: damaged or not JSON \(nested too deeply\)"),
        ("a.txt", "<unk>\n<s>\n", r"a\.txt: no words"),
        ("a.txt", "", r"a\.txt: no words"),
        ("a.model", "the\ncat\n", r"a\.model: not a SentencePiece model"),
        ("a.model", "", r"a\.model: not a SentencePiece model"),
        ("a.vocab.json", '["the"]', r"a\.vocab\.json: not a file of this library"),
    ],
)
def test_a_vocabulary_that_cannot_be_is_refused_by_line(tmp_path, name, text, message):
    (tmp_path / name).write_text(text, encoding="utf-8")
    with pytest.raises(UsageError, match=message):
        open_vocabulary(tmp_path / name)


def test_words_that_lower_case_text_never_has_are_refused(tmp_path):
    write_lines(tmp_path / "a", ["<UNK>", "the"])
    assert load_words(tmp_path / "a").size == 6
    write_lines(tmp_path / "a", ["the", "Cat"])
    with pytest.raises(UsageError, match="/a:2: 'Cat' is not in lower case"):
        load_words(tmp_path / "a", lower=True)
    build_words(["The"]).save(tmp_path / "a.vocab.json")
    with pytest.raises(UsageError, match=r"a\.vocab\.json: this vocabulary does not put"):
        open_vocabulary(tmp_path / "a.vocab.json", lower=True)


# The commands.


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    folder = tmp_path_factory.mktemp("files")
    for part in ("train", "valid"):
        pairs = getattr(CORPUS, part)
        write_lines(folder / f"{part}.tsv", ["\t".join(pair) for pair in pairs])
    (folder / "t5.model").write_bytes(model("T5", "bytes"))
    write_lines(folder / "words", sorted({w for _, t in CORPUS.train for w in t.split()}))
    write_lines(folder / "in", ["cat eats fish", "ben is long"])
    return folder


def corpus(folder):
    return ["--train", f"{folder}/train.tsv", "--valid", f"{folder}/valid.tsv"]


SMALL = ["--hidden", "4", "--embed", "4", "--epochs", "1", "--tokens-per-batch", "512"]


def test_a_foreign_model_and_a_list_train_and_translate(files, capsys):
    given_files = ["--src-vocab", f"{files}/t5.model", "--tgt-vocab", f"{files}/words"]
    command = ["train", *corpus(files), *SMALL, "--buckets", "1", *given_files]
    assert main([*command, "--out", f"{files}/model"]) == 0
    loaded = load_model(files / "model")
    assert loaded.src_vocab == load_pieces(files / "t5.model")
    assert loaded.tgt_vocab == load_words(files / "words")
    assert (loaded.config.src_vocab, loaded.config.tgt_vocab) == (
        loaded.src_vocab.size,
        loaded.tgt_vocab.size,
    )
    out = ["--source", f"{files}/in", "--out", f"{files}/out", "--beam-size", "1"]
    assert main(["translate", f"{files}/model", *out]) == 0
    known = {"<unk>", *load_words(files / "words").words[4:]}
    assert all(word in known for line in read_lines(files / "out") for word in line.split())

    capsys.readouterr()
    given_files[-1] = f"{files}/t5.model"  # the folder has been begun with another one
    assert main([*command[:-4], *given_files, "--out", f"{files}/model"]) == 2
    assert "this folder holds another run: given was" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        (["--vocab", "WORDS", "--src-vocab", "WORDS"], "--src-vocab has no effect with --vocab"),
        (
            ["--vocab", "WORDS", "--vocabulary-size", "50"],
            "--vocabulary-size has no effect when",
        ),
        (["--vocab", "WORDS", "--vocabulary", "words"], "--vocabulary has no effect when"),
        (
            ["--src-vocab", "WORDS", "--features"],
            "--features has no effect when the",
        ),
        (
            ["--src-vocab", "WORDS", "--characters"],
            "--characters has no effect when the",
        ),
        (["--src-vocab", "WORDS", "--shared-vocabulary"], "needs one vocabulary for both sides"),
        (["--tgt-vocab", "RICH"], "is for the source side"),
        (["--vocab", "NONE"], "NONE: no such file"),
    ],
)
def test_settings_that_a_given_vocabulary_leaves_without_effect(files, capsys, settings, message):
    build_factored(["a-|-b"]).save(files / "rich.vocab.json")
    paths = {"WORDS": f"{files}/words", "RICH": f"{files}/rich.vocab.json"}
    settings = [paths.get(value, value) for value in settings]
    never = ["--out", f"{files}/never"]
    assert main(["train", *corpus(files), *SMALL, *settings, *never]) == 2
    assert message in capsys.readouterr().err
    assert not (files / "never").exists()


def test_an_experiment_takes_the_vocabularies_that_were_given(files, tmp_path, capsys):
    pieces, plan = load_pieces(files / "t5.model"), Plan(vocabulary="words")
    src, tgt = Experiment(tmp_path, CORPUS, plan, given=(pieces, None)).vocabularies
    assert src == pieces and tgt == build_words([target for _, target in CORPUS.train])
    assert Experiment(tmp_path, CORPUS, plan, given=(pieces, None)).vocabularies == (src, tgt)
    with pytest.raises(UsageError, match="this folder holds another run: given was"):
        _ = Experiment(tmp_path, CORPUS, plan, given=(tgt, tgt)).vocabularies
    shared = replace(plan, shared_vocabulary=True)
    with pytest.raises(UsageError, match="vocabularies of both sides, or of neither"):
        _ = Experiment(tmp_path / "new", CORPUS, shared, given=(pieces, None)).vocabularies
    assert not (tmp_path / "new").exists()
    never = ["--vocab", f"{files}/none.model", "--out", f"{files}/never"]
    assert main(["run", *corpus(files), *never]) == 2
    assert "none.model: no such file" in capsys.readouterr().err
