"""Ensembles: several models with one target vocabulary as one model.

teacher = ensemble([model_a, model_b])                           the mean of probabilities
teacher = ensemble([model_a, model_b], join=mean_of_logits)      their geometric mean
step = make_train_step(student, tx, mix(nll, word_kd, 0.5), teacher=teacher)
state, metrics = step(state, batch, key, (params_a, params_b))
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ..base import Array, Seq2Seq, specialized, with_specialize
from ..errors import UsageError


def mean_of_probabilities(logits: Array) -> Array:
    """Returns log(mean_m p_m) [V] for logits [M, V] (Sutskever et al. 2014, section 3.6)."""
    return jax.nn.logsumexp(jax.nn.log_softmax(logits), axis=0) - jnp.log(len(logits))


def mean_of_logits(logits: Array) -> Array:
    """Returns the mean [V] of logits [M, V] (Ba & Caruana 2014, section 3).

    Its softmax is the normalised geometric mean of the members' probabilities: if one member gives
    a token almost no probability, so does the ensemble.
    """
    return logits.mean(axis=0)


def ensemble(
    models: Sequence[Seq2Seq], join: Callable[[Array], Array] = mean_of_probabilities
) -> Seq2Seq:
    """Returns a model whose parameters, states and hidden vectors are tuples, one per member.

    ``project`` returns ``join`` of the members' logits; with either mean a teacher may return them.
    The members may differ in everything but their vocabularies. Raises UsageError if there are no
    members.

    >>> from seqkd_jax import Config, attention_lstm
    >>> sizes = Config(9, 9, embed=4, hidden=4, layers=1), Config(9, 9, embed=4, hidden=8, layers=1)
    >>> model = ensemble([attention_lstm(size) for size in sizes])
    >>> params = jax.eval_shape(model.init, jax.random.key(0))  # one for each member
    >>> hidden = jax.eval_shape(model.hidden, params, jnp.array([5, 4]), jnp.array([6, 3]))
    >>> [h.shape for h in hidden]
    [(2, 4), (2, 8)]
    """
    if not models:
        raise UsageError("An ensemble needs at least one model.")
    if not all(isinstance(model, Seq2Seq) for model in models):
        raise UsageError("An ensemble is made of models (Seq2Seq): give trained.model of each.")
    return _ensemble(tuple(models), join)


@functools.cache
def _ensemble(models: tuple[Seq2Seq, ...], join: Callable[[Array], Array]) -> Seq2Seq:
    def init(key: Array) -> tuple:
        return tuple(
            m.init(k) for m, k in zip(models, jax.random.split(key, len(models)), strict=True)
        )

    def encode(params: tuple, src: Array, key: Array | None = None) -> tuple[tuple, tuple]:
        encoded = [m.encode(p, src, k) for m, p, k in zip(models, params, _split(key), strict=True)]
        memories, states = zip(*encoded, strict=True)
        return memories, states

    def step(params: tuple, memory: tuple, state: tuple, token: Array) -> tuple[tuple, tuple]:
        members = zip(models, params, memory, state, strict=True)
        hidden, states = zip(*(m.step(p, mem, s, token) for m, p, mem, s in members), strict=True)
        return hidden, states

    def hidden(params: tuple, src: Array, tgt: Array, key: Array | None = None) -> tuple:
        members = zip(models, params, _split(key), strict=True)
        return tuple(m.hidden(p, src, tgt, k) for m, p, k in members)

    def project(params: tuple, hidden: tuple) -> Array:
        members = zip(models, params, hidden, strict=True)
        return join(jnp.stack([m.project(p, h) for m, p, h in members]))

    def specialize(params: tuple, num_words: int | None, multiple: int) -> tuple[Seq2Seq, tuple]:
        del multiple  # ``join`` expects logits without padding
        members = [specialized(m, p, num_words) for m, p in zip(models, params, strict=True)]
        faster, params = zip(*members, strict=True)
        return (model if faster == tuple(models) else _ensemble(faster, join)), params

    def _split(key: Array | None) -> Sequence[Any]:
        return [None] * len(models) if key is None else list(jax.random.split(key, len(models)))

    model = with_specialize(Seq2Seq(init, encode, step, hidden, project), specialize)
    return model
