"""What ``diagnose`` measures, against sums that are written out."""

import math
from collections import Counter, defaultdict

import jax
import numpy as np
import pytest

from seqkd_jax.__main__ import main
from seqkd_jax.base import PAD
from seqkd_jax.data import build_words, encode_pairs, grammar
from seqkd_jax.decode.nbest import NBest
from seqkd_jax.decode.translation import translate_texts
from seqkd_jax.diagnosis import (
    against_truth,
    calibration,
    calibration_error,
    complexity,
    diagnose,
    faithfulness,
    loss_by_position,
    oracle,
    predictions,
    repeats,
    search_errors,
    word_tables,
)
from seqkd_jax.diagnosis.tokens import Predictions
from seqkd_jax.distill import max_repeats, select
from seqkd_jax.evaluation import log_probs
from seqkd_jax.models.attention_lstm import Config, model_of, network
from seqkd_jax.recipes import compress
from seqkd_jax.report.diagnosis import diagnosis_tables, read_diagnosis
from seqkd_jax.scoring import Scorer
from seqkd_jax.settings import Search
from seqkd_jax.trained import TrainedModel

PAIRS = grammar.sample_pairs(seed=3, n=24)
SRC, TGT = (build_words(side) for side in zip(*PAIRS, strict=True))


def model(seed, hidden=8):
    net = network(Config(SRC.size, TGT.size, embed=6, hidden=hidden, layers=1))
    params = jax.tree.map(lambda x: 4 * x, model_of(net).init(jax.random.key(seed)))
    return TrainedModel(model_of(net), params, SRC, TGT, net)


TEACHER, STUDENT = model(0), model(1, 6)


# Corpora.


def aligned_by_hand(pairs, iterations=5):
    """IBM Model 1 with dictionaries, as in Brown et al. 1993; counts of the best alignments."""
    table = defaultdict(lambda: 1.0)
    for _ in range(iterations):
        expected, total = defaultdict(float), defaultdict(float)
        for source, target in pairs:
            xs = [*source.split(), None]
            for y in target.split():
                norm = sum(table[x, y] for x in xs)
                for x in xs:
                    expected[x, y] += table[x, y] / norm
                    total[x] += table[x, y] / norm
        table = defaultdict(float, {(x, y): c / total[x] for (x, y), c in expected.items()})
    counts = Counter()
    for source, target in pairs:
        for y in target.split():
            x = max([*source.split(), None], key=lambda x: table[x, y])
            if x is not None:
                counts[x, y] += 1
    return counts


def entropy_by_hand(counts):
    totals = Counter()
    for (x, _), count in counts.items():
        totals[x] += count
    h = Counter()
    for (x, _), count in counts.items():
        h[x] -= count / totals[x] * math.log(count / totals[x])
    return sum(h.values()) / len(totals)


def test_the_aligner_is_ibm_model_1():
    table = word_tables([PAIRS])[0]
    by_hand = aligned_by_hand(PAIRS)
    assert sorted(table.counts[table.counts > 0]) == sorted(by_hand.values())
    assert complexity(table) == pytest.approx(entropy_by_hand(by_hand))


def test_one_translation_a_word_is_simple_and_two_equal_ones_are_one_bit():
    words = [("a b", "x y"), ("a", "x"), ("b", "y"), ("a c", "x z"), ("c", "z")] * 3
    assert complexity(word_tables([words])[0]) == pytest.approx(0)
    # Each word has two translations, equally often.
    two = [("a", "x"), ("a", "u"), ("b", "y"), ("b", "v")] * 5
    assert complexity(word_tables([two])[0]) == pytest.approx(math.log(2))


def test_a_distilled_corpus_with_one_of_two_translations_is_simpler_and_less_faithful():
    real = [("a", "x"), ("a", "u"), ("b", "y"), ("b", "v")] * 50
    distilled = [("a", "x"), ("a", "x"), ("b", "y"), ("b", "y")] * 50
    of_real, of_distilled, again = word_tables([real, distilled, real])
    assert complexity(of_distilled) == pytest.approx(0)
    assert complexity(of_real) == pytest.approx(math.log(2))
    assert faithfulness(of_real, again) == pytest.approx(0, abs=1e-3)
    # KL of (1/2, 1/2) to the smoothed (100.01, 0.01) / 100.02, for both words.
    q = np.array([100.01, 0.01]) / 100.02
    expected = float(np.sum(0.5 * np.log(0.5 / q)))
    assert faithfulness(of_real, of_distilled) == pytest.approx(expected)


