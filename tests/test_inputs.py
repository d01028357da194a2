"""Features, characters and pretrained vectors."""

import dataclasses

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import largest_difference, params

from seqkd_jax import recipes
from seqkd_jax.base import EOS, PAD, UNK
from seqkd_jax.data import Corpus, load_vocabulary
from seqkd_jax.data.inputs import (
    build_inputs,
    character_vocabulary,
    spelled,
    spelling_table,
)
from seqkd_jax.data.vocab import build_words
from seqkd_jax.distill.translate import translate_corpus
from seqkd_jax.models.attention_lstm import Config, Inputs, Spelling, attention_lstm
from seqkd_jax.models.embedding import embed, init_embedding, spell
from seqkd_jax.plan import Plan, Search, Size, Training
from seqkd_jax.train.model_folder import load_model

LINES = ["haus-|-N-|-sg ist-|-V-|-sg", "häuser-|-N-|-pl sind-|-V-|-pl da-|-A-|-x"]
KERNELS = ((2, 5), (3, 4))


def test_a_token_is_a_row_of_word_features_and_characters():
    vocab = build_inputs(LINES, characters=20, max_word=6)
    assert vocab.columns == 3 + 6 and len(vocab.features) == 2
    (row,) = vocab.encode("häuser-|-N-|-pl")
    assert vocab.words.words[row[0]] == "häuser"
    assert [f.words[n] for f, n in zip(vocab.features, row[1:3], strict=True)] == ["N", "pl"]
    assert "".join(vocab.characters[n] for n in row[3:]) == "{häus}"  # cut, its end kept
    (unknown,) = vocab.encode("auch-|-N-|-zz")
    assert unknown[0] == UNK and unknown[2] == UNK and unknown[4:7] != (UNK,) * 3
    assert vocab.decode([row, unknown]) == "häuser <unk>"


def test_a_token_with_other_features_is_named():
    vocab = build_inputs(LINES)
    with pytest.raises(ValueError, match=r"'haus-\|-N' has 1 features, but 2 are expected"):
        vocab.encode("haus-|-N")
    with pytest.raises(ValueError, match="line 2: 'b' has 0 features"):
        build_inputs(["a-|-x", "b"])


def test_a_vocabulary_comes_back_from_its_file_and_damage_is_found(tmp_path):
    vocab, path = build_inputs(LINES, characters=20), tmp_path / "src.vocab.json"
    vocab.save(path)
    assert load_vocabulary(path) == vocab and load_vocabulary(path).digest == vocab.digest
    path.write_text(path.read_text().replace("haus", "maus"))
    with pytest.raises(ValueError, match="src.vocab.json: damaged or edited.*Restore"):
        load_vocabulary(path)


def config(**inputs):
    return Config(
        9, 8, 3, 4, 1, dropout=0.0, inputs=Inputs(char_embed=3, kernels=KERNELS, **inputs)
    )


def test_characters_are_convolved_as_flax_does_it():
    cnn = init_embedding(config(src_characters=7), jax.random.key(0), 9, 7, ()).words
    ids = jnp.array([2, 5, 4, 6, 3, PAD])
    found = []
    for kernel, bias, (width, count) in zip(cnn.kernels, cnn.biases, KERNELS, strict=True):
        conv = nn.Conv(count, (width,), padding="VALID")
        tree = {"params": {"kernel": kernel.reshape(width, 3, count), "bias": bias}}
        found.append(jnp.tanh(conv.apply(tree, cnn.table[ids][None])[0]).max(0))
    y = jnp.concatenate(found)
    for layer in cnn.highway:
        t = jax.nn.sigmoid(y @ layer["carry"] + layer["carry_bias"] - 2)
        h = jax.nn.relu(y @ layer["transform"] + layer["transform_bias"])
        y = t * h + (1 - t) * y
    np.testing.assert_allclose(spell(cnn, ids), y, atol=1e-6)
    # All words of a sentence at once, and the gradient reaches every weight.
    both = spell(cnn, jnp.stack([ids, ids[::-1]]))
    np.testing.assert_allclose(both[0], y, atol=1e-6)
    gradient = jax.grad(lambda c: spell(c, ids).sum())(cnn)
    assert all(np.asarray(g).any() for g in jax.tree.leaves(gradient))


