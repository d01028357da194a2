"""The LSTM cell, loops over a sentence, and dropout. One sentence, no batch axis.

Gate order is input, forget, output, candidate (as flax.linen and Kim & Rush's code have it).
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from flax import struct
from jax import lax

from ..base import Array
from .dense import dense


@struct.dataclass
class LSTM:
    """Weights of one layer: a = x @ inputs + h @ recurrent + bias, in four blocks of H."""

    inputs: Any  # [E, 4H]; () where words are read from a table (``Seq2Seq.fixed``)
    recurrent: Array  # [H, 4H]
    bias: Array  # [4H]


@struct.dataclass
class PeepholeLSTM:
    """An LSTM layer whose gates also see the cell, each unit its own."""

    inputs: Any  # [E, 4H]; () where words are read from a table (``Seq2Seq.fixed``)
    recurrent: Array  # [H, 4H]
    bias: Array  # [4H]
    peephole: Array  # [3, H]: of the input, forget and output gate


Layer = LSTM | PeepholeLSTM
Carry = tuple[Array, Array]  # (c [H], h [H])

Weights = dict[str, tuple[Array, ...]]  # the matrices of each sum
Sums = dict[str, Array]  # what each sum starts from
Affine = Callable[..., Array]  # (name, *vectors) -> sums[name] + vector @ matrix + ...


def init_layer(key: Array, width: int, hidden: int, scale: float, cell: str) -> Layer:
    """Draws one layer of the cell named; peepholes start at 0 (Zhou et al. 2016, section 4.2)."""
    layer = init_lstm(key, width, hidden, scale)
    if cell == "lstm":
        return layer
    return PeepholeLSTM(layer.inputs, layer.recurrent, layer.bias, jnp.zeros((3, hidden)))


def init_lstm(key: Array, width: int, hidden: int, scale: float) -> LSTM:
    """Draws one layer's weights, ``width`` wide at its input, from U(-scale, scale)."""
    keys = jax.random.split(key, 3)
    return LSTM(
        inputs=uniform(keys[0], (width, 4 * hidden), scale),
        recurrent=uniform(keys[1], (hidden, 4 * hidden), scale),
        bias=uniform(keys[2], (4 * hidden,), scale),
    )


def uniform(key: Array, shape: tuple[int, ...], scale: float) -> Array:
    """Draws float32 weights from U(-scale, scale)."""
    return jax.random.uniform(key, shape, jnp.float32, -scale, scale)


def zero_carry(hidden: int, dtype: jnp.dtype) -> Carry:
    """Returns the state before the first word."""
    return jnp.zeros(hidden, dtype), jnp.zeros(hidden, dtype)


@jax.custom_vjp
def lstm_cell(carry: Carry, gates: Array) -> Carry:
    """Advances one step from the summed pre-activations.

    The gradient is written out: what it keeps of each step of a loop is six vectors, half of what
    differentiating the equations keeps.

    Args:
      carry: (c [H], h [H]) of the step before; only c is read, h is already in ``gates``.
      gates: a = x @ inputs + h @ recurrent + bias, [4H].
    """
    return _lstm_cell(carry, gates)[0]


def _lstm_cell(carry: Carry, gates: Array) -> tuple[Carry, tuple[Array, ...]]:
    i, f, o, g = jnp.split(gates, 4)
    i, f, o, g = jax.nn.sigmoid(i), jax.nn.sigmoid(f), jax.nn.sigmoid(o), jnp.tanh(g)
    c = f * carry[0] + i * g
    squashed = jnp.tanh(c)
    return (c, o * squashed), (i, f, o, g, carry[0], squashed)


def _lstm_cell_gradient(kept: tuple[Array, ...], gradient: Carry) -> tuple[Carry, Array]:
    i, f, o, g, before, squashed = kept
    of_c, of_h = gradient
    of_c = of_c + of_h * o * (1 - squashed * squashed)
    of_gates = (
        of_c * g * i * (1 - i),
        of_c * before * f * (1 - f),
        of_h * squashed * o * (1 - o),
        of_c * i * (1 - g * g),
    )
    return (of_c * f, jnp.zeros_like(of_h)), jnp.concatenate(of_gates)


