"""Several seeds: how they are trained, compared and shown; and teachers too weak to teach."""

import dataclasses
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
import small_lab
from sacrebleu.metrics.bleu import BLEU

import seqkd_jax as skd
from seqkd_jax import recipes
from seqkd_jax.__main__ import main
from seqkd_jax.distill import filter_pairs, length_ratio, max_repeats, mean_log_prob, seq_kd
from seqkd_jax.errors import UsageError
from seqkd_jax.model_folder import load_model
from seqkd_jax.recipes.table1 import nbest_lists, teachers_of
from seqkd_jax.recipes.variants import filtered_pairs
from seqkd_jax.report import read_results, table
from seqkd_jax.report.claims import claims_table
from seqkd_jax.report.documents import fill_tables
from seqkd_jax.scoring import RESAMPLING_SEED, Scorer
from seqkd_jax.sealed import write_record

WORDS = "a b c d e f g h".split()


def lines(seed, count=30):
    rng = np.random.default_rng(seed)
    return [" ".join(rng.choice(WORDS, rng.integers(4, 9))) for _ in range(count)]


def near(references, seed, share):
    """Lines in which this share of the references' words is replaced."""
    rng = np.random.default_rng(seed)
    return [
        " ".join("x" if rng.random() < share else word for word in line.split())
        for line in references
    ]


REFERENCES = lines(0)
GOOD = [near(REFERENCES, seed, 0.1) for seed in (1, 2, 3)]
BAD = [near(REFERENCES, seed, 0.3) for seed in (4, 5, 6)]


def test_resampled_scores_are_those_of_sacrebleu_for_the_resampled_corpus():
    scorer, samples = Scorer("none"), 5
    chosen = np.random.default_rng(0).multinomial(30, np.full(30, 1 / 30), samples)
    scores = scorer._resampled(GOOD[0], REFERENCES, chosen)
    for counts, score in zip(chosen, scores, strict=True):
        index = np.repeat(np.arange(30), counts)
        outputs, references = ([texts[i] for i in index] for texts in (GOOD[0], REFERENCES))
        assert score == pytest.approx(
            BLEU(tokenize="none", force=True).corpus_score(outputs, [references]).score
        )


def test_a_difference_over_seeds_is_the_mean_and_has_every_seed():
    scorer = Scorer("none")
    found = scorer.compare_seeds(BAD, GOOD, REFERENCES, samples=200)
    each = [scorer.compare(b, g, REFERENCES, 200) for b, g in zip(BAD, GOOD, strict=True)]
    assert found.bleu == pytest.approx(np.mean([d.bleu for d in each]))
    assert found.by_seed == tuple((d.bleu, d.p_value) for d in each)
    assert found.p_value < 0.05 and min(d.bleu for d in each) > 0
    assert scorer.compare_seeds(BAD[:1], GOOD[:1], REFERENCES, 200) == each[0]
    equal = scorer.compare_seeds(GOOD, GOOD, REFERENCES, samples=50)
    assert (equal.bleu, equal.p_value) == (0, 1)


def test_what_holds_with_one_seed_of_three_is_not_significant():
    """Every seed by itself is significant, but one of them in the other direction."""
    mixed = [GOOD[0], BAD[1], GOOD[2]]
    others = [BAD[0], GOOD[1], BAD[2]]
    found = Scorer("none").compare_seeds(others, mixed, REFERENCES, samples=500)
    assert all(p < 0.05 for _, p in found.by_seed)
    assert [bleu > 0 for bleu, _ in found.by_seed] == [True, False, True]
    assert found.p_value > 0.05


