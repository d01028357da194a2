import functools

import jax
import numpy as np
import pytest
from small import CONFIG, MODEL, params

from seqkd_jax.base import EOS, UNK
from seqkd_jax.data import build_words, train_pieces
from seqkd_jax.decode.nbest import NBest
from seqkd_jax.decode.translation import translate_texts
from seqkd_jax.decode.unknown import read_dictionary, replace_unknown, without_unknown
from seqkd_jax.models.attention_lstm import network
from seqkd_jax.models.inspection import alignments
from seqkd_jax.settings import Search
from seqkd_jax.trained import TrainedModel

SRC, TGT = build_words(["a b c d e f g"]), build_words(["r s t u v w x y z"])
PARAMS = params()
# It says <unk> more often than a model that has just been made.
PARAMS = PARAMS.replace(
    generator=PARAMS.generator.replace(bias=PARAMS.generator.bias.at[UNK].add(4.0))
)
NETWORK = network(CONFIG)
TRAINED = TrainedModel(MODEL, PARAMS, SRC, TGT, NETWORK)
LINES = ["a New York b", "c", "", "d <s> Oslo e Oslo", "g f a b c Rom"]


def test_an_unknown_word_becomes_what_was_attended_to_most():
    attention = np.array([[0.1, 0.7, 0.2], [0.5, 0.5, 0.0], [0.2, 0.2, 0.6], [1, 0, 0]])
    words, unknown = ["der", "<unk>", "<unk>"], [False, True, True]
    source = ["Rom", "the", "cat"]
    assert replace_unknown(words, unknown, attention, source, {}) == ["der", "Rom", "cat"]
    dictionary = {"cat": "die Katze", "the": "x"}
    found = replace_unknown(words, unknown, attention, source, dictionary)
    assert found == ["der", "Rom", "die Katze"]
    padded = np.pad(attention, ((0, 2), (0, 3)), constant_values=9.0)  # of a batch
    assert replace_unknown(words, unknown, padded, source, dictionary) == found
    assert replace_unknown([], [], attention, source, {}) == []


def test_translations_of_a_model_are_replaced_by_its_own_attention():
    search = Search(beam_size=3, n_best=3, max_ratio=1.0, max_extra=3)
    nbest = translate_texts(TRAINED, LINES, search)
    dictionary = {"Oslo": "O"}
    found = without_unknown(TRAINED, LINES, nbest, dictionary)
    aligned = jax.jit(functools.partial(alignments, NETWORK))
    replaced = 0
    for line, before, after in zip(LINES, nbest, found, strict=True):
        assert (after.scores, after.tokens, after.index) == (
            before.scores,
            before.tokens,
            before.index,
        )
        source = line.split()
        for tokens, old, new in zip(before.tokens, before.texts, after.texts, strict=True):
            want = old.split()
            if UNK in tokens:
                ids = np.array(SRC.encode(line), np.int32)
                weights = aligned(PARAMS, ids, np.array([*tokens, EOS], np.int32))
                for t in np.flatnonzero(np.array(tokens) == UNK):
                    word = source[int(np.argmax(weights[t]))]
                    want[t] = dictionary.get(word, word)
                    replaced += 1
            assert new == " ".join(want)
            assert "<unk>" not in new
    assert replaced > 5


def test_nothing_unknown_changes_nothing():
    nbest = [NBest(0, ("r s", ""), ((4, 5), ()), (0.0, 0.0), (0.0, 0.0))]
    assert without_unknown(TRAINED, ["a"], nbest) == nbest


def test_a_model_that_cannot_be_looked_into_is_refused():
    pieces = train_pieces(["a b c d e f g", "gab fed"], 20)
    with pytest.raises(ValueError, match="vocabularies of words"):
        without_unknown(TrainedModel(MODEL, PARAMS, SRC, pieces), [], [])
    with pytest.raises(ValueError, match="single attention LSTM"):
        without_unknown(TrainedModel(MODEL, (PARAMS,), SRC, TGT), [], [])


def test_a_dictionary_has_a_word_and_its_translation_on_a_line(tmp_path):
    path = tmp_path / "words"
    path.write_text("cat|||Katze\n New ||| neues \nYork|||York Stadt\ncat|||Katze\n")
    assert read_dictionary(path) == {"cat": "Katze", "New": "neues", "York": "York Stadt"}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a|||b\nc d\n", "words:2: 'c d' is not of the form"),
        ("a|||\n", "words:1"),
        ("a|||b|||c\n", "words:1"),
        ("two words|||b\n", "words:1"),
        ("a|||b\n\n", "words:2"),
        ("a|||b\na|||c\n", "words:2: 'a' has another translation"),
    ],
)
def test_what_is_wrong_with_a_dictionary_is_named(tmp_path, text, message):
    (tmp_path / "words").write_text(text)
    with pytest.raises(ValueError, match=message):
        read_dictionary(tmp_path / "words")
