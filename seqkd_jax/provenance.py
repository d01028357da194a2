"""What made a result: the library's version and commit, and the machine. Floor 0."""

import functools
import os
import platform
import re
import subprocess
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import jax

from . import __version__

CHECKOUT = Path(__file__).resolve().parents[1]


@functools.cache
def commit() -> str | None:
    """Returns the commit that this library was built from; None if that cannot be known.

    A + behind it says that files have changed since. In an installed library, the build has noted
    the commit.
    """
    if (CHECKOUT / ".git").exists():
        describe = ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"]
        try:
            said = subprocess.run(
                describe, cwd=CHECKOUT, capture_output=True, text=True, check=True
            )
        except (OSError, subprocess.CalledProcessError):
            return None
        return said.stdout.strip()
    noted = Path(__file__).with_name("commit.txt")
    return noted.read_text(encoding="utf-8").strip() if noted.exists() else None


def library() -> dict[str, Any]:
    """Returns the version of this library, its commit, and the version of JAX."""
    return {"version": __version__, "commit": commit(), "jax": jax.__version__}


def machine() -> dict[str, Any]:
    """Returns the processor, its cores, and the devices of this process."""
    info = Path("/proc/cpuinfo")
    text = info.read_text(encoding="utf-8") if info.exists() else ""
    named = re.search(r"model name\s*: (.*)", text)
    return {
        "cpu": named[1] if named else platform.processor(),
        "cores": os.cpu_count(),
        "device": f"{jax.local_device_count()} x {jax.local_devices()[0].device_kind}",
    }


def origin() -> dict[str, Any]:
    """Returns the origin of results: the library, the machine, and today's date."""
    return {"library": library(), "machine": machine(), "date": time.strftime("%Y-%m-%d")}


# Where an origin names a version: of the evaluation, the model's training, its teacher's training.
LIBRARIES = ("library", "trained_by", "taught_by")


def origin_lines(origins: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns the lines that say what made results, each once.

    Args:
      origins: of the results, as ``origin`` gave them when they were made; those that were not
        recorded, and are empty, are left out.
    """
    return list(dict.fromkeys(_line(origin) for origin in origins if origin))


def other_origin_lines(origins: Iterable[Mapping[str, Any]]) -> list[str]:
    """Returns the lines of ``origin_lines`` for results that another version or commit has made."""
    here = library()

    def by_another(origin: Mapping[str, Any]) -> bool:
        return any(origin.get(name) not in (None, here) for name in LIBRARIES)

    return origin_lines(filter(by_another, origins))


def _line(origin: Mapping[str, Any]) -> str:
    made, machine = origin["library"], origin["machine"]
    other = "" if made["version"] == __version__ else f", not by this version, {__version__}"
    by = ""
    for name, what in ("trained_by", "a model"), ("taught_by", "a student of a teacher"):
        began = origin.get(name) or made
        by += f", of {what} whose training {called(began)} began" if began != made else ""
    return (
        f"made by {called(made)}{other}{by}; {machine['cpu']}, {machine['cores']} cores, "
        f"{machine['device']}; {origin['date']}"
    )


def called(made: Mapping[str, Any]) -> str:
    """Returns the text for a record of ``library``."""
    commit = f" ({made['commit']})" if made["commit"] else ""
    return f"seqkd_jax {made['version']}{commit}, jax {made['jax']}"
