"""How long to train where the settings leave it open, and updates that are no whole passes."""

import dataclasses
import itertools
import json
import math

import jax
import numpy as np
import pytest
import small_lab

from seqkd_jax import recipes
from seqkd_jax.data import encode_pairs, number_of_batches, plan_buckets
from seqkd_jax.errors import UsageError
from seqkd_jax.recipes import amount, stages
from seqkd_jax.recipes.amount import in_updates, longer, rounds_of, settled, tokens_of
from seqkd_jax.settings import Training


def encoded():
    words = recipes.experiment(small_lab.CORPUS, "unused", small_lab.PLAN)
    return encode_pairs(small_lab.CORPUS.train, *words._new_vocabularies())


def test_a_small_corpus_is_seen_often_and_a_large_one_in_large_batches():
    small, large = settled(Training(), 100_000), settled(Training(), 100_000_000)
    assert small.updates == amount.UPDATES and small.tokens_per_batch == 1024
    assert small.updates * small.tokens_per_batch > 50 * 100_000
    assert large.tokens_per_batch > 8 * 1024 and large.rate > small.rate
    assert large.updates * large.tokens_per_batch >= amount.PASSES * 100_000_000
    sizes = [settled(Training(), 10**n) for n in range(3, 10)]
    assert all(a.tokens_per_batch <= b.tokens_per_batch for a, b in itertools.pairwise(sizes))
    assert max(s.tokens_per_batch for s in sizes) == amount.LARGEST * 1024


def test_what_is_given_is_kept_and_nothing_stays_open():
    given = Training(epochs=3, rate=0.5, tokens_per_batch=77, clip=1.0)
    assert settled(given, 10**8) == given
    assert settled(Training(updates=5), 10**8).updates == 5
    for optimizer, rate in (("sgd", 1.0), ("half-epoch-sgd", 0.7)):
        assert settled(Training(optimizer=optimizer), 1000).rate == rate
    started, new = (settled(Training(), 1000, trained=trained) for trained in (True, False))
    assert started.updates == math.ceil(new.updates / 4) and started.rate < new.rate
    with pytest.raises(UsageError, match="each of them says how long"):
        Training(updates=10, epochs=1)


def test_the_size_of_a_corpus_counts_the_longer_sides():
    data = encoded()
    longest = [max(len(s), len(t)) for s, t in zip(data.src, data.tgt, strict=True)]
    assert tokens_of(data) == sum(longest)


def test_updates_are_divided_into_equal_rounds():
    assert rounds_of(Training(epochs=3), 7) == (3, 7)
    assert rounds_of(Training(updates=100), 7) == (20, 5)
    assert rounds_of(Training(updates=101), 7) == (20, 6)
    assert rounds_of(Training(updates=3), 7) == (3, 1)
    assert longer(Training(updates=100), 4).updates == 400
    assert longer(Training(epochs=3), 4).epochs == 12
    same_length = in_updates(Training(epochs=3, tokens_per_batch=100), 1000)
    assert (same_length.updates, same_length.epochs) == (30, None)


def test_passes_follow_each_other_from_any_batch():
    data = encoded()
    buckets = plan_buckets(data, tokens_per_batch=64)
    per_pass = number_of_batches(data, buckets)
    take = 2 * per_pass + 3
    whole = list(itertools.islice(stages._passes(data, buckets, 1, 0, 0), take))
    for done in (0, 1, per_pass - 1, per_pass, per_pass + 2):
        rest = stages._passes(data, buckets, 1, *divmod(done, per_pass))
        for one, other in zip(whole[done:], rest, strict=False):
            np.testing.assert_array_equal(one.index, other.index)
    first = np.concatenate([batch.index for batch in whole[:per_pass]])
    assert sorted(first[first >= 0]) == sorted(data.index)


@pytest.mark.slow
def test_a_training_that_is_counted_in_updates_resumes_within_a_pass(tmp_path, monkeypatch):
    training = Training(updates=40, tokens_per_batch=64, rate=0.05)

    def trained(folder):
        exp = recipes.experiment(small_lab.CORPUS, folder, small_lab.PLAN)
        model = recipes.new(exp, small_lab.PLAN.student_size)
        return recipes.train(exp, "model", model, small_lab.CORPUS.train, training).digest

    class Killed(Exception):
        pass

    passes, made = stages._passes, 0

    def dying(*arguments):
        nonlocal made
        for batch in passes(*arguments):
            made += 1
            if made == 27:
                raise Killed
            yield batch

    monkeypatch.setattr(stages, "_passes", dying)
    with pytest.raises(Killed):
        trained(tmp_path / "killed")
    monkeypatch.undo()
    assert trained(tmp_path / "killed") == trained(tmp_path / "whole")
    lines = (tmp_path / "killed" / "model" / "metrics.jsonl").read_text().splitlines()
    steps = [record["step"] for record in map(json.loads, lines) if "valid" in record]
    assert steps == list(range(2, 41, 2))


@pytest.mark.slow
def test_people_see_what_the_model_writes_and_programs_the_records(tmp_path, capsys):
    seen: list = []
    exp = recipes.experiment(small_lab.CORPUS, tmp_path, small_lab.PLAN, log=seen.append)
    model = recipes.new(exp, small_lab.PLAN.student_size)
    training = Training(updates=60, tokens_per_batch=64, rate=0.05)
    recipes.train(exp, "model", model, small_lab.CORPUS.train, training)
    said = capsys.readouterr().err
    source, reference = small_lab.CORPUS.valid[0]
    assert f"source      {source}\nreference   {reference}\n" in said
    assert said.count("translation") == 1
    cells = [line.split() for line in said.splitlines() if line.startswith("       ")]
    shown = [cell[:2] for cell in cells if len(cell) >= 5 and cell[0].isdigit()]
    assert shown == [[f"{n}", f"{n / 6:.1f}"] for n in range(3, 61, 3)]  # six batches a pass
    lines = (tmp_path / "model" / "metrics.jsonl").read_text().splitlines()
    assert seen == [{"run": str(tmp_path / "model"), **json.loads(line)} for line in lines]
    assert len(seen) == 21  # the loss of 50 updates, and 20 validations


@pytest.mark.slow
def test_a_moving_average_is_what_is_validated_and_kept(tmp_path):
    exp = recipes.experiment(small_lab.CORPUS, tmp_path, small_lab.PLAN)
    model = recipes.new(exp, small_lab.PLAN.student_size)
    training = dataclasses.replace(small_lab.ONE_EPOCH, rate=0.05)
    pairs = small_lab.CORPUS.train
    plain = recipes.train(exp, "plain", model, pairs, training)
    averaged = recipes.train(exp, "ema", model, pairs, dataclasses.replace(training, ema=0.9))
    assert averaged.digest != plain.digest
    start = jax.jit(model.model.init)(jax.random.split(jax.random.key(1))[0])

    def moved(params):
        difference = jax.tree.map(lambda a, b: np.abs(a - b).sum(), params, start)
        return sum(jax.tree.leaves(difference))

    assert moved(averaged.params) < moved(plain.params)  # it lags behind
