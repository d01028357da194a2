"""Beam search and sampling over any step function, for one sentence. Floor 1.

Nothing here knows of models, batches or devices: ``vmap`` adds the sentences and ``jit`` compiles.

    def step(state, token):
        hidden, state = model.step(params, memory, state, token)
        return model.project(params, hidden), state

    beam_search(step, state, beam_size=5, max_len=64, length_penalty=gnmt(0.6))
    sample(step, state, key, max_len=64, warp=chain(temperature(0.7), nucleus(0.95)))

What ``step`` closes over (the encoder's output) exists once; only ``state`` is held K times.
"""

import functools
from collections.abc import Callable, Sequence
from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from .base import BOS, EOS, PAD, Array, Hypotheses, State, StepFn

LengthRule = Callable[[Array], Array]  # (tokens with EOS []) -> divisor of the log-probability []
Warp = Callable[[Array], Array]  # (logits [V]) -> logits [V]

BLOCK = 64  # tokens whose maximum stands for them in the first look at the candidates
WORTH = 500  # V from which on that first look pays


def no_penalty(length: Array) -> Array:
    """Ranks by the log-probability itself, as Sutskever et al. 2014 and Kim & Rush 2016 do."""
    return jnp.ones_like(length, jnp.float32)


def mean_per_token(length: Array) -> Array:
    """Ranks by the mean log-probability of a token, EOS among them."""
    return jnp.asarray(length, jnp.float32)


def gnmt(alpha: float) -> LengthRule:
    """Divides by ((5 + length) / 6) ** alpha (Wu et al. 2016, eq. 14, without coverage).

    Raises ValueError if alpha is negative: shorter would then always be better.
    """
    if not alpha >= 0:
        raise ValueError(f"alpha is {alpha}; the gnmt length rule needs a number of at least 0.")
    return lambda length: ((5.0 + length) / 6.0) ** alpha


class _Beam(NamedTuple):
    length: Array  # tokens chosen so far, []
    state: State  # of the live hypotheses, [K, ...]
    tokens: Array  # [K, T], filled with PAD
    last: Array  # what each reads next, [K]
    log_probs: Array  # [K], best first; -inf where there is no hypothesis
    finished: Hypotheses  # [N, T]


