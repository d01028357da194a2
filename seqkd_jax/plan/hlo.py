"""What a compiled program does: products, bytes and collectives, from the text of its HLO.

XLA's own cost analysis counts the body of a loop once; here it counts as often as it runs. A
kernel is an instruction that the device runs as a whole, mostly a fusion. It reads its operands
from memory and writes its results, padded as they are stored; those that the compiler keeps inside
the chip (memory spaces other than HBM) cost no access. A slice reads no more than itself.
"""

import math
import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import numpy as np

BITS = {"pred": 8, "s4": 4, "u4": 4, "bf16": 16, "token": 0}  # others have their width in the name
NO_KERNELS = {
    *("parameter", "constant", "tuple", "get-tuple-element", "bitcast", "after-all"),
    *("partition-id", "replica-id", "opt-barrier"),
}
COLLECTIVES = ("all-reduce", "all-gather", "reduce-scatter", "collective-permute", "all-to-all")
ARRAY = re.compile(r"(\w+)\[([\d,]*)\](?:\{([^}]*)\})?")


class Stored(NamedTuple):
    """An array as it is stored."""

    dtype: str
    dims: tuple[int, ...]
    layout: str  # such as 1,0:T(8,128)(2,1)S(1)

    @property
    def in_hbm(self) -> bool:
        """Whether the array is in the device's main memory."""
        return not re.search(r"S\(\d+\)", self.layout)

    def num_bytes(self, padded: bool = True) -> int:
        """Returns its size, with the padding of its tiles or without."""
        dims = list(self.dims)
        order, _, tiles = self.layout.partition(":")
        tile = re.search(r"T\(([\d,]+)\)", tiles)
        if padded and tile and order:
            sizes = [int(n) for n in tile[1].split(",")]
            for dim, size in zip(map(int, order.split(",")), reversed(sizes), strict=False):
                dims[dim] = -(-dims[dim] // size) * size
        bits = BITS.get(self.dtype) or int(re.sub(r"\D", "", self.dtype[:3]) or 0)
        return math.prod(dims) * bits // 8


class Instruction(NamedTuple):
    """One line of a computation."""

    name: str
    results: tuple[Stored, ...]
    opcode: str
    operands: tuple[str, ...]
    text: str  # operands and attributes
    cycles: int  # the compiler's own estimate, 0 if it gives none
    operation: str  # the operation of the source that it comes from
    trip_count: int | None = None  # of a loop, if the compiler says how often it runs


class Computation(NamedTuple):
    """A computation: its instructions by name, the last of which is its result."""

    lines: dict[str, Instruction]
    parameters: dict[int, str]

    @property
    def root(self) -> Instruction:
        """The result."""
        return next(reversed(self.lines.values()))


class Kernel(NamedTuple):
    """A kernel, and what one run of it costs."""

    name: str
    loop: str  # the computation that it belongs to
    times: int  # it runs
    flops: int  # of matrix products
    num_bytes: int  # read from and written to HBM
    sent: int  # bytes that a collective works on
    cycles: int
    operation: str


Program = dict[str, Computation]


def parse(text: str) -> tuple[Program, str]:
    """Returns the computations of a compiled program, and the name of the one to run."""
    program: Program = {}
    entry = name = root = ""
    for line in text.splitlines():
        if line.startswith(("%", "ENTRY ")) and line.endswith("{"):
            name = line.removeprefix("ENTRY ").split(" ")[0].lstrip("%")
            entry = name if line.startswith("ENTRY ") else entry
            program[name] = Computation({}, {})
        elif name and " = " in line and (found := _instruction(line)):
            if found.opcode == "parameter":
                program[name].parameters[int(found.text.split(")")[0])] = found.name
            program[name].lines[found.name] = found
            if line.lstrip().startswith("ROOT "):
                root = found.name
        elif line.startswith("}") and name:
            lines = program[name].lines
            lines[root] = lines.pop(root)  # a schedule may have other instructions after it
            name = ""
    return program, entry


def _instruction(line: str) -> Instruction | None:
    name, _, rest = line.strip().removeprefix("ROOT ").partition(" = ")
    opcode = re.search(r" ([a-z][\w\-]*)\(", rest)
    if not opcode:
        return None
    results = tuple(
        Stored(dtype, tuple(int(n) for n in dims.split(",") if n), layout)
        for dtype, dims, layout in ARRAY.findall(rest[: opcode.start()])
    )
    text, _, about = rest[opcode.end() :].partition(", metadata={")
    operands = tuple(re.findall(r"%([\w.\-]+)", text[: _closing(text)]))
    cycles = re.search(r'"estimated_cycles":"(\d+)"', rest)
    operation = re.search(r'op_name="([^"]*)"', about)
    trip_count = re.search(r'"known_trip_count":\{"n":"(\d+)"', rest)
    return Instruction(
        name.lstrip("%"),
        results,
        opcode[1],
        operands,
        text,
        int(cycles[1]) if cycles else 0,
        operation[1] if operation else "",
        int(trip_count[1]) if trip_count else None,
    )


def _closing(text: str) -> int:
    """Returns the index of the parenthesis that closes the operands."""
    depth = 1
    for index, letter in enumerate(text):
        depth += (letter == "(") - (letter == ")")
        if not depth:
            return index
    return len(text)


def kernels(text: str, dynamic: Sequence[int] = (1,)) -> list[Kernel]:
    """Returns the kernels that a compiled program runs.

    Args:
      text: of the compiled program.
      dynamic: how often loops run whose number of iterations the program computes: those inside no
        other such loop, those inside one, and so on.
    """
    program, entry = parse(text)
    return list(_run(program, entry, 1, 0, dynamic))


def _run(
    program: Program, name: str, times: int, depth: int, dynamic: Sequence[int]
) -> Iterator[Kernel]:
    for line in program[name].lines.values():
        if line.opcode == "while":
            trip_count = line.trip_count or _trip_count(program, _called(line, "condition"))
            inside = depth + (trip_count is None)
            if trip_count is None:
                trip_count = dynamic[min(depth, len(dynamic) - 1)]
            yield from _run(program, _called(line, "body"), times * trip_count, inside, dynamic)
        elif line.opcode == "conditional":
            branches = re.findall(r"%([\w.\-]+)", line.text[_closing(line.text) :])
            costs = [list(_run(program, b, times, depth, dynamic)) for b in branches]
            yield from max(costs, key=lambda c: sum(k.num_bytes * k.times for k in c), default=[])
        elif line.opcode in ("call", "async-start"):
            called = _called(line, "to_apply") or _called(line, "calls")
            yield from _run(program, called, times, depth, dynamic)
        elif line.opcode not in NO_KERNELS and not line.opcode.endswith("-done"):
            sent = _sent(program[name], line)
            yield Kernel(
                line.name,
                name,
                times,
                _flops(program, program[name], line),
                0 if sent else _accessed(program, program[name], line),
                sent,
                line.cycles,
                line.operation,
            )


def _called(line: Instruction, attribute: str) -> str:
    found = re.search(rf"\b{attribute}=%([\w.\-]+)", line.text)
    return found[1] if found else ""


def _trip_count(program: Program, condition: str) -> int | None:
    """Returns how often a loop runs that counts from 0 to a constant; None for other loops."""
    body = program[condition]
    test = body.root
    if test.opcode != "compare" or "direction=LT" not in test.text:
        return None
    limit = body.lines[test.operands[1]]
    found = re.match(r"(\d+)\)", limit.text)
    return int(found[1]) if limit.opcode == "constant" and found else None


def _sent(body: Computation, line: Instruction) -> int:
    if line.opcode.removesuffix("-start") not in COLLECTIVES:
        return 0
    return sum(s.num_bytes(False) for o in line.operands for s in body.lines[o].results)


def _flops(program: Program, body: Computation, line: Instruction) -> int:
    """Returns the operations of the matrix products in an instruction."""
    if line.opcode == "fusion":
        inside = program[_called(line, "calls")]
        return sum(_flops(program, inside, x) for x in inside.lines.values())
    if line.opcode == "dot":
        left = body.lines[line.operands[0]].results[0]
        contracted = re.search(r"lhs_contracting_dims={([\d,]*)}", line.text)
        dims = [int(n) for n in contracted[1].split(",") if n] if contracted else []
        inner = math.prod(left.dims[d] for d in dims)
        return 2 * math.prod(line.results[0].dims) * inner
    if line.opcode == "convolution":
        return _convolution_flops(line, *(body.lines[o].results[0].dims for o in line.operands))
    return 0


def _convolution_flops(line: Instruction, left: Sequence[int], right: Sequence[int]) -> int:
    """Counts the products of a convolution; XLA for TPUs writes matrix products as convolutions."""
    labels = re.search(r"dim_labels=(\w+)_(\w+)->(\w+)", line.text)
    window = re.search(r"window={([^}]*)}", line.text)
    assert labels is not None
    given = dict(x.split("=") for x in window[1].split()) if window else {}
    out, total = line.results[0].dims, 2
    total *= out[labels[3].index("b")] * out[labels[3].index("f")] * right[labels[2].index("i")]
    for n in range(len(labels[1]) - 2):
        axis = str(n)

        def of(name: str, default: int, n: int = n) -> int:
            return int(given[name].split("x")[n].split("_")[0]) if name in given else default

        size = of("size", 1)
        at = np.arange(out[labels[3].index(axis)])[:, None] * of("stride", 1) - of("pad", 0)
        at = at + np.arange(size) * of("rhs_dilate", 1)
        spread = of("lhs_dilate", 1)
        last = (left[labels[1].index(axis)] - 1) * spread
        total *= int(((at >= 0) & (at <= last) & (at % spread == 0)).sum())
    return total


def _accessed(program: Program, body: Computation, line: Instruction) -> int:
    """Returns the bytes that an instruction reads from HBM and writes to it."""
    stored = [body.lines[o].results for o in line.operands]
    if line.opcode in ("copy-start", "slice-start"):  # results: source and copy
        copy = line.results[0 if line.opcode == "copy-start" else -2]
        return copy.num_bytes() * (copy.in_hbm + stored[0][0].in_hbm)
    reads: dict[str, int] = {}
    for n, (operand, arrays) in enumerate(zip(line.operands, stored, strict=True)):
        if len(arrays) == 1 and arrays[0].in_hbm:
            reads[operand] = max(reads.get(operand, 0), _read(program, line, n, arrays[0]))
    writes = zip(line.results, _written(program, body, line), strict=True)
    return sum(reads.values()) + sum(size for array, size in writes if array.in_hbm)


def _read(program: Program, line: Instruction, index: int, array: Stored) -> int:
    """Returns the bytes that an instruction reads of its operand with an index."""
    whole = array.num_bytes()
    if not index and line.opcode in ("dynamic-slice", "slice", "gather"):
        return min(whole, line.results[0].num_bytes())
    if not index and line.opcode == "dynamic-update-slice":
        return 0  # what is not replaced stays where it is
    if line.opcode == "fusion":
        inside = program[_called(line, "calls")]
        return _read_inside(program, inside, inside.parameters[index], array)
    return whole


def _read_inside(program: Program, body: Computation, name: str, array: Stored) -> int:
    total = 0
    for line in body.lines.values():
        for index, operand in enumerate(line.operands):
            if operand == name:
                same = line.opcode == "bitcast"
                total += (
                    _read_inside(program, body, line.name, array)
                    if same
                    else _read(program, line, index, array)
                )
    return min(total, array.num_bytes())


def _written(program: Program, body: Computation, line: Instruction) -> list[int]:
    """Returns the bytes that an instruction writes of each of its results."""
    if line.opcode == "fusion":
        inside = program[_called(line, "calls")]
        return _written(program, inside, inside.root)
    if line.opcode == "tuple":
        return [sum(_written(program, body, body.lines[o])) for o in line.operands]
    if line.opcode == "bitcast":
        return _written(program, body, body.lines[line.operands[0]])
    if line.opcode == "dynamic-update-slice":
        return [body.lines[line.operands[1]].results[0].num_bytes()]
    return [array.num_bytes() for array in line.results]
