"""Fills in the tables of text files: ``python -m seqkd_jax.report README.md``; see ``results``."""

import sys
from pathlib import Path

from ..errors import UsageError
from ..files import atomic_write, read_file
from .documents import fill_tables

try:
    if not sys.argv[1:]:
        raise UsageError("Name the text files whose tables are to be filled in, such as README.md.")
    for path in map(Path, sys.argv[1:]):
        atomic_write(path, fill_tables(read_file(path).decode(), path.parent).encode())
except (UsageError, OSError) as error:
    sys.exit(f"seqkd: {error}")
