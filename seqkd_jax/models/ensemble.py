"""Several models of one target vocabulary as one: the mean of their probabilities."""

from collections.abc import Sequence
from typing import Any

import jax
import jax.numpy as jnp

from ..base import Array, Seq2Seq


def ensemble(models: Sequence[Seq2Seq]) -> Seq2Seq:
    """Returns a model whose parameters, states and hidden vectors are tuples, one per member.

    ``project`` gives log(mean_m p_m) [V]: already normalised, and a valid teacher's logits. The
    members may differ in everything but their vocabularies. Raises ValueError without a member.

    Source: Sutskever et al. 2014, section 3.6 (averages of word distributions).
    """
    if not models:
        raise ValueError("An ensemble needs at least one model.")

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
        log_probs = jnp.stack([jax.nn.log_softmax(m.project(p, h)) for m, p, h in members])
        return jax.nn.logsumexp(log_probs, axis=0) - jnp.log(len(models))

    def _split(key: Array | None) -> Sequence[Any]:
        return [None] * len(models) if key is None else list(jax.random.split(key, len(models)))

    return Seq2Seq(init, encode, step, hidden, project)
