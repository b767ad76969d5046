"""Stage configuration + cluster profile -> **which actor gets which devices**, and what would not fit and why.

No cluster is asked. Actors are placed in the order in which a run makes them (scorers, engines, learner ranks), each on
the first node with enough free devices, as an actor's devices must lie on one node. Of a learner rank the memory is
what the caller estimates, else a lower bound: weights, gradients and optimizer states. Of an engine it is a lower
bound: weights and KV cache.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pangu_rl.config.cluster_profile import ClusterProfile, NodeGroup
from pangu_rl.config.load import load_config
from pangu_rl.config.paths import CACHE_SCHEME
from pangu_rl.config.pipeline import PipelineConfig
from pangu_rl.config.pipeline_graph import read_graph, start_models
from pangu_rl.config.scorers import ScorerConfig, ScorersConfig
from pangu_rl.config.stages import SftConfig

GIB = 2**30
LearnerMemory = Callable[[Any], Mapping[str, int] | None]
"""A stage's configuration -> bytes of each part of what a learner rank holds, `host` what it holds in the host's memory
instead of its device's; None where nobody can tell."""
KEYS = {"monitoring.wandb_project": "WANDB_API_KEY", "monitoring.swanlab_project": "SWANLAB_API_KEY"}
"""Setting -> the secret that it needs."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Actor:
    """One process that wants devices of its own."""

    name: str
    devices: int
    option: str
    """The setting that says how many devices it has."""
    smaller: str = ""
    """What to change where it does not fit into the memory of its devices."""
    gib_per_device: float | None = None
    parts: Mapping[str, float] = field(default_factory=dict)
    """GiB of each part of an estimate; empty of a lower bound."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    actor: Actor
    node: str
    devices: tuple[int, ...]
    """Indices on the node; empty for an actor of a machine without devices."""


@dataclass(slots=True, kw_only=True)
class Phase:
    """Actors that live at the same time; the phases of a stage follow each other."""

    name: str
    placed: list[Placed] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)


@dataclass(slots=True, kw_only=True)
class Plan:
    """`problems` are those of no actor: paths that not every node sees, secrets that the profile does not name."""

    phases: list[Phase]
    devices: int
    """Of the whole cluster."""
    head: str
    problems: list[str]

    @property
    def all_problems(self) -> list[str]:
        return [*(f"{phase.name}: {problem}" for phase in self.phases for problem in phase.problems), *self.problems]

    @property
    def fits(self) -> bool:
        return not self.all_problems


@dataclass(slots=True)
class _Node:
    name: str
    group: NodeGroup
    taken: int = 0

    @property
    def free(self) -> int:
        return self.group.devices - self.taken


def plan(
    stage: str,
    config: Any,
    profile: ClusterProfile,
    weight_gib: float | None = None,
    learner_memory: LearnerMemory | None = None,
) -> Plan:
    """`weight_gib` is the size of the model's weights in GiB, two bytes each; without it and without `learner_memory`
    memory is left out.

    Raises:
        ConfigError: a scorers file or the configuration of an SFT start that cannot be used.
    """
    on_devices = any(group.devices for group in profile.nodes)
    nodes = [_Node(_numbered(group, index), group) for group in profile.nodes for index in range(group.count)]
    phases = []
    for name, actors in phases_of(stage, config, weight_gib, learner_memory):
        for node in nodes:
            node.taken = 0
        phases.append(_place(name, actors, nodes) if on_devices else _share(name, actors, nodes))
    return Plan(
        phases=phases,
        devices=sum(node.group.devices for node in nodes),
        head=nodes[0].name,
        problems=[*_unshared_paths(config, profile), *_unnamed_secrets(config, profile)],
    )


def phases_of(
    stage: str, config: Any, weight_gib: float | None = None, learner_memory: LearnerMemory | None = None
) -> list[tuple[str, list[Actor]]]:
    """(name, actors that live at once) in the order of the stage; of a pipeline those of all its stages."""
    if isinstance(config, PipelineConfig):
        return [
            (node.name if phase == node.stage else f"{node.name}: {phase}", actors)
            for node in read_graph(config)
            if node.stage != "merge"
            for phase, actors in phases_of(node.stage, node.draft(), weight_gib, learner_memory)
        ]
    sampling = [*_scorers(config), *_engines(config, weight_gib)]
    learning = _learners(config, weight_gib, learner_memory)
    if stage == "iterative":
        return [("sampling", sampling), ("fine-tuning", learning)]
    start = getattr(config, "start", None)
    before = []
    if start is not None:
        before = [("SFT start", _learners(load_config(SftConfig, start.sft_config), weight_gib, learner_memory))]
    return [*before, (stage, [*sampling, *learning])]


