"""Beam search for one sentence, or for many in a few slots, and length penalties."""

from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from ..base import BOS, EOS, PAD, Array, Hypotheses, State, StepFn
from ..errors import UsageError
from .candidates import clip_limit, token_mask, top_candidates, write_column

LengthRule = Callable[[Array], Array]  # (length with EOS []) -> divisor of the log-probability []


def no_penalty(length: Array) -> Array:
    """Returns 1: ranks by log-probability, as Sutskever et al. 2014 and Kim & Rush 2016 do."""
    return jnp.ones_like(length, jnp.float32)


def mean_per_token(length: Array) -> Array:
    """Returns the length: ranks by mean log-probability per token, EOS included."""
    return jnp.asarray(length, jnp.float32)


def gnmt(alpha: float) -> LengthRule:
    """Returns the length rule ((5 + length) / 6) ** alpha (Wu et al. 2016, eq. 14, no coverage).

    Raises UsageError if alpha is negative: shorter sentences would always be better.
    """
    if not alpha >= 0:
        raise UsageError(f"alpha is {alpha}; the gnmt length rule needs a number of at least 0.")
    return lambda length: ((5.0 + length) / 6.0) ** alpha


class _Beam(NamedTuple):
    length: Array  # number of tokens chosen so far, []
    state: State  # of the live hypotheses, [K, ...]
    tokens: Array  # [K, T], padded with PAD
    last: Array  # last token of each live hypothesis, [K]
    log_probs: Array  # [K], best first; -inf where there is no hypothesis
    finished: Hypotheses  # [N, T]


class BeamLoop(NamedTuple):
    """The parts of the ``while_loop`` of a beam search for one sentence; see ``search_many``."""

    start: _Beam
    cond: Callable[[_Beam], Array]
    body: Callable[[_Beam], _Beam]


