"""Part h: what we pin for Ascend is what the pinned wheels themselves ask for."""

from __future__ import annotations

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from tests.ascend.npu_facts import PIN, table
from tests.contracts.source_tree import ROOT

ENGINE = "vllm-ascend 0.23.0"
LOCK = ROOT / "requirements/ascend.lock"


def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]


def conflicts(pins: list[str]) -> list[str]:
    """Of requirements such as `torch==2.10.0`, those that the wheels of torch-npu or vllm-ascend exclude."""
    ours = {wanted.name.lower(): wanted for wanted in map(Requirement, pins)}
    found = []
    for release in (PIN, ENGINE):
        for theirs in map(Requirement, table()[release]["requires"]):
            mine = ours.get(theirs.name.lower())
            if mine is None or (theirs.marker and not theirs.marker.evaluate({"platform_machine": "x86_64"})):
                continue
            # A build such as 2.10.0+cpu is the release 2.10.0 of another index.
            versions = [spec.version.partition("+")[0] for spec in theirs.specifier if spec.operator == "=="]
            if any(not mine.specifier.contains(version) for version in versions):
                found.append(f"{mine}: {release} asks for {theirs}")
    return found


def pinned() -> dict[str, list[str]]:
    """The extra of the project, and the lock file of an image where there is one."""
    found = {"pyproject.toml": project()["optional-dependencies"]["ascend"]}
    if LOCK.exists():
        lines = [re.split("#| --hash", line)[0].strip() for line in LOCK.read_text(encoding="utf-8").splitlines()]
        found[LOCK.name] = [line for line in lines if line and not line.startswith("-")]
    return found


@pytest.mark.parametrize("place", pinned())
def test_our_pins_are_what_the_wheels_ask_for(place: str) -> None:
    assert conflicts(pinned()[place]) == []


def test_a_python_of_ours_is_one_of_theirs() -> None:
    ours = SpecifierSet(project()["requires-python"])
    for release in (PIN, ENGINE):
        theirs = SpecifierSet(table()[release]["python"] or "")
        assert any(ours.contains(version) and theirs.contains(version) for version in ("3.11.9", "3.12.3"))


def test_a_planted_mistake_is_caught() -> None:
    assert conflicts(["torch==2.11.0", "numpy"]) == [
        f"torch==2.11.0: {PIN} asks for torch==2.10.0+cpu",
        f"torch==2.11.0: {ENGINE} asks for torch==2.10.0",
    ]