def model_paths(config: Any) -> list[str]:
    """The models that a stage starts from; a pipeline may start from several."""
    return (
        list(start_models(read_graph(config)).values()) if isinstance(config, PipelineConfig) else [config.model.path]
    )


def _learners(config: Any, weight_gib: float | None, learner_memory: LearnerMemory | None) -> list[Actor]:
    learner = getattr(config, "learner", None)
    if learner is None:
        return []
    memory = None if weight_gib is None else learner_gib(weight_gib, learner.ranks, learner.zero_stage)
    parts = {name: size / GIB for name, size in ((learner_memory and learner_memory(config)) or {}).items()}
    if parts:
        memory = sum(parts.values()) - parts["host"]
    return [
        Actor(
            name=f"learner rank {rank}",
            devices=1,
            option="learner.ranks",
            smaller=_smaller(parts),
            gib_per_device=memory,
            parts=parts,
        )
        for rank in range(learner.ranks)
    ]


def _smaller(parts: Mapping[str, float]) -> str:
    """What to change about the larger half of a rank's memory."""
    passing = parts.get("activations", 0.0) + parts.get("workspace", 0.0)
    if passing > sum(parts.values()) / 2:
        return "learner.gradient_checkpointing, a higher learner.sequence_parallel, or shorter packs"
    return "a higher learner.zero_stage or more learner.ranks"


def learner_gib(weight_gib: float, ranks: int, zero_stage: int) -> float:
    """Per device: 2 bytes a weight, 4 of its float32 gradient, 12 of the float32 weight and Adam's moments.

    ZeRO 1 divides the 12 over the ranks, ZeRO 2 the gradients as well, ZeRO 3 everything.
    """
    weights, gradients, states = weight_gib, 2 * weight_gib, 6 * weight_gib
    shared = (states if zero_stage >= 1 else 0) + (gradients if zero_stage >= 2 else 0)
    shared += weights if zero_stage >= 3 else 0
    return weights + gradients + states - shared + shared / ranks


def _engines(config: Any, weight_gib: float | None) -> list[Actor]:
    rollout = getattr(config, "rollout", None)
    if rollout is None:
        return []
    memory = None if weight_gib is None else weight_gib / rollout.devices_per_actor + (rollout.kv_cache_gib or 0.0)
    return [
        Actor(
            name=f"rollout actor {index}",
            devices=rollout.devices_per_actor,
            option="rollout.devices_per_actor",
            smaller="a higher rollout.devices_per_actor or a lower rollout.kv_cache_gib",
            gib_per_device=memory,
        )
        for index in range(rollout.actors)
    ]


def _scorers(config: Any) -> list[Actor]:
    return [
        Actor(name=f"scorer {scorer.name}", devices=scorer.engine.devices, option="engine.devices of the scorers file")
        for scorer in _scorer_configs(config)
        if scorer.engine is not None
    ]


def _scorer_configs(config: Any) -> list[ScorerConfig]:
    rewards = getattr(config, "rewards", None)
    named = [f for f in rewards.functions if f.name == "llm_score"] if rewards is not None else []
    files = [str(function.args["config"]) for function in named if "config" in function.args]
    return [scorer for file in files for scorer in load_config(ScorersConfig, file).scorers]


def _place(name: str, actors: Sequence[Actor], nodes: Sequence[_Node]) -> Phase:
    phase = Phase(name=name)
    problems: dict[str, list[str]] = {}
    for actor in actors:
        node = next((node for node in nodes if node.free >= actor.devices), None)
        if node is None:
            problems.setdefault(_why_not(actor, nodes), []).append(actor.name)
            continue
        indices = tuple(range(node.taken, node.taken + actor.devices))
        node.taken += actor.devices
        phase.placed.append(Placed(actor=actor, node=node.name, devices=indices))
        limit = node.group.device_memory_gib
        if limit is not None and actor.gib_per_device is not None and actor.gib_per_device > limit:
            problems.setdefault(_too_large(actor, limit), []).append(actor.name)
    phase.problems = [f"{_names(names)} {problem}" for problem, names in problems.items()]
    return phase


