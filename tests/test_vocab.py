import base64
import functools
import re
from dataclasses import replace

import pytest
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from seqkd_jax.base import BOS, EOS, PAD, UNK
from seqkd_jax.data import (
    WordVocabulary,
    build_words,
    check_same,
    load_vocabulary,
    train_pieces,
)
from seqkd_jax.errors import UsageError
from seqkd_jax.sealed import write_record

quick = settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
bytes_strip = lambda text: text.encode().strip()  # noqa: E731 - of ASCII whitespace alone
TEXT = ["The cat sat on the mat .", "a dog sees the cat", "Ein Hund läuft ; ß▅ 日本", "the end"]
LETTERS = "".join(sorted(set("".join(TEXT))))
kinds = pytest.mark.parametrize("kind", ["words", "bpe", "unigram"])


@functools.cache
def vocabulary(kind, lower=False):
    if kind == "words":
        return build_words(TEXT, lower=lower)
    return train_pieces(TEXT, 60, kind=kind, lower=lower)


@kinds
def test_special_ids_are_the_same_in_every_kind(kind):
    vocab = vocabulary(kind)
    special = ["<blank>", "<unk>", "<s>", "</s>"]
    assert vocab.tokens([PAD, UNK, BOS, EOS]) == special
    assert len(set(vocab.tokens(range(vocab.size)))) == vocab.size


@kinds
@quick
@given(text=st.text())
def test_any_text_has_ids_in_range_and_none_special(kind, text):
    vocab = vocabulary(kind)
    ids = vocab.encode(text)
    assert all(n == UNK or EOS < n < vocab.size for n in ids)
    assert isinstance(vocab.decode(ids), str)


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@quick
@given(text=st.text(alphabet=LETTERS + "\t\n\r\v\f"))
def test_text_of_known_characters_comes_back_up_to_whitespace(kind, text):
    vocab = vocabulary(kind)
    assert vocab.decode(vocab.encode(text)) == " ".join(text.split())


@quick
@given(lines=st.lists(st.text(st.characters(codec="utf-8")), min_size=1), size=st.integers(5, 99))
def test_words_come_back_if_they_are_known(lines, size):
    words = re.split("[ \t\n\r\v\f]+", " ".join(lines).strip(" \t\n\r\v\f"))
    assume(set(words) - {"<unk>", ""})
    vocab = build_words(lines, size)
    assert vocab.size <= size
    known = set(vocab.words[4:])
    assert vocab.decode(vocab.encode(" ".join(lines))).split(" ") == [
        word if word in known else "<unk>" for word in words
    ]


@quick
@given(lines=st.lists(st.text(min_size=1).filter(bytes_strip), min_size=1, max_size=4))
@example(lines=["\x1f", "a\x1fb"])
@example(lines=["a\u00a0b\u3000c", "\u200b", "▁ x▁▅", "<s> </s> a<s>b x<unk>y <blank>"])
def test_pieces_trained_on_any_text_give_it_back(lines):
    vocab = train_pieces(lines, 500)
    for line in lines:
        ids = vocab.encode(line)
        assert UNK not in ids or "\0" in line or "<unk>" in line
        assert "\0" in line or vocab.decode(ids).encode().split() == line.encode().split()


def test_long_lines_are_learned_from_too():
    long = "a b " * 3000 + "ž"
    assert UNK not in train_pieces([long], 20).encode("ž")


@kinds
def test_decoding_stops_at_the_end_and_skips_padding(kind):
    vocab = vocabulary(kind)
    ids = vocab.encode("the cat")
    assert vocab.decode([BOS, PAD, *ids, PAD, EOS, *ids]) == "the cat"


@kinds
@pytest.mark.parametrize("wrong", [-1, 10**6])
def test_ids_outside_the_vocabulary_are_refused(kind, wrong):
    with pytest.raises(ValueError, match=f"{wrong} is out of range for a vocabulary"):
        vocabulary(kind).decode([4, wrong])


@kinds
def test_unk_in_text_is_unk_and_other_special_words_are_text(kind):
    vocab = vocabulary(kind)
    ids = vocab.encode("the <unk> <unk> cat")
    assert ids.count(UNK) == 2
    assert vocab.decode(ids) == "the <unk> <unk> cat"
    dirty = [f"<s> {line} <unk> <blank> </s>" for line in TEXT]
    again = build_words(dirty) if kind == "words" else train_pieces(dirty, 66, kind=kind)
    assert "<unk>" not in again.tokens(range(4, again.size))
    ids = again.encode("<s> the <blank> <unk> cat </s>")
    assert ids.count(UNK) == 1 and not {PAD, BOS, EOS} & set(ids)
    assert again.decode(ids) == "<s> the <blank> <unk> cat </s>"
    assert again.encode(again.decode(ids)) == ids


def test_words_are_ranked_by_frequency_then_by_themselves():
    vocab = build_words(["b a c", "c d <unk> <unk> "])
    assert vocab.words[4:] == ("c", "a", "b", "d")
    assert build_words(["b a c", "c d"], size=6).words[4:] == ("c", "a")
    assert build_words(["b a c", "c d"], min_count=2).words[4:] == ("c",)


