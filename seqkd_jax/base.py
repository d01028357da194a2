"""The types that all modules share. Floor 0.

Axis letters, used in every docstring and einsum:
S source length, T target length, V target vocabulary, E embedding, H hidden, K beam,
B sentences, D devices. Nothing here has a batch axis: ``vmap`` and ``pmap`` add it at the edge.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from flax import struct

from .errors import UsageError
from .tokens import BOS as BOS
from .tokens import EOS as EOS
from .tokens import PAD as PAD
from .tokens import UNK as UNK

Array = jax.Array
Params = Any  # a pytree of arrays
State = Any  # a pytree of arrays that one hypothesis carries from step to step

# (logits [V], target [], the teacher's logits [V], a TopK or None) -> []
TokenLoss = Callable[..., Array]
StepFn = Callable[[State, Array], tuple[Array, State]]  # (state, token []) -> (logits [V], state)


_traced_for: ContextVar[str | None] = ContextVar("platform", default=None)


def platform() -> str:
    """Returns the platform that programs are traced for: cpu, gpu or tpu.

    It is this process's default, unless ``traced_for`` names another.
    """
    return _traced_for.get() or jax.default_backend()


@contextmanager
def traced_for(platform: str) -> Iterator[None]:
    """Traces programs in this block for a platform (cpu, gpu, tpu) that may be absent."""
    token = _traced_for.set(platform)
    try:
        yield
    finally:
        _traced_for.reset(token)


class Seq2Seq(NamedTuple):
    """A translation model: five pure functions of one sentence pair.

    Teacher and student are both such models; losses, search and distillation use nothing else.
    Hidden vectors may be any pytree (an ensemble returns a tuple of arrays): only ``project``, the
    only function with an output of size V, looks inside.

    A model that gives each of V = 5 words the same probability:

    >>> nothing = lambda *_: jnp.zeros(0)
    >>> model = Seq2Seq(
    ...     init=nothing,
    ...     encode=lambda params, src, key=None: (src, ()),
    ...     step=lambda params, memory, state, token: (jnp.zeros(0), state),
    ...     hidden=lambda params, src, tgt, key=None: jnp.zeros((len(tgt), 0)),
    ...     project=lambda params, hidden: jnp.zeros(5),
    ... )
    >>> memory, state = model.encode((), jnp.array([4, 4]))
    >>> logits, state = step_fn(model, (), memory)(state, BOS)
    >>> print(logits)
    [0. 0. 0. 0. 0.]
    """

    init: Callable[[Array], Params]  # (key) -> params
    encode: Callable[..., tuple[Any, State]]  # (params, src [S], key=None) -> (memory, state)
    step: Callable[..., tuple[Any, State]]  # (params, memory, state, token []) -> (hidden, state)
    hidden: Callable[..., Any]  # (params, src [S], tgt [T], key=None) -> [T, H], teacher forced
    project: Callable[[Params, Any], Array]  # (params, hidden [H]) -> logits [V], float32


# (params, expected number of words or None, a number to a multiple of which V may be padded)
# -> an equivalent model and its parameters
Specialize = Callable[[Params, int | None, int], tuple[Seq2Seq, Params]]


class Specializable(Seq2Seq):
    """A model with a faster equivalent for parameters that do not change.

    A copy made by ``_replace`` is a different model and has no faster equivalent.
    """

    specialize: Specialize | None = None

    def __eq__(self, other: object) -> bool:
        same = self.specialize == getattr(other, "specialize", None)
        return same and tuple.__eq__(self, other) is True

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((tuple(self), self.specialize))


def with_specialize(model: Seq2Seq, specialize: Specialize) -> Seq2Seq:
    """Returns a copy of the model whose faster equivalent is made by ``specialize``."""
    specializable = Specializable(*model)
    specializable.specialize = specialize
    return specializable


def specialized(
    model: Seq2Seq, params: Params, num_words: int | None = None, multiple: int = 1
) -> tuple[Seq2Seq, Params]:
    """Returns a faster, equivalent model and its parameters; the arguments if there is none.

    Args:
      model: any model.
      params: its parameters, which must not change any more: the result's are for inference and
        can be neither trained nor saved.
      num_words: about how many words the model will process; None for many.
      multiple: the logits [V] may be padded with -inf to a multiple of it.
    """
    specialize = getattr(model, "specialize", None)
    return specialize(params, num_words, multiple) if specialize else (model, params)


def step_fn(model: Seq2Seq, params: Params, memory: Any) -> StepFn:
    """Returns the step function of a search over the sentence that was encoded as ``memory``."""

    def step(state: State, token: Array) -> tuple[Array, State]:
        hidden, state = model.step(params, memory, state, token)
        return model.project(params, hidden), state

    return step


def for_teaching(model: Seq2Seq, params: Params) -> tuple[Seq2Seq, Params]:
    """Returns a faster model with the same logits [V], and its parameters.

        guide, guide_params = for_teaching(teacher, teacher_params)
        step = make_train_step(student, tx, loss, teacher=guide)

    The parameters must not change, as when a teacher runs or sentences are scored.
    """
    return specialized(model, params)


@struct.dataclass
class Example:
    """A sentence pair as ids, padded with PAD: ``tgt`` ends in EOS, BOS is never stored.

    ``weight`` is 0 for a row that only fills a batch. ``index`` is the pair's index in its
    corpus: dropout masks are drawn from (seed, step, index), so they do not depend on how
    sentences are spread over batches and devices. ``teacher_targets`` is a teacher's output at
    each position, for example ``TopK`` from a cache (``distill.teacher_cache``): then no teacher
    has to run.

    >>> pair = Example(jnp.array([5, 4, PAD]), jnp.array([6, EOS]), jnp.float32(1), jnp.int32(0))
    >>> print(shift_right(pair.tgt))  # what the decoder reads: BOS comes first
    [2 6]
    """

    src: Array  # [S] int32
    tgt: Array  # [T] int32
    weight: Array  # [] float32
    index: Array  # [] int32
    teacher_targets: Any = None  # a pytree of [T, ...]


@struct.dataclass
class TopK:
    """A distribution over V, given by its k most probable tokens and the mass of all others.

    The k probabilities and exp(rest) add up to 1. They do not determine the mass of the rest at
    another temperature, so the temperature that the logits were divided by is stored.
    """

    ids: Array  # [k] int32
    log_probs: Array  # [k] float32, most probable first
    rest: Array  # [] float32, log of the mass of all other tokens; -inf if k = V
    temperature: float = struct.field(pytree_node=False, default=1.0)


@struct.dataclass
class Hypotheses:
    """The hypotheses that a search found for one sentence, best first.

    Each row of ``tokens`` ends in EOS and is padded with PAD. ``scores`` are the quantity that
    hypotheses are ranked by; ``log_probs`` the model's own log-probabilities (natural log, EOS
    included). They differ only by the length rule. A row without a hypothesis has score -inf.
    """

    tokens: Array  # [K, T] int32
    scores: Array  # [K] float32
    log_probs: Array  # [K] float32


@struct.dataclass
class Total:
    """A sum and its counts; totals add up across sentences, chunks and devices."""

    sum: Array  # [] float32, nats
    tokens: Array  # [] float32, number of target tokens with EOS, weighted by sentence weights
    sentences: Array  # [] float32, sum of sentence weights

    def __add__(self, other: "Total") -> "Total":
        return jax.tree.map(jnp.add, self, other)


def shift_right(tgt: Array) -> Array:
    """Returns the decoder's inputs [T] for targets [T]: BOS, then all but the last token."""
    return jnp.concatenate([jnp.full((1,), BOS, jnp.int32), jnp.asarray(tgt, jnp.int32)[:-1]])


def top_k(logits: Array, k: int, temperature: float = 1.0) -> TopK:
    """Returns exactly the ``k`` most probable tokens of softmax(logits [V] / temperature).

    Stops the gradient. Raises UsageError unless 1 <= k <= V and temperature > 0.
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
    # Summed over the other tokens: 1 minus the listed probabilities could be all rounding error.
    rest = jax.nn.logsumexp(log_probs.at[ids].set(-jnp.inf))
    return TopK(ids, largest, rest, temperature)
