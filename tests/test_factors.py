"""Source words with features, and words read by their characters."""

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import largest_difference, params

from seqkd_jax import recipes
from seqkd_jax.base import EOS, PAD, UNK
from seqkd_jax.build import VOCABULARIES
from seqkd_jax.contrib.characters import (
    Spelling,
    character_cnn,
    character_vocabulary,
    spell,
    spelling_table,
    spelt,
    spelt_words,
)
from seqkd_jax.contrib.factors import build_factored, factored
from seqkd_jax.data import Corpus, load_vocabulary, train_pieces
from seqkd_jax.data.vocab import build_words
from seqkd_jax.decode.corpus import translate_corpus
from seqkd_jax.decode.translation import translate
from seqkd_jax.errors import UsageError
from seqkd_jax.model_folder import load_model
from seqkd_jax.models.attention_lstm import Config, attention_lstm
from seqkd_jax.models.layers import word_vectors
from seqkd_jax.search import for_search
from seqkd_jax.settings import Parts, Plan, Search, Size, Training

LINES = ["haus-|-N-|-sg ist-|-V-|-sg", "häuser-|-N-|-pl sind-|-V-|-pl da-|-A-|-x"]
KERNELS = ((2, 5), (3, 4))


def test_a_token_is_a_row_of_word_features_and_characters():
    vocab = build_factored(LINES, characters=20, max_word=6)
    assert vocab.columns == 3 + 6 and len(vocab.features) == 2
    (row,) = vocab.encode("häuser-|-N-|-pl")
    assert vocab.words.words[row[0]] == "häuser"
    assert [f.words[n] for f, n in zip(vocab.features, row[1:3], strict=True)] == ["N", "pl"]
    assert "".join(vocab.characters[n] for n in row[3:]) == "{häus}"  # cut, its end kept
    (unknown,) = vocab.encode("auch-|-N-|-zz")
    assert unknown[0] == UNK and unknown[2] == UNK and unknown[4:7] != (UNK,) * 3
    assert vocab.decode([row, unknown]) == "häuser <unk>"


def test_a_token_with_other_features_is_named():
    vocab = build_factored(LINES)
    with pytest.raises(ValueError, match=r"'haus-\|-N' has 1 features, but 2 are expected"):
        vocab.encode("haus-|-N")
    with pytest.raises(ValueError, match="line 2: 'b' has 0 features"):
        build_factored(["a-|-x", "b"])


def test_a_vocabulary_comes_back_from_its_file_and_damage_is_found(tmp_path):
    vocab, path = build_factored(LINES, characters=20), tmp_path / "src.vocab.json"
    vocab.save(path)
    loaded = load_vocabulary(path, VOCABULARIES)
    assert loaded == vocab and loaded.digest == vocab.digest
    with pytest.raises(UsageError, match="its kind 'factored' is not known"):
        load_vocabulary(path)
    path.write_text(path.read_text().replace("haus", "maus"))
    with pytest.raises(ValueError, match="src.vocab.json: damaged or edited.*Restore"):
        load_vocabulary(path)


def cnn(characters):
    return character_cnn(characters, embed=3, kernels=KERNELS)


@pytest.mark.slow
def test_characters_are_convolved_as_flax_does_it():
    vectors, p = cnn(7).vectors, cnn(7).init(jax.random.key(0), 0.1)
    ids = jnp.array([2, 5, 4, 6, 3, PAD])
    found = []
    for kernel, bias, (width, count) in zip(p.kernels, p.biases, KERNELS, strict=True):
        conv = nn.Conv(count, (width,), padding="VALID")
        tree = {"params": {"kernel": kernel.reshape(width, 3, count), "bias": bias}}
        found.append(jnp.tanh(conv.apply(tree, p.table[ids][None])[0]).max(0))
    y = jnp.concatenate(found)
    for layer in p.highway:
        t = jax.nn.sigmoid(y @ layer["carry"] + layer["carry_bias"] - 2)
        h = jax.nn.relu(y @ layer["transform"] + layer["transform_bias"])
        y = t * h + (1 - t) * y
    np.testing.assert_allclose(vectors(p, ids), y, atol=1e-6)
    # All words of a sentence at once, and the gradient reaches every weight.
    both = vectors(p, jnp.stack([ids, ids[::-1]]))
    np.testing.assert_allclose(both[0], y, atol=1e-6)
    gradient = jax.grad(lambda p: vectors(p, ids).sum())(p)
    assert all(np.asarray(g).any() for g in jax.tree.leaves(gradient))


def test_features_stand_beside_the_word():
    vocab = build_factored(LINES)
    embedding = factored(vocab, embed=3)
    p = embedding.init(jax.random.key(0), 0.1)
    widths = [int(f.size**0.7) for f in vocab.features]  # as in seq2seq-attn
    assert [f.shape for f in p.features] == [
        (f.size, w) for f, w in zip(vocab.features, widths, strict=True)
    ]
    got = embedding.vectors(p, jnp.array([[4, 2, 5], [5, 1, 3]]))
    want = [p.words[4], p.features[0][2], p.features[1][5]]
    np.testing.assert_array_equal(got[0], jnp.concatenate(want))
    assert got.shape == (2, embedding.width)


def rich_model():
    vocab = build_factored(LINES, characters=20, max_word=6)
    tgt = build_words(["the house is there"])
    letters = character_vocabulary(tgt.words[4:])
    spelling = Spelling(spelling_table(tgt, letters, 7))
    blocks = {
        "src_embedding": factored(vocab, 3, cnn(len(vocab.characters))),
        "tgt_embedding": spelt(spelling, cnn(len(letters))),
    }
    return vocab, Config(vocab.size, tgt.size, 3, 4, 1, dropout=0.0), blocks, spelling


