"""A pipeline -> **whether it can run from its first stage to its last**, by names and shapes alone; nothing is started.

Every input is made by a stage or listed under `external` (`sources.py`), every stage is planned on its cluster as
`submit --plan` plans it, with its learner's memory by part and its engines' cache. What cannot be is a line: stage,
key, both values, the way out.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pangu_rl.cluster.demand import ENGINE, LEARNER, phases_of
from pangu_rl.cluster.jobs import load_profile
from pangu_rl.cluster.nodes import Node as ClusterNode
from pangu_rl.cluster.nodes import nodes_of_profile
from pangu_rl.cluster.plan import place
from pangu_rl.cluster.profile_checks import unnamed_secrets
from pangu_rl.config.cluster_profile import ClusterProfile
from pangu_rl.config.pipeline import PipelineConfig
from pangu_rl.config.pipeline_graph import EVALUATE, read_graph
from pangu_rl.config.pipeline_node import MODEL_PATH, Node
from pangu_rl.errors import ConfigError
from pangu_rl.learner.measure.model_shape import ModelShape
from pangu_rl.learner.measure.stage_memory import stage_memory
from pangu_rl.loops.pipeline.check.engines import EngineRoom, engine_faults, engine_room, judge_fault
from pangu_rl.loops.pipeline.check.shapes import external_of, external_shape, panel_engines, shapes_of
from pangu_rl.loops.pipeline.check.sources import source_faults, unshared

GIB = 2**30
DRIVEN = ("pack", "merge")
"""Kinds that run in the driver and hold no model in its memory."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PhasePlan:
    """Actors that live at once in a stage, on its cluster."""

    name: str
    kind: str
    devices: int = 0
    ranks: int = 0
    engines: int = 0
    parts: dict[str, float]
    """GiB of each part of a learner rank; empty without a learner, or a model that nothing describes."""
    engine: EngineRoom | None = None
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Chain:
    profile: str
    phases: tuple[PhasePlan, ...]
    faults: tuple[str, ...]
    """All of them, those of the phases among them."""


def check_chain(config: PipelineConfig, profile: str | None = None) -> Chain:
    """Planned on `profile`, by default on `cluster.profile`.

    Raises:
        ConfigError: no profile, a graph that cannot be, or a file of it that is not there or refused by its schema.
    """
    name = profile or config.cluster.profile
    if name is None:
        raise ConfigError("--check plans on a cluster: name one with --profile, or in cluster.profile")
    cluster = load_profile(name)
    nodes = read_graph(config)
    shapes = shapes_of(nodes, config)
    phases = [phase for node in _planned(nodes) for phase in _phases(node, shapes[node.name], config, cluster)]
    across = unshared(config, cluster.shared) if sum(group.count for group in cluster.nodes) > 1 else []
    known = [*source_faults(config), *_undescribed(nodes, shapes, config), *across, *unnamed_secrets(config, cluster)]
    return Chain(
        profile=name,
        phases=tuple(phases),
        faults=(*known, *(f"{phase.name}: {fault}" for phase in phases for fault in phase.faults)),
    )


def _planned(nodes: Sequence[Node]) -> Iterator[Node]:
    """The stages that have actors or hold a model, and the last evaluation in place of all."""
    evaluations = [node for node in nodes if node.is_evaluation]
    yield from (node for node in nodes if node.stage not in DRIVEN and not node.is_evaluation)
    yield from evaluations[-1:]


def _undescribed(nodes: Sequence[Node], shapes: dict[str, ModelShape | None], config: PipelineConfig) -> list[str]:
    """Once where the model enters the pipeline, not in every stage that goes on from it; one that nobody lists is told
    by `sources.py`."""
    return [
        f"{node.name}: nothing describes its model, so nothing says whether it fits: name a folder with its "
        "config.json in external.PATH.shape (weights are not needed)"
        for node in nodes
        if shapes[node.name] is None and _brings_a_model(node, config)
    ]


def _brings_a_model(node: Node, config: PipelineConfig) -> bool:
    if node.stage in ("assemble", "merge") or MODEL_PATH in node.takes:
        return node.stage == "assemble"
    return external_of(node.draft().model.path, config) is not None


