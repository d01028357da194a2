"""The ``seqkd`` program on some devices of the CPU: the number of devices, then its arguments."""

import sys

import conftest  # noqa: F401
import jax

from seqkd_jax.__main__ import entry

jax.config.update("jax_num_cpu_devices", int(sys.argv.pop(1)))
entry()
