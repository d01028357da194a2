"""Compiled programs: a line says that one compiles, and old ones make room. Floor 2."""

import weakref
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import numpy as np

from . import progress

Shapes = tuple[tuple[int, ...], ...]

_compiled: "weakref.WeakKeyDictionary[Callable[..., Any], set[Shapes]]" = (
    weakref.WeakKeyDictionary()  # shapes of rows for which each announced function has a program
)


def announced(mapped: Callable[..., Any]) -> Callable[..., Any]:
    """Wraps ``mapped(params, rows, ...)``, to announce that it compiles when rows have new shapes.

    Before that, old programs are dropped if there are too many (``make_room``).
    """

    def call(params: Any, rows: Any, *others: Any) -> Any:
        shapes = tuple(np.shape(x) for x in jax.tree.leaves(rows))
        if shapes in _compiled.get(call, ()):
            return mapped(params, rows, *others)
        make_room()
        with progress.compiling(_tokens_of(shapes)):
            out = mapped(params, rows, *others)
        _compiled.setdefault(call, set()).add(shapes)
        return out

    return call


def make_room(share: float = 0.5) -> bool:
    """Drops all compiled programs if this process has that share of the mappings it may have.

    For CPUs, XLA keeps about a hundred memory mappings for each program, and a process that reaches
    Linux's limit (``vm.max_map_count``) crashes: after some thirty trainings of models of other
    shapes. A dropped program is compiled again, or read from the compile cache, when it is needed.
    Returns whether programs were dropped.
    """
    try:
        limit = int(Path("/proc/sys/vm/max_map_count").read_bytes())
        mappings = Path("/proc/self/maps").read_bytes().count(b"\n")
    except (OSError, ValueError):  # not Linux
        return False
    if mappings < share * limit:
        return False
    jax.clear_caches()
    _compiled.clear()
    return True


def _tokens_of(shapes: Shapes) -> str:
    """Describes rows of tokens [D, B, S] and [D, B, T], as in ``64 x 24 and 64 x 26 tokens``."""
    tokens = [f"{shape[0] * shape[1]} x {shape[2]}" for shape in shapes if len(shape) > 2]
    return f"{' and '.join(tokens[:2])} tokens" if tokens else "single numbers"
