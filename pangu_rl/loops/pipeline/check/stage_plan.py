"""A stage on its cluster -> **devices, memory of a learner rank by part, cache of an engine**, what does not fit."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pangu_rl.cluster.demand import ENGINE, LEARNER, Block, phases_of
from pangu_rl.cluster.nodes import Node as ClusterNode
from pangu_rl.cluster.nodes import nodes_of_profile
from pangu_rl.cluster.plan import place
from pangu_rl.config.cluster_profile import ClusterProfile
from pangu_rl.config.pipelines.graph import EVALUATE
from pangu_rl.config.pipelines.node import Node
from pangu_rl.config.pipelines.pipeline import PipelineConfig
from pangu_rl.errors import ConfigError
from pangu_rl.learner.measure.model_shape import ModelShape
from pangu_rl.learner.measure.stage_memory import stage_memory
from pangu_rl.loops.pipeline.check.engines import EngineRoom, engine_faults, engine_room, judge_fault
from pangu_rl.loops.pipeline.check.shapes import external_of, external_shape, panel_engines

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class PhasePlan:
    """Actors that live at once in a stage, on its cluster."""

    name: str
    kind: str
    devices: int = 0
    ranks: int = 0
    engines: int = 0
    parts: dict[str, float]
    """GiB of each part of a learner rank, `host` what it ever moves into the host's memory; empty without a learner, or
    of a model that nothing describes."""
    engine: EngineRoom | None = None
    faults: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Case:
    """A stage with what decides whether it fits."""

    draft: Any
    shape: ModelShape | None
    config: PipelineConfig
    cluster: ClusterProfile
    nodes: Sequence[ClusterNode]

    @property
    def on_devices(self) -> bool:
        return any(node.devices for node in self.nodes)

    @property
    def device_gib(self) -> float | None:
        """Of the smallest device."""
        sizes = [node.device_memory_gib for node in self.nodes if node.devices and node.device_memory_gib]
        return min(sizes, default=None)

    def memory(self, own: Any) -> dict[str, int] | None:
        """Bytes of a learner rank by part."""
        found = stage_memory(self.shape, self.on_devices, own) if self.shape is not None else None
        return None if found is None else asdict(found)


def stage_phases(
    node: Node, shape: ModelShape | None, config: PipelineConfig, cluster: ClusterProfile
) -> Iterator[PhasePlan]:
    """Of a stage that has actors, one after the other; of an assembling one the model in the driver's memory.

    Raises:
        ConfigError: a scorers file that cannot be used.
    """
    name = EVALUATE if node.is_evaluation else node.name
    draft = node.draft()
    if node.stage == "assemble":
        yield PhasePlan(name=name, kind=node.stage, parts={}, faults=tuple(_assembled(shape, draft, cluster)))
        return
    nodes = nodes_of_profile(cluster)
    if draft.cluster.accelerator == "cpu":  # then Ray is asked for no device, whatever the nodes have
        nodes = [replace(one, devices=0) for one in nodes]
    case = _Case(draft, shape, config, cluster, nodes)
    weights = None if shape is None else 2 * shape.parameters / GIB
    for phase, blocks in phases_of(node.stage, draft, weights, case.memory):
        yield _planned(case, name if phase == node.stage else f"{name}: {phase}", node.stage, blocks)


def _planned(case: _Case, name: str, kind: str, blocks: Sequence[Block]) -> PhasePlan:
    found = place(name, blocks, case.nodes)
    ranks = [one.actor for one in found.placed if one.actor.role == LEARNER]
    engines = [one.actor for one in found.placed if one.actor.role == ENGINE]
    faults = [*found.problems, *_accelerator_fault(case)]
    if ranks and case.shape is not None:
        faults += _learner_faults(case.draft.learner, case.shape)
    room = None
    if engines and case.shape is not None:
        faults += engine_faults(case.shape, case.draft.rollout, case.device_gib)
        room = engine_room(case.shape, case.draft.rollout, case.device_gib)
    if engines and case.device_gib is not None:
        faults += _judge_faults(case, case.device_gib)
    return PhasePlan(
        name=name,
        kind=kind,
        devices=found.devices,
        ranks=len(ranks),
        engines=len(engines),
        parts={**ranks[0].parts, "host": ranks[0].host_gib} if ranks and ranks[0].parts else {},
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


def _accelerator_fault(case: _Case) -> Iterator[str]:
    named, there = case.draft.cluster.accelerator, case.cluster.accelerator
    if named not in ("auto", "cpu", there):
        yield f"cluster.accelerator is {named}, and the nodes of the profile have {there}: make them one"


def _learner_faults(learner: Any, shape: ModelShape) -> Iterator[str]:
    """What the model itself refuses: heads, positions."""
    degree, tokens = getattr(learner, "sequence_parallel", 1), getattr(learner, "pack_tokens", 0)
    if shape.heads % degree:
        yield (
            f"learner.sequence_parallel {degree} does not divide the {shape.heads} attention heads of the model: "
            "choose a divisor"
        )
    if shape.context is not None and tokens > shape.context:
        yield (
            f"learner.pack_tokens {tokens} exceeds the model's max_position_embeddings {shape.context}, and one "
            "sequence may fill a pack: lower it"
        )


def _judge_faults(case: _Case, device_gib: float) -> Iterator[str]:
    try:
        judges = panel_engines(case.draft)
    except ConfigError:
        return  # told by `sources.py`
    for scorer in judges:
        shape = external_shape(scorer.model, case.config)
        if shape is not None and (fault := judge_fault(scorer, shape, device_gib)):
            yield fault
        elif shape is None and external_of(scorer.model, case.config) is not None:
            yield (
                f"scorer {scorer.name}: nothing describes its model, so nothing says whether it fits: name a folder "
                f"with its config.json in external.{scorer.model}.shape"
            )