def test_the_p_value_is_the_share_of_resamples_that_are_as_far_from_their_mean():
    scorer, samples = Scorer("none"), 40
    found = scorer.compare_seeds(BAD[:2], GOOD[:2], REFERENCES, samples)
    rng = np.random.default_rng(RESAMPLING_SEED)
    sentences = rng.multinomial(30, np.full(30, 1 / 30), samples)
    seeds = rng.multinomial(2, np.full(2, 1 / 2), samples)
    metric, drawn = BLEU(tokenize="none", force=True), []
    for sentence_counts, seed_counts in zip(sentences, seeds, strict=True):
        index = np.repeat(np.arange(30), sentence_counts)
        references = [REFERENCES[i] for i in index]
        scores = [
            metric.corpus_score([GOOD[s][i] for i in index], [references]).score
            - metric.corpus_score([BAD[s][i] for i in index], [references]).score
            for s in np.repeat(np.arange(2), seed_counts)
        ]
        drawn.append(np.mean(scores))
    further = (np.abs(drawn - np.mean(drawn)) > abs(found.bleu)).sum()
    assert found.p_value == pytest.approx((further + 1) / (samples + 1))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    exp = recipes.experiment(small_lab.CORPUS, tmp_path_factory.mktemp("seeds"), small_lab.PLAN)
    rows = ["teacher", "baseline", "seq-kd", "seq-kd-weighted", "seq-kd-all", "seq-kd-filtered"]
    recipes.run(exp, rows, seeds=(1, 2), anyway=True)
    return exp


@pytest.mark.slow
def test_students_of_all_seeds_share_the_teacher_and_its_lists(finished):
    assert not (finished.folder / "seed-2" / "teacher").exists()
    assert not list((finished.folder / "seed-2").glob("nbest*"))
    digests = {load_model(finished.folder / part / "seq-kd").digest for part in (".", "seed-2")}
    made_by = [
        json.loads((finished.folder / part / "seq-kd" / "config.json").read_text())["made_by"]
        for part in (".", "seed-2")
    ]
    assert len(digests) == 2
    assert [m["seed"] for m in made_by] == [1, 2] and made_by[0]["pairs"] == made_by[1]["pairs"]


@pytest.mark.slow
def test_filtered_pairs_of_a_large_corpus_come_from_files(finished, tmp_path, monkeypatch, capsys):
    shutil.copytree(finished.folder, tmp_path, dirs_exist_ok=True)
    exp = dataclasses.replace(finished, folder=tmp_path)
    lists = nbest_lists(exp, exp.plan.kd_beam)
    best = seq_kd(exp.corpus.train, lists)
    settings = exp.plan.filters
    lowest = float(np.nanquantile(best.log_probs, settings.lowest_share))
    tests = [
        length_ratio(settings.max_ratio),
        max_repeats(settings.max_repeats),
        mean_log_prob(lowest),
    ]
    kept, counts = filter_pairs(best, {str(n): test for n, test in enumerate(tests)})
    assert 0 < len(kept.pairs) < len(best.pairs)
    for in_memory in 1 << 20, 0:
        monkeypatch.setattr("seqkd_jax.data.encode.IN_MEMORY", in_memory)
        assert list(filtered_pairs(exp)) == kept.pairs
        said = capsys.readouterr().err
        assert said.count(f"{len(kept.pairs):,} of {len(best.pairs):,} distilled pairs kept") == 1
    beam = exp.plan.kd_beam
    assert (tmp_path / "distilled" / f"seq-kd-filtered-{beam}.src").exists()


@pytest.mark.slow
def test_results_hold_every_seed_and_the_table_their_means(finished):
    results = read_results(finished.folder / "results.json")
    assert results.about["seeds"] == [1, 2]
    for evaluation in (e for row in results.rows for e in row.evaluations):
        assert {"version", "commit", "jax"} <= set(evaluation.made["library"])
        assert evaluation.made["trained_by"] == evaluation.made["library"]
    rows = {row.name: row for row in results.rows}
    assert all(len(row.evaluations) == 2 for row in rows.values())
    assert rows["teacher"].evaluations[0] == rows["teacher"].evaluations[1]
    text = (finished.folder / "table.txt").read_text()
    assert text == table(results.rows) + "\n"
    assert "means of 2 seeds, ± standard deviation" in text
    difference = rows["seq-kd"].differences[1]
    means = [np.mean([e.decodings[1].bleu for e in rows[n].evaluations]) for n in rows]
    expected = dict(zip(rows, means, strict=True))
    assert difference.bleu == pytest.approx(expected["seq-kd"] - expected["baseline"])
    assert len(difference.by_seed) == 2


