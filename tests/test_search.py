import functools
import itertools

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from jax import lax
from small import MODEL, example, params

from seqkd_jax.base import BOS, EOS, PAD, UNK
from seqkd_jax.search import (
    TokenMask,
    beam_loop,
    beam_search,
    chain,
    gnmt,
    mean_per_token,
    no_penalty,
    nucleus,
    sample,
    search_many,
    temperature,
    top_candidates,
    top_k,
)
from seqkd_jax.search.candidates import BLOCK_SIZE, MIN_VOCAB_FOR_BLOCKS

V, T = 6, 4  # three words that may be chosen: UNK, 4 and 5
WORDS = (UNK, 4, 5)
RULES = {"none": no_penalty, "mean": mean_per_token, "gnmt": gnmt(0.7)}
DIVISORS = {
    "none": lambda length: 1.0,
    "mean": lambda length: float(length),
    "gnmt": lambda length: ((5 + length) / 6) ** 0.7,
}
EVERY_RULE = pytest.mark.parametrize("rule", RULES)
SEEDS = st.integers(0, 2**31)
few = settings(deadline=None, max_examples=25, derandomize=True)


def table(seed: int, length: int = T, vocabulary: int = V) -> np.ndarray:
    """Logits by position and the two tokens before: [T, V, V, V]."""
    rng = np.random.default_rng(seed)
    shape = (length, vocabulary, vocabulary, vocabulary)
    return (2 * rng.standard_normal(shape)).astype(np.float32)


def reader(logits):
    """The step function of a table, and its first state."""

    def step(state, token):
        new = {"position": state["position"] + 1, "before": token}
        return logits[state["position"], state["before"], token], new

    return step, {"position": jnp.int32(0), "before": jnp.int32(PAD)}


def beam(beam_size, n_best=None, rule="none", min_len=0, length=T, sentences=False):
    """A compiled search: (table, limit) -> Hypotheses."""
    return compiled(beam_size, n_best, rule, min_len, length, sentences)


@functools.cache
def compiled(beam_size, n_best, rule, min_len, length, sentences):
    def one(logits, limit):
        return beam_search(
            *reader(logits),
            beam_size=beam_size,
            max_len=length,
            n_best=n_best,
            limit=limit,
            min_len=min_len,
            length_penalty=RULES[rule],
        )

    return jax.jit(jax.vmap(one) if sentences else one)


def next_log_probs(logits, prefix) -> np.ndarray:
    """Log-probabilities [V] of what follows the tokens of ``prefix``, in double precision."""
    before, last = [PAD, BOS, *prefix][-2:]
    x = logits[len(prefix), before, last].astype(np.float64)
    return x - np.log(np.exp(x).sum())


def log_prob(logits, sentence) -> float:
    return sum(next_log_probs(logits, sentence[:n])[token] for n, token in enumerate(sentence))


def every_sentence(limit, min_len=0):
    """All complete sentences: words, then EOS, which only the limit allows before min_len words."""
    for words in range(min(min_len, limit - 1), limit):
        for sentence in itertools.product(WORDS, repeat=words):
            yield (*sentence, EOS)


def rows(found):
    """The sentences that exist, EOS included, after all that any search promises was checked."""
    tokens, scores = np.asarray(found.tokens), np.asarray(found.scores)
    exist = np.isfinite(scores)
    assert np.all(scores[:-1] >= scores[1:])
    assert np.all(tokens[~exist] == PAD)
    np.testing.assert_array_equal(np.isfinite(found.log_probs), exist)
    sentences = []
    for row in tokens[exist].tolist():
        end = row.index(EOS) + 1
        assert all(token == PAD for token in row[end:])
        assert not {PAD, BOS, EOS} & set(row[: end - 1])
        sentences.append(tuple(row[:end]))
    assert len(set(sentences)) == len(sentences)
    return sentences


def plain_beam(logits, beam_size, limit, rule="none", min_len=0):
    """Beam search with lists, and without stopping early: [(score, log-probability, tokens)]."""
    live, finished = [(0.0, ())], []
    for position in range(limit):
        candidates = []
        for rank, (so_far, tokens) in enumerate(live):
            after = next_log_probs(logits, tokens)
            for token in range(logits.shape[-1]):
                last = position == limit - 1
                early = token == EOS and position < min_len
                if (token == EOS) if last else not (token in (PAD, BOS) or early):
                    candidates.append((-(so_far + after[token]), rank, token))
        candidates.sort()
        for cost, rank, token in candidates[:beam_size]:
            if token == EOS:
                score = -cost / DIVISORS[rule](position + 1)
                finished.append((score, -cost, (*live[rank][1], EOS)))
        live = [(-cost, (*live[r][1], t)) for cost, r, t in candidates if t != EOS][:beam_size]
    return sorted(finished, key=lambda one: -one[0])[:beam_size]


