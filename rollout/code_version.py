"""Which code drew a rollout, for its lineage."""

from __future__ import annotations

import functools
import importlib.metadata
import subprocess
from pathlib import Path

_ROOT = Path(__file__).resolve().parents[1]


@functools.cache
def code_version() -> str:
    """The package's version, and in a checkout the commit, `-dirty` if files differ from it: 0.1.0+g1a2b3c4d5e6f."""
    version = importlib.metadata.version("pangu-rl")
    if not (_ROOT / ".git").exists():
        return version
    command = ["git", "-C", str(_ROOT), "describe", "--always", "--dirty", "--abbrev=12", "--exclude=*"]
    try:
        found = subprocess.run(command, capture_output=True, text=True, timeout=10, check=True).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return version
    return f"{version}+g{found}"
