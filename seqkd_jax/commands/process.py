"""Settings of the process."""

import ctypes
import os
import sys
import warnings
from pathlib import Path

import jax
import pooch

M_TRIM_THRESHOLD, M_MMAP_MAX, M_ARENA_MAX = -1, -4, -8  # of glibc's malloc.h
# Without it XLA for CPUs copies all moments of Adam before it overwrites them.
XLA_FLAG = "--xla_cpu_copy_insertion_use_region_analysis=true"


def prepare() -> None:
    """Settings of the process that every command wants; before anything is computed.

    Compiled programs stay in the user's cache, freed memory in the process; XLA copies less.
    """
    cache = Path(pooch.os_cache("seqkd_jax")) / "compiled"
    jax.config.update("jax_compilation_cache_dir", str(cache))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    flags = os.environ.get("XLA_FLAGS", "")
    # XLA ends a process that gives it a flag it does not know, and flags come and go.
    if jax.__version_info__ < (0, 11) and XLA_FLAG not in flags:
        os.environ["XLA_FLAGS"] = f"{XLA_FLAG} {flags}"
    warnings.showwarning = lambda message, *_: print(f"seqkd: {message}", file=sys.stderr)
    # glibc hands large freed blocks back to the system, and every step would fault them in again;
    # above 64 MB so do the heaps that threads have for themselves. One heap for all keeps them.
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(M_ARENA_MAX, 1)
        mallopt(M_MMAP_MAX, 0)
        mallopt(M_TRIM_THRESHOLD, -1)  # never
