"""Many devices: the only file that knows ``pmap``.

State and parameters never carry a device axis (``in_axes=None``, ``out_axes=None``); batches do.
Sums and counts are added over devices and divided once, so a result does not depend on how
sentences fall on devices. With several processes each is given its own rows of the same batch.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding, PartitionSpec

from ..base import Array, Example, Params, Total
from .state import TrainState
from .steps import TrainStep

AXIS = "devices"


def replicate(tree: Any) -> Any:
    """Copies a pytree to every local device, with no device axis.

    What is to be donated must come from here; the originals stay as they are.
    """
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
    copied = jax.tree.map(lambda x: jnp.array(x, copy=True), tree)
    return jax.device_put(copied, NamedSharding(mesh, PartitionSpec()))


def shard(batch: Example) -> Example:
    """Splits a batch [B, ...] over devices: [D, B / D, ...], D local devices.

    If B does not divide, rows of weight 0 (copies of the first) fill it up. With several
    processes every one calls this with the same whole batch and keeps its own part.
    """
    rows = len(batch.weight)
    sharded = _split(batch)
    real = _split(np.arange(_filled(rows)) < rows)
    return sharded.replace(weight=np.where(real, sharded.weight, 0).astype(np.float32))


@functools.lru_cache(maxsize=16)
def pmap_step(step: TrainStep) -> Callable[..., tuple[TrainState, dict[str, Array]]]:
    """Runs a training step on all devices: ``(state, batch [D, B, ...], key, teacher_params)``.

    The state is donated: place it with ``replicate`` first, and use only the one returned.
    """

    def on_device(state: TrainState, batch: Example, key: Array, teacher_params: Params):
        sentences = lax.psum(batch.weight.sum(), AXIS)
        summed = step.gradients(state, batch, key, teacher_params, sentences)
        # Even with nobody to add to, a sum over devices copies all that it is given.
        summed = lax.psum(summed, AXIS) if jax.device_count() > 1 else summed
        return step.update(state, *summed)

    mapped = jax.pmap(
        on_device, AXIS, in_axes=(None, 0, None, None), out_axes=None, donate_argnums=0
    )

    def call(state: TrainState, batch: Example, key: Array, teacher_params: Params = None):
        return mapped(state, batch, key, teacher_params)

    return call


def pmap_total(evaluate: Callable[..., Total]) -> Callable[..., Total]:
    """Runs an evaluation step on all devices and adds up: ``(params, batch [D, B, ...], ...)``."""

    def on_device(params: Params, batch: Example, teacher_params: Params) -> Total:
        return lax.psum(evaluate(params, batch, teacher_params), AXIS)

    mapped = jax.pmap(on_device, AXIS, in_axes=(None, 0, None), out_axes=None)
    return lambda params, batch, teacher_params=None: mapped(params, batch, teacher_params)


def pmap_rows(function: Callable[..., Any]) -> Callable[..., Any]:
    """Spreads the rows of arrays [B, ...] over the devices: ``function(params, *rows)`` on each.

    Each device works off its own rows and stops by itself, so a search that ends early on one
    does not wait step by step for the others. Results come back as [B, ...] numpy arrays. Rows
    are local to the process.
    """

    def on_device(params: Params, rows: tuple) -> Any:
        return function(params, *rows)

    mapped = jax.pmap(on_device, AXIS, in_axes=(None, 0), devices=jax.local_devices())

    def call(params: Params, *rows: np.ndarray) -> Any:
        count, devices = len(rows[0]), jax.local_device_count()
        size = -(-count // devices)
        split = [_fill(np.asarray(x), size * devices) for x in rows]
        split = tuple(x.reshape(devices, size, *x.shape[1:]) for x in split)
        out = jax.device_get(mapped(params, split))
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], out)

    return call


def _filled(rows: int) -> int:
    devices = jax.device_count()
    return -(-rows // devices) * devices


def _fill(x: np.ndarray, rows: int) -> np.ndarray:
    filling = np.broadcast_to(x[:1], (rows - len(x), *x.shape[1:]))
    return np.concatenate([x, filling.astype(x.dtype)])


def _split(tree: Any) -> Any:
    """[B, ...] -> this process's [local D, filled B / D, ...]."""
    devices, local, process = jax.device_count(), jax.local_device_count(), jax.process_index()

    def split(x: Any) -> np.ndarray:
        x = np.asarray(x)
        x = _fill(x, _filled(len(x)))
        x = x.reshape(devices, -1, *x.shape[1:])
        return x[process * local : (process + 1) * local]

    return jax.tree.map(split, tree)
