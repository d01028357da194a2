"""Words and pieces without SentencePiece: the same ids and texts as the vocabularies'."""

import functools

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from seqkd_jax import tokens
from seqkd_jax.base import EOS
from seqkd_jax.data import PieceVocabulary, build_words, train_pieces
from seqkd_jax.data.grammar import sample_pairs

quick = settings(deadline=None, max_examples=150)
SHORT = ["The cat sat on the mat .", "a dog sees the cat", "Ein Hund läuft ; ß▅ 日本", "the end"]
LONG = [side for pair in sample_pairs(3, 400) for side in pair]
LETTERS = "".join(sorted(set("".join(SHORT)))) + "\t\n\r\v\f\u2581\x1f\0"
kinds = pytest.mark.parametrize("kind", ["words", "bpe", "unigram"])


@functools.cache
def trained(kind, corpus="short", lower=False):
    """A vocabulary, and what is made of its content."""
    lines, size = (SHORT, 60) if corpus == "short" else (LONG, 300)
    if kind == "words":
        vocab = build_words(lines, size, lower=lower)
    else:
        vocab = train_pieces(lines, size, kind=kind, lower=lower)
    return vocab, *of_content(vocab)


def of_content(vocab):
    names = vocab.tokens(range(vocab.size))
    scores = vocab.scores if isinstance(vocab, PieceVocabulary) else ()
    encode = tokens.encoder(vocab.kind, names, scores, vocab.lower)
    return encode, tokens.decoder(vocab.kind, names)


@kinds
@pytest.mark.parametrize("lower", [False, True])
@quick
@given(text=st.text() | st.text(alphabet=LETTERS) | st.text(alphabet="the ca"))
@example(text="the <unk> <unk> cat x<unk>y <unk>")
@example(text="▁ ▁x ▅ \x1f <s> </s> <blank> Ω Ωx xΩΩ  Ω")
@example(text="e" * 3000)
def test_any_text_has_the_ids_of_the_vocabulary(kind, lower, text):
    vocab, encode, _ = trained(kind, lower=lower)
    assert encode(text) == vocab.encode(text)


@kinds
@quick
@given(words=st.lists(st.sampled_from(sorted(set(" ".join(LONG).split()))), max_size=40))
def test_sentences_have_the_ids_of_a_larger_vocabulary(kind, words):
    vocab, encode, decode = trained(kind, "long")
    ids = encode(" ".join(words))
    assert ids == vocab.encode(" ".join(words))
    assert decode(ids) == vocab.decode(ids)


@kinds
@quick
@given(data=st.data())
def test_any_ids_have_the_text_of_the_vocabulary(kind, data):
    vocab, _, decode = trained(kind)
    ids = data.draw(st.lists(st.integers(0, vocab.size - 1) | st.just(1), max_size=12))
    assert decode(ids) == vocab.decode(ids)
    assert decode([4, EOS, *ids]) == vocab.decode([4])


@pytest.mark.parametrize("kind", ["bpe", "unigram"])
@settings(deadline=None, max_examples=25)
@given(
    lines=st.lists(
        st.text(min_size=1).filter(lambda t: t.encode().strip()), min_size=1, max_size=4
    ),
    text=st.text(),
)
@example(lines=["aaaa aaaaaaa aa", "▁ x▁▅"], text="aaaaaaaaaaaaa a▁a")
def test_pieces_of_any_text_are_read_alike(kind, lines, text):
    vocab = train_pieces(lines, 500, kind=kind)
    encode, decode = of_content(vocab)
    for line in (*lines, text, "".join(lines), text + lines[0]):
        ids = vocab.encode(line)
        assert encode(line) == ids
        assert decode(ids) == vocab.decode(ids)
