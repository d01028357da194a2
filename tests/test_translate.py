import dataclasses
import functools
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest
from small import SRC_VOCAB, TEACHER
from small_deep import CONFIG, MODEL, params

from seqkd_jax.base import EOS, Seq2Seq, specialized
from seqkd_jax.data import build_words, encode_pairs
from seqkd_jax.decode import translation as file
from seqkd_jax.decode.corpus import translate_corpus
from seqkd_jax.decode.translation import sentence, translate, translate_texts
from seqkd_jax.errors import UsageError
from seqkd_jax.evaluation import evaluate, log_probs, perplexity, validation
from seqkd_jax.models.attention_lstm import attention_lstm
from seqkd_jax.models.ensemble import ensemble
from seqkd_jax.scoring import Scorer
from seqkd_jax.search import for_search
from seqkd_jax.search.candidates import BLOCK_SIZE, TPU_BLOCK_SIZE
from seqkd_jax.settings import GREEDY, Search
from seqkd_jax.trained import TrainedModel

SRC, TGT = build_words(["a b c d e f g"]), build_words(["r s t u v w x y z"])
BEAM = Search(beam_size=3, n_best=3, max_extra=3, max_ratio=1.0)
SHORT = dataclasses.replace(GREEDY, max_extra=3, max_ratio=1.0)


def trained(seed=0):
    return TrainedModel(MODEL, params(seed=seed), SRC, TGT)


def sources(seed=0, count=23, longest=12):
    rng = np.random.default_rng(seed)
    lengths = rng.integers(1, longest + 1, count)
    return [rng.integers(4, SRC_VOCAB, n).astype(np.int32) for n in lengths]


def lines(count=23, seed=0):
    return [" ".join(SRC.tokens(s.tolist())) for s in sources(seed, count)]


@pytest.mark.parametrize(
    "search", [pytest.param(SHORT, marks=pytest.mark.slow), BEAM], ids=["greedy", "beam"]
)
def test_a_translation_does_not_depend_on_its_company(search):
    many = sources()
    together = translate(MODEL, params(), many, search)
    backwards = translate(MODEL, params(), many[::-1], search)[::-1]
    alone = [translate(MODEL, params(), [one], search)[0] for one in many[:6]]
    for a, b in [*zip(together, backwards, strict=True), *zip(together[:6], alone, strict=True)]:
        width = min(a.tokens.shape[1], b.tokens.shape[1])
        np.testing.assert_array_equal(a.tokens[:, :width], b.tokens[:, :width])
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-5)


EACH_BLOCK = [
    ("cpu", BLOCK_SIZE),
    pytest.param("tpu", TPU_BLOCK_SIZE, marks=pytest.mark.slow),
]


@pytest.mark.parametrize(
    "search", [pytest.param(SHORT, marks=pytest.mark.slow), BEAM], ids=["greedy", "beam"]
)
@pytest.mark.parametrize("backend, size", EACH_BLOCK)
def test_logits_in_whole_blocks_are_searched_alike(search, backend, size, monkeypatch):
    """With enough words that the search looks at blocks, of which V would fill 8 and a half."""
    monkeypatch.setattr(jax, "default_backend", lambda: backend)
    config = dataclasses.replace(CONFIG, tgt_vocab=8 * size + 31)
    model = attention_lstm(config)
    faster, read = for_search(model, params(model))
    widths = {leaf.shape[-1] for leaf in jax.tree.leaves(read.generator)}
    assert widths == {9 * size}
    whole = translate(faster, read, sources(), search)
    plain = Seq2Seq(*model)
    assert specialized(plain, params(model)) == (plain, params(model))
    for got, want in zip(whole, translate(plain, params(model), sources(), search), strict=True):
        np.testing.assert_array_equal(got.tokens, want.tokens)
        np.testing.assert_allclose(got.scores, want.scores, atol=2e-5)


def test_scores_are_the_models_own_log_probabilities():
    nbest = translate_texts(trained(), lines(), BEAM)
    pairs = [(line, text) for line, n in zip(lines(), nbest, strict=True) for text in n.texts]
    want = [p for n in nbest for p in n.log_probs]
    encoded = encode_pairs(pairs, SRC, TGT)
    got = dict(zip(encoded.index.tolist(), log_probs(MODEL, params(), encoded), strict=True))
    kept = [place for place, (_, text) in enumerate(pairs) if text and "<unk>" not in text]
    assert len(kept) > 20
    np.testing.assert_allclose([got[n] for n in kept], [want[n] for n in kept], atol=2e-5)