def _share(name: str, actors: Sequence[Actor], nodes: Sequence[_Node]) -> Phase:
    """Without devices Ray counts nothing for an actor: all share the nodes' cores and memory."""
    phase = Phase(name=name)
    phase.placed = [
        Placed(actor=actor, node=nodes[index % len(nodes)].name, devices=()) for index, actor in enumerate(actors)
    ]
    needed = sum((actor.gib_per_device or 0.0) + actor.parts.get("host", 0.0) for actor in actors)
    there = sum(node.group.memory_gib for node in nodes)
    if needed > there:
        phase.problems.append(
            f"{len(actors)} actors hold {_bound(actors)} {needed:.0f} GiB, the nodes have {there:.0f} GiB of memory: "
            "fewer actors, or a smaller model"
        )
    return phase


def _names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} (and {len(names) - 1} more up to {names[-1]})"


def _why_not(actor: Actor, nodes: Sequence[_Node]) -> str:
    most = max(node.group.devices for node in nodes)
    wants = f"asks for {actor.devices} device{'s' if actor.devices != 1 else ''} on one node"
    if actor.devices > most:
        return f"{wants}, a node has {most}: lower {actor.option} to {most}"
    free = sum(node.free for node in nodes)
    if free == 0:
        return f"{wants}, and all {sum(node.group.devices for node in nodes)} are taken: fewer actors or more nodes"
    widest = max(nodes, key=lambda node: node.free)
    return (
        f"{wants}; {free} are free, at most {widest.free} of them on one node ({widest.name}): fewer actors, more "
        f"nodes, or a {actor.option} that divides a node's devices"
    )


def _too_large(actor: Actor, limit: float) -> str:
    return (
        f"holds {_bound([actor])} {actor.gib_per_device:.0f} GiB on each device, which has {limit:g}: {actor.smaller}"
    )


def _bound(actors: Sequence[Actor]) -> str:
    return "about" if all(actor.parts for actor in actors) else "at least"


def _unshared_paths(config: Any, profile: ClusterProfile) -> list[str]:
    if sum(group.count for group in profile.nodes) == 1:
        return []
    known = ", ".join(profile.shared) or "none: list them under shared"
    named = [*(("model.path", path) for path in model_paths(config)), ("trainer.run_dir", config.trainer.run_dir)]
    return [
        f"{key} {value} is under no folder that all nodes see ({known})"
        for key, value in named
        if not any(_on_the_cluster(value, profile).is_relative_to(root) for root in profile.shared)
    ]


def _on_the_cluster(path: str, profile: ClusterProfile) -> Path:
    """A `cache://` path lies where the profile puts the cache, which is on no shared folder by itself."""
    if path.startswith(CACHE_SCHEME):
        return Path(profile.env.get("PANGU_RL_CACHE", "~/.cache/pangu_rl")) / path.removeprefix(CACHE_SCHEME)
    return Path(path)


def _unnamed_secrets(config: Any, profile: ClusterProfile) -> list[str]:
    stages = [config]
    if isinstance(config, PipelineConfig):
        stages = [node.draft() for node in read_graph(config) if node.stage != "merge"]
    needed: dict[str, str] = {}
    for own in stages:
        needed |= {variable: setting for setting, variable in KEYS.items() if _setting(own, setting)}
        needed |= {s.api_key_env: f"scorer {s.name}" for s in _scorer_configs(own) if s.api_key_env}
    return [
        f"{setting} needs {variable}: list it under the profile's secrets and set it on the cluster"
        for variable, setting in needed.items()
        if variable not in profile.secrets
    ]


def _setting(config: Any, key: str) -> Any:
    """The value of `section.name`; None in a stage without that section."""
    section, _, name = key.partition(".")
    return getattr(getattr(config, section, None), name, None)


def _numbered(group: NodeGroup, index: int) -> str:
    return group.name if group.count == 1 else f"{group.name} {index}"
