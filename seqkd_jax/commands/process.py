"""Settings of the process."""

import os
from pathlib import Path

import jax
import pooch

from .heap import keep_heap

# Without it XLA for CPUs copies all moments of Adam before it overwrites them.
XLA_FLAG = "--xla_cpu_copy_insertion_use_region_analysis"


def prepare() -> None:
    """Settings of the process that every command wants; before anything is computed.

    Compiled programs stay in the user's cache and, on CPUs, freed memory in the process
    (``keep_heap``); XLA copies less. What the user has set is left as it is: JAX's cache, its
    least compile time, XLA's flag, and malloc's variables.
    """
    if not jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
        cache = Path(pooch.os_cache("seqkd_jax")) / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(cache))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    flags = os.environ.get("XLA_FLAGS", "")
    # XLA ends a process that gives it a flag it does not know, and flags come and go.
    if jax.__version_info__ < (0, 11) and XLA_FLAG not in flags:
        os.environ["XLA_FLAGS"] = f"{XLA_FLAG}=true {flags}"
    if not any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        keep_heap()