def agree(found, want, atol=1e-5):
    """The search found just the (score, log-probability, tokens) of a plain one."""
    assert rows(found) == [tokens for _, _, tokens in want]
    np.testing.assert_allclose(found.scores[: len(want)], [s for s, _, _ in want], atol=atol)
    np.testing.assert_allclose(found.log_probs[: len(want)], [p for _, p, _ in want], atol=atol)


@EVERY_RULE
@pytest.mark.parametrize("min_len", [0, 2])
@few
@given(SEEDS, st.integers(-1, T + 2))
def test_a_wide_beam_ranks_every_sentence(rule, min_len, seed, limit):
    logits = table(seed)
    found = beam(40, rule=rule, min_len=min_len)(logits, limit)
    want = list(every_sentence(min(max(limit, 1), T), min_len))
    log_probs = {sentence: log_prob(logits, sentence) for sentence in want}
    scores = {s: p / DIVISORS[rule](len(s)) for s, p in log_probs.items()}
    got = rows(found)
    assert set(got) == set(want)
    np.testing.assert_allclose(found.scores[: len(got)], [scores[s] for s in got], atol=1e-5)
    np.testing.assert_allclose(found.log_probs[: len(got)], [log_probs[s] for s in got], atol=1e-5)


@EVERY_RULE
@few
@given(SEEDS, st.integers(1, T))
def test_a_beam_of_one_is_greedy(rule, seed, limit):
    logits, tokens = table(seed), []
    while EOS not in tokens:
        after = next_log_probs(logits, tuple(tokens))
        after[[PAD, BOS]] = -np.inf
        tokens.append(EOS if len(tokens) == limit - 1 else int(after.argmax()))
    found = beam(1, rule=rule)(logits, limit)
    assert rows(found) == [tuple(tokens)]
    np.testing.assert_allclose(found.log_probs, [log_prob(logits, tokens)], atol=1e-5)


@EVERY_RULE
@pytest.mark.parametrize("beam_size", [2, 3, 6])
@few
@given(SEEDS, st.integers(1, 6))
def test_a_beam_is_one_written_with_lists_that_never_stops_early(rule, beam_size, seed, limit):
    logits = table(seed, length=6)
    found = beam(beam_size, rule=rule, min_len=1, length=6)(logits, limit)
    agree(found, plain_beam(logits, beam_size, limit, rule, min_len=1))


def plain_simple(logits, beam_size, limit, rule, min_len):
    """The first sentence that ends while it is the best candidate, with lists."""
    live = [(0.0, ())]
    for position in range(limit):
        candidates = []
        for rank, (so_far, tokens) in enumerate(live):
            after = next_log_probs(logits, tokens)
            allowed = WORDS if position < limit - 1 else ()
            if position >= min_len or position == limit - 1:
                allowed = (*allowed, EOS)
            candidates += [(-(so_far + after[token]), rank, token) for token in allowed]
        candidates.sort()
        cost, rank, token = candidates[0]
        if token == EOS:
            score = -cost / DIVISORS[rule](position + 1)
            return [(score, -cost, (*live[rank][1], EOS))]
        live = [(-cost, (*live[r][1], t)) for cost, r, t in candidates if t != EOS][:beam_size]
    raise AssertionError("the last position allows only EOS")


@EVERY_RULE
@pytest.mark.parametrize("beam_size", [1, 3])
@few
@given(SEEDS, st.integers(1, 6))
def test_the_first_to_end_as_the_best_is_found_where_that_is_asked_for(
    rule, beam_size, seed, limit
):
    logits = table(seed, length=6)
    logits[..., EOS] += 1  # so that many end early, some below the best
    found = simple(beam_size, rule)(logits, limit)
    agree(found, plain_simple(logits, beam_size, limit, rule, min_len=1))


@functools.cache
def simple(beam_size, rule):
    def one(logits, limit):
        return beam_search(
            *reader(logits),
            beam_size=beam_size,
            max_len=6,
            limit=limit,
            min_len=1,
            length_penalty=RULES[rule],
            stop_at_first=True,
        )

    return jax.jit(one)


