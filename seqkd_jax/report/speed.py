"""Tables of measured speed, and the machine that it was measured on."""

import os
import platform
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import jax
from tabulate import tabulate

TEXT = ("row", "peer", "unit")  # columns of words


def machine() -> dict[str, Any]:
    """What is measured on, with what, and when."""
    info = Path("/proc/cpuinfo")
    named = re.search(r"model name\s*: (.*)", info.read_text()) if info.exists() else None
    return {
        "cpu": named[1] if named else platform.processor(),
        "cores": os.cpu_count(),
        "device": f"{jax.local_device_count()} x {jax.local_devices()[0].device_kind}",
        "jax": jax.__version__,
        "date": time.strftime("%Y-%m-%d"),
    }


def speed_table(records: Sequence[dict[str, Any]]) -> str:
    """Renders records, a column for each name; lists and objects are left out."""
    cells = [{k: v for k, v in r.items() if not isinstance(v, list | dict)} for r in records]
    names = list(dict.fromkeys(name for record in cells for name in record))
    lines = [[_cell(record.get(name)) for name in names] for record in cells]
    head = [name.replace("_", " ") for name in names]
    align = ["left" if name in TEXT else "right" for name in names]
    return tabulate(lines, head, disable_numparse=True, colalign=align)


def _cell(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"
    return "" if value is None else str(value)