@pytest.mark.slow
def test_the_first_seed_is_the_run_without_seeds(finished, tmp_path):
    alone = recipes.experiment(small_lab.CORPUS, tmp_path, small_lab.PLAN)
    assert recipes.baseline(alone).digest == load_model(finished.folder / "baseline").digest


@pytest.mark.slow
def test_the_order_of_seeds_does_not_matter(finished, tmp_path):
    folder = shutil.copytree(finished.folder, tmp_path / "copy")
    before = {row.name: row for row in read_results(folder / "results.json").rows}
    copied = recipes.experiment(small_lab.CORPUS, folder, small_lab.PLAN)
    recipes.run(copied, ["baseline"], seeds=(2, 1), anyway=True)
    after = read_results(folder / "results.json")
    assert after.about["seeds"] == [1, 2]
    assert after.rows[0].evaluations == before["baseline"].evaluations


def test_ensembles_of_other_seeds_have_no_teacher_in_common():
    def seeds(seed):
        plan = dataclasses.replace(small_lab.PLAN, teachers=3, seed=seed)
        exp = recipes.Experiment(Path("unused"), small_lab.CORPUS, plan)
        return {one.plan.seed for one in teachers_of(exp).values()}

    assert len(seeds(1) | seeds(2) | seeds(3)) == 9


@pytest.mark.slow
def test_new_teachers_belong_to_their_seeds(finished, tmp_path):
    one = recipes.experiment(small_lab.CORPUS, tmp_path, small_lab.PLAN)
    other = one.with_seed(2, new_teacher=True)
    assert other.teaching is other and one.with_seed(2).teaching is one
    recipes.teacher(other)
    assert (tmp_path / "seed-2" / "teacher").exists() and not (tmp_path / "teacher").exists()
    assert one.with_seed(1) is one


@pytest.mark.slow
def test_all_hypotheses_train_as_long_as_the_best_ones(finished):
    def updates(name):
        lines = (finished.folder / name / "metrics.jsonl").read_text().splitlines()
        return json.loads(lines[-1])["step"]

    assert updates("seq-kd-all") == pytest.approx(updates("seq-kd"), abs=3)


CURVE = [{"bleu": bleu} for bleu in (1.0, 8.0, 14.0, 17.0, 18.0, 18.5)]


def test_a_teacher_is_weak_if_its_bleu_is_low_or_still_rises_steeply():
    assert recipes.weakness(CURVE) is None and recipes.weakness([]) is None
    assert "is 0.8" in recipes.weakness([{"bleu": 0.3}, {"bleu": 0.8}])
    assert "is 0.0" in recipes.weakness([{"bleu": None}, {"bleu": 0.0}])
    rising = [{"bleu": bleu} for bleu in (1.0, 2.0, 4.0, 8.0, 12.0, 16.0)]
    assert "rose from 8.0 to 16.0 in the last fifth" in recipes.weakness(rising)


@pytest.mark.slow
def test_a_run_stops_at_a_teacher_that_cannot_teach(tmp_path):
    exp = recipes.experiment(small_lab.CORPUS, tmp_path, small_lab.PLAN)
    with pytest.raises(UsageError, match="too|little to do with the source.*--anyway"):
        recipes.run(exp, ["seq-kd"])
    assert not (tmp_path / "seq-kd").exists() and (tmp_path / "teacher").exists()
    recipes.run(exp, ["baseline"])  # learns from nobody


@pytest.mark.parametrize(
    "options, message",
    [
        (["--seeds", "1", "1"], "give each seed once"),
        (["--seeds", "1", "2", "--seed", "3"], "--seed has no effect with --seeds"),
        (["--new-teachers"], "--new-teachers has no effect without --seeds"),
        (
            ["--rows", "baseline", "--seeds", "1", "2", "--new-teachers"],
            "--new-teachers has no effect when no row has a teacher",
        ),
        (["--filters.max-ratio", "2"], "--filters.max-ratio has no effect"),
    ],
)
def test_options_of_seeds_are_obeyed_or_refused(tmp_path, capsys, options, message):
    assert main(["run", "--data", "grammar", "--out", str(tmp_path / "run"), *options]) == 2
    assert message in capsys.readouterr().err and not (tmp_path / "run").exists()


