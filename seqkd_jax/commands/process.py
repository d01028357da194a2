"""Settings of the process that runs a command."""

import ctypes
import os
import pkgutil
import sys
from collections.abc import Sequence
from dataclasses import replace
from importlib.metadata import entry_points
from importlib.util import find_spec

import jax
import platformdirs

from .. import console, processes
from ..errors import UsageError
from ..parallel import describe_devices
from ..settings import Hosts

# Without this flag, XLA for CPUs copies all of Adam's moments before it overwrites them.
XLA_FLAG = "--xla_cpu_copy_insertion_use_region_analysis"


def prepare(hosts: Hosts | None = None, *, compile_only: bool = False) -> None:
    """Applies the settings that every command needs; call it before anything is computed.

    A command that trains gives its ``hosts``, and meets the other processes; of these, process 0
    alone prints, and the others say what is wrong. One that only compiles, for TPUs that are not
    here, says so.

    Compiled programs are kept in the user's cache; on CPUs, freed memory is kept in the process;
    and XLA copies less. Whatever the user has set stays as it is: JAX's cache, its minimum compile
    time, XLA's flag, and malloc's variables.
    """
    if compile_only:
        _look_for_no_tpu()
    if not jax.config.jax_compilation_cache_dir:  # type: ignore[attr-defined]
        cache = platformdirs.user_cache_path("seqkd_jax") / "compiled"
        jax.config.update("jax_compilation_cache_dir", str(cache))
    if "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS" not in os.environ:
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.5)
    flags = os.environ.get("XLA_FLAGS", "")
    # XLA ends the process if it does not know a flag, and flags come and go between versions.
    if jax.__version_info__ < (0, 11) and XLA_FLAG not in flags:
        os.environ["XLA_FLAGS"] = f"{XLA_FLAG}=true {flags}"
    if not any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ):
        _keep_freed_memory(one_heap=not compile_only)
    if hosts is not None:
        processes.start(**vars(hosts))
        if not processes.is_first():
            console.speak(replace(console.style(), quiet=True))
            sys.stdout = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115
    _announce()


def missed_accelerator(backend: str, named: str, plugins: Sequence[str], cause: str) -> str:
    """Returns a warning if JAX computes on the CPU although another device was expected.

    Args:
      backend: what JAX computes on.
      named: the platforms that the user named, separated by commas; empty for no choice. Whoever
        names ``cpu`` first is not warned.
      plugins: the installed plugins for accelerators.
      cause: JAX's explanation; may be empty.
    """
    asked = named.split(",")[0]
    if backend != "cpu" or asked == "cpu" or not (asked or plugins):
        return ""
    wanted = f"JAX_PLATFORMS={named} was set" if asked else f"{', '.join(plugins)} is installed"
    return (
        f"WARNING: JAX computes on the CPU, although {wanted}. {cause and cause.rstrip('.') + '. '}"
        "docs/accelerators.md says what to do; if you want the CPU, set JAX_PLATFORMS=cpu."
    )


def _announce() -> None:
    named, plugins = jax.config.jax_platforms or "", _plugins()  # type: ignore[attr-defined]
    try:
        devices = jax.devices()
    except (RuntimeError, AssertionError) as error:  # an AssertionError if all are left out
        reason = _one_line(error) or "there is no such device here, or no plugin for it"
        raise UsageError(
            f"JAX cannot start with JAX_PLATFORMS={named!r}: {reason}. Name what this machine has, "
            "or leave the variable empty."
        ) from None
    if jax.process_index() == 0:
        console.note(f"seqkd: {describe_devices(devices, jax.local_devices())}")
        backend = devices[0].platform
        cause = _why_not(" ".join([named, *plugins])) if backend == "cpu" else ""
        if missed := missed_accelerator(backend, named, plugins, cause):
            console.warn(missed)


def _why_not(named: str) -> str:
    """Returns what JAX says about a kind of accelerator that is named but cannot be used."""
    for platform in ("cuda", "rocm", "tpu"):
        if platform in named:
            try:
                jax.devices(platform)
            except RuntimeError as error:
                said = _one_line(error)
                return "" if said.startswith("Unknown backend") else said
    return ""


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:300]


def _plugins() -> list[str]:
    """Returns the names of installed packages through which JAX reaches accelerators."""
    spec = find_spec("jax_plugins")
    folders = list(spec.submodule_search_locations or ()) if spec else []
    names = {module.name for module in pkgutil.iter_modules(folders)}
    names |= {point.name for point in entry_points(group="jax_plugins")}
    return sorted(names | ({"libtpu"} if find_spec("libtpu") else set()))


def _look_for_no_tpu() -> None:
    """Makes JAX and libtpu look for no TPU, whatever is installed.

    Otherwise libtpu would ask the cloud's metadata server what machine this is, and it would refuse
    to be loaded by two processes.
    """
    jax.config.update("jax_platforms", "cpu")
    jax.config.update("jax_enable_compilation_cache", False)  # compilation is timed
    for name, value in {
        "TPU_SKIP_MDS_QUERY": "1",
        "TPU_ACCELERATOR_TYPE": "v5litepod-8",
        "TPU_WORKER_HOSTNAMES": "localhost",
        "ALLOW_MULTIPLE_LIBTPU_LOAD": "1",
    }.items():
        os.environ.setdefault(name, value)


def _keep_freed_memory(one_heap: bool) -> None:
    """Makes glibc keep freed memory; otherwise every step faults its pages in anew.

    This has the effect of MALLOC_MMAP_MAX_=0 MALLOC_TRIM_THRESHOLD_=-1 in the environment, and with
    one heap of MALLOC_ARENA_MAX=1 too. XLA's compiler threads would wait for each other at a single
    heap: so there is none where compiling is all that is done, and beside an accelerator nothing is
    set at all.
    """
    named = jax.config.jax_platforms  # type: ignore[attr-defined]
    libc = ctypes.CDLL(None)
    if hasattr(libc, "mallopt") and (named == "cpu" or not named and not _plugins()):
        trim_threshold, mmap_max, arena_max = -1, -4, -8  # from malloc.h
        if one_heap:
            libc.mallopt(arena_max, 1)
        for parameter, value in (mmap_max, 0), (trim_threshold, -1):
            libc.mallopt(parameter, value)
