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

from .errors import UsageError

PAD, UNK, BOS, EOS = 0, 1, 2, 3

Array = jax.Array
Params = Any  # a pytree of arrays
State = Any  # a pytree of arrays: what one hypothesis carries from step to step

# (logits [V], target [], the teacher's logits [V] or TopK, or None) -> []
TokenLoss = Callable[..., Array]
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


# (params, about how many words will be read, a number of which V may be filled up to a multiple)
# -> a model that does the same, and its parameters
Specialize = Callable[[Params, int | None, int], tuple[Seq2Seq, Params]]


class Specializable(Seq2Seq):
    """A model that there is a faster one of for parameters that do not change.

    One that ``_replace`` makes of it is another model, and has none.
    """

    specialize: Specialize | None = None


def offering(model: Seq2Seq, specialize: Specialize) -> Seq2Seq:
    """Returns the model as one that ``specialize`` makes a faster one of."""
    offer = Specializable(*model)
    offer.specialize = specialize
    return offer


def specialized(
    model: Seq2Seq, params: Params, words: int | None = None, multiple: int = 1
) -> tuple[Seq2Seq, Params]:
    """Returns a faster model that does the same, and its parameters; these, if there is none.

    Args:
      model: any.
      params: which will not change any more: those of the result are not trained or saved.
      words: about how many will be read; None for many.
      multiple: of it the logits may be a multiple, filled up with -inf, where they are V wide.
    """
    specialize = getattr(model, "specialize", None)
    return specialize(params, words, multiple) if specialize else (model, params)


def for_teaching(model: Seq2Seq, params: Params) -> tuple[Seq2Seq, Params]:
    """Returns a model that gives the same logits [V] sooner, and its parameters.

        guide, guide_params = for_teaching(teacher, teacher_params)
        step = make_train_step(student, tx, loss, teacher=guide)

    For parameters that do not change: those of a teacher, or in a score of sentences.
    """
    return specialized(model, params)


@struct.dataclass
class Example:
    """A sentence pair in ids: ``tgt`` ends in EOS, BOS is never stored, PAD fills the rest.

    ``weight`` is 0 for a row that only fills a batch. ``index`` is the pair's place in its
    corpus: dropout draws from (seed, step, index), so it does not depend on how sentences are
    spread over batches and devices. ``taught`` is what a teacher has said about each position, for
    example ``TopK`` from a cache (``distill.teacher_cache``), so that no teacher need run.
    """

    src: Array  # [S] int32
    tgt: Array  # [T] int32
    weight: Array  # [] float32
    index: Array  # [] int32
    taught: Any = None  # a pytree of [T, ...]


@struct.dataclass
class TopK:
    """A distribution over V by its k most probable tokens and the mass of all others together.

    The k probabilities and exp(rest) add up to 1. The mass of the rest at another temperature
    cannot be told from them, so the one that the logits were divided by is kept.
    """

    ids: Array  # [k] int32
    log_probs: Array  # [k] float32, most probable first
    rest: Array  # [] float32, log of the mass; -inf where k = V
    temperature: float = struct.field(pytree_node=False, default=1.0)


@struct.dataclass
class Hinted:
    """What ``project`` of a model with a hint gives: logits, and a hidden state beside them."""

    logits: Any  # [V]; of a teacher, perhaps TopK
    hidden: Array  # [H of the teacher]


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


def top_k(logits: Array, k: int, temperature: float = 1.0) -> TopK:
    """The ``k`` most probable tokens of softmax(logits [V] / temperature), exactly.

    No gradient flows back. Raises UsageError unless 1 <= k <= V and temperature > 0.
    """
    if not 1 <= k <= logits.shape[-1]:
        raise UsageError(
            f"k is {k}; it must be from 1 to the number of tokens, {logits.shape[-1]}."
        )
    if not temperature > 0:
        raise UsageError(f"temperature is {temperature}; it must be greater than 0.")
    logits = jax.lax.stop_gradient(logits).astype(jnp.float32)
    log_probs = jax.nn.log_softmax(logits / temperature)
    largest, ids = jax.lax.top_k(log_probs, k)
    # Summed from the others themselves: 1 minus the listed would leave nothing but rounding.
    rest = jax.nn.logsumexp(log_probs.at[ids].set(-jnp.inf))
    return TopK(ids, largest, rest, temperature)