def test_the_first_to_end_need_not_be_the_best_of_all():
    seeds = range(60)
    tables = [table(seed, length=6) for seed in seeds]
    first = [float(simple(3, "none")(logits, 6).scores[0]) for logits in tables]
    best = [float(beam(3, min_len=1, length=6)(logits, 6).scores[0]) for logits in tables]
    assert np.all(np.array(first) <= np.array(best) + 1e-6)
    assert np.any(np.array(first) < np.array(best) - 0.1)
    poisoned = np.full_like(tables[0], np.nan)
    assert rows(simple(3, "none")(poisoned, 6)) == []


@EVERY_RULE
@few
@given(SEEDS)
def test_asking_for_the_best_alone_finds_the_first_of_the_list(rule, seed):
    logits = table(seed, length=6)
    alone = beam(3, 1, rule, min_len=1, length=6)(logits, 6)
    full = beam(3, rule=rule, min_len=1, length=6)(logits, 6)
    jax.tree.map(lambda a, b: np.testing.assert_array_equal(a, b[:1]), alone, full)


@EVERY_RULE
def test_a_sentence_does_not_depend_on_its_neighbours(rule):
    tables = np.stack([table(seed, length=6) for seed in range(16)])
    limits = np.arange(16) % 6 + 1
    together = beam(3, rule=rule, min_len=1, length=6, sentences=True)(tables, limits)
    for row in range(16):
        alone = beam(3, rule=rule, min_len=1, length=6)(tables[row], limits[row])
        np.testing.assert_array_equal(together.tokens[row], alone.tokens)
        np.testing.assert_allclose(together.scores[row], alone.scores, atol=1e-5)


@functools.cache
def in_places(places, beam_size, rule):
    """A compiled search of many sentences: (tables [N, ...], limits [N]) -> Hypotheses [N, ...]."""

    def steps(sentence):
        logits, limit = sentence
        return beam_loop(
            *reader(logits),
            beam_size=beam_size,
            max_len=T,
            limit=limit,
            length_penalty=RULES[rule],
        )

    return jax.jit(lambda logits, limits: search_many(steps, (logits, limits), places))


@pytest.mark.parametrize(("places", "beam_size"), [(1, 2), (3, 2), (8, 1), (11, 2), (30, 2)])
@given(seed=SEEDS)
@few
def test_sentences_that_take_turns_are_searched_as_if_alone(places, beam_size, seed):
    many = np.stack([table(seed + n) for n in range(11)])
    many[3] = np.nan  # nothing is found, and the place is free again
    limits = np.random.default_rng(seed).integers(1, T + 1, 11)
    got = in_places(places, beam_size, "mean")(many, limits)
    want = beam(beam_size, rule="mean", sentences=True)(many, limits)
    np.testing.assert_array_equal(got.tokens, want.tokens)
    np.testing.assert_allclose(got.scores, want.scores, atol=1e-6)
    np.testing.assert_allclose(got.log_probs, want.log_probs, atol=1e-6)


def test_no_place_is_empty_while_a_sentence_waits():
    """Steps are no more than those of any schedule that leaves no place empty (Graham 1966)."""
    places, limits, called = 4, np.array([9, 1, 2, 1, 9, 2, 1, 1, 9, 1, 2, 9, 1, 1]), []

    def steps(limit):
        def step(state, token):
            jax.debug.callback(lambda: called.append(token))
            return jnp.where(jnp.arange(V) == EOS, -9.0, 0.0), state

        return beam_loop(step, (), beam_size=1, max_len=9, limit=limit)

    found = jax.jit(lambda limits: search_many(steps, limits, places))(limits)
    jax.effects_barrier()
    np.testing.assert_array_equal((found.tokens[:, 0] != PAD).sum(-1), limits)
    assert len(called) / places <= limits.sum() / places + 9 < 4 * 9


@EVERY_RULE
@pytest.mark.parametrize(
    ("beam_size", "n_best"), [(1, 1), pytest.param(3, 1, marks=pytest.mark.slow), (3, 3)]
)
def test_the_search_stops_when_nothing_better_can_come(beam_size, n_best, rule):
    logits = table(0, length=6)
    logits[:2, ..., EOS] = -50
    logits[2, ..., EOS] = 50  # sure to end in the third step, and after it not soon
    logits[3:, ..., EOS] = -50
    step, state = reader(jnp.array(logits))
    tokens_read = []

    def watched(state, token):
        tokens_read.append(token)
        return step(state, token)

    options = dict(beam_size=beam_size, n_best=n_best, length_penalty=RULES[rule])
    with jax.disable_jit():
        beam_search(watched, state, max_len=6, **options)
    assert len(tokens_read) == 3


