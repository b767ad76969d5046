"""Blocks of actors + nodes -> **which bundle of devices on which node**, and what would not fit and why.

Nothing is asked of a cluster. The widest blocks are placed first, each on the node that has the fewest free devices
among those with enough, so that nodes of one size are interchangeable and only shapes decide. What has no devices is
spread: the actors of a role evenly over all nodes, neighbours together. `placement.py` asks Ray for exactly this.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from pangu_rl.accelerators import get_accelerator
from pangu_rl.cluster.demand import SCORER, Actor, Block, LearnerMemory, devices_of, phases_of
from pangu_rl.cluster.nodes import Node, nodes_of_profile
from pangu_rl.cluster.profile_checks import contradicting_variables, unnamed_secrets, unshared_paths
from pangu_rl.config.cluster_profile import ClusterProfile

STRATEGY = "PACK"
"""Of the placement group: Ray's default, which the pin of every bundle to its node leaves nothing to decide."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Bundle:
    """Devices of one node that are held together."""

    node: str
    devices: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Placed:
    actor: Actor
    node: str
    bundle: int | None
    """Its place in the phase's bundles; None of an actor without devices."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Phase:
    """Actors that live at the same time; the phases of a stage follow each other."""

    name: str
    bundles: tuple[Bundle, ...] = ()
    placed: tuple[Placed, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def devices(self) -> int:
        return sum(bundle.devices for bundle in self.bundles)


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """`problems` are those of no actor: paths that not every node sees, secrets that the profile does not name."""

    phases: tuple[Phase, ...]
    devices: int
    """Of the whole cluster."""
    resource: str | None
    """Ray's name of a device."""
    head: str
    problems: tuple[str, ...]

    @property
    def all_problems(self) -> list[str]:
        return [*(f"{phase.name}: {problem}" for phase in self.phases for problem in phase.problems), *self.problems]

    @property
    def fits(self) -> bool:
        return not self.all_problems


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
    nodes = nodes_of_profile(profile)
    problems = [
        *unshared_paths(config, profile),
        *unnamed_secrets(config, profile),
        *contradicting_variables(profile),
    ]
    named = config.cluster.accelerator
    if named == "cpu":  # then Ray is asked for no device, whatever the nodes have
        nodes = [replace(node, devices=0) for node in nodes]
    elif named not in ("auto", profile.accelerator):
        problems.append(f"cluster.accelerator is {named}, and the nodes of the profile have {profile.accelerator}")
    return Plan(
        phases=tuple(
            place(name, blocks, nodes) for name, blocks in phases_of(stage, config, weight_gib, learner_memory)
        ),
        devices=sum(node.devices for node in nodes),
        resource=get_accelerator(profile.accelerator).ray_resource,
        head=nodes[0].name,
        problems=tuple(problems),
    )


def place(name: str, blocks: Sequence[Block], nodes: Sequence[Node]) -> Phase:
    """One phase on `nodes`; the bundles stand in the order of the blocks."""
    on_devices = any(node.devices for node in nodes)
    wide = {index: block for index, block in enumerate(blocks) if on_devices and block.devices}
    chosen, problems = _pack(wide, nodes)
    chosen |= _spread({index: block for index, block in enumerate(blocks) if index not in wide}, nodes)
    bundles: list[Bundle] = []
    placed: list[Placed] = []
    for index, node in sorted(chosen.items()):
        for held in blocks[index].bundles:
            number = None
            if index in wide:
                number = len(bundles)
                bundles.append(Bundle(node=node.name, devices=devices_of(held)))
            placed += [Placed(actor=actor, node=node.name, bundle=number) for actor in held]
    problems += _memory_problems(placed, nodes) if on_devices else _share_problems(placed, nodes)
    return Phase(name=name, bundles=tuple(bundles), placed=tuple(placed), problems=tuple(problems))


def asked(phase: Phase, resource: str | None) -> list[dict[str, Any]]:
    """What Ray is asked for: `node` and `resources` of each bundle of the placement group."""
    return [{"node": bundle.node, "resources": {resource: bundle.devices}} for bundle in phase.bundles]