def beam_search(
    step: StepFn,
    state: State,
    *,
    beam_size: int,
    max_len: int,
    n_best: int | None = None,
    limit: int | Array | None = None,
    min_len: int = 0,
    length_penalty: LengthRule = no_penalty,
    banned: Sequence[int] = (PAD, BOS),
    stop_at_first: bool = False,
) -> Hypotheses:
    """Finds the N best sentences that a beam of K live hypotheses reaches.

    At each step every live hypothesis offers all its continuations. Of all these candidates
    together, those that end in EOS and are among the K best are set aside as finished and are
    never expanded; the K best of the others live on. At the last position only EOS is allowed,
    so each hypothesis is a whole sentence and ``log_probs`` the model's own log-probability of
    it, EOS included. Finished hypotheses are ranked by

        score = log_prob / length_penalty(tokens with EOS)

    and the search stops as soon as no live one can still come to a better score than the worst
    of the N, which changes no result. Of equal candidates the one of the better hypothesis and
    then of the lowest id goes first; of equal scores the one found first. With K = 1 it is greedy
    search: it ends with the first EOS that is the best token, whatever the length rule.

    Sources: Kim & Rush 2016, section 3.2 (the teacher's mode, by beam search); Sutskever et al.
    2014, section 3.2 (finished hypotheses leave the beam); Wu et al. 2016, eq. 14 (``gnmt``).

    Args:
      step: (state, token []) -> (logits [V], state), of one hypothesis.
      state: before BOS is read.
      beam_size: K.
      max_len: T, the most tokens with EOS; a shape.
      n_best: N, hypotheses to return; None for K.
      limit: this sentence's own most tokens with EOS; may be traced. Cut to [1, max_len].
      min_len: words that come before EOS is allowed, as far as ``limit`` permits.
      length_penalty: a positive function of the length that never decreases.
      banned: ids that no hypothesis holds. The probabilities of the others do not change.
      stop_at_first: the ``simple`` search of seq2seq-attn: the first hypothesis that ends while
        it is the best of all candidates is the result, N = 1. Those that end below it leave the
        beam all the same, but are forgotten; a later one may be worse than they were.

    Returns:
      tokens [N, T], best first. Where there are fewer than N sentences, rows of PAD with scores
      and log-probabilities -inf. A hypothesis dies when its logits are not numbers.

    Raises:
      ValueError: beam_size, max_len, n_best or min_len are out of range.
    """
    if stop_at_first and n_best not in (None, 1):
        raise ValueError(f"n_best is {n_best}; a search that stops at the first finds 1.")
    n_best = (1 if stop_at_first else beam_size) if n_best is None else n_best
    if beam_size < 1:
        raise ValueError(f"beam_size is {beam_size}; a search needs at least 1 hypothesis.")
    if not 1 <= n_best <= beam_size:
        raise ValueError(f"n_best is {n_best}; it must be from 1 to beam_size, {beam_size}.")
    limit = _limit(limit, max_len)
    if not 0 <= min_len < max_len:
        raise ValueError(
            f"min_len is {min_len}; it must be from 0 to max_len - 1, {max_len - 1}: "
            "EOS takes one of the max_len tokens."
        )

    # How many of the best candidates can be set aside when they end.
    rivals = 1 if stop_at_first else beam_size

    def goes_on(beam: _Beam) -> Array:
        if stop_at_first:
            found = jnp.isfinite(beam.finished.scores[0])
            return (beam.length < limit) & ~found & jnp.isfinite(beam.log_probs[0])
        # Log-probabilities only fall and divisors only grow, so this bounds every live score.
        reachable = beam.log_probs[0] / length_penalty(limit)
        return (beam.length < limit) & (reachable > beam.finished.scores[-1])

    def advance(beam: _Beam) -> _Beam:
        logits, state = jax.vmap(step)(beam.state, beam.last)
        vocabulary = logits.shape[-1]
        allowed = _allowed(banned, min_len, beam.length, limit)
        # At most K of the 2K best end, one for each hypothesis, so K continuations are among them.
        count = min(2 * beam_size, beam_size * vocabulary) if beam_size > 1 else 1
        best, parent, last = top_candidates(beam.log_probs, logits, allowed, count)
        tokens = _write(beam.tokens[parent], beam.length, last)
        length = beam.length + 1
        ended = last == EOS
        # A mask, not the slice [:K], which XLA would turn with the top-k into a sort of everything.
        set_aside = ended & (jnp.arange(count) < rivals)
        scores = jnp.where(set_aside, best / length_penalty(length), -jnp.inf)

        log_probs, chosen = lax.top_k(jnp.where(ended, -jnp.inf, best), beam_size)
        if beam_size > 1:
            state = jax.tree.map(lambda x: x[parent[chosen]], state)
        return _Beam(
            length=length,
            state=state,
            tokens=tokens[chosen],
            last=last[chosen],
            log_probs=log_probs,
            finished=_best(beam.finished, Hypotheses(tokens, scores, best)),
        )

    nothing = jnp.full((n_best,), -jnp.inf)
    start = _Beam(
        length=jnp.int32(0),
        state=jax.tree.map(lambda x: jnp.broadcast_to(x, (beam_size, *jnp.shape(x))), state),
        tokens=jnp.full((beam_size, max_len), PAD, jnp.int32),
        last=jnp.full((beam_size,), BOS, jnp.int32),
        log_probs=jnp.where(jnp.arange(beam_size) == 0, 0.0, -jnp.inf),
        finished=Hypotheses(jnp.full((n_best, max_len), PAD, jnp.int32), nothing, nothing),
    )
    return lax.while_loop(goes_on, advance, start).finished