def test_logits_that_are_not_numbers_leave_no_hypothesis():
    assert rows(beam(3)(np.full((T, V, V, V), np.nan, np.float32), T)) == []


def test_a_hypothesis_whose_logits_are_not_numbers_does_not_harm_the_others():
    logits = table(3)
    logits[:, :, 5] = np.nan  # whatever follows word 5
    found = rows(beam(40)(logits, T))
    assert set(found) == {s for s in every_sentence(T) if 5 not in s}


def test_tokens_that_the_model_excludes_are_not_chosen():
    logits = table(4)
    logits[..., 5] = -np.inf
    assert set(rows(beam(40)(logits, T))) == {s for s in every_sentence(T) if 5 not in s}


def test_a_beam_wider_than_the_vocabulary_leaves_missing_rows_empty():
    found = beam(64)(table(1), 1)
    assert rows(found) == [(EOS,)]
    assert found.tokens.shape == (64, T)


def test_of_equal_candidates_the_better_hypothesis_and_the_lower_token_go_first():
    found = beam(3)(np.zeros((T, V, V, V), np.float32), T)
    # UNK is the lowest of equal ids and so goes on first; EOS follows it, before the words.
    assert rows(found) == [(EOS,), (UNK, EOS), (UNK, UNK, EOS)]
    np.testing.assert_allclose(found.log_probs, -np.log(V) * np.arange(1, 4), rtol=1e-6)


def test_banned_ids_are_not_found_and_leave_probabilities_alone():
    logits = table(2)
    found = beam_search(
        *reader(jnp.array(logits)), beam_size=20, max_len=T, banned=(PAD, BOS, UNK, 5)
    )
    got = rows(found)
    assert set(got) == {(4,) * words + (EOS,) for words in range(T)}
    want = [log_prob(logits, sentence) for sentence in got]
    np.testing.assert_allclose(found.log_probs[: len(got)], want, atol=1e-5)


def test_a_large_vocabulary_gives_the_same_as_the_search_with_lists():
    wide, length = 601, 4
    rng = np.random.default_rng(0)
    by_token, by_position = rng.standard_normal((2, wide, wide)).astype(np.float32) * 2
    logits = np.zeros((length, 1, wide, wide), np.float32) + by_token
    logits += by_position[:length, None, None]
    logits[..., EOS] += 5

    def step(position, token):
        return jnp.array(logits)[position, 0, token], position + 1

    for beam_size in (1, 4):
        found = beam_search(step, jnp.int32(0), beam_size=beam_size, max_len=length)
        want = plain_beam(np.broadcast_to(logits, (length, wide, wide, wide)), beam_size, length)
        agree(found, want[: 1 if beam_size == 1 else None])


@pytest.mark.parametrize("vocabulary", [20, 511, 512, pytest.param(1000, marks=pytest.mark.slow)])
@pytest.mark.parametrize("hypotheses", [1, pytest.param(3, marks=pytest.mark.slow), 8])
@few
@given(SEEDS)
def test_candidates_are_those_of_one_flat_top_k(vocabulary, hypotheses, seed):
    rng = np.random.default_rng(seed)
    # Few different numbers and equal rows: nearly everything is tied.
    logits = rng.integers(0, 3, (2, vocabulary))[rng.integers(0, 2, hypotheses)]
    log_probs = rng.choice([-1.0, -2.0, -np.inf], hypotheses)
    # Of the others one lies in the last block, and one is no token of this vocabulary.
    others = (0, 3, 5, vocabulary - 2, vocabulary + 1)
    others = {other: jnp.bool_(rng.random() < 0.5) for other in others}
    allowed = TokenMask(jnp.bool_(rng.random() < 0.7), others)
    logits, log_probs = jnp.array(logits, jnp.float32), jnp.array(log_probs, jnp.float32)
    count = 2 * hypotheses
    best, parent, token = candidates(log_probs, logits, allowed, count)
    total = log_probs[:, None] + jax.nn.log_softmax(logits)
    mask = [bool(others.get(token, allowed.default)) for token in range(vocabulary)]
    total = jnp.where(jnp.array(mask)[None], total, -jnp.inf)
    want, place = lax.top_k(total.reshape(-1), count)
    np.testing.assert_allclose(best, want, rtol=1e-6)
    np.testing.assert_array_equal(parent * vocabulary + token, place)


