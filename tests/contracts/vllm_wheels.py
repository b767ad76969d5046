"""Sources of vLLM and vllm-ascend, out of wheels that are never installed."""

from __future__ import annotations

import zipfile
from pathlib import Path

from tests.ascend.wheels import wheel


def unpack(release: str, folder: Path) -> Path:
    """`name version` -> `folder`, with the wheel's Python files below it."""
    with zipfile.ZipFile(wheel(release.replace(" ", "=="))) as archive:
        archive.extractall(folder, [member for member in archive.namelist() if member.endswith(".py")])
    return folder
