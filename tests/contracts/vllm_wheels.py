"""Wheels of vLLM and vllm-ascend as data: downloaded, the sources of one unpacked, never installed."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from pathlib import Path

PLATFORMS = ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64")


def unpack(release: str, folder: Path) -> Path:
    """`name version` -> `folder`, with the wheel's Python files below it."""
    name, number = release.split()
    command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:", "-d", folder]
    command += ["--python-version", "3.11", *(part for one in PLATFORMS for part in ("--platform", one))]
    subprocess.run([*command, f"{name}=={number}"], check=True)
    with zipfile.ZipFile(next(folder.glob("*.whl"))) as wheel:
        wheel.extractall(folder, [member for member in wheel.namelist() if member.endswith(".py")])
    return folder