def test_no_translation_is_longer_than_its_limit():
    many = sources()
    for source, found in zip(many, translate(MODEL, params(), many, BEAM), strict=True):
        for row in found.tokens:
            assert len(sentence(row)) + 1 <= BEAM.limit(len(source))


def test_a_limit_goes_before_a_minimum_that_is_longer():
    """Whatever the lengths of the sources that are translated together."""
    long = dataclasses.replace(BEAM, min_len=40)
    for source in sources(count=3):
        (found,) = translate(MODEL, params(), [source], long)
        assert len(sentence(found.tokens[0])) + 1 == long.limit(len(source))


def test_empty_lines_stay_aligned():
    text = ["a b", "", "c", "   ", "d e f"]
    nbest = translate_texts(trained(), text, SHORT, first=10)
    assert [n.index for n in nbest] == [10, 11, 12, 13, 14]
    assert nbest[1].texts == nbest[3].texts == ("",)
    assert all(nbest[n].texts != () for n in (0, 2, 4))


def test_an_ensemble_of_one_model_twice_is_that_model():
    both = ensemble([MODEL, MODEL])
    one = translate(MODEL, params(), sources(), SHORT)
    two = translate(both, (params(), params()), sources(), SHORT)
    for a, b in zip(one, two, strict=True):
        np.testing.assert_array_equal(a.tokens, b.tokens)
        np.testing.assert_allclose(a.scores, b.scores, atol=1e-4)


def test_an_ensemble_is_made_of_models():
    with pytest.raises(UsageError, match="give trained.model of each"):
        ensemble([TrainedModel(MODEL, params(), None, None)])  # type: ignore[arg-type]


def test_an_ensemble_gives_the_mean_of_probabilities():
    both = ensemble([MODEL, TEACHER])
    p = (params(), params(TEACHER, 1))
    src, tgt = np.array([4, 5, 6]), np.array([4, 7, EOS])
    hidden = jax.jit(both.hidden)(p, src, tgt)
    for t in range(3):
        got = jax.nn.softmax(both.project(p, jax.tree.map(lambda h, t=t: h[t], hidden)))
        members = zip((MODEL, TEACHER), p, hidden, strict=True)
        want = np.mean([jax.nn.softmax(m.project(q, h[t])) for m, q, h in members], axis=0)
        np.testing.assert_allclose(got, want, atol=1e-6)


# Corpora: exactly once, resumable, the same bytes however it was made.


@functools.cache
def corpus():
    return lines(count=50, seed=3)


def decode(folder, search=BEAM, seed=0, text=None):
    return translate_corpus(
        folder,
        trained(seed),
        text or corpus(),
        search,
        shard_sentences=13,
        progress=None,
    )


def shards(folder):
    return {p.name: p.read_bytes() for p in sorted(Path(folder).glob("shard-*"))}


def test_a_corpus_is_decoded_in_order_each_sentence_once(tmp_path):
    nbest = decode(tmp_path)
    assert [n.index for n in nbest] == list(range(50))
    whole = translate_texts(trained(), corpus(), BEAM)
    assert [n.texts for n in nbest] == [n.texts for n in whole]
    assert len(shards(tmp_path)) == 4


def test_missing_shards_are_made_again_with_the_same_bytes(tmp_path):
    decode(tmp_path)
    before = shards(tmp_path)
    for name in list(before)[1:3]:
        (tmp_path / name).unlink()
    decode(tmp_path)
    assert shards(tmp_path) == before


def test_done_shards_are_not_made_again(tmp_path, monkeypatch):
    decode(tmp_path)
    monkeypatch.setattr(file, "translate_texts", lambda *_, **__: pytest.fail("decoded again"))
    assert len(decode(tmp_path)) == 50


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"search": dataclasses.replace(BEAM, beam_size=4)},
        {"text": ["a b c"] * 50},
    ],
    ids=["teacher", "search", "source"],
)
def test_a_folder_of_another_teacher_search_or_corpus_is_refused(tmp_path, change):
    decode(tmp_path)
    with pytest.raises(ValueError, match="another"):
        decode(tmp_path, **change)