class BeamStep(NamedTuple):
    """The beam after one step of a search."""

    length: int  # number of tokens chosen so far
    live: Hypotheses  # [K, T], the prefixes that are expanded next; scores are log-probabilities
    finished: Hypotheses  # [N, T], the best complete sentences so far


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
    """Finds the N best sentences with a beam of K live hypotheses.

    At each step all continuations of all live hypotheses are candidates. Candidates that end in
    EOS and are among the K best become finished hypotheses and are never expanded; the K best of
    the other candidates are the next live hypotheses. At the last position only EOS is allowed, so
    each hypothesis is a complete sentence and ``log_probs`` is the model's own log-probability of
    it, EOS included. Finished hypotheses are ranked by

        score = log_prob / length_penalty(length with EOS)

    and the search stops as soon as no live hypothesis can reach a better score than the worst of
    the N, which changes no result. Ties between candidates are broken in favour of the better
    hypothesis and then of the lower id; ties between scores in favour of the one found first. K = 1
    is greedy search: it ends with the first EOS that is the best token, whatever the length rule.

    Sources: Kim & Rush 2016, section 3.2 (the teacher's mode, by beam search); Sutskever et al.
    2014, section 3.2 (finished hypotheses leave the beam); Wu et al. 2016, eq. 14 (``gnmt``).

    Args:
      step: (state, token []) -> (logits [V], state), for one hypothesis.
      state: the state before BOS is read.
      beam_size: K.
      max_len: T, the maximum length with EOS; a shape.
      n_best: N, the number of hypotheses to return; None for K.
      limit: this sentence's maximum length with EOS; may be traced. Clipped to [1, max_len].
      min_len: number of words before EOS is allowed, as far as ``limit`` permits.
      length_penalty: a positive, non-decreasing function of the length.
      banned: ids that no hypothesis contains. The probabilities of the others do not change.
      stop_at_first: the ``simple`` search of seq2seq-attn: the result is the first hypothesis that
        ends while it is the best of all candidates, N = 1. Hypotheses that end below the best leave
        the beam too, but are discarded; the result may be worse than they were.

    Returns:
      Hypotheses with tokens [N, T], best first. If fewer than N sentences are found, the remaining
      rows are PAD with scores and log-probabilities -inf. Hypotheses with nan logits are dropped.

    Raises:
      UsageError: beam_size, max_len, n_best or min_len are out of range.

    A model of one word more, 4 or 5, and then the end; the best two of its sentences:

    >>> def step(state, token):
    ...     first = jnp.array([0.0, 0.0, 0.0, 0.1, 0.6, 0.3])  # of PAD, UNK, BOS, EOS, 4 and 5
    ...     then = jnp.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    ...     return jnp.log(jnp.where(token == BOS, first, then)), state
    >>> found = beam_search(step, (), beam_size=2, max_len=3)
    >>> print(found.tokens)
    [[4 3 0]
     [5 3 0]]
    >>> [f"{p:.1f}" for p in jnp.exp(found.log_probs)]
    ['0.6', '0.3']
    """
    start, cond, body = beam_loop(
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
    return lax.while_loop(cond, body, start).finished


def beam_loop(
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
) -> BeamLoop:
    """Returns the loop of ``beam_search``, which has the same arguments, without running it.

    Raises:
      UsageError: as ``beam_search``.
    """
    if stop_at_first and n_best not in (None, 1):
        raise UsageError(
            f"n_best is {n_best}, but a search with stop_at_first (--stop-at-first) finds only 1."
        )
    n_best = (1 if stop_at_first else beam_size) if n_best is None else n_best
    if beam_size < 1:
        raise UsageError(f"beam_size is {beam_size}; a search needs at least 1 hypothesis.")
    if not 1 <= n_best <= beam_size:
        raise UsageError(f"n_best is {n_best}; it must be from 1 to beam_size, {beam_size}.")
    limit = clip_limit(limit, max_len)
    if not 0 <= min_len < max_len:
        raise UsageError(
            f"min_len is {min_len}; it must be from 0 to max_len - 1, {max_len - 1}: "
            "EOS takes one of the max_len tokens."
        )

    # Number of best candidates that become finished hypotheses if they end in EOS.
    can_finish = 1 if stop_at_first else beam_size

    def cond(beam: _Beam) -> Array:
        if stop_at_first:
            found = jnp.isfinite(beam.finished.scores[0])
            return (beam.length < limit) & ~found & jnp.isfinite(beam.log_probs[0])
        # Log-probabilities never rise and divisors never fall, so this bounds every live score.
        bound = beam.log_probs[0] / length_penalty(limit)
        return (beam.length < limit) & (bound > beam.finished.scores[-1])

    def body(beam: _Beam) -> _Beam:
        logits, state = jax.vmap(step)(beam.state, beam.last)
        vocabulary = logits.shape[-1]
        allowed = token_mask(banned, min_len, beam.length, limit)
        # At most K of the 2K best end, one per hypothesis, so at least K of them go on.
        count = min(2 * beam_size, beam_size * vocabulary) if beam_size > 1 else 1
        best, parent, last = top_candidates(beam.log_probs, logits, allowed, count)
        tokens = write_column(beam.tokens[parent], beam.length, last)
        length = beam.length + 1
        ended = last == EOS
        # A mask, as XLA would compile the slice [:K] of a top-k to a sort of all candidates.
        finished = ended & (jnp.arange(count) < can_finish)
        scores = jnp.where(finished, best / length_penalty(length), -jnp.inf)

        log_probs, chosen = lax.top_k(jnp.where(ended, -jnp.inf, best), beam_size)
        if beam_size > 1:
            state = jax.tree.map(lambda x: x[parent[chosen]], state)
        return _Beam(
            length=length,
            state=state,
            tokens=tokens[chosen],
            last=last[chosen],
            log_probs=log_probs,
            finished=_merge(beam.finished, Hypotheses(tokens, scores, best)),
        )

    empty = jnp.full((n_best,), -jnp.inf)
    start = _Beam(
        length=jnp.int32(0),
        state=jax.tree.map(lambda x: jnp.broadcast_to(x, (beam_size, *jnp.shape(x))), state),
        tokens=jnp.full((beam_size, max_len), PAD, jnp.int32),
        last=jnp.full((beam_size,), BOS, jnp.int32),
        log_probs=jnp.where(jnp.arange(beam_size) == 0, 0.0, -jnp.inf),
        finished=Hypotheses(jnp.full((n_best, max_len), PAD, jnp.int32), empty, empty),
    )
    return BeamLoop(start, cond, body)


def trace(loop: BeamLoop) -> Iterator[BeamStep]:
    """Runs a search step by step, for inspection: yields the beam after each step.

    The last step's ``finished`` is the result of ``beam_search``. Nothing is compiled, unless the
    loop's functions are: this is for one sentence.

    >>> def step(state, token):  # the model of the example of ``beam_search``
    ...     first = jnp.array([0.0, 0.0, 0.0, 0.1, 0.6, 0.3])
    ...     then = jnp.array([0.0, 0.0, 0.0, 1.0, 0.0, 0.0])
    ...     return jnp.log(jnp.where(token == BOS, first, then)), state
    >>> for at in trace(beam_loop(step, (), beam_size=2, max_len=3)):
    ...     live, finished = (jnp.exp(h.log_probs).round(1) for h in (at.live, at.finished))
    ...     print(at.length, live, finished)
    1 [0.6 0.3] [0. 0.]
    2 [0. 0.] [0.6 0.3]
    """
    beam = loop.start
    while bool(loop.cond(beam)):
        beam = loop.body(beam)
        live = Hypotheses(beam.tokens, beam.log_probs, beam.log_probs)
        yield BeamStep(int(beam.length), live, beam.finished)


def search_many(loop: Callable[[Any], BeamLoop], sentences: Any, slots: int) -> Hypotheses:
    """Searches N sentences in R slots; a slot whose search has ended takes the next sentence.

    Also known as continuous batching: a finished sentence does not wait for the slowest of a batch,
    only until an eighth of the slots have ended; these are refilled together. The result for a
    sentence does not depend on the others.

    Args:
      loop: makes the search loop of one sentence.
      sentences: the inputs of ``loop`` for all sentences, a pytree of arrays [N, ...].
      slots: R.

    Returns:
      Hypotheses [N, ...], in the order of the sentences.
    """
    num_sentences = len(jax.tree.leaves(sentences)[0])
    slots = min(slots, num_sentences)
    start = jax.vmap(lambda sentence: loop(sentence).start)
    cond = jax.vmap(lambda sentence, beam: loop(sentence).cond(beam))
    body = jax.vmap(lambda sentence, beam: loop(sentence).body(beam))

    def take(index: Array) -> Any:
        return jax.tree.map(lambda x: jnp.take(x, index, 0, mode="clip"), sentences)

    def search_and_refill(carry: tuple) -> tuple:
        """Searches until an eighth of the slots have ended, stores their results, refills them."""
        # slot_sentence [R]: the index of the sentence in each slot; N for an empty slot
        slot_sentence, next_sentence, beams, results = carry
        inputs = take(slot_sentence)
        min_active = jnp.where(next_sentence < num_sentences, slots - max(1, slots // 8), 0)

        def active(beams: _Beam) -> Array:
            return (slot_sentence < num_sentences) & cond(inputs, beams)

        def step(beams: _Beam) -> _Beam:
            return _select_slots(active(beams), body(inputs, beams), beams)

        beams = lax.while_loop(lambda beams: active(beams).sum() > min_active, step, beams)
        ended = ~active(beams)
        index = jnp.where(ended, slot_sentence, num_sentences)
        results = jax.tree.map(
            lambda old, new: old.at[index].set(new, mode="drop"), results, beams.finished
        )
        refill = jnp.minimum(next_sentence + jnp.cumsum(ended) - 1, num_sentences)
        slot_sentence = jnp.where(ended, refill, slot_sentence)
        beams = _select_slots(ended, start(take(slot_sentence)), beams)
        next_sentence = jnp.minimum(next_sentence + ended.sum(), num_sentences)
        return slot_sentence, next_sentence, beams, results

    slot_sentence = jnp.arange(slots)
    beams = start(take(slot_sentence))
    results = jax.tree.map(
        lambda x: jnp.zeros((num_sentences, *x.shape[1:]), x.dtype), beams.finished
    )
    carry = (slot_sentence, jnp.int32(slots), beams, results)
    return lax.while_loop(lambda c: (c[0] < num_sentences).any(), search_and_refill, carry)[-1]


def _select_slots(mask: Array, a: Any, b: Any) -> Any:
    """Selects ``a`` in the slots where the mask [R] is True, else ``b``; both trees [R, ...]."""
    return jax.tree.map(lambda x, y: jax.vmap(jnp.where)(mask, x, y), a, b)


def _merge(old: Hypotheses, new: Hypotheses) -> Hypotheses:
    """Returns the best of both, as many as ``old`` has.

    ``old`` wins ties, so rows without a hypothesis stay as they are.
    """
    both = jax.tree.map(lambda a, b: jnp.concatenate([a, b]), old, new)
    _, rows = lax.top_k(both.scores, old.scores.shape[0])
    return jax.tree.map(lambda x: x[rows], both)
