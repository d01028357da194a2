"""Several devices: the only file that uses ``pmap``. Floor 3.

State and parameters never have a device axis (``in_axes=None``, ``out_axes=None``); batches do.
Sums and counts are added over devices and divided once, so results do not depend on how sentences
are assigned to devices. Of several processes, each reads its own rows of one global batch.
"""

import functools
import os
from collections.abc import Callable, Collection, Sequence
from typing import Any, Protocol

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.flatten_util import ravel_pytree
from jax.sharding import AxisType, Mesh, NamedSharding, PartitionSpec, Sharding

from .base import Array, Example, Params, Total
from .compiled import announced
from .errors import UsageError

AXIS = "devices"
DATA, MODEL = "data", "model"  # axes of a mesh


class SplitStep(Protocol):
    """A training step in two halves; between them, devices sum gradients (``train.steps``)."""

    @property
    def gradients(self) -> Callable[..., tuple[Any, Any]]:
        """``(state, batch, key, teacher_params, sentences) -> (gradient, total)``."""
        ...

    @property
    def update(self) -> Callable[..., tuple[Any, dict[str, Array]]]:
        """``(state, gradient, total) -> (state, metrics)``."""
        ...


def describe_devices(devices: Sequence[Any], local: Sequence[Any]) -> str:
    """Describes what is computed on: the backend, its devices, and the memory of each.

    Args:
      devices: the devices of all processes.
      local: those of this process; only their memory is known here. On an accelerator it is what
        JAX may use of it. Devices of the CPU share the machine's memory.
    """
    one, processes = local[0], len({device.process_index for device in devices})
    parts = [f"{one.platform}: {len(devices)} x {one.device_kind}"]
    parts += [f"{processes} processes"] if processes > 1 else []
    if one.platform == "cpu":
        parts.append(f"{os.cpu_count()} cores")
        names = ("SC_PHYS_PAGES", "SC_PAGE_SIZE")
        known = all(name in getattr(os, "sysconf_names", ()) for name in names)
        memory, of_what = (os.sysconf(names[0]) * os.sysconf(names[1]) if known else 0), "in all"
    else:
        memory, of_what = (one.memory_stats() or {}).get("bytes_limit", 0), "each"
    return ", ".join(parts + ([f"{memory / 2**30:.1f} GiB {of_what}"] if memory else []))


def replicate(tree: Any) -> Any:
    """Copies a pytree to every local device, without a device axis.

    Arguments that are donated must be such copies; the originals stay valid.

    >>> replicate({"w": jnp.ones(3)})["w"].sharding.is_fully_replicated
    True
    """
    mesh = Mesh(np.array(jax.local_devices()), (AXIS,))
    copied = jax.tree.map(lambda x: jnp.array(x, copy=True), tree)
    return jax.device_put(copied, NamedSharding(mesh, PartitionSpec()))


def local(tree: Any) -> Any:
    """Returns this process's copy of arrays that all processes hold, such as a training state."""
    if jax.process_count() == 1:
        return tree
    return jax.tree.map(lambda x: x.addressable_data(0) if isinstance(x, jax.Array) else x, tree)