def _phases(
    node: Node, shape: ModelShape | None, config: PipelineConfig, cluster: ClusterProfile
) -> Iterator[PhasePlan]:
    draft = node.draft()
    name = EVALUATE if node.is_evaluation else node.name
    if node.stage == "assemble":
        yield PhasePlan(name=name, kind=node.stage, parts={}, faults=tuple(_assembled(shape, draft, cluster)))
        return
    nodes = nodes_of_profile(cluster)
    on_devices = any(one.devices for one in nodes) and draft.cluster.accelerator != "cpu"
    if not on_devices:
        nodes = [replace(one, devices=0) for one in nodes]

    def parts_of(own: Any) -> dict[str, int] | None:
        memory = stage_memory(shape, on_devices, own) if shape is not None else None
        return None if memory is None else asdict(memory)

    weights = None if shape is None else 2 * shape.parameters / GIB
    for phase, blocks in phases_of(node.stage, draft, weights, parts_of):
        placed = place(phase, blocks, nodes)
        ranks = [one.actor for one in placed.placed if one.actor.role == LEARNER]
        engines = [one.actor for one in placed.placed if one.actor.role == ENGINE]
        device_gib = _device_gib(nodes)
        room = engine_room(shape, draft.rollout, device_gib) if engines and shape is not None else None
        faults = [*placed.problems, *_accelerator_fault(draft, cluster)]
        if shape is not None:
            faults += _shape_faults(draft, shape, bool(ranks), device_gib if engines else None, bool(engines))
        if engines and device_gib is not None:
            faults += _judge_faults(draft, config, device_gib)
        yield PhasePlan(
            name=name if phase == node.stage else f"{name}: {phase}",
            kind=node.stage,
            devices=placed.devices,
            ranks=len(ranks),
            engines=len(engines),
            parts=dict(ranks[0].parts) if ranks else {},
            engine=room,
            faults=tuple(faults),
        )


def _assembled(shape: ModelShape | None, draft: Any, cluster: ClusterProfile) -> Iterator[str]:
    """The driver builds the model in the memory of the first node."""
    size = 2 if draft.dtype == "bfloat16" else 4
    if shape is not None and shape.parameters * size / GIB > cluster.nodes[0].memory_gib:
        yield (
            f"the model has {shape.parameters * size / GIB:.0f} GiB in {draft.dtype}, the node of the driver "
            f"{cluster.nodes[0].memory_gib:g}: assemble it on another machine, and list it under external"
        )


def _shape_faults(
    draft: Any, shape: ModelShape, has_learner: bool, device_gib: float | None, has_engines: bool
) -> Iterator[str]:
    """What the model itself refuses: heads, positions, the cache of a sequence."""
    learner = getattr(draft, "learner", None)
    degree = getattr(learner, "sequence_parallel", 1)
    if has_learner and shape.heads % degree:
        yield (
            f"learner.sequence_parallel {degree} does not divide the {shape.heads} attention heads of the model: "
            "choose a divisor"
        )
    if has_learner and shape.context is not None and getattr(learner, "pack_tokens", 0) > shape.context:
        yield (
            f"learner.pack_tokens {learner.pack_tokens} exceeds the model's max_position_embeddings {shape.context}, "
            "and one sequence may fill a pack: lower it"
        )
    if has_engines:
        yield from engine_faults(shape, draft.rollout, device_gib)


def _judge_faults(draft: Any, config: PipelineConfig, device_gib: float) -> Iterator[str]:
    try:
        judges = panel_engines(draft)
    except ConfigError:
        return  # told by sources.py
    for scorer in judges:
        shape = external_shape(scorer.model, config)
        fault = judge_fault(scorer, shape, device_gib) if shape is not None else None
        if fault is not None:
            yield fault


def _accelerator_fault(draft: Any, cluster: ClusterProfile) -> Iterator[str]:
    named = draft.cluster.accelerator
    if named not in ("auto", "cpu", cluster.accelerator):
        yield f"cluster.accelerator is {named}, and the nodes of the profile have {cluster.accelerator}: make them one"


def _device_gib(nodes: Sequence[ClusterNode]) -> float | None:
    """Of the smallest."""
    return min((one.device_memory_gib for one in nodes if one.devices and one.device_memory_gib), default=None)