def sample(
    step: StepFn,
    state: State,
    key: Array,
    *,
    max_len: int,
    limit: int | Array | None = None,
    warp: Warp = lambda logits: logits,
    banned: Sequence[int] = (PAD, BOS),
) -> Hypotheses:
    """Draws one sentence, token by token; where only one more token fits, that is EOS.

    Step, state, max_len, limit and banned are as in ``beam_search``, and so is what is raised.

    Args:
      step: of one hypothesis.
      state: before BOS is read.
      key: token t is drawn with ``fold_in(key, t)``; ``vmap`` over keys gives several sentences.
      max_len: T.
      limit: this sentence's own.
      warp: changes the logits [V] that are drawn from; -inf, as of banned ids, is never drawn.
      banned: ids.

    Returns:
      tokens [1, T]; score and log-probability are both the model's own, before ``warp``.
    """
    limit = _limit(limit, max_len)

    def goes_on(carry: tuple) -> Array:
        length, _, _, last, _ = carry
        return (length < limit) & (last != EOS)

    def advance(carry: tuple) -> tuple:
        length, state, tokens, last, log_prob = carry
        logits, state = step(state, last)
        logits = logits.astype(jnp.float32)
        allowed = _allowed(banned, 0, length, limit).among(jnp.arange(logits.shape[-1]))
        warped = warp(jnp.where(allowed, logits, -jnp.inf))
        last = jax.random.categorical(jax.random.fold_in(key, length), warped).astype(jnp.int32)
        log_prob = log_prob + (logits[last] - jax.nn.logsumexp(logits))
        return length + 1, state, _write(tokens, length, last[None]), last, log_prob

    tokens = jnp.full((1, max_len), PAD, jnp.int32)
    start = (jnp.int32(0), state, tokens, jnp.int32(BOS), jnp.float32(0))
    _, _, tokens, _, log_prob = lax.while_loop(goes_on, advance, start)
    return Hypotheses(tokens=tokens, scores=log_prob[None], log_probs=log_prob[None])


def temperature(t: float) -> Warp:
    """Divides the logits [V] by ``t``: 1 changes nothing, towards 0 the best token always wins.

    Raises ValueError unless t > 0.
    """
    if not t > 0:
        raise ValueError(f"t is {t}; a temperature must be greater than 0 (greedy: beam_size=1).")
    return lambda logits: logits / t


def top_k(k: int) -> Warp:
    """Keeps the k largest of the logits [V], of equal ones the lowest ids; the others get -inf.

    Source: Fan et al. 2018. Raises ValueError if k < 1.
    """
    if k < 1:
        raise ValueError(f"k is {k}; top_k must keep at least 1 token.")

    def warp(logits: Array) -> Array:
        best, ids = lax.top_k(logits, min(k, logits.shape[-1]))
        return jnp.full_like(logits, -jnp.inf).at[ids].set(best)

    return warp


def nucleus(p: float) -> Warp:
    """Keeps the fewest tokens of the logits [V] with a probability of at least p together.

    Source: Holtzman et al. 2020, section 3.1. Raises ValueError if p is outside (0, 1].
    """
    if not 0 < p <= 1:
        raise ValueError(f"p is {p}; a nucleus needs a probability above 0 and at most 1.")

    def warp(logits: Array) -> Array:
        order = jnp.argsort(logits, descending=True)
        probs = jax.nn.softmax(logits)[order]
        # A token belongs to it where those before hold less than p, so it and those after more
        # than 1 - p. Summed from the small end, no token is lost to rounding when p is 1.
        after = jnp.cumsum(probs[::-1])[::-1]
        kept = jnp.where(after > 1 - p, logits[order], -jnp.inf)
        return jnp.zeros_like(logits).at[order].set(kept)

    return warp


def chain(*warps: Warp) -> Warp:
    """Applies warps one after the other, the first first."""
    return lambda logits: functools.reduce(lambda x, warp: warp(x), warps, logits)


class Allowed(NamedTuple):
    """Which tokens may be next: all words or none, and of some others each for itself."""

    words: Array  # [] bool
    others: dict[int, Array]  # id -> [] bool

    def among(self, ids: Array) -> Array:
        """Tells it of each of ``ids``."""
        mask = jnp.broadcast_to(self.words, ids.shape)
        for other, allowed in self.others.items():
            mask = jnp.where(ids == other, allowed, mask)
        return mask