def test_features_stand_beside_the_word():
    c = config(features=(5, 30))
    table = init_embedding(c, jax.random.key(0), 9, 0, (5, 30))
    assert [f.shape for f in table.features] == [(5, 3), (30, 10)]  # floor(N ** 0.7)
    got = embed(table, jnp.array([[4, 2, 20], [5, 1, 3]]))
    want = [table.words[4], table.features[0][2], table.features[1][20]]
    np.testing.assert_array_equal(got[0], jnp.concatenate(want))
    assert got.shape == (2, c.src_width)


def rich_model():
    vocab = build_inputs(LINES, characters=20, max_word=6)
    tgt = build_words(["the house is there"])
    letters = character_vocabulary(tgt.words[4:])
    c = config(
        features=tuple(f.size for f in vocab.features),
        src_characters=len(vocab.characters),
        tgt_characters=len(letters),
    )
    c = dataclasses.replace(c, src_vocab=vocab.size, tgt_vocab=tgt.size)
    spelling = Spelling(spelling_table(tgt, letters, 7))
    return vocab, c, attention_lstm(c, spelling), spelling


def test_a_model_of_rows_and_spelt_words_steps_as_it_is_taught():
    vocab, c, model, spelling = rich_model()
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
    assert attention_lstm(c, Spelling(spelling.table.copy())) is model
    with pytest.raises(ValueError, match="or neither of them"):
        attention_lstm(c)


def test_an_unknown_word_is_read_by_its_characters():
    vocab, _, model, _ = rich_model()
    src = [jnp.array(vocab.encode(f"{word}-|-N-|-sg")) for word in ("hausen", "maus")]
    assert int(src[0][0, 0]) == int(src[1][0, 0]) == UNK
    hidden = [model.hidden(params(model), s, jnp.array([4, EOS])) for s in src]
    assert largest_difference(*hidden) > 1e-3


def test_words_are_cut_and_keep_their_ends():
    ids = {c: n for n, c in enumerate(character_vocabulary(["abc"]))}
    assert spelled("abcabc", ids, 5) == [2, 4, 5, 6, 3]
    assert spelled("a", ids, 5) == [2, 4, 3, PAD, PAD]


def test_features_and_characters_go_through_training_files_and_search(tmp_path):
    pairs = [(line, target) for line in LINES for target in ("the house is there",)] * 4
    corpus = Corpus("rich", "x", "y", pairs, pairs[:2], pairs[:2])
    plan = Plan(beams=(1,), kd_beam=2)
    lab = recipes.Lab(tmp_path, corpus, plan)
    tgt_vocab = build_words([pairs[0][1]])
    vocabularies = build_inputs(LINES, characters=20, max_word=6), tgt_vocab
    recipes.train(
        lab,
        "model",
        Size(embed=3, hidden=4, dropout=0.0),
        pairs,
        Training(epochs=1, tokens_per_batch=64),
        vocabularies=vocabularies,
        inputs=Inputs(tgt_characters=1, char_embed=3, kernels=KERNELS),
    )
    loaded = load_model(tmp_path / "model")
    assert loaded.src_vocab == vocabularies[0] and loaded.config.inputs.kernels == KERNELS
    lists = translate_corpus(
        tmp_path / "nbest",
        loaded.model,
        loaded.params,
        LINES,
        *vocabularies,
        Search(beam_size=2, n_best=2),
        teacher=loaded.digest,
        progress=None,
    )
    source = jnp.array(vocabularies[0].encode(LINES[0]))
    tgt = jnp.array([*lists[0].tokens[0], EOS])
    hidden = loaded.model.hidden(loaded.params, source, tgt)
    logits = jax.vmap(loaded.model.project, (None, 0))(loaded.params, hidden)
    log_probs = jax.nn.log_softmax(logits)
    want = sum(float(log_probs[t, word]) for t, word in enumerate(tgt))
    np.testing.assert_allclose(lists[0].log_probs[0], want, atol=1e-4)
