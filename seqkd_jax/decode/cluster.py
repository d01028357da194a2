"""Ray as a ``map``: processes of a cluster, any of which may die, apply a function to items."""

import contextlib
import importlib
import logging
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator
from typing import Any, TypeVar

from ..errors import UsageError

DEATHS = 3  # of each worker on average, without a result in between, that end the work

Item = TypeVar("Item")
Result = TypeVar("Result")


class _Worker:
    """An actor; Ray calls its methods in a process of the cluster."""

    def __init__(self, function: Callable[[Any], Any]):
        self._function = function

    def apply(self, item: Any) -> Any:
        return self._function(item)


@contextlib.contextmanager
def connected() -> Iterator[Any]:
    """Connects to a Ray cluster in this block, unless that has been done; yields the package.

    The cluster is that of ``RAY_ADDRESS`` (``auto``: the one that ``ray start`` started on this
    machine); without it, this machine is one until the end of the block. Enter it before JAX
    computes anything: Ray then forks this process, which JAX warns of.

    Raises:
      UsageError: Ray is not installed, or the cluster cannot be reached.
    """
    try:
        ray = importlib.import_module("ray")
    except ImportError:
        raise UsageError("Ray is not installed; install it with pip install ray.") from None
    if ray.is_initialized():
        yield ray
        return
    handler = signal.getsignal(signal.SIGTERM)
    try:
        # By itself Ray would also wait for a cluster that has ended and left its address behind.
        ray.init(os.environ.get("RAY_ADDRESS") or "local", logging_level=logging.WARNING)
    except ConnectionError as error:
        raise UsageError(f"No Ray cluster can be reached: {error}") from None
    try:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGTERM, handler)  # Ray has set its own
        yield ray
    finally:
        ray.shutdown()


def ray_map(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    *,
    workers: int | None = None,
    **options: Any,
) -> Iterator[Result]:
    """Applies a function to items on a Ray cluster, and yields the results as they arrive.

    The cluster is that of ``connected``, which is entered here unless the caller has. An item whose
    worker died goes to another worker, and a new one is started as soon as the cluster has room.

    Args:
      function: what Ray can pickle; it is sent once to each machine.
      items: none of them None; one is taken when a worker is free.
      workers: number of processes; None for one on each GPU, on each TPU host, or on each machine.
      **options: of Ray's actors, such as ``num_gpus``, in place of those of ``workers=None``.

    Raises:
      UsageError: Ray cannot be used, or workers died again and again without any result.
      Exception: whatever the function raised.
    """
    with connected() as ray:
        alive: set[Any] = set()
        fits, needs = _workers(ray)
        make = ray.remote(_Worker).options(**(needs | options))
        try:
            yield from _results(ray, ray.put(function), make, workers or fits, iter(items), alive)
        finally:
            for worker in alive:
                ray.kill(worker)


def _results(
    ray: Any, function: Any, make: Any, workers: int, items: Iterator, alive: set
) -> Iterator:
    """Yields the results; ``alive`` is kept to hold the workers."""
    busy: dict[Any, tuple[Any, Any]] = {}  # what is waited for -> (worker, its item)
    idle, returned, deaths = [], [], 0

    def hire() -> None:
        worker = make.remote(function)
        alive.add(worker)
        busy[worker.__ray_ready__.remote()] = worker, None

    def next_item() -> Any:
        return returned.pop() if returned else next(items, None)

    for _ in range(workers):
        hire()
    item = next_item()
    while item is not None or any(held is not None for _, held in busy.values()):
        while idle and item is not None:
            worker = idle.pop()
            busy[worker.apply.remote(item)] = worker, item
            item = next_item()
        finished = ray.wait(list(busy))[0][0]
        worker, held = busy.pop(finished)
        try:
            result = ray.get(finished)
        except ray.exceptions.RayTaskError as error:
            raise error.cause from error
        except ray.exceptions.RayError as error:  # the worker or its machine is dead
            deaths += 1
            if deaths >= DEATHS * workers:
                raise UsageError(
                    f"{deaths} workers died one after another without any result: {error}"
                ) from error
            ray.kill(worker)
            alive.discard(worker)
            hire()
            if held is not None:
                returned.append(held)
                item = next_item() if item is None else item
            continue
        idle.append(worker)
        if held is not None:
            deaths = 0
            yield result


def _workers(ray: Any) -> tuple[int, dict[str, Any]]:
    """Returns the number of workers that fit on the cluster, and what each of them needs."""
    machines = [node["Resources"] for node in ray.nodes() if node["Alive"]]
    if gpus := int(sum(machine.get("GPU", 0) for machine in machines)):
        return gpus, {"num_gpus": 1}
    if chips := [machine["TPU"] for machine in machines if machine.get("TPU")]:
        return len(chips), {"resources": {"TPU": min(chips)}}
    return len(machines), {"num_cpus": 1, "scheduling_strategy": "SPREAD"}
