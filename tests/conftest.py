"""JAX made strict, with four devices on the CPU, before anything computes."""

import atexit
import gc
import importlib.metadata
import os
import shutil
import tempfile

# Commands keep downloads and compiled programs in the user's cache; tests leave it alone. Programs
# that tests start share the folder of the process that made it, which is the one that removes it.
if "seqkd-cache-" not in os.environ.get("XDG_CACHE_HOME", ""):
    os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix=f"seqkd-cache-{os.getpid()}-")
# Libraries leave files in the temporary folder: ONNX Runtime when it is imported, for one.
os.environ["PYTEST_DEBUG_TEMPROOT"] = tempfile.gettempdir()  # where tests have their own folders
os.environ["TMPDIR"] = os.environ["XDG_CACHE_HOME"]
# XLA has been seen to die while it wrote a program there, once in some thousand programs.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
# Much of the suite's time is compilation, of programs that run once: XLA is to be quick, not
# to make them so. From jaxlib 0.11 on it does not know the last flag, and would end the process.
os.environ["XLA_FLAGS"] = (
    f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0 "
    "--xla_cpu_parallel_codegen_split_count=1"
    + (
        " --xla_cpu_use_fusion_emitters=false"
        if importlib.metadata.version("jaxlib").startswith(("0.7.", "0.8.", "0.9.", "0.10."))
        else ""
    )
)

import jax
import pytest

# Much of the rest is Python's, which traces: it need not note where each operation is from, nor
# look through the many objects of JAX for garbage so often.
jax.config.update("jax_traceback_in_locations_limit", 0)
jax.config.update("jax_include_full_tracebacks_in_locations", False)
gc.set_threshold(200_000, 20, 100)

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


@atexit.register
def pytest_unconfigure(cache: str = os.environ["XDG_CACHE_HOME"]) -> None:
    """Leaves nothing in the temporary folder."""
    if f"seqkd-cache-{os.getpid()}-" in cache:
        shutil.rmtree(cache, ignore_errors=True)


@pytest.fixture(scope="session")
def corpora_folder() -> str:
    """The folder of real parallel text that SEQKD_DATA names."""
    folder = os.environ.get("SEQKD_DATA")
    if not folder:
        pytest.skip("SEQKD_DATA does not name a folder with parallel text")
    return folder


@pytest.fixture(autouse=True, scope="module")
def forgetful():
    """Programs of one file are of little use to the next, and thousands fill the memory."""
    yield
    jax.clear_caches()