# Tokens.


@pytest.mark.slow
def test_predictions_are_those_of_the_logits_one_pair_at_a_time():
    encoded = encode_pairs(PAIRS, SRC, TGT)
    made = predictions(TEACHER, encoded)
    hidden_states, expected = jax.jit(TEACHER.model.hidden), []
    for src, tgt in zip(encoded.src, encoded.tgt, strict=True):
        hidden = hidden_states(TEACHER.params, src, tgt)
        for t, target in enumerate(tgt[tgt != PAD]):
            p = jax.nn.softmax(TEACHER.model.project(TEACHER.params, hidden[t]))
            best = int(p.argmax())
            expected.append((t, -math.log(p[target]), float(p[best]), best == target, best))
    for got, column in zip(made, zip(*expected, strict=True), strict=True):
        np.testing.assert_allclose(got, column, rtol=1e-4)
    sums = log_probs(TEACHER.model, TEACHER.params, encoded)
    np.testing.assert_allclose(-made.loss.sum(), sums.sum(), rtol=1e-5)


def test_a_model_that_is_as_sure_as_it_is_right_has_no_calibration_error():
    confidence = np.repeat([0.25, 0.75], 4).astype(np.float32)
    right = np.array([1, 0, 0, 0, 1, 1, 1, 0], bool)
    made = Predictions(np.arange(8), np.zeros(8), confidence, right, np.zeros(8))
    assert calibration_error(calibration(made)) == pytest.approx(0)
    sure = made._replace(confidence=np.ones(8, np.float32))
    assert calibration_error(calibration(sure)) == pytest.approx(0.5)
    assert sum(b["share"] for b in calibration(made)) == pytest.approx(1)


def test_losses_by_position_add_up_to_the_loss():
    made = predictions(TEACHER, encode_pairs(PAIRS, SRC, TGT))
    bins = loss_by_position(made)
    total = sum(b["loss"] * b["tokens"] for b in bins)
    assert total == pytest.approx(float(made.loss.sum()), rel=1e-5)
    assert bins[0]["loss"] == pytest.approx(float(made.loss[made.position == 0].mean()))


# Outputs.


def test_the_oracle_takes_the_best_of_the_first_hypotheses():
    lists = [NBest(0, ("a b c d", "a b c x", "a b c e")), NBest(1, ("u v", "", "k l m n"))]
    found = oracle(lists, ["a b c e", "k l m n"], (1, 2, 3))
    each = select.similarities([("", "a b c e"), ("", "k l m n")], lists)
    assert found[3] == pytest.approx(1.0) and found[1] <= found[2] <= found[3]
    assert found[1] == pytest.approx(np.mean([each[0][0], max(0, each[1][0])]))


def test_search_errors_are_beams_that_found_more():
    greedy = [NBest(n, ("x",), log_probs=(-2.0,)) for n in range(3)]
    beam = [NBest(n, ("x",), log_probs=(p,)) for n, p in enumerate((-1.0, -2.0, -2.5))]
    assert search_errors(greedy, beam) == pytest.approx(1 / 3)


def test_repeats_are_counted_beyond_those_of_the_source():
    sources = ["a b a b a b", "a b c", "a b"]
    outputs = ["x y x y x y", "x y x y x y", "x y x y"]
    assert repeats(sources, outputs) == pytest.approx(1 / 3)
    chosen = select.seq_kd(
        list(zip(sources, outputs, strict=True)), [NBest(n, (o,)) for n, o in enumerate(outputs)]
    )
    assert max_repeats()(chosen).tolist() == [True, False, True]


# The truth.


