"""What a laptop without the heavy libraries can import: schemas, records, losses, rules, and the command line."""

from __future__ import annotations

import subprocess
import sys

import pytest

from tests.contracts.source_tree import ROOT, module_name, sources

HEAVY = ("vllm", "ray", "deepspeed", "torch_npu", "peft")

BLOCKED = """
import importlib, sys

class Blocker:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {blocked!r}:
            raise ImportError(name + " is not installed here")

sys.meta_path.insert(0, Blocker())
for name in {modules!r}:
    importlib.import_module(name)
"""


def import_without(blocked: tuple[str, ...], modules: list[str]) -> subprocess.CompletedProcess[str]:
    code = BLOCKED.format(blocked=blocked, modules=modules)
    return subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)


def modules_of(*rooms: str) -> list[str]:
    return [name for path in sources() if (name := module_name(path)).startswith(rooms)]


def test_schemas_records_and_command_line_need_no_torch_either():
    modules = modules_of("pangu_rl.config", "pangu_rl.records", "pangu_rl.errors", "pangu_rl.cli")
    done = import_without((*HEAVY, "torch", "transformers"), modules)
    assert done.returncode == 0, done.stderr


def test_the_light_rooms_import_without_the_heavy_libraries():
    modules = modules_of(
        "pangu_rl.algorithms",
        "pangu_rl.checkpoint",
        "pangu_rl.monitoring",
        "pangu_rl.accelerators",
        "rewards.rules",
        "rewards.mathematics",
    )
    assert "pangu_rl.algorithms.grpo" in modules
    done = import_without(HEAVY, modules)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("library", HEAVY)
def test_the_blocker_blocks(library):
    done = import_without((library,), [library])
    assert "is not installed here" in done.stderr