candidates = jax.jit(top_candidates, static_argnums=3)


@pytest.mark.parametrize("vocabulary", [512, 1000])
@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, -1e4, 1e4])
def test_candidates_beside_numbers_that_are_none_or_far_away(vocabulary, value):
    """Of a hypothesis with a number that is none, nothing; a block without a word adds nothing."""
    logits = np.random.default_rng(0).normal(size=(3, vocabulary)).astype(np.float32)
    logits[1, :200] = value
    log_probs = jnp.array([-3.0, -1.0, -2.0])
    best, parent, token = candidates(log_probs, logits, TokenMask(jnp.bool_(True), {}), 6)
    norms = jax.nn.logsumexp(logits, axis=1, keepdims=True)
    total = jnp.where(jnp.isfinite(norms), log_probs[:, None] + (logits - norms), -jnp.inf)
    want, place = lax.top_k(total.reshape(-1), 6)
    np.testing.assert_allclose(best, want, rtol=1e-6)
    np.testing.assert_array_equal(parent * vocabulary + token, place)


def test_the_candidates_were_looked_for_in_blocks():
    assert MIN_VOCAB_FOR_BLOCKS <= 511 and 2 * BLOCK_SIZE <= 511 and 512 % BLOCK_SIZE == 0


def test_log_probs_are_those_of_the_model_with_teacher_forcing():
    weights, src = params(), example().src

    def decode(src):
        memory, state = MODEL.encode(weights, src)

        def step(state, token):
            hidden, state = MODEL.step(weights, memory, state, token)
            return MODEL.project(weights, hidden), state

        return beam_search(step, state, beam_size=4, max_len=7, length_penalty=mean_per_token)

    def rescore(src, tgt):
        logits = jax.vmap(lambda h: MODEL.project(weights, h))(MODEL.hidden(weights, src, tgt))
        picked = jnp.take_along_axis(jax.nn.log_softmax(logits), tgt[:, None], axis=1)[:, 0]
        return jnp.where(tgt != PAD, picked, 0).sum()

    found = jax.jit(jax.vmap(decode))(src)
    want = jax.jit(jax.vmap(jax.vmap(rescore, (None, 0))))(src, found.tokens)
    np.testing.assert_allclose(found.log_probs, want, atol=1e-5)
    np.testing.assert_allclose(found.scores, want / (found.tokens != PAD).sum(-1), atol=1e-5)


@functools.cache
def sampler(*warps):
    """A compiled sampler: (table, keys, limit) -> Hypotheses."""

    def one(logits, key, limit):
        return sample(*reader(logits), key, max_len=T, limit=limit, warp=chain(*warps))

    return jax.jit(jax.vmap(one, (None, 0, None)))


def keys(number: int):
    return jax.random.split(jax.random.key(7), number)


WARPS = {
    "as it is": ((), lambda p: p),
    "temperature": ((temperature(0.5),), lambda p: p**2),
    "top k": ((top_k(2),), lambda p: np.where(p >= np.sort(p)[-2], p, 0)),
    "nucleus of a temperature": (
        (temperature(3.0), nucleus(0.7)),
        lambda p: smallest_nucleus(p ** (1 / 3), 0.7),
    ),
    "nucleus": ((nucleus(0.6),), lambda p: smallest_nucleus(p, 0.6)),
}


def smallest_nucleus(p: np.ndarray, mass: float) -> np.ndarray:
    """The fewest largest of p [V] that hold the mass, the others 0; by trying 1, 2, 3 of them."""
    order = np.argsort(-p)
    for size in range(1, len(p) + 1):
        if p[order[:size]].sum() >= mass * p.sum():
            return np.where(np.isin(np.arange(len(p)), order[:size]), p, 0)
    return p


