"""What importing costs: the core without lazy loading, against JAX and against its own libraries.

python docs/imports.py
"""

import statistics
import subprocess
import sys
import time

from tabulate import tabulate

CORE = "seqkd_jax.models.attention_lstm, seqkd_jax.losses, seqkd_jax.search, seqkd_jax.train"
CODE = {
    "jax": "import jax",
    "jax, flax.struct, optax": "import jax, optax; from flax import struct",
    "the core": f"import {CORE}, seqkd_jax.decode, seqkd_jax.distill",
    "seqkd_jax, lazily": "import seqkd_jax",
}


def seconds(code: str) -> float:
    """Returns how long a new interpreter takes to run some code."""
    started = time.perf_counter()
    subprocess.run([sys.executable, "-c", code], check=True)
    return time.perf_counter() - started


def main(repeats: int = 7) -> None:
    """Measures all in turns, and prints the medians and their ratios to JAX."""
    turns = [{name: seconds(code) for name, code in CODE.items()} for _ in range(repeats)]
    medians = {name: statistics.median(turn[name] for turn in turns) for name in CODE}
    rows = [(name, f"{s:.2f}", f"{s / medians['jax']:.2f}") for name, s in medians.items()]
    print(tabulate(rows, ["import", "seconds", "ratio to jax"], disable_numparse=True))


if __name__ == "__main__":
    main()
