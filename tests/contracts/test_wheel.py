"""What a wheel holds beside modules: each file that the program reads of its own packages."""

from __future__ import annotations

import tomllib
from pathlib import Path

from tests.contracts.source_tree import PACKAGES, ROOT

DATA = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["package-data"]


def packed() -> set[Path]:
    return {
        file.resolve()
        for package, patterns in DATA.items()
        for pattern in patterns
        for file in ROOT.joinpath(*package.split(".")).glob(pattern)
    }


def test_every_file_in_our_packages_that_is_no_module_is_packed() -> None:
    names = {
        file.resolve()
        for package in PACKAGES
        for file in (ROOT / package).rglob("*")
        if file.is_file() and file.suffix not in (".py", ".pyc") and "__pycache__" not in file.parts
    }
    missing = sorted(str(file.relative_to(ROOT)) for file in names - packed())
    assert not missing, f"in no pattern of package-data in pyproject.toml: {', '.join(missing)}"


def test_shipped_configurations_and_starters_are_packed() -> None:
    found = packed()
    assert ROOT / "configs/quickstart/grpo_text.yaml" in found
    assert ROOT / "configs/clusters/local.yaml" in found
    assert ROOT / "pangu_rl/cli/starters/my_reward.py" in found
