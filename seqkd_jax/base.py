"""The types that every other file speaks in. Floor 0: imports nothing of this library.

Axis letters, used in every docstring and einsum:
S source length, T target length, V target vocabulary, E embedding, H hidden, K beam,
B sentences, D devices. Nothing here has a batch axis: ``vmap`` and ``pmap`` add it at the edge.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

PAD, UNK, BOS, EOS = 0, 1, 2, 3

Array = jax.Array
Params = Any  # a pytree of arrays
State = Any  # a pytree of arrays: what one hypothesis carries from step to step

TokenLoss = Callable[..., Array]  # (logits [V], target [], teacher_logits [V] | None) -> []
StepFn = Callable[[State, Array], tuple[Array, State]]  # (state, token []) -> (logits [V], state)


class Seq2Seq(NamedTuple):
    """A translation model: five pure functions about one sentence pair.

    Teacher and student are two of them; losses, search and distillation see nothing else.
    ``hidden`` vectors may be any pytree (an ensemble returns a tuple of arrays): only
    ``project``, the one place that is V wide, looks inside.
    """

    init: Callable[[Array], Params]  # (key) -> params
    encode: Callable[..., tuple[Any, State]]  # (params, src [S], key=None) -> (memory, state)
    step: Callable[..., tuple[Any, State]]  # (params, memory, state, token []) -> (hidden, state)
    hidden: Callable[..., Any]  # (params, src [S], tgt [T], key=None) -> [T, H], teacher forced
    project: Callable[[Params, Any], Array]  # (params, hidden [H]) -> logits [V], float32


@struct.dataclass
class Example:
    """A sentence pair in ids: ``tgt`` ends in EOS, BOS is never stored, PAD fills the rest.

    ``weight`` is 0 for a row that only fills a batch. ``index`` is the pair's place in its
    corpus: dropout draws from (seed, step, index), so it does not depend on how sentences are
    spread over batches and devices.
    """

    src: Array  # [S] int32
    tgt: Array  # [T] int32
    weight: Array  # [] float32
    index: Array  # [] int32


@struct.dataclass
class Hypotheses:
    """What a search found for one sentence, best first.

    Each row of ``tokens`` ends in EOS and is filled with PAD. ``scores`` is the quantity that
    was ranked; ``log_probs`` the model's own log-probability (natural log, EOS included). They
    differ only by the length rule. A row that does not exist has score -inf.
    """

    tokens: Array  # [K, T] int32
    scores: Array  # [K] float32
    log_probs: Array  # [K] float32


@struct.dataclass
class Total:
    """A sum and what it is a sum over; totals add across sentences, chunks and devices."""

    sum: Array  # [] float32, nats
    tokens: Array  # [] float32, target tokens with EOS, each with its sentence's weight
    sentences: Array  # [] float32, sum of sentence weights

    def __add__(self, other: "Total") -> "Total":
        return jax.tree.map(jnp.add, self, other)


def shift_right(tgt: Array) -> Array:
    """What the decoder reads while it predicts ``tgt`` [T]: BOS, then all but the last token."""
    return jnp.concatenate([jnp.full((1,), BOS, jnp.int32), jnp.asarray(tgt, jnp.int32)[:-1]])