@pytest.mark.slow
def test_claims_are_counted_over_seeds(finished):
    results = read_results(finished.folder / "results.json")
    text = claims_table({finished.folder: results})
    rows = {row.name: row for row in results.rows}
    first, *_ = (line for line in text.splitlines() if line.startswith("Seq-KD beats training"))
    gains = [
        b.decodings[1].bleu - a.decodings[1].bleu
        for a, b in zip(rows["baseline"].evaluations, rows["seq-kd"].evaluations, strict=True)
    ]
    assert f"{np.mean(gains):+.2f} ±{np.std(gains, ddof=1):.2f}" in first
    held = sum(gain > 0 for gain in gains)
    assert first.endswith({0: "no", 1: "1 of 2", 2: "yes"}[held])
    word_kd, *_ = (line for line in text.splitlines() if line.startswith("Seq-KD beats Word-KD"))
    assert word_kd.rstrip().endswith("+3.5")  # there is no such row here


@pytest.mark.slow
def test_a_document_says_which_version_made_its_table(finished, tmp_path):
    place = "<!-- table: results.json -->\n<!-- end -->\n"
    made = fill_tables(place, finished.folder)
    assert f"made by seqkd_jax {skd.__version__}" in made and "not by this version" not in made
    other = json.loads((finished.folder / "results.json").read_text())
    for evaluation in (e for row in other["rows"] for e in row["evaluations"]):
        evaluation["made"]["library"]["version"] = "0.0"
    content = {name: value for name, value in other.items() if name not in ("format", "sha256")}
    write_record(tmp_path / "results.json", other["format"], content)
    assert f"not by this version, {skd.__version__}" in fill_tables(place, tmp_path)
    both = fill_tables(
        "<!-- claims: results.json results.json -->\n<!-- end -->\n", finished.folder
    )
    assert "Seq-KD beats training" in both


@pytest.mark.slow
def test_teachers_that_differ_in_their_seeds_teach_as_one_ensemble(tmp_path):
    plan = dataclasses.replace(small_lab.PLAN, teachers=2)
    exp = recipes.experiment(small_lab.CORPUS, tmp_path, plan)
    both = [
        load_model(tmp_path / name) for name in ("teacher", "teacher-2") if recipes.teacher(exp)
    ]
    assert both[0].digest != both[1].digest
    pairs = recipes.seq_kd_pairs(exp)
    together = dataclasses.replace(
        both[0],
        model=skd.ensemble([one.model for one in both]),
        params=[one.params for one in both],
        net=None,
    )
    sources = [source for source, _ in small_lab.CORPUS.train]
    search = skd.Search(beam_size=2, n_best=2)
    lists = skd.translate_texts(together, sources, search)
    assert list(pairs) == skd.seq_kd(small_lab.CORPUS.train, lists).pairs
    recipes.seq_kd_word_kd(exp)  # they also teach words


@pytest.mark.slow
def test_more_source_text_is_translated_and_added(tmp_path):
    extra = [source for source, _ in small_lab.pairs(7, 20)]
    corpus = dataclasses.replace(small_lab.CORPUS, extra=extra)
    exp = recipes.experiment(corpus, tmp_path, small_lab.PLAN)
    pairs = recipes.seq_kd_pairs(exp)
    assert len(pairs) == 48 + 20 and [source for source, _ in pairs][48:] == extra
    lists = skd.translate_texts(recipes.teacher(exp), extra, skd.Search(beam_size=2, n_best=2))
    assert list(pairs)[48:] == skd.seq_kd([(source, "") for source in extra], lists).pairs
    without = recipes.experiment(small_lab.CORPUS, tmp_path / "without", small_lab.PLAN)
    assert list(pairs)[:48] == list(recipes.seq_kd_pairs(without))
    recipes.seq_kd(exp)
