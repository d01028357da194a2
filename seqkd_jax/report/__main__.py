"""Fills the tables of text files: ``python -m seqkd_jax.report README.md``; see ``results``."""

import sys
from pathlib import Path

from ..files import atomic_write
from .results import fill_tables

for path in map(Path, sys.argv[1:]):
    atomic_write(path, fill_tables(path.read_text(encoding="utf-8"), path.parent).encode())