@pytest.mark.parametrize("name", WARPS)
def test_samples_are_distributed_as_the_model_says(name):
    warps, expected = WARPS[name]
    logits, draws, limit = table(5), 20_000, 3
    chances = {}
    for sentence in every_sentence(limit):
        chance = 1.0
        for n, token in enumerate(sentence[: limit - 1]):  # the last place holds EOS for certain
            p = np.exp(next_log_probs(logits, sentence[:n]))
            p[[PAD, BOS]] = 0
            p = expected(p / p.sum())
            chance *= p[token] / p.sum()
        chances[sentence] = chance
    found = sampler(*warps)(logits, keys(draws), limit)
    drawn, counts = np.unique(np.asarray(found.tokens[:, 0]), axis=0, return_counts=True)
    drawn = [tuple(token for token in row.tolist() if token != PAD) for row in drawn]
    seen = dict(zip(drawn, counts, strict=True))
    assert set(seen) <= {s for s, chance in chances.items() if chance > 0}
    want = np.array([draws * c for c in chances.values() if c > 0])
    got = np.array([seen.get(s, 0) for s, c in chances.items() if c > 0])
    # Chi-square with at most 12 degrees of freedom: exceeded once in 10,000 keys.
    assert ((got - want) ** 2 / want).sum() < 39


@pytest.mark.parametrize("warp", [temperature(1e-4), top_k(1), nucleus(1e-6)])
def test_the_coldest_sample_is_greedy(warp):
    for seed in range(5):
        found = sampler(warp)(table(seed), keys(8), T)
        greedy = beam(1)(table(seed), T)
        for row in range(8):
            np.testing.assert_array_equal(found.tokens[row], greedy.tokens)
            np.testing.assert_allclose(found.log_probs[row], greedy.log_probs, atol=1e-5)


def test_a_sample_scores_what_the_unwarped_model_gives_it():
    logits = table(6)
    found = sampler(temperature(3.0))(logits, keys(50), T)
    for row in range(50):
        one = jax.tree.map(lambda x, row=row: x[row], found)
        (sentence,) = rows(one)
        np.testing.assert_allclose(one.log_probs, [log_prob(logits, sentence)], atol=1e-5)
        np.testing.assert_array_equal(one.scores, one.log_probs)


@settings(deadline=None, max_examples=50)
@given(SEEDS, st.floats(0.01, 0.99))
def test_a_nucleus_holds_its_mass_and_no_token_more(seed, p):
    rng = np.random.default_rng(seed)
    logits = jnp.array(rng.choice([rng.integers(0, 3, 9), 3 * rng.standard_normal(9)]), "float32")
    probs = np.asarray(jax.nn.softmax(logits), np.float64)
    warped = np.asarray(nucleus(p)(logits))
    kept = np.isfinite(warped)
    np.testing.assert_array_equal(warped[kept], logits[kept])
    assert probs[kept].sum() > p - 1e-6
    assert probs[kept].sum() - probs[kept].min() < p + 1e-6
    assert probs[kept].min() >= np.max(probs[~kept], initial=0)


def test_a_nucleus_of_everything_loses_no_token():
    logits = jnp.array([0.0, -80.0, -20.0, -50.0, -np.inf])
    np.testing.assert_array_equal(nucleus(1.0)(logits), logits)


def test_top_k_keeps_just_k_tokens_of_equal_ones_the_lowest():
    logits = jnp.array([1.0, 2.0, 2.0, 2.0, 0.0])
    np.testing.assert_array_equal(top_k(2)(logits), [-np.inf, 2, 2, -np.inf, -np.inf])
    np.testing.assert_array_equal(top_k(9)(logits), logits)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (dict(beam_size=0, max_len=4), "beam_size is 0"),
        (dict(beam_size=2, max_len=0), "max_len is 0"),
        (dict(beam_size=2, max_len=4, n_best=3), "n_best is 3"),
        (dict(beam_size=2, max_len=4, n_best=0), "n_best is 0"),
        (dict(beam_size=2, max_len=4, n_best=2, stop_at_first=True), "finds only 1"),
        (dict(beam_size=2, max_len=4, min_len=4), "min_len is 4"),
        (dict(beam_size=2, max_len=4, min_len=-1), "min_len is -1"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_impossible_searches_are_refused(arguments, message):
    with pytest.raises(ValueError, match=message):
        beam_search(*reader(jnp.array(table(0))), **arguments)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: gnmt(-1), "alpha is -1"),
        (lambda: temperature(0), "t is 0"),
        (lambda: top_k(0), "k is 0"),
        (lambda: nucleus(0), "p is 0"),
        (lambda: nucleus(1.1), "p is 1.1"),
        (lambda: sample(*reader(jnp.zeros((1, V, V, V))), jax.random.key(0), max_len=0), "max_len"),
    ],
    ids=["gnmt", "temperature", "top k", "nothing", "more than all", "sample"],
)
def test_impossible_settings_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
