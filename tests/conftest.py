"""JAX made strict, with four devices on the CPU, before anything computes."""

import os
import tempfile

# Commands keep downloads and compiled programs in the user's cache; tests leave it alone.
os.environ["XDG_CACHE_HOME"] = tempfile.mkdtemp(prefix="seqkd-cache-")
# XLA has been seen to die while it wrote a program there, once in some thousand programs.
os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "false"
# Half of the suite's time would be LLVM polishing programs that run once.
os.environ["XLA_FLAGS"] = f"{os.environ.get('XLA_FLAGS', '')} --xla_backend_optimization_level=0"

import jax
import pytest

jax.config.update("jax_num_cpu_devices", 4)
jax.config.update("jax_numpy_rank_promotion", "raise")
jax.config.update("jax_debug_key_reuse", True)


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