@pytest.mark.slow
def test_a_model_of_rows_and_spelt_words_steps_as_it_is_taught():
    vocab, config, blocks, spelling = rich_model()
    model = attention_lstm(config, **blocks)
    p = params(model)
    src, tgt = jnp.array(vocab.encode(LINES[1])), jnp.array([4, 6, 5, EOS])

    @jax.jit
    def both(p):
        memory, state = model.encode(p, jnp.pad(src, ((0, 2), (0, 0))))
        outputs = []
        for word in [2, *tgt[:-1]]:
            hidden, state = model.step(p, memory, state, jnp.int32(word))
            outputs.append(hidden)
        return jnp.stack(outputs), model.hidden(p, src, tgt)

    np.testing.assert_allclose(*both(p), atol=2e-6)
    letters = int(spelling.table.max()) + 1
    blocks["tgt_embedding"] = spelt(Spelling(spelling.table.copy()), cnn(letters))
    assert attention_lstm(config, **blocks) is model


@pytest.mark.slow
def test_an_unknown_word_is_read_by_its_characters():
    vocab, config, blocks, _ = rich_model()
    model = attention_lstm(config, **blocks)
    src = [jnp.array(vocab.encode(f"{word}-|-N-|-sg")) for word in ("hausen", "maus")]
    assert int(src[0][0, 0]) == int(src[1][0, 0]) == UNK
    hidden = [model.hidden(params(model), s, jnp.array([4, EOS])) for s in src]
    assert largest_difference(*hidden) > 1e-3


def test_words_are_cut_and_keep_their_ends():
    ids = {c: n for n, c in enumerate(character_vocabulary(["abc"]))}
    assert spell("abcabc", ids, 5) == [2, 4, 5, 6, 3]
    assert spell("a", ids, 5) == [2, 4, 3, PAD, PAD]


@pytest.mark.slow
def test_features_and_characters_go_through_training_files_and_search(tmp_path):
    pairs = [(line, target) for line in LINES for target in ("the house is there",)] * 4
    corpus = Corpus("rich", "x", "y", pairs, pairs[:2], pairs[:2])
    plan = Plan(beams=(1,), kd_beam=2)
    lab = recipes.Experiment(tmp_path, corpus, plan)
    tgt_vocab = build_words([pairs[0][1]])
    vocabularies = build_factored(LINES, characters=20, max_word=6), tgt_vocab
    narrow = {"src_embedding": factored(vocabularies[0], 3, cnn(20))}
    size = Size(embed=3, hidden=4, dropout=0.0, parts=Parts(target_characters=True))
    model = recipes.new(lab, size, vocabularies=vocabularies, **narrow)
    recipes.train(lab, "model", model, pairs, Training(epochs=1, tokens_per_batch=64))
    with pytest.raises(UsageError, match="built with its own src_embedding"):
        load_model(tmp_path / "model")
    loaded = load_model(tmp_path / "model", **narrow)
    assert loaded.src_vocab == vocabularies[0]
    lists = translate_corpus(
        tmp_path / "nbest",
        loaded,
        LINES,
        Search(beam_size=2, n_best=2),
        progress=None,
    )
    source = jnp.array(vocabularies[0].encode(LINES[0]))
    tgt = jnp.array([*lists[0].tokens[0], EOS])
    hidden = loaded.model.hidden(loaded.params, source, tgt)
    logits = jax.vmap(loaded.model.project, (None, 0))(loaded.params, hidden)
    log_probs = jax.nn.log_softmax(logits)
    want = sum(float(log_probs[t, word]) for t, word in enumerate(tgt))
    np.testing.assert_allclose(lists[0].log_probs[0], want, atol=1e-4)


def test_spelt_words_are_looked_up_in_a_search_and_mean_the_same():
    _, config, blocks, _ = rich_model()
    config = Config(9, config.tgt_vocab, 3, 4, 1, dropout=0.0)
    model = attention_lstm(config, tgt_embedding=blocks["tgt_embedding"])
    p, source = params(model), [np.array([4, 5, 8]), np.array([6])]
    faster, faster_p = for_search(model, p)
    assert not hasattr(faster_p.decoder, "embedding")  # a table of products
    search = Search(beam_size=3)
    by_letters = translate(model, p, source, search)  # too few words for a table
    for one, other in zip(by_letters, translate(faster, faster_p, source, search), strict=True):
        np.testing.assert_array_equal(one.tokens, other.tokens)
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-5)


def test_pieces_cannot_be_spelt():
    with pytest.raises(UsageError, match="give the target side a vocabulary of words"):
        spelt_words(train_pieces(["a b"], 20))


def test_an_embedding_of_ones_own_is_ten_lines():
    """As Vaswani et al. 2017 scale word vectors by the square root of their width."""
    words = word_vectors(9, 4)
    scaled = words._replace(
        vectors=lambda table, ids: 2 * table[ids], table=lambda table: 2 * table
    )
    config = Config(9, 8, 4, 4, 1, dropout=0.0)
    model, plain = attention_lstm(config, src_embedding=scaled), attention_lstm(config)
    p = params(model)
    encoder = p.encoder.replace(embedding=2 * p.encoder.embedding)
    src, tgt = jnp.array([4, 7, 8]), jnp.array([5, 6, EOS])
    want = plain.hidden(p.replace(encoder=encoder), src, tgt)
    np.testing.assert_allclose(model.hidden(p, src, tgt), want, atol=1e-6)
    faster, faster_p = for_search(model, p)
    got, want = (
        translate(m, q, [np.asarray(src)], Search(beam_size=3))[0].scores
        for m, q in ((faster, faster_p), (plain, p.replace(encoder=encoder)))
    )
    np.testing.assert_allclose(got, want, atol=1e-5)