WORKER = """
import sys
sys.path[:0] = {paths!r}
import conftest, test_translate as t
t.decode(sys.argv[1])
"""


@pytest.mark.slow
def test_two_workers_make_the_same_bytes_as_one(tmp_path):
    decode(tmp_path / "one")
    paths = [str(Path(__file__).parent), str(Path(__file__).parent.parent)]
    command = [sys.executable, "-c", WORKER.format(paths=paths), str(tmp_path / "two")]
    workers = [subprocess.Popen(command) for _ in range(2)]
    assert [worker.wait() for worker in workers] == [0, 0]
    assert shards(tmp_path / "two") == shards(tmp_path / "one")


# Evaluation.


@pytest.mark.slow
def test_perplexity_is_that_of_the_log_probabilities():
    pairs = [
        (a, b.upper().lower()) for a, b in zip(lines(), ["r s t", "u", "v w"] * 8, strict=False)
    ]
    encoded = encode_pairs(pairs, SRC, TGT)
    total = log_probs(MODEL, params(), encoded).sum()
    tokens = sum(len(t) for t in encoded.tgt)
    np.testing.assert_allclose(
        perplexity(MODEL, params(), encoded), np.exp(-total / tokens), rtol=1e-5
    )


def test_a_model_without_parameters_says_so():
    untrained = dataclasses.replace(trained(), params=None)
    with pytest.raises(UsageError, match="has no parameters: train it"):
        translate_texts(untrained, ["a b"])


@pytest.mark.parametrize(
    "source", [[], 5, [5.0, 6.0], [5, -1]], ids=["empty", "number", "floats", "negative"]
)
def test_what_is_no_sentence_of_ids_is_named(source):
    given = [np.array([4, 5]), np.array(source)]
    with pytest.raises(UsageError, match=r"sources\[1\]: "):
        translate(MODEL, params(), given, SHORT)


def test_the_beams_of_an_evaluation_are_said_once():
    with pytest.raises(UsageError, match=r"give beams=\(1, 3\), and a search with beam_size=1"):
        evaluate(trained(), [("a", "r")], beams=(1,), search=BEAM)


def test_an_evaluation_reports_what_the_paper_does():
    pairs = [(a, "r s t") for a in lines(8)]
    seen = []

    def copied(sources, outputs, references):
        seen.append((sources, references))
        return np.mean([source == output for source, output in zip(sources, outputs, strict=True)])

    e = evaluate(
        trained(),
        pairs,
        beams=(1, 3),
        search=SHORT,
        scorer=Scorer("none"),
        metrics={"copied": copied},
    )
    assert seen == [(tuple(lines(8)), ("r s t",) * 8)] * 2
    assert all(d.metrics == {"copied": 0.0} for d in e.decodings.values())
    greedy = translate_texts(trained(), lines(8), SHORT)
    assert e.decodings[1].outputs == [n.texts[0] for n in greedy]
    np.testing.assert_allclose(e.mode_mass, np.mean(np.exp([n.log_probs[0] for n in greedy])))
    assert e.decodings[1].bleu == Scorer("none").bleu(e.decodings[1].outputs, ["r s t"] * 8)
    assert "tok:none" in e.bleu_signature and "chr" not in e.bleu_signature
    assert e.parameters == sum(x.size for x in jax.tree.leaves(params()))
    assert e.decodings[3].sentences_per_second > 0
    scores = validation(trained(), pairs, Scorer("none"))(params())
    assert set(scores) == {"perplexity", "bleu", "score", "example"}
    assert scores["example"][:2] == [lines(8)[0], "r s t"]


def test_significance_is_found_where_it_is_and_not_where_it_is_not():
    rng = np.random.default_rng(0)
    references = [" ".join(rng.choice(list("abcdefgh"), 12)) for _ in range(150)]

    def spoiled(rate):
        return [
            " ".join("z" if rng.random() < rate else w for w in line.split()) for line in references
        ]

    good, bad, as_good = spoiled(0.1), spoiled(0.3), spoiled(0.1)
    better = Scorer("none").compare(bad, good, references)
    assert better.bleu > 10 and better.p_value < 0.01
    assert Scorer("none").compare(good, as_good, references).p_value > 0.05
    for same in (good, ["nothing"] * len(references)):
        equal = Scorer("none").compare(same, list(same), references)
        assert (equal.bleu, equal.p_value) == (0, 1)