def rows_of_device(rows: int) -> int:
    """Returns the number of rows that each device gets of a batch of B rows, copies included."""
    return -(-rows // jax.device_count())


def own_rows(rows: int) -> range:
    """Returns the rows of a global batch of B rows that belong to this process's devices.

    Every device has equally many, so some may lie past the end: ``data.batches`` fills these up.
    """
    each = rows_of_device(rows) * jax.local_device_count()
    return range(jax.process_index() * each, (jax.process_index() + 1) * each)


def shard(batch: Example) -> Example:
    """Splits this process's batch [B, ...] over its D devices: [D, B / D, ...].

    If B is not a multiple of D, copies of the first row, of weight 0, fill it up.

    >>> ids, one = np.ones((8, 5), np.int32), np.ones(8, np.float32)
    >>> devices, rows, _ = shard(Example(ids, ids, one, one)).src.shape
    >>> devices == jax.local_device_count(), devices * rows >= 8
    (True, True)
    """
    devices = jax.local_device_count()
    filled = _filled(batch, devices)
    return jax.tree.map(lambda x: x.reshape(devices, -1, *x.shape[1:]), filled)


def step_program(step: SplitStep, devices: Sequence[Any] | None = None) -> Any:
    """Returns the mapped function of ``pmap_step``, which can also be lowered.

    ``devices`` may be those of a topology that is not there, for compiling ahead of time; None for
    all devices of all processes.
    """

    def on_device(state: Any, batch: Example, key: Array, teacher_params: Params, stop: Any):
        sentences = _added_up(batch.weight.sum())
        summed = step.gradients(state, batch, key, teacher_params, sentences)
        summed, stop = _added_up((summed, stop))
        state, metrics = step.update(state, *summed)
        return state, metrics if stop is None else metrics | {"stop": stop}

    in_axes = (None, 0, None, None, 0)
    return jax.pmap(
        on_device, AXIS, in_axes=in_axes, out_axes=None, donate_argnums=0, devices=devices
    )


@functools.lru_cache(maxsize=16)
def pmap_step(step: SplitStep) -> Callable[..., tuple[Any, dict[str, Array]]]:
    """Returns a training step for all devices: ``(state, batch [D, B, ...], key, teacher_params)``.

    The state is donated: copy it with ``replicate`` first, and then use only the returned state.
    With ``stop``, True or False, metrics have a number ``stop``: it is above 0 if any process gave
    True. All processes learn this of the same step, and no further message is sent. The step raises
    UsageError for a batch without the axis D (``shard``).

    >>> import seqkd_jax as skd
    >>> words = skd.build_words(["a dog sleeps"])
    >>> pairs = skd.encode_pairs([("a dog", "a dog")], words, words)
    >>> plan = skd.plan_buckets(pairs, tokens_per_batch=32)
    >>> model = skd.attention_lstm(skd.Config(words.size, words.size, embed=4, hidden=4, layers=1))
    >>> tx, key = skd.clipped_adam(1e-3), jax.random.key(0)
    >>> step = pmap_step(skd.make_train_step(model, tx))
    >>> state = replicate(skd.init_state(model, tx, key))
    >>> for batch in skd.batches(pairs, plan, seed=1, epoch=0):
    ...     state, metrics = step(state, shard(batch), key)
    >>> int(state.step), sorted(metrics)
    (1, [...])
    """
    mapped = announced(step_program(step))

    def call(
        state: Any,
        batch: Example,
        key: Array,
        teacher_params: Params = None,
        stop: bool | None = None,
    ):
        if np.ndim(batch.weight) != 2:
            raise UsageError("The batch has no axis of devices: give shard(batch).")
        flags = None if stop is None else np.full(len(batch.weight), stop, np.float32)
        return mapped(state, batch, key, teacher_params, flags)

    return call


def jit_step(step: SplitStep, mesh: Mesh) -> Callable[..., tuple[Any, dict[str, Array]]]:
    """Returns the training step of ``pmap_step`` for the devices of a mesh of ``device_mesh``.

    ``(state, batch [B, ...], key, teacher_params) -> (state, metrics)``, with a state from
    ``place`` and a batch from ``place_batch``. Over ``data``, rows are split and gradients added
    up, as by ``pmap_step``; over ``model``, XLA splits the products with the matrices that
    ``place`` has split. The state is donated, and stays where it is.
    """

    def on_shard(state: Any, batch: Example, key: Array, teacher_params: Params):
        sentences = lax.psum(batch.weight.sum(), DATA)
        return lax.psum(step.gradients(state, batch, key, teacher_params, sentences), DATA)

    rows, replicated = PartitionSpec(DATA), PartitionSpec()
    # Only ``data`` is mapped by hand. Types would be checked with ``check_vma``; but JAX would then
    # also add up gradients by itself, before the ``psum``.
    summed = jax.shard_map(
        on_shard,
        mesh=mesh,
        in_specs=(replicated, rows, replicated, replicated),
        out_specs=replicated,
        axis_names={DATA},
        check_vma=False,
    )

    def run(state: Any, batch: Example, key: Array, teacher_params: Params):
        return step.update(state, *summed(state, batch, key, teacher_params))

    @functools.lru_cache(maxsize=4)
    def compiled(tree: Any, shardings: tuple[Sharding, ...]) -> Callable[..., Any]:
        state, metrics = jax.tree.unflatten(tree, shardings), NamedSharding(mesh, replicated)
        return jax.jit(run, out_shardings=(state, metrics), donate_argnums=0)

    def call(state: Any, batch: Example, key: Array, teacher_params: Params = None):
        leaves, tree = jax.tree.flatten(state)
        return compiled(tree, tuple(x.sharding for x in leaves))(state, batch, key, teacher_params)

    return call


def device_mesh(model: int = 1) -> Mesh:
    """Returns all devices as a mesh with the axes ``data`` and ``model``; ``model`` is inner.

    Raises:
      UsageError: the number of devices is not a multiple of ``model``.
    """
    devices = jax.device_count()
    if devices % model:
        raise UsageError(
            f"model is {model}, which does not divide the {devices} devices: give a divisor."
        )
    return jax.make_mesh((devices // model, model), (DATA, MODEL), (AxisType.Auto,) * 2)


def place(tree: Any, mesh: Mesh, vocabularies: Collection[int] = ()) -> Any:
    """Copies a pytree to the devices of a mesh; the matrices of a vocabulary are split.

    Args:
      tree: parameters, or a training state.
      mesh: from ``device_mesh``.
      vocabularies: sizes V. Matrices with an axis of one of these sizes (embeddings [V, E],
        projections [H, V], and their moments in an optimiser) are split along it over ``model``;
        all others are copied.

    Raises:
      UsageError: a size is not a multiple of the devices along ``model``.
    """
    for size in vocabularies:
        if size % mesh.shape[MODEL]:
            raise UsageError(
                f"A vocabulary of {size:,} entries cannot be split evenly over "
                f"{mesh.shape[MODEL]} devices: choose another size, or other devices."
            )

    def sharding(x: Any) -> NamedSharding:
        axes = [MODEL if n in vocabularies else None for n in x.shape] if x.ndim == 2 else []
        if axes.count(MODEL) == 2:
            axes[1] = None
        return NamedSharding(mesh, PartitionSpec(*axes))

    copied = jax.tree.map(lambda x: jnp.array(x, copy=True), tree)
    return jax.device_put(copied, jax.tree.map(sharding, copied))


def place_batch(batch: Example, mesh: Mesh) -> Example:
    """Splits this process's batch [B, ...] over the rows of a mesh; filled up as by ``shard``."""
    here = jax.local_device_count() // mesh.shape[MODEL]
    filled = _filled(batch, here)
    rows = NamedSharding(mesh, PartitionSpec(DATA))
    return jax.tree.map(lambda x: jax.make_array_from_process_local_data(rows, x), filled)


def pmap_total(evaluate: Callable[..., Total]) -> Callable[..., Total]:
    """Returns an evaluation step for all devices: ``(params, batch [D, B, ...], ...) -> Total``."""

    def on_device(params: Params, batch: Example, teacher_params: Params) -> Total:
        return _added_up(evaluate(params, batch, teacher_params))

    mapped = announced(jax.pmap(on_device, AXIS, in_axes=(None, 0, None), out_axes=None))
    return lambda params, batch, teacher_params=None: mapped(params, batch, teacher_params)


def rows_program(function: Callable[..., Any], devices: Sequence[Any]) -> Any:
    """Returns the mapped function of ``pmap_rows``: (params, rows [D, B, ...]), can be lowered."""

    def on_device(params: Params, rows: tuple) -> Any:
        return function(params, *rows)

    return jax.pmap(on_device, AXIS, in_axes=(None, 0), devices=devices)


def pmap_rows(function: Callable[..., Any]) -> Callable[..., Any]:
    """Returns ``function(params, *rows)`` with the rows of arrays [B, ...] split over devices.

    Each device processes its own rows and stops by itself, so a search that ends early on one
    does not wait step by step for the others. Results are numpy arrays [B, ...]. Rows are local to
    the process.
    """
    mapped = announced(rows_program(function, jax.local_devices()))

    def call(params: Params, *rows: np.ndarray) -> Any:
        count, devices = len(rows[0]), jax.local_device_count()
        size = -(-count // devices)
        split = [_fill(np.asarray(x), size * devices) for x in rows]
        split = tuple(x.reshape(devices, size, *x.shape[1:]) for x in split)
        out = jax.device_get(mapped(params, split))
        return jax.tree.map(lambda x: x.reshape(-1, *x.shape[2:])[:count], out)

    return call


def _added_up(tree: Any) -> Any:
    """Returns the sums over all devices.

    CPUs add in the order of the devices, so that the same devices in fewer or more processes get
    the same bits: XLA's own sums within a process and between processes differ in order.
    """
    if lax.axis_size(AXIS) == 1:
        return tree  # ``psum`` would copy it
    return lax.platform_dependent(tree, cpu=_added_in_order, default=lambda x: lax.psum(x, AXIS))


def _added_in_order(tree: Any) -> Any:
    """Adds over devices, from the first to the last; as many bytes are sent as by ``psum``."""
    numbers, rebuild = ravel_pytree(tree)
    devices = lax.axis_size(AXIS)
    parts = jnp.pad(numbers, (0, -numbers.size % devices)).reshape(devices, -1)
    own = lax.all_to_all(parts, AXIS, 0, 0)  # each device adds up one part, for all
    total = functools.reduce(jnp.add, [own[n] for n in range(devices)])
    return rebuild(lax.all_gather(total, AXIS, tiled=True)[: numbers.size])


def _filled(batch: Example, devices: int) -> Example:
    """Returns a batch with a multiple of D rows: copies of the first, of weight 0, fill it up."""
    rows = len(batch.weight)
    filled = -(-rows // devices) * devices
    weight = np.concatenate([batch.weight, np.zeros(filled - rows)]).astype(np.float32)
    return jax.tree.map(lambda x: _fill(np.asarray(x), filled), batch).replace(weight=weight)


def _fill(x: np.ndarray, rows: int) -> np.ndarray:
    copies = np.broadcast_to(x[:1], (rows - len(x), *x.shape[1:]))
    return np.concatenate([x, copies.astype(x.dtype)])