lstm_cell.defvjp(_lstm_cell, _lstm_cell_gradient)


def peephole_cell(carry: Carry, gates: Array, peephole: Array) -> Carry:
    """Advances one step with gates that see the cell (Zhou et al. 2016, equations 5 to 7).

        c = sigmoid(f + p_f * c') * c' + sigmoid(i + p_i * c') * tanh(g)
        h = sigmoid(o + p_o * c) * tanh(c)

    Args:
      carry: (c' [H], h' [H]) of the step before; h' is already in ``gates``.
      gates: x @ inputs + h' @ recurrent + bias, [4H].
      peephole: [3, H].
    """
    i, f, o, g = jnp.split(gates, 4)
    before = carry[0]
    kept = jax.nn.sigmoid(f + peephole[1] * before) * before
    c = kept + jax.nn.sigmoid(i + peephole[0] * before) * jnp.tanh(g)
    return c, jax.nn.sigmoid(o + peephole[2] * c) * jnp.tanh(c)


def layer_sums(layer: Layer, name: str) -> Sums:
    """Returns the constants that ``next_carry`` reads: peepholes, if the layer has them."""
    return {f"{name} peephole": layer.peephole} if isinstance(layer, PeepholeLSTM) else {}


def next_carry(layer: Layer, affine: Affine, name: str, carry: Carry, gates: Array) -> Carry:
    """Advances one step of either cell, from the summed pre-activations [4H]."""
    if isinstance(layer, PeepholeLSTM):
        return peephole_cell(carry, gates, affine(f"{name} peephole"))
    return lstm_cell(carry, gates)


def affine(
    weights: Weights,
    sums: Sums,
    read: dict[str, tuple] | None = None,
    product: Callable[[Array, Array], Array] = jnp.matmul,
) -> Affine:
    """Returns the sums of a step as a function; ``read`` is filled with the vectors it is given."""

    def total(name: str, *vectors: Array) -> Array:
        if read is not None:
            read[name] = vectors
        products = (product(v, w) for v, w in zip(vectors, weights.get(name, ()), strict=True))
        return sum(products, start=sums[name])

    return total


def recurrence(
    step: Callable[[Affine, Any, Any], tuple[Any, Any]],
    weights: Weights,
    carry: Any,
    sums: Sums,
    given: Any = None,
    *,
    reverse: bool = False,
) -> tuple[Any, Any]:
    """Scans ``step(affine, carry, given[t]) -> (carry, out)``; matrices learn outside the loop.

    All products with matrices go through ``affine``, so the gradient of each sum is that of what
    it started from, and a matrix's gradient is one product over all steps (and, under ``vmap``,
    sentences) instead of one addition to a whole matrix in every step.

    Args:
      step: calls ``affine`` once for each sum. What it closes over gets no gradient.
      weights: matrices [N, M] of each sum.
      carry: before the first step.
      sums: what each sum starts from, [T, M], or [M] where that is the same in every step; at
        least one is [T, M]. What ``weights`` does not name is a constant of any shape, whose
        gradient is summed in the loop.
      given: more of each step, [T, ...]; no gradient flows into it.
      reverse: from the last step to the first; outputs keep their places.

    Returns:
      The last carry and the outputs [T, ...]. Differentiable once: differentiating the gradient
      raises NotImplementedError.
    """
    constants = {name: sums[name] for name in sums if name not in weights}
    sums = {name: sums[name] for name in weights}

    def run(carry: Any, sums: Sums, constants: Sums) -> tuple[Any, Any]:
        def advance(carry: Any, now: tuple) -> tuple[Any, Any]:
            sums, given = now
            read: dict[str, tuple] = {}
            carry, out = step(affine(_once(weights), sums | constants, read), carry, given)
            return carry, (out, {name: read[name] for name in sums})

        carry, (outputs, read) = lax.scan(advance, carry, (sums, given), reverse=reverse)
        return (carry, outputs), read

    steps = max(len(x) for x in sums.values() if x.ndim > 1)
    sums = {name: jnp.broadcast_to(x, (steps, x.shape[-1])) for name, x in sums.items()}
    start = _once((carry, sums, constants))
    result, pull, read = jax.vjp(run, *start, has_aux=True)
    # The sums as they came out in the loop. Nobody needs the values: they only lead the gradient.
    every = affine(weights, sums, product=dense)
    sums = {name: every(name, *lax.stop_gradient(read[name])) for name in sums}
    return _pulled_back(result, pull, carry, sums, constants)


