"""The import rule: a module imports from a lower level or from its own room; heavy libraries have one home each."""

from __future__ import annotations

import ast
import fnmatch

import pytest

from tests.contracts.source_tree import ROOT, imports, module_name, parse, place, sources

LEVELS = {
    "pangu_rl.cli": 6,
    "pangu_rl.__main__": 7,
    "pangu_rl.loops.pipeline": 5.5,
    "pretrain.train": 5,
    "pangu_rl.loops.online": 5,
    "pangu_rl.loops.sampling": 5,
    "pangu_rl.loops.evaluation": 5,
    "pangu_rl.loops.supervised": 4.5,
    "pangu_rl.loops": 4,
    "pangu_rl.view": 4.5,
    "pangu_rl.report": 4,
    "pangu_rl.doctor": 4,
    "pangu_rl.simulation": 4,
    "data_curation": 4,
    "pangu_rl.data": 3,
    "rollout": 3,
    "rewards": 3,
    "pangu_rl.learner": 3,
    "pangu_rl.cluster": 3,
    "pretrain.models": 2,
    "pretrain.processing": 2,
    "pretrain.packing": 2,
    "pretrain.contrastive": 2,
    "pretrain.auto": 2.5,
    "pretrain.families": 2.5,
    "pangu_rl.algorithms": 1,
    "pangu_rl.checkpoint": 1,
    "pangu_rl.monitoring": 1,
    "pangu_rl.pages": 1,
    "pangu_rl.accelerators": 1,
    "pangu_rl.storage": 1,
    "pangu_rl.records": 0,
    "pangu_rl.errors": 0,
    "pangu_rl.grounding_labels": 0,
    "pangu_rl.whole_file": 0,
    "pangu_rl.config": 0,
}
"""Room -> level. The longest prefix of a module's name decides its room."""

ONE_ROOM = {
    "pangu_rl.records",
    "pangu_rl.errors",
    "pangu_rl.grounding_labels",
    "pangu_rl.whole_file",
    "pangu_rl.config",
}
"""Level 0 is one room: a schema may name a record or raise one of our errors."""

HOMES = {
    "vllm": ("rollout/vllm/*.py",),
    "deepspeed": ("pangu_rl/learner/engine.py",),
    "ray": (
        "*/actor.py",
        "rollout/actors/*.py",
        "rewards/service.py",
        "pangu_rl/cluster/*.py",
        "pangu_rl/loops/*.py",
    ),
    "torch_npu": ("pangu_rl/accelerators/npu.py",),
    "peft": ("pangu_rl/learner/lora.py",),
}
"""Heavy library -> the only files that may import it."""


def room_of(module: str) -> str | None:
    parts = module.split(".")
    names = (".".join(parts[:length]) for length in range(len(parts), 0, -1))
    return next((name for name in names if name in LEVELS), None)


def forbidden(importer: str, imported: str) -> str | None:
    """Why `importer` may not import `imported`; None if it may, or if `imported` is no room of ours."""
    source, target = room_of(importer), room_of(imported)
    if source is None or target is None or source == target or {source, target} <= ONE_ROOM:
        return None
    if LEVELS[target] < LEVELS[source]:
        return None
    return f"{source} (level {LEVELS[source]}) must not import {target} (level {LEVELS[target]}): only lower levels"


def strangers(library: str, file: str) -> bool:
    return not any(fnmatch.fnmatch(file, home) for home in HOMES[library])


def test_every_import_points_down():
    complaints = []
    for path in sources():
        importer = module_name(path)
        for node, imported in imports(parse(path)):
            if reason := forbidden(importer, imported):
                complaints.append(f"{place(path, node)}: {importer} -> {imported}: {reason}")
    assert not complaints, "\n".join(complaints)


def test_every_module_has_a_room():
    homeless = [module_name(path) for path in sources() if room_of(module_name(path)) is None]
    packages_alone = {"pangu_rl", "pretrain"}
    assert set(homeless) <= packages_alone, "give these a level in LEVELS"


def test_heavy_libraries_stay_in_their_homes():
    complaints = []
    for path in sources():
        file = path.relative_to(ROOT).as_posix()
        for node, imported in imports(parse(path)):
            library = imported.split(".")[0]
            if library in HOMES and not _for_types_only(parse(path), node) and strangers(library, file):
                complaints.append(f"{place(path, node)}: {library} may be imported only in {', '.join(HOMES[library])}")
    assert not complaints, "\n".join(complaints)


def test_no_relative_imports_and_no_utils():
    for path in sources():
        assert path.name != "utils.py", f"{path}: name the file by what it holds"
        for node in ast.walk(parse(path)):
            if isinstance(node, ast.ImportFrom):
                assert node.level == 0, f"{place(path, node)}: write the full name"


def _for_types_only(tree: ast.Module, node: ast.AST) -> bool:
    guards = [n for n in ast.walk(tree) if isinstance(n, ast.If) and ast.unparse(n.test) == "TYPE_CHECKING"]
    return any(getattr(inner, "lineno", 0) == node.lineno for guard in guards for inner in ast.walk(guard))


@pytest.mark.parametrize(
    ("importer", "imported", "allowed"),
    [
        ("pangu_rl.loops.online.run_grpo", "rollout.pool", True),
        ("pangu_rl.cluster.jobs", "pangu_rl.config.load", True),
        ("pangu_rl.config.load", "pangu_rl.errors", True),
        ("rollout.pool", "rollout.engine", True),
        ("rollout.pool", "rewards.base", False),
        ("pangu_rl.records", "pangu_rl.algorithms.grpo", False),
        ("pangu_rl.learner.engine", "pangu_rl.loops.online.run_grpo", False),
        ("pangu_rl.monitoring.live", "pangu_rl.checkpoint", False),
        ("rewards.rules.boxed_answer", "rollout.engine", False),
        ("pangu_rl.loops.pipeline.run_pipeline", "pangu_rl.loops.online.run_grpo", True),
        ("pangu_rl.loops.online.run_grpo", "pangu_rl.loops.pipeline.run_pipeline", False),
    ],
)
def test_the_rule_itself(importer, imported, allowed):
    assert (forbidden(importer, imported) is None) is allowed


def test_the_homes_themselves():
    assert not strangers("vllm", "rollout/vllm/engine.py")
    assert strangers("vllm", "rollout/actors/actor.py")
    assert not strangers("ray", "pangu_rl/learner/actor.py")
    assert strangers("ray", "pangu_rl/monitoring/live.py")
