"""The plan of a run -> **one Ray placement group, and the options of every actor**.

A bundle holds an amount of its node's own resource (`node:IP`) beside its devices, so Ray grants it on the planned node
or not at all; and all bundles are one group, so two jobs never hold half of what each needs. An actor that died leaves
its bundle to the one that replaces it. Actors without devices get no bundle, since Ray has no empty ones: they are sent
to their node, and elsewhere if it is gone. The group ends with the run, or with its driver.
"""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy, PlacementGroupSchedulingStrategy

from pangu_rl.accelerators import Accelerator
from pangu_rl.cluster.demand import ENGINE, LEARNER, REWARD, ROLES, SCORER, blocks_of
from pangu_rl.cluster.live_plan import live_nodes, live_phase, with_free
from pangu_rl.cluster.nodes import Node
from pangu_rl.cluster.plan import STRATEGY, Phase, Placed, asked
from pangu_rl.errors import RunError

log = logging.getLogger(__name__)

PIN = 0.001
"""Of the node's own resource, which is 1: a thousand bundles of a node, and more devices than one has."""

Options = dict[str, Any]
"""Arguments of Ray's `.options()`."""


class Placement:
    """Where each actor of a run goes. Every method gives Ray's options of one actor, whoever makes it and how often."""

    def __init__(
        self,
        phase: Phase,
        nodes: Sequence[Node],
        accelerator: Accelerator,
        group: PlacementGroup | None = None,
        visible: Mapping[int, Sequence[str]] | None = None,
    ) -> None:
        """`visible` are the identifiers of the devices in the bundles that several actors share."""
        self._nodes = {node.name: node for node in nodes}
        self._accelerator, self._group, self._visible = accelerator, group, visible or {}
        self._placed: dict[str, list[Placed]] = {role: [] for role in ROLES}
        for placed in phase.placed:
            self._placed[placed.actor.role].append(placed)

    def scorer_options(self, index: int) -> Options:
        """Of the scorers' engines, in the order of the configuration."""
        return self._options(self._placed[SCORER][index])

    def engine_options(self, index: int) -> Options:
        return self._options(self._placed[ENGINE][index])

    def learner_options(self, rank: int) -> Options:
        return self._options(self._placed[LEARNER][rank])

    def reward_options(self, index: int) -> Options:
        return self._options(self._placed[REWARD][index])

    def beside_learner(self, rank: int) -> Options:
        """Of an actor without devices on the node of a rank."""
        return self._near(self._placed[LEARNER][rank])

    @property
    def shares_memory(self) -> bool:
        """Whether all engines are on the node of rank 0, which publishes the weights."""
        return {placed.node for placed in self._placed[ENGINE]} == {self._placed[LEARNER][0].node}

    def _options(self, placed: Placed) -> Options:
        if placed.bundle is None:
            return self._near(placed)
        strategy = PlacementGroupSchedulingStrategy(self._group, placed.bundle)
        if not placed.actor.shares:
            return {**self._accelerator.ray_options(placed.actor.devices), "scheduling_strategy": strategy}
        # Ray's books give the devices to the ranks, and to an actor without any it shows none.
        environment = {self._accelerator.visible_env: ",".join(self._visible[placed.bundle])}
        environment[self._accelerator.noset_env] = "1"
        return {"num_cpus": 0, "scheduling_strategy": strategy, "runtime_env": {"env_vars": environment}}

    def _near(self, placed: Placed) -> Options:
        node = self._nodes[placed.node].id
        if node not in {there["NodeID"] for there in ray.nodes() if there["Alive"]}:
            return {"num_cpus": 0}  # its node is gone: whoever replaces it may run anywhere
        # Not soft: Ray sends an actor that asks for nothing to any node then.
        return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node, soft=False)}


@contextmanager
def open_placement(
    config: Any, accelerator: Accelerator, stop: Callable[[], None] = lambda: None
) -> Iterator[Placement]:
    """Ask Ray for the devices of one run; they are given back with the context. `stop` is asked while it waits.

    Nodes are chosen by what is free now; where that is too little, by what they have, and the run waits.

    Raises:
        RunError: Ray did not grant the group within `cluster.wait_s`.
    """
    nodes = live_nodes(accelerator)
    phase = live_phase(blocks_of(config), nodes, accelerator)
    for node in nodes:
        if here := [placed.actor.name for placed in phase.placed if placed.node == node.name]:
            log.info("%s: %s", node.name, ", ".join(here))
    if not phase.bundles:
        yield Placement(phase, nodes, accelerator)
        return
    group = placement_group(pinned(phase, nodes, accelerator), strategy=STRATEGY)
    try:
        if not _is_granted(group, config.cluster.wait_s, stop):
            raise RunError(_not_granted(phase, nodes, accelerator.ray_resource, config.cluster.wait_s))
        _check(group, phase, nodes)
        yield Placement(phase, nodes, accelerator, group, _visible(group, phase, accelerator))
    finally:
        remove_placement_group(group)


def pinned(phase: Phase, nodes: Sequence[Node], accelerator: Accelerator) -> list[dict[str, float]]:
    """The plan's bundles as Ray is asked for them, each with the resource that its node alone has."""
    address = {node.name: node.address for node in nodes}
    wanted = asked(phase, accelerator.ray_resource)
    return [{**one["resources"], f"node:{address[one['node']]}": PIN} for one in wanted]


def _is_granted(group: PlacementGroup, seconds: float, stop: Callable[[], None]) -> bool:
    end = time.monotonic() + seconds
    while not group.wait(timeout_seconds=min(1.0, seconds)):
        stop()
        if time.monotonic() >= end:
            return False
    return True


def _not_granted(phase: Phase, nodes: Sequence[Node], resource: str, seconds: float) -> str:
    wanted: Counter[str] = Counter()
    for bundle in phase.bundles:
        wanted[bundle.node] += bundle.devices
    lines = [
        f"{node.name} {wanted[node.name]}, where {free.devices} of {node.devices} are free"
        for node, free in zip(nodes, with_free(nodes, resource), strict=True)
        if wanted[node.name]
    ]
    return (
        f"{phase.devices} {resource} were not granted within {seconds:g} s (cluster.wait_s): {'; '.join(lines)}; other "
        "jobs hold the rest: wait longer for them, or ask for less"
    )


def _check(group: PlacementGroup, phase: Phase, nodes: Sequence[Node]) -> None:
    """What was printed is what was granted, whatever this Ray makes of a pin."""
    names = {node.id: node.name for node in nodes}
    granted = placement_group_table(group)["bundles_to_node_id"]
    for index, bundle in enumerate(phase.bundles):
        if (there := names.get(granted[index], granted[index])) != bundle.node:
            raise RunError(
                f"Ray {ray.__version__} granted bundle {index} on {there}, and it was asked for on {bundle.node}: two "
                "nodes with one address cannot be told apart; start each on its own"
            )


def _visible(group: PlacementGroup, phase: Phase, accelerator: Accelerator) -> dict[int, list[str]]:
    """Of each bundle that an engine shares, the devices in it; Ray tells them only to who holds all of them."""
    shared = [placed.bundle for placed in phase.placed if placed.actor.shares]
    ask = ray.remote(_own_devices)
    asking = {
        index: ask.options(
            **accelerator.ray_options(phase.bundles[index].devices),
            scheduling_strategy=PlacementGroupSchedulingStrategy(group, index),
        ).remote(accelerator.ray_resource)
        for index in shared
        if index is not None
    }
    return dict(zip(asking, ray.get(list(asking.values())), strict=True))


def _own_devices(resource: str) -> list[str]:
    return ray.get_runtime_context().get_accelerator_ids()[resource]