@kinds
def test_lower_case_is_an_option_and_part_of_the_identity(kind):
    vocab = vocabulary(kind, lower=True)
    assert vocab.encode("THE Cat") == vocab.encode("the cat")
    assert vocab.decode(vocab.encode("THE Cat")) == "the cat"
    assert vocab.digest != vocabulary(kind).digest
    assert vocab.digest != replace(vocab, lower=False).digest


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
def test_training_again_gives_the_same_vocabulary(kind):
    again = train_pieces(iter(TEXT), 60, kind=kind)
    assert again == vocabulary(kind)
    assert again.digest == vocabulary(kind).digest


@kinds
def test_saving_and_loading_changes_nothing(kind, tmp_path):
    vocab = vocabulary(kind, lower=True)
    vocab.save(tmp_path / "a.vocab.json")
    loaded = load_vocabulary(tmp_path / "a.vocab.json")
    assert loaded == vocab and loaded.digest == vocab.digest
    assert loaded.encode("the dog läuft") == vocab.encode("the dog läuft")


def test_a_file_of_words_can_be_read_by_people(tmp_path):
    vocabulary("words").save(tmp_path / "a")
    assert '\n  "läuft",\n' in (tmp_path / "a").read_text(encoding="utf-8")


@kinds
@quick
@given(data=st.data())
def test_any_damage_to_a_vocabulary_is_found(kind, data, tmp_path):
    path = tmp_path / "a.vocab.json"
    vocabulary(kind).save(path)
    whole = path.read_bytes()
    place = data.draw(st.integers(0, len(whole) - 1))
    if data.draw(st.booleans()):
        damaged = whole[:place]
    else:
        flipped = whole[place] ^ 1 << data.draw(st.integers(0, 7))
        damaged = whole[:place] + bytes([flipped]) + whole[place + 1 :]
    path.write_bytes(damaged)
    try:
        # Whitespace between the entries may change without harm, and the last may go.
        assert load_vocabulary(path) == vocabulary(kind)
        assert whole[place : place + 1].isspace()
        assert damaged != whole[:place] or place == len(whole) - 1
    except ValueError as error:
        assert str(path) in str(error)


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"[" * 100_000, b'{"format": "seqkd-vocabulary-1"}', b"\xff", b"1" * 10_000],
    ids=["empty", "list", "deep", "bare", "binary", "long-number"],
)
def test_other_files_are_refused_by_name(content, tmp_path):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ValueError, match="/a: .*Restore the file that the models"):
        load_vocabulary(tmp_path / "a")
    with pytest.raises(FileNotFoundError, match="/b: no such file"):
        load_vocabulary(tmp_path / "b")


@pytest.mark.parametrize("model", [b"", b"no model", b"\x0a\x04\x0a\x02hi"])
def test_a_model_that_is_none_is_refused_even_with_its_digest(model, tmp_path):
    path = tmp_path / "a"
    vocabulary("bpe").save(path)
    data = {"kind": "bpe", "lower": False, "model": base64.b64encode(model).decode()}
    write_record(path, "seqkd-vocabulary-1", data)
    with pytest.raises(ValueError, match="damaged vocabulary"):
        load_vocabulary(path)


def test_a_permuted_vocabulary_is_refused():
    vocab = vocabulary("words")
    words = list(vocab.words)
    words[4], words[7] = words[7], words[4]
    with pytest.raises(ValueError, match="id 4 is .* for the student.*still possible"):
        check_same(WordVocabulary(tuple(words)), vocab)


def test_different_sizes_kinds_and_options_are_refused():
    words = vocabulary("words")
    check_same(words, WordVocabulary(words.words))
    with pytest.raises(ValueError, match="that of the student has 5 entries"):
        check_same(WordVocabulary(words.words[:5]), words)
    with pytest.raises(ValueError, match="split or case text differently"):
        check_same(replace(words, lower=True), words)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: build_words([]), "no words"),
        (lambda: build_words(["a"], 4), "size is 4"),
        (lambda: train_pieces([" ", "<unk>"], 10), "no text"),
        (lambda: train_pieces(TEXT, 12), "size is 12, .* alone are"),
        (lambda: train_pieces(TEXT, 60, kind="words"), "kind='words'"),  # type: ignore[arg-type]
    ],
    ids=["no-words", "no-room", "no-text", "too-small", "kind"],
)
def test_impossible_vocabularies_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()


def test_sizes_down_to_the_least_possible_can_be_trained():
    needed = 4 + len(set(LETTERS))
    for kind in ("bpe", "unigram"):
        assert train_pieces(TEXT, needed, kind=kind).size <= needed
        with pytest.raises(ValueError, match="alone are"):
            train_pieces(TEXT, needed - 1, kind=kind)


def test_a_single_string_is_no_text_for_a_vocabulary():
    for make in build_words, functools.partial(train_pieces, size=9):
        with pytest.raises(UsageError, match="a single string"):
            make("a string of words")
