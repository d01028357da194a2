"""Notes in the built package which commit it was built from; results are stamped with it."""

import subprocess
import tempfile
from pathlib import Path

from hatchling.builders.hooks.plugin.interface import BuildHookInterface

DESCRIBE = ["git", "describe", "--always", "--exclude=*", "--abbrev=12", "--dirty=+"]


class Commit(BuildHookInterface):
    """Adds ``seqkd_jax/commit.txt``, unless the sources are not a repository."""

    def initialize(self, version, build_data):
        """Is called before files are gathered."""
        root = Path(self.root)
        if not (root / ".git").exists():
            return
        try:
            commit = subprocess.run(DESCRIBE, cwd=root, capture_output=True, check=True).stdout
        except (OSError, subprocess.CalledProcessError):
            return
        self.made = tempfile.TemporaryDirectory()  # is removed with this hook
        noted = Path(self.made.name) / "commit.txt"
        noted.write_bytes(commit)
        build_data["force_include"][str(noted)] = "seqkd_jax/commit.txt"
