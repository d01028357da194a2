"""Beam search, of one sentence or of many in a few places, and the rules of length."""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ..base import BOS, EOS, PAD, Array, Hypotheses, State, StepFn
from ..errors import UsageError
from .candidates import allowed_after, own_limit, top_candidates, write

LengthRule = Callable[[Array], Array]  # (tokens with EOS []) -> divisor of the log-probability []


def no_penalty(length: Array) -> Array:
    """Ranks by the log-probability itself, as Sutskever et al. 2014 and Kim & Rush 2016 do."""
    return jnp.ones_like(length, jnp.float32)


def mean_per_token(length: Array) -> Array:
    """Ranks by the mean log-probability of a token, EOS among them."""
    return jnp.asarray(length, jnp.float32)


def gnmt(alpha: float) -> LengthRule:
    """Divides by ((5 + length) / 6) ** alpha (Wu et al. 2016, eq. 14, without coverage).

    Raises UsageError if alpha is negative: shorter would then always be better.
    """
    if not alpha >= 0:
        raise UsageError(f"alpha is {alpha}; the gnmt length rule needs a number of at least 0.")
    return lambda length: ((5.0 + length) / 6.0) ** alpha


class _Beam(NamedTuple):
    length: Array  # tokens chosen so far, []
    state: State  # of the live hypotheses, [K, ...]
    tokens: Array  # [K, T], filled with PAD
    last: Array  # what each reads next, [K]
    log_probs: Array  # [K], best first; -inf where there is no hypothesis
    finished: Hypotheses  # [N, T]


class BeamSteps(NamedTuple):
    """A beam search of one sentence as a loop that somebody else turns; see ``search_all``."""

    start: _Beam
    goes_on: Callable[[_Beam], Array]
    advance: Callable[[_Beam], _Beam]


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
      UsageError: beam_size, max_len, n_best or min_len are out of range.
    """
    start, goes_on, advance = beam_steps(
        step,
        state,
        beam_size=beam_size,
        max_len=max_len,
        n_best=n_best,
        limit=limit,
        min_len=min_len,
        length_penalty=length_penalty,
        banned=banned,
        stop_at_first=stop_at_first,
    )
    return lax.while_loop(goes_on, advance, start).finished


def beam_steps(
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
) -> BeamSteps:
    """The loop of ``beam_search``, whose arguments these are, before it is turned."""
    if stop_at_first and n_best not in (None, 1):
        raise UsageError(
            f"n_best is {n_best}, but a search with stop_at_first (--stop-at-first) finds only 1."
        )
    n_best = (1 if stop_at_first else beam_size) if n_best is None else n_best
    if beam_size < 1:
        raise UsageError(f"beam_size is {beam_size}; a search needs at least 1 hypothesis.")
    if not 1 <= n_best <= beam_size:
        raise UsageError(f"n_best is {n_best}; it must be from 1 to beam_size, {beam_size}.")
    limit = own_limit(limit, max_len)
    if not 0 <= min_len < max_len:
        raise UsageError(
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
        allowed = allowed_after(banned, min_len, beam.length, limit)
        # At most K of the 2K best end, one for each hypothesis, so K continuations are among them.
        count = min(2 * beam_size, beam_size * vocabulary) if beam_size > 1 else 1
        best, parent, last = top_candidates(beam.log_probs, logits, allowed, count)
        tokens = write(beam.tokens[parent], beam.length, last)
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
    return BeamSteps(start, goes_on, advance)


def search_all(steps: Callable[[Any], BeamSteps], sentences: Any, places: int) -> Hypotheses:
    """Searches N sentences, R of them at a time: who has finished gives its place to the next.

    So no sentence waits for the slowest, but for some more to finish: an eighth of the places is
    filled at once. What is found for a sentence depends on nothing but itself.

    Args:
      steps: of one sentence.
      sentences: a pytree of arrays [N, ...], all that ``steps`` reads of each.
      places: R.

    Returns:
      Hypotheses [N, ...], in the order of the sentences.
    """
    number = len(jax.tree.leaves(sentences)[0])
    places = min(places, number)
    starts = jax.vmap(lambda one: steps(one).start)
    goes_on = jax.vmap(lambda one, beam: steps(one).goes_on(beam))
    advance = jax.vmap(lambda one, beam: steps(one).advance(beam))

    def those(who: Array) -> Any:
        return jax.tree.map(lambda x: jnp.take(x, who, 0, mode="clip"), sentences)

    def turn(carry: tuple) -> tuple:
        """Searches until an eighth has finished, puts it aside and lets others begin."""
        who, begun, beams, found = carry  # who [R]: a sentence, or N in a place that is empty
        here = those(who)
        enough = jnp.where(begun < number, places - max(1, places // 8), 0)

        def alive(beams: _Beam) -> Array:
            return (who < number) & goes_on(here, beams)

        def forward(beams: _Beam) -> _Beam:
            return _where(alive(beams), advance(here, beams), beams)

        beams = lax.while_loop(lambda b: alive(b).sum() > enough, forward, beams)
        free = ~alive(beams)
        ended = jnp.where(free, who, number)
        found = jax.tree.map(
            lambda all_, new: all_.at[ended].set(new, mode="drop"), found, beams.finished
        )
        who = jnp.where(free, jnp.minimum(begun + jnp.cumsum(free) - 1, number), who)
        beams = _where(free, starts(those(who)), beams)
        return who, jnp.minimum(begun + free.sum(), number), beams, found

    who = jnp.arange(places)
    beams = starts(those(who))
    found = jax.tree.map(lambda x: jnp.zeros((number, *x.shape[1:]), x.dtype), beams.finished)
    carry = (who, jnp.int32(places), beams, found)
    return lax.while_loop(lambda carry: (carry[0] < number).any(), turn, carry)[-1]


def _where(rows: Array, a: Any, b: Any) -> Any:
    """Takes ``a`` in the rows [R] that are True and ``b`` in the others, of trees [R, ...]."""
    return jax.tree.map(lambda x, y: jax.vmap(jnp.where)(rows, x, y), a, b)


def _best(old: Hypotheses, new: Hypotheses) -> Hypotheses:
    """As many of both as ``old`` has. Rows that do not exist stay: ``old`` goes first in ties."""
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), old, new)
    _, rows = lax.top_k(both.scores, old.scores.shape[0])
    return jax.tree.map(lambda x: x[rows], both)
