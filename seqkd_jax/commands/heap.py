"""glibc's heap, as long work with XLA wants it. Other systems keep their own ways.

What is freed is kept: large blocks, and above 64 MB those of the heaps that threads have for
themselves, would go back to the system and be faulted in anew at every step.

A compiler leaves ten thousand free blocks of all sizes between what stays. Each of the hundreds of
times in a step that XLA asks for memory, malloc would walk through those of about that size, one
cache miss after the other. While programs run they are set aside, by being allocated; before the
next program is compiled they are given back.

Where an accelerator may compute nothing is changed. Its arrays are elsewhere, and its compiler's
threads would wait for each other: on 16 cores a step that compiles in 9 s was not ready after 35.
"""

import ctypes
import functools
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import jax

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # of malloc.h
LOWERED = "/jax/core/compile/jaxpr_to_mlir_module_duration"  # the compiler's turn comes next
COMPILED = "/jax/core/compile/backend_compile_duration"
LONG, MUCH = 0.05, 1.0  # seconds of lowering and compiling a program that leaves much
SMALLEST, LARGE = 100, 1 << 20  # bytes: from a large block XLA can have what it asks for


class _Counts(ctypes.Structure):
    """``struct mallinfo2`` of malloc.h."""

    _fields_ = [(f"of no use here {n}", ctypes.c_size_t) for n in range(8)] + [
        ("fordblks", ctypes.c_size_t),  # bytes that are free,
        ("keepcost", ctypes.c_size_t),  # and of them those at the end of the heap
    ]


@functools.cache
def keep_heap() -> None:
    """Sets glibc's heap up, once; where there is another, or an accelerator, nothing."""
    libc = ctypes.PyDLL(None)
    if not hasattr(libc, "mallopt") or _accelerated():
        return
    libc.mallopt(M_ARENA_MAX, 1)
    libc.mallopt(M_MMAP_MAX, 0)
    libc.mallopt(M_TRIM_THRESHOLD, -1)  # never
    if hasattr(libc, "mallinfo2"):  # since glibc 2.33
        jax.monitoring.register_event_duration_secs_listener(_Leftovers(libc))


def _accelerated() -> bool:
    """Whether more than a CPU may compute; to ask JAX would make its threads too early."""
    named = jax.config.jax_platforms  # type: ignore[attr-defined]
    if named:
        return named != "cpu"
    return any(find_spec(package) for package in ("jax_plugins", "libtpu"))


class _Leftovers:
    """The free blocks that compilers left, set aside while programs run."""

    def __init__(self, libc: Any):
        self.libc = libc
        self.blocks: list[int] = []
        self.given_back = False
        libc.malloc.argtypes, libc.malloc.restype = [ctypes.c_size_t], ctypes.c_void_p
        libc.free.argtypes, libc.free.restype = [ctypes.c_void_p], None
        libc.sbrk.argtypes, libc.sbrk.restype = [ctypes.c_ssize_t], ctypes.c_void_p
        libc.mallinfo2.restype = _Counts

    def __call__(self, event: str, duration_secs: float, **_: Any) -> None:
        if event == LOWERED and duration_secs > LONG:
            self.given_back = bool(self.blocks)
            self.free(self.blocks)
        elif event == COMPILED and (self.given_back or duration_secs > MUCH):
            self.given_back = False
            self.set_aside()

    def set_aside(self) -> None:
        """Allocates all free blocks but large ones and the untouched end of the heap."""
        counts = self.libc.mallinfo2()
        end = self.libc.sbrk(0) - counts.keepcost
        left = size = counts.fordblks - counts.keepcost
        large: list[int] = []
        while size >= SMALLEST and left > 0:
            block = self.libc.malloc(size)
            if block and block < end:
                (large if size >= LARGE else self.blocks).append(block)
                left -= size
            else:  # no block of this size is left
                self.libc.free(block)
                size = size * 15 // 16
        self.free(large)

    def free(self, blocks: list[int]) -> None:
        """Frees blocks; more than one thread may compile."""
        with suppress(IndexError):
            while True:
                self.libc.free(blocks.pop())
