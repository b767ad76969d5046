"""Bundles of a plan -> **one Ray placement group, granted as asked**: waited for, compared, and seen to be lost.

A bundle holds an amount of its node's own resource (`node:IP`) beside its devices, so Ray grants it on the planned node
or not at all, and never on another one when that node is gone.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable, Sequence

import ray
from ray.util.placement_group import PlacementGroup, placement_group, placement_group_table, remove_placement_group
from ray.util.scheduling_strategies import PlacementGroupSchedulingStrategy

from pangu_rl.accelerators import Accelerator
from pangu_rl.cluster.live_plan import with_free
from pangu_rl.cluster.nodes import Node
from pangu_rl.cluster.plan import STRATEGY, Phase, asked
from pangu_rl.errors import NoPlace, RunError

PIN = 0.001
"""Of the node's own resource, which is 1: a thousand bundles of a node, and more devices than one has."""
POLL_S = 1.0
"""Between two questions whether to stop."""


class Bundles:
    """Those of one phase, held until `give_back`."""

    def __init__(
        self,
        phase: Phase,
        nodes: Sequence[Node],
        accelerator: Accelerator,
        wait_s: float,
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        """Ask Ray for all of them, and wait; `stop` is asked meanwhile.

        Raises:
            NoPlace: a node of theirs left meanwhile. RunError: Ray did not grant them within `wait_s`, or elsewhere.
        """
        self._phase, self._nodes, self._accelerator = phase, nodes, accelerator
        self._group = placement_group(pinned(phase, nodes, accelerator), strategy=STRATEGY)
        try:
            self._wait(wait_s, stop)
            _check(self._group, phase, nodes)
            self.visible = self._visible(wait_s, stop)
            """Identifiers of the devices of each bundle that an engine shares."""
        except BaseException:
            self.give_back()
            raise

    def strategy(self, bundle: int) -> PlacementGroupSchedulingStrategy:
        return PlacementGroupSchedulingStrategy(self._group, bundle)

    def lost(self) -> set[int]:
        """Those whose node is gone. A node that comes back under its address is given them again by Ray."""
        living = _living()
        granted = placement_group_table(self._group)["bundles_to_node_id"]
        return {bundle for bundle in range(len(self._phase.bundles)) if granted.get(bundle) not in living}

    def give_back(self) -> None:
        remove_placement_group(self._group)

    def _wait(self, seconds: float, stop: Callable[[], None]) -> None:
        end = time.monotonic() + seconds
        while not self._group.wait(timeout_seconds=min(POLL_S, seconds)):
            stop()
            self._require_nodes()
            if time.monotonic() >= end:
                raise RunError(_not_granted(self._phase, self._nodes, self._accelerator.ray_resource, seconds))

    def _require_nodes(self) -> None:
        wanted, living = {bundle.node for bundle in self._phase.bundles}, _living()
        if gone := [node.name for node in self._nodes if node.name in wanted and node.id not in living]:
            raise NoPlace(f"{', '.join(gone)} left this Ray before the devices there were granted")

    def _visible(self, wait_s: float, stop: Callable[[], None]) -> dict[int, list[str]]:
        """Ray tells the devices of a bundle only to who holds all of them."""
        shared = {placed.bundle for placed in self._phase.placed if placed.actor.shares and placed.bundle is not None}
        ask = ray.remote(_own_devices)
        asking = {
            ask.options(
                **self._accelerator.ray_options(self._phase.bundles[bundle].devices),
                scheduling_strategy=self.strategy(bundle),
            ).remote(self._accelerator.ray_resource): bundle
            for bundle in sorted(shared)
        }
        end, left = time.monotonic() + wait_s, list(asking)
        while left:
            _, left = ray.wait(left, num_returns=len(left), timeout=min(POLL_S, wait_s))
            stop()
            self._require_nodes()
            if left and time.monotonic() >= end:
                nodes = sorted({self._phase.bundles[asking[call]].node for call in left})
                raise RunError(
                    f"{', '.join(nodes)} did not tell within {wait_s:g} s (cluster.wait_s) which devices were granted "
                    "there: look at its raylet; the same command begins anew"
                )
        return {bundle: ray.get(call) for call, bundle in asking.items()}


def pinned(phase: Phase, nodes: Sequence[Node], accelerator: Accelerator) -> list[dict[str, float]]:
    """The plan's bundles as Ray is asked for them, each with the resource that its node alone has."""
    address = {node.name: node.address for node in nodes}
    wanted = asked(phase, accelerator.ray_resource)
    return [{**one["resources"], f"node:{address[one['node']]}": PIN} for one in wanted]


def _living() -> set[str]:
    return {node["NodeID"] for node in ray.nodes() if node["Alive"]}


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


def _own_devices(resource: str) -> list[str]:
    return ray.get_runtime_context().get_accelerator_ids()[resource]