def top_candidates(
    log_probs: Array, logits: Array, allowed: Allowed, count: int
) -> tuple[Array, Array, Array]:
    """Finds the best continuations of K hypotheses: exactly what one flat top-k would, sooner.

    The n best numbers lie in the n blocks with the largest maxima, since each block that goes
    before another holds a number that goes before all of the other's. So only block maxima and
    the candidates in the best blocks are masked, normalised and sorted, never all of [K, V].

    Args:
      log_probs: of the hypotheses, [K].
      logits: of their next tokens, [K, V].
      allowed: the tokens that may be next. The others have log-probability -inf, as has
        everything of a hypothesis whose logits are not numbers.
      count: n, at most K * V.

    Returns:
      log-probability of hypothesis and token [n], best first, hypothesis [n] and token [n]; of
      equal ones the lowest hypothesis first, then the lowest token.
    """
    hypotheses, vocabulary = logits.shape
    logits = logits.astype(jnp.float32)
    if vocabulary < max(WORTH, count) or count * BLOCK > logits.size:
        masked = jnp.where(allowed.among(jnp.arange(vocabulary))[None], logits, -jnp.inf)
        norms = jax.nn.logsumexp(logits, axis=-1)
        total = _total(log_probs, masked, norms).reshape(-1)
        best, place = lax.top_k(total, count)
        return best, place // vocabulary, place % vocabulary

    # The last block is a short one: filling all rows up would copy the logits once more.
    number = vocabulary // BLOCK
    whole = logits[:, : number * BLOCK].reshape(hypotheses, number, BLOCK)
    rest = logits[:, number * BLOCK :]
    maxima = jnp.concatenate([whole.max(-1), rest.max(-1, keepdims=True, initial=-jnp.inf)], 1)
    # Each block's sum beside its maximum: both read the same copy of the logits.
    safe = jnp.where(jnp.isfinite(maxima), maxima, 0)
    sums = jnp.exp(whole - safe[:, :-1, None]).sum(-1), jnp.exp(rest - safe[:, -1:]).sum(-1)
    norms = jax.nn.logsumexp(safe, axis=-1, b=jnp.concatenate([sums[0], sums[1][:, None]], 1))
    filling = jnp.full((hypotheses, BLOCK - rest.shape[1]), -jnp.inf)
    rest = jnp.concatenate([rest, filling], axis=1)

    def block(parents: Array, blocks: Array) -> tuple[Array, Array]:
        """Tokens [n, BLOCK] of blocks [n], and the logits of hypotheses [n] there, masked."""
        tokens = blocks[:, None] * BLOCK + jnp.arange(BLOCK)[None]
        values = whole[parents, jnp.minimum(blocks, number - 1)]
        values = jnp.where((blocks == number)[:, None], rest[parents], values)
        return tokens, jnp.where(allowed.among(tokens), values, -jnp.inf)

    maxima = jnp.where(allowed.words, maxima, -jnp.inf)
    everyone = jnp.arange(hypotheses)
    for n in {other // BLOCK for other in allowed.others}:
        _, values = block(everyone, jnp.full_like(everyone, n))
        here = jnp.arange(number + 1)[None] == n
        maxima = jnp.where(here, values.max(axis=-1, keepdims=True), maxima)
    maxima = _total(log_probs, maxima, norms)
    # In ascending order the candidates keep the order of hypotheses and tokens, hence of ties.
    chosen = lax.sort(lax.top_k(maxima.reshape(-1), count)[1])
    parents = chosen // (number + 1)
    tokens, values = block(parents, chosen % (number + 1))
    total = _total(log_probs[parents], values, norms[parents])
    best, place = lax.top_k(total.reshape(-1), count)
    return best, parents[place // BLOCK], tokens.reshape(-1)[place]


def _total(log_probs: Array, logits: Array, norms: Array) -> Array:
    """The log-probability of each hypothesis with each of its tokens: [K], [K, N], [K]."""
    norms = norms[:, None]
    return jnp.where(jnp.isfinite(norms), log_probs[:, None] + (logits - norms), -jnp.inf)


def _limit(limit: int | Array | None, max_len: int) -> Array:
    if max_len < 1:
        raise ValueError(f"max_len is {max_len}; a sentence needs at least 1 token, its EOS.")
    return jnp.clip(jnp.asarray(max_len if limit is None else limit, jnp.int32), 1, max_len)


def _allowed(banned: Sequence[int], min_len: int, length: Array, limit: Array) -> Allowed:
    """What may follow ``length`` tokens; where only one more fits, that is EOS."""
    more = length + 1 < limit
    end = (length >= min_len) & (EOS not in banned)
    return Allowed(more, {other: jnp.bool_(False) for other in banned} | {EOS: end | ~more})


def _write(tokens: Array, column: Array, new: Array) -> Array:
    """The table [K, T] with ``new`` [K] in one column; a select, which under vmap no scatter is."""
    return jnp.where(jnp.arange(tokens.shape[1])[None] == column, new[:, None], tokens)


def _best(old: Hypotheses, new: Hypotheses) -> Hypotheses:
    """As many of both as ``old`` has. Rows that do not exist stay: ``old`` goes first in ties."""
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), old, new)
    _, rows = lax.top_k(both.scores, old.scores.shape[0])
    return jax.tree.map(lambda x: x[rows], both)