@jax.custom_vjp
def _pulled_back(result: Any, pull: Callable, carry: Any, sums: Sums, constants: Sums) -> Any:
    """Returns ``result``, the gradient of which ``pull`` takes to what the loop started from."""
    del pull, carry, sums, constants
    return result


_pulled_back.defvjp(
    lambda result, pull, *start: (result, pull),
    lambda pull, gradient: (None, None, *pull(gradient)),
)


def _once(tree: Any) -> Any:
    """Stops the gradient, and refuses that of the gradient: it would silently lack terms."""
    return jax.tree.map(lambda x: _stopped(x) if jnp.issubdtype(x.dtype, jnp.inexact) else x, tree)


@jax.custom_jvp
def _stopped(x: Array) -> Array:
    return x


@jax.custom_jvp
def _refused(x: Array) -> Array:
    return x


@_stopped.defjvp
def _stopped_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    del tangents
    return _refused(*primals), jnp.zeros_like(*primals)


@_refused.defjvp
def _refused_jvp(primals: tuple[Array], tangents: tuple[Array]) -> tuple[Array, Array]:
    raise NotImplementedError("recurrence can be differentiated once; unroll it for a Hessian.")


def lstm_layer(
    params: Layer, xs: Array, mask: Array, *, reverse: bool = False
) -> tuple[Array, Carry]:
    """Runs one layer over a padded sentence, from the zero state.

    The input products of the whole sentence are one matrix product before the scan. At padded
    positions the state is carried over unchanged, so the last state is that of the last word
    and a reversed layer starts at the last word.

    Args:
      params: the layer's weights.
      xs: inputs [S, E].
      mask: [S], true at words.
      reverse: read from right to left; outputs keep their places.

    Returns:
      Outputs h [S, H] and the final (c [H], h [H]).
    """
    return run_layer(params, dense(xs, params.inputs), mask, reverse=reverse)


def run_layer(
    params: Layer, inputs: Array, mask: Array, *, reverse: bool = False
) -> tuple[Array, Carry]:
    """Runs one layer as ``lstm_layer`` does, from the products of its inputs, [S, 4H]."""

    def step(affine: Affine, carry: Carry, real: Array) -> tuple[Carry, Array]:
        gates = affine("gates", carry[1])
        new = next_carry(params, affine, "gates", carry, gates)
        carry = jax.tree.map(lambda n, o: jnp.where(real, n, o), new, carry)
        return carry, carry[1]

    weights = {"gates": (params.recurrent,)}
    start = zero_carry(params.recurrent.shape[0], inputs.dtype)
    sums = {"gates": inputs + params.bias[None]} | layer_sums(params, "gates")
    carry, outputs = recurrence(step, weights, start, sums, mask, reverse=reverse)
    return outputs, carry


def dropout_mask(key: Array, rate: float, shape: tuple[int, ...], dtype: jnp.dtype) -> Array:
    """Draws an inverted dropout mask: 0 with probability ``rate``, else 1 / (1 - rate).

    Sixteen random bits decide each entry, half the cost of a uniform float; the rate is exact to
    2^-16.
    """
    keep = jax.random.bits(key, shape, jnp.uint16) >= jnp.uint16(round(rate * 65536))
    return jnp.where(keep, 1 / (1 - rate), 0.0).astype(dtype)


def drop(key: Array, rate: float, x: Array) -> Array:
    """Applies dropout to all of ``x``."""
    return x * dropout_mask(key, rate, x.shape, x.dtype) if rate else x
