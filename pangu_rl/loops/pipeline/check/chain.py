"""A pipeline -> **whether it can run from its first stage to its last**, by names and shapes alone; nothing is started.

Every input is made by a stage or listed under `external` (`sources.py`), every stage is planned on its cluster as
`submit --plan` plans it, with its learner's memory by part and its engines' cache (`stage_plan.py`). What cannot be is
a line: stage, key, both values, the way out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pangu_rl.cluster.jobs import load_profile
from pangu_rl.cluster.profile_checks import unnamed_secrets
from pangu_rl.config.pipelines.graph import read_graph
from pangu_rl.config.pipelines.node import MODEL_PATH, Node
from pangu_rl.config.pipelines.pipeline import PipelineConfig
from pangu_rl.errors import ConfigError
from pangu_rl.learner.measure.model_shape import ModelShape
from pangu_rl.loops.pipeline.check.shapes import external_of, shapes_of
from pangu_rl.loops.pipeline.check.sources import source_faults, unshared
from pangu_rl.loops.pipeline.check.stage_plan import PhasePlan, stage_phases

DRIVEN = ("pack", "merge")
"""Kinds that run in the driver and hold no model in its memory."""


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
    phases = [phase for node in _planned(nodes) for phase in stage_phases(node, shapes[node.name], config, cluster)]
    several = sum(group.count for group in cluster.nodes) > 1
    faults = [
        *source_faults(config),
        *_undescribed(nodes, shapes, config),
        *(unshared(config, cluster) if several else []),
        *unnamed_secrets(config, cluster),
        *(f"{phase.name}: {fault}" for phase in phases for fault in phase.faults),
    ]
    return Chain(profile=name, phases=tuple(phases), faults=tuple(faults))


def _planned(nodes: Sequence[Node]) -> Iterator[Node]:
    """The stages that have actors or hold a model, and the last evaluation in place of all."""
    evaluations = [node for node in nodes if node.is_evaluation]
    yield from (node for node in nodes if node.stage not in DRIVEN and not node.is_evaluation)
    yield from evaluations[-1:]


def _undescribed(nodes: Sequence[Node], shapes: Mapping[str, ModelShape | None], config: PipelineConfig) -> list[str]:
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
