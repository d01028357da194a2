"""Compiling for a slice that is not there: what a program needs, how fast it may be, what fits."""

import math
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from typing import Any, NamedTuple

import jax

from ..errors import UsageError
from .chips import CHIPS, Chip
from .hlo import Kernel, kernels
from .programs import Program, Work

BATCH_MULTIPLE = 8  # every batch size that is tried is a multiple of it
CLOSE = 1.125  # the largest batch is known up to this factor
Record = dict[str, Any]


class Slice(NamedTuple):
    """The devices of a slice, for the compiler alone."""

    name: str  # such as v5e:2x4
    chip: Chip
    devices: Sequence[Any]


class Compiled(NamedTuple):
    """A compiled program."""

    kernels: list[Kernel]
    num_bytes: int  # of HBM on each device
    seconds: float  # to compile


def open_slice(name: str) -> Slice:
    """Returns the slice of a topology such as v5e:2x4.

    Raises:
      UsageError: libtpu is not installed, or it knows no such topology.
    """
    kind, _, shape = name.partition(":")
    if kind not in CHIPS or not shape:
        examples = ", ".join(chip.slice_of_8 for chip in CHIPS.values())
        raise UsageError(f"topology {name!r}: give a chip and a shape; eight chips are {examples}.")
    if not find_spec("libtpu"):
        raise UsageError(
            "Programs for a TPU are compiled by libtpu, which is not installed. Install it into an "
            "environment of its own, because JAX looks for a TPU wherever libtpu is: "
            "pip install 'jax[tpu]'."
        )
    from jax.experimental import topologies

    chip = CHIPS[kind]
    try:
        devices = topologies.get_topology_desc(name, "tpu", chip_config_name=chip.cores).devices
    except (jax.errors.JaxRuntimeError, ValueError, NotImplementedError) as error:
        first = str(error).splitlines()[0]
        raise UsageError(f"topology {name!r}: libtpu does not know it: {first}") from None
    return Slice(name, chip, devices)


def compiled(program: Program) -> Compiled | None:
    """Compiles a program; None if it does not fit into memory."""
    started = time.perf_counter()
    try:
        done = program.lowered.compile()
    except jax.errors.JaxRuntimeError as error:
        if "RESOURCE_EXHAUSTED" not in str(error):
            raise
        return None
    seconds = time.perf_counter() - started
    memory = done.memory_analysis()
    parts = ("argument", "output", "temp", "generated_code")
    num_bytes = sum(getattr(memory, f"{part}_size_in_bytes") for part in parts)
    num_bytes -= memory.alias_size_in_bytes  # counted as an argument and as an output
    return Compiled(kernels(done.as_text(), program.loops), num_bytes, seconds)


def plan(
    make: Callable[[Work, Sequence[Any]], Program],
    work: Work,
    where: Slice,
    *,
    largest: bool = False,
    on_compile: Callable[[str], None] = lambda what: None,
) -> Record:
    """Compiles a program and returns what a reader wants to know about it.

    Args:
      make: the program (``programs``).
      work: what it works on.
      where: the slice.
      largest: whether to look for the largest batch that fits, which compiles several times.
      on_compile: is called with what is being compiled.

    Returns:
      Numbers per device: ``fits``; ``hbm_gib`` and the chip's, ``of_gib``; ``tflop`` of the matrix
      products that the program computes and ``own_tflop`` of the model's equations, some of which
      a TPU computes outside its matrix units; ``accessed_gb`` of memory, read and written;
      ``sent_mb``, on which collectives work; the times of ``roofline``; ``mcycles``, the compiler's
      own estimate, in which small kernels take longer and top-k and collectives nothing;
      ``compile_s``; and ``largest_batch``.
    """
    found: dict[int, Compiled | None] = {}

    def num_bytes(batch: int) -> int | None:
        on_compile(f"B = {batch:,}")
        program = make(work._replace(batch=batch), where.devices)
        result = found[batch] = compiled(program)
        record.setdefault("own_tflop", program.flops / 1e12)
        return result and result.num_bytes

    record: Record = {"of_gib": where.chip.hbm / 2**30}
    if largest:
        record["largest_batch"] = largest_batch(num_bytes, work.batch, where.chip.hbm)
    else:
        num_bytes(work.batch)
    result = found[work.batch]
    record["fits"] = "yes" if result else "no"
    if result:
        runs = result.kernels
        record |= {
            "hbm_gib": result.num_bytes / 2**30,
            "tflop": sum(k.flops * k.times for k in runs) / 1e12,
            "accessed_gb": sum(k.num_bytes * k.times for k in runs) / 1e9,
            "sent_mb": sum(k.sent * k.times for k in runs) / 1e6,
            **roofline(runs, where.chip, len(where.devices)),
            "mcycles": sum(k.cycles * k.times for k in runs) / 1e6,
            "compile_s": result.seconds,
        }
    return record


def roofline(runs: Sequence[Kernel], chip: Chip, devices: int) -> Record:
    """Returns the shortest time that the chip's peaks allow, in ms, and what limits it.

    Matrix products and memory overlap within a loop's body, not from one loop to another; the time
    of collectives is added. In an all-reduce a chip sends 2 (D - 1) / D times its bytes.
    """
    matrix = memory = total = 0.0
    for loop in dict.fromkeys(k.loop for k in runs):
        inside = [k for k in runs if k.loop == loop]
        products = sum(k.flops * k.times for k in inside) / chip.flops
        moves = sum(k.num_bytes * k.times for k in inside) / chip.hbm_rate
        matrix, memory, total = matrix + products, memory + moves, total + max(products, moves)
    wire = sum(k.sent * k.times for k in runs) * 2 * (devices - 1) / devices / chip.wire_rate
    parts = {"products": matrix, "memory": memory, "collectives": wire}
    return {
        "roofline_ms": 1e3 * (total + wire),
        "collectives_ms": 1e3 * wire,
        "bound": max(parts, key=lambda name: parts[name]),
    }


def largest_batch(num_bytes: Callable[[int], int | None], start: int, capacity: int) -> int:
    """Returns the largest batch that fits, up to a factor of 1.125 or up to 8; 0 for none.

    Memory grows about linearly with the batch, so the next one to try is a straight line's guess.

    Args:
      num_bytes: of a batch; None if it does not fit. It is asked once for each batch.
      start: the first batch to ask for; the others are multiples of 8.
      capacity: of the memory, in bytes.
    """
    fitting: dict[int, int] = {}
    too_large, batch = math.inf, start
    while True:
        if (used := num_bytes(batch)) is None:
            too_large = batch
        else:
            fitting[batch] = used
        best = max(fitting, default=0)
        if too_large <= max(best + BATCH_MULTIPLE, best * CLOSE):
            return best
        guess = _guess(sorted(fitting.items()), capacity) if fitting else too_large / 4
        if guess >= too_large:
            guess = (best + too_large) / 2
        batch = (
            max(int(max(guess, best * CLOSE)) // BATCH_MULTIPLE, best // BATCH_MULTIPLE + 1)
            * BATCH_MULTIPLE
        )


def _guess(fitting: Sequence[tuple[int, int]], capacity: int) -> float:
    """Returns the batch at which a line through the last two points reaches 97 % of capacity."""
    if len(fitting) == 1:
        return fitting[0][0] * max(2.0, capacity / max(1, fitting[0][1]) / 2)
    (before, less), (last, used) = fitting[-2:]
    return last + (0.97 * capacity - used) * (last - before) / max(1, used - less)