def _pack(blocks: Mapping[int, Block], nodes: Sequence[Node]) -> tuple[dict[int, Node], list[str]]:
    """The node of each block, and the problems of those that have none."""
    free = {node.name: node.devices for node in nodes}
    chosen: dict[int, Node] = {}
    reasons: dict[int, tuple[str, str]] = {}
    for index, block in sorted(blocks.items(), key=lambda item: -item[1].devices):
        roomy = [node for node in nodes if free[node.name] >= block.devices]
        if not roomy:
            reasons[index] = block.name, _why_not(block, nodes, free, _holders(blocks[other] for other in chosen))
            continue
        chosen[index] = min(roomy, key=lambda node: free[node.name])
        free[chosen[index].name] -= block.devices
    return chosen, _by_reason(reason for _, reason in sorted(reasons.items()))


def _spread(blocks: Mapping[int, Block], nodes: Sequence[Node]) -> dict[int, Node]:
    """Without devices Ray counts nothing for an actor: each role goes over all nodes, in order."""
    of_role: dict[str, list[int]] = {}
    for index, block in blocks.items():
        of_role.setdefault(block.actors[0].role, []).append(index)
    return {
        index: nodes[turn * len(nodes) // len(those)] for those in of_role.values() for turn, index in enumerate(those)
    }


def _by_reason(reasons: Iterable[tuple[str, str]]) -> list[str]:
    names: dict[str, list[str]] = {}
    for name, reason in reasons:
        names.setdefault(reason, []).append(name)
    return [f"{_names(those)} {reason}" for reason, those in names.items()]


def _names(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{names[0]} (and {len(names) - 1} more up to {names[-1]})"


def _holders(blocks: Iterable[Block]) -> Counter[str]:
    """Role -> devices that its actors hold."""
    return sum((Counter({bundle[0].role: devices_of(bundle)}) for one in blocks for bundle in one.bundles), Counter())


def _why_not(block: Block, nodes: Sequence[Node], free: Mapping[str, int], holders: Counter[str]) -> str:
    most = max(node.devices for node in nodes)
    wants = f"asks for {block.devices} device{'s' if block.devices != 1 else ''} on one node"
    if block.devices > most:
        return f"{wants}, a node has {most}: lower {block.option} to {most}"
    left = sum(free.values())
    if left == 0:
        held = ", ".join(f"{count} by {role}s" for role, count in holders.items())
        served = ", a scorer behind a base_url" if holders[SCORER] else ""
        return f"{wants}, and all {holders.total()} are taken ({held}): fewer actors{served} or more nodes"
    widest = max(free, key=lambda name: free[name])
    return (
        f"{wants}; {left} are free, at most {free[widest]} of them on one node ({widest}): fewer actors, more "
        f"nodes, or a {block.option} that divides a node's devices"
    )


def _memory_problems(placed: Sequence[Placed], nodes: Sequence[Node]) -> list[str]:
    """Of devices, which hold one actor at a time, and of the nodes' memory."""
    limits = {node.name: node.device_memory_gib for node in nodes}
    reasons = [
        (one.actor.name, _too_large(one.actor, limit))
        for one in placed
        if (limit := limits[one.node]) is not None and (one.actor.gib_per_device or 0.0) > limit
    ]
    return [*_by_reason(reasons), *_host_problems(placed, nodes)]


def _too_large(actor: Actor, limit: float) -> str:
    return (
        f"holds {_bound([actor])} {actor.gib_per_device:.0f} GiB on each device, which has {limit:g}: {actor.smaller}"
    )


def _host_problems(placed: Sequence[Placed], nodes: Sequence[Node]) -> list[str]:
    """What ranks keep in the memory of their node: states under offload, and all that lasts while an engine draws."""
    needed: Counter[str] = Counter()
    for one in placed:
        needed[one.node] += one.actor.host_gib
    return [
        f"the learner ranks on {node.name} hold at least {needed[node.name]:.0f} GiB of its memory, which is "
        f"{node.memory_gib:g}: fewer ranks a node, or less moved there (learner.offload, rollout.placement)"
        for node in nodes
        if needed[node.name] > node.memory_gib
    ]


def _share_problems(placed: Sequence[Placed], nodes: Sequence[Node]) -> list[str]:
    actors = [one.actor for one in placed]
    sized = [actor for actor in actors if actor.gib_per_device is not None]
    needed = sum((actor.gib_per_device or 0.0) + actor.parts.get("host", 0.0) for actor in sized)
    there = sum(node.memory_gib for node in nodes)
    if needed <= there:
        return []
    return [
        f"{len(sized)} actors hold {_bound(sized)} {needed:.0f} GiB, the nodes have {there:.0f} GiB of memory: "
        "fewer actors, or a smaller model"
    ]


def _bound(actors: Sequence[Actor]) -> str:
    return "about" if all(actor.parts for actor in actors) else "at least"