@pytest.mark.slow
def test_the_distance_to_the_truth_is_a_sum_over_its_targets():
    sources = [source for source, _ in PAIRS[:6]]
    found = against_truth(TEACHER, sources, grammar.targets)
    kl, right, mode = [], [], []
    for source in sources:
        truth = grammar.targets(source)
        own = dict(sorted(truth.items(), key=lambda item: (-item[1], item[0]))[:64])
        total = sum(own.values())
        encoded = encode_pairs([(source, t) for t in own], SRC, TGT)
        scores = log_probs(TEACHER.model, TEACHER.params, encoded)
        kl.append(
            sum(
                q / total * (math.log(q / total) - score)
                for q, score in zip(own.values(), scores, strict=True)
            )
        )
        right.append(np.exp(scores).sum())
        mode.append(math.exp(scores[0]))
    assert found["kl"] == pytest.approx(np.mean(kl), rel=1e-4)
    assert found["right"] == pytest.approx(np.mean(right), rel=1e-4)
    assert found["mode"] == pytest.approx(np.mean(mode), rel=1e-4)
    assert found["wrong"] == pytest.approx(1 - found["right"])


# All of it.


@pytest.mark.slow
def test_a_diagnosis_says_of_each_model_what_its_searches_say():
    sources, references = zip(*PAIRS, strict=True)
    record = diagnose(
        TEACHER,
        {"student": STUDENT},
        PAIRS,
        scorer=Scorer("none"),
        truth=grammar.targets,
        oracle_sizes=(1, 5),
    )
    beam = translate_texts(TEACHER, sources, Search(beam_size=5))
    greedy = translate_texts(STUDENT, sources, Search(beam_size=1))
    said, taught = ([n.texts[0] for n in lists] for lists in (greedy, beam))
    student = record["models"]["student"]
    assert student["bleu"][1] == Scorer("none").bleu(said, references)
    assert student["reproduces"] == np.mean([a == b for a, b in zip(said, taught, strict=True)])
    mass = np.mean([math.exp(n.log_probs[0]) for n in greedy])
    assert student["mode_mass"] == pytest.approx(mass)
    assert record["models"]["teacher"]["agrees"] == 1 and 0 <= student["agrees"] < 1
    shown = diagnosis_tables(record)
    assert all(name in shown for name in ("teacher", "student", "KL(truth || model)"))


def test_the_command_prints_tables_and_writes_a_record_and_pictures(tmp_path, capsys):
    for name, side in zip(("src", "tgt"), zip(*PAIRS, strict=True), strict=True):
        (tmp_path / f"test.{name}").write_text("".join(line + "\n" for line in side))
    files = [str(tmp_path / f"test.{side}") for side in ("src", "tgt")]
    models = []
    for name, trained in (("teacher", TEACHER), ("student", STUDENT)):
        compress(tmp_path / name, trained, 8)
        models.append(str(tmp_path / name))
    text = ["--source", files[0], "--reference", files[1], "--original", *files]
    text += ["--distilled", *files, "--tokenize", "none"]
    out = ["--out", str(tmp_path / "d.json"), "--pictures", str(tmp_path / "pictures")]
    arguments = [*models, *text, "--oracle", "1", "2", *out]
    assert main(["diagnose", *arguments]) == 0
    shown = capsys.readouterr().out
    record = read_diagnosis(tmp_path / "d.json")
    assert diagnosis_tables(record) in shown
    assert record["corpora"]["distilled"]["faithfulness"] == pytest.approx(0, abs=1e-2)
    pictures = sorted(path.name for path in (tmp_path / "pictures").iterdir())
    names = ("corpora", "oracle", "outputs", "positions", "reliability")
    assert pictures == [f"{name}.png" for name in names]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["m"], "no text to test on"),
        (["m", "--data", "grammar", "--source", "x"], "--source has no effect"),
        (["m", "--source", "x", "--distilled", "y.tsv"], "compared with --original"),
    ],
)
def test_options_without_effect_are_refused(capsys, arguments, message):
    assert main(["diagnose", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_pairs_without_words_cannot_be_aligned():
    with pytest.raises(ValueError, match="no words to align"):
        word_tables([[("", "")]])
