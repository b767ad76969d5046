"""The plan of a run -> **one Ray placement group, and the options of every actor**.

All bundles are one group, pinned to their nodes (`bundles.py`), so two jobs never hold half of what each needs. An
actor that died leaves its bundle to the one that replaces it; what lay on a node that is gone moves to devices that are
free, each block to one node, in a further group. Actors without devices get no bundle, since Ray has no empty ones:
they are sent to their node, and elsewhere if it is gone. All groups end with the run, or with its driver.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import ray
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from pangu_rl.accelerators import Accelerator
from pangu_rl.cluster.bundles import Bundles
from pangu_rl.cluster.demand import ENGINE, LEARNER, REWARD, ROLES, SCORER, Block, blocks_of
from pangu_rl.cluster.live_plan import live_nodes, live_phase, with_free
from pangu_rl.cluster.nodes import Node
from pangu_rl.cluster.plan import Phase, Placed, place
from pangu_rl.errors import NoPlace, RunError

log = logging.getLogger(__name__)

LOOK_S = 1.0
"""Between two looks at which nodes live, whoever asks for it."""
MOVE_S = 30.0
"""For Ray to grant devices that nobody holds."""

Options = dict[str, Any]
"""Arguments of Ray's `.options()`."""


@dataclass(frozen=True, slots=True)
class _Place:
    """Of one actor."""

    placed: Placed
    node: Node
    bundles: Bundles | None
    """None of an actor without devices."""

    @property
    def name(self) -> str:
        return self.placed.actor.name


class Placement:
    """Where each actor of a run goes. Every method gives Ray's options of one actor, whoever makes it and how often.

    Raises (`*_options`):
        NoPlace: its node is gone, and its devices are nowhere else to be had.
    """

    def __init__(
        self,
        blocks: Sequence[Block],
        phase: Phase,
        nodes: Sequence[Node],
        accelerator: Accelerator,
        bundles: Bundles | None = None,
    ) -> None:
        """`phase` is the plan of `blocks`, `bundles` what was granted of it."""
        self._blocks, self._accelerator = blocks, accelerator
        self._groups = [bundles] if bundles is not None else []
        self._places: dict[str, _Place] = {}
        """Of each actor, by its name."""
        self._take(phase, nodes, bundles)
        self._names = {role: [one.actor.name for one in phase.placed if one.actor.role == role] for role in ROLES}
        self._looked_at, self._lost_now = time.monotonic(), frozenset[str]()
        self._moving = threading.Lock()
        # Weights in the memory of one node, and engines on the devices of ranks, are of no use elsewhere.
        self._stays = any(one.actor.shares for one in phase.placed) or (
            bool(self._names[ENGINE] and self._names[LEARNER]) and self.shares_memory
        )

    def scorer_options(self, index: int) -> Options:
        """Of the scorers' engines, in the order of the configuration."""
        return self._options(self._names[SCORER][index])

    def engine_options(self, index: int) -> Options:
        self._look()  # the engine before may have died with its node just now
        return self._options(self._names[ENGINE][index])

    def learner_options(self, rank: int) -> Options:
        if rank == 0:
            self._look()  # as above; all ranks are asked for together
        try:
            return self._options(self._names[LEARNER][rank])
        except NoPlace as error:
            raise NoPlace(
                f"{error}; the same command goes on from the newest checkpoint, once the cluster has what it asks for"
            ) from None

    def reward_options(self, index: int) -> Options:
        return self._options(self._names[REWARD][index])

    def beside_learner(self, rank: int) -> Options:
        """Of an actor without devices on the node of a rank."""
        return _near(self._places[self._names[LEARNER][rank]].node)

    def engine_lost(self, index: int) -> str | None:
        """The node of its devices, if that is gone: whoever waits there to start never does."""
        return self._lost(self._names[ENGINE][index])

    def learner_lost(self, rank: int) -> str | None:
        """As `engine_lost`."""
        return self._lost(self._names[LEARNER][rank])

    @property
    def shares_memory(self) -> bool:
        """Whether all engines are on the node of rank 0, which publishes the weights."""
        engines = {self._places[name].node.id for name in self._names[ENGINE]}
        return engines == {self._places[self._names[LEARNER][0]].node.id}

    def give_back(self) -> None:
        for bundles in self._groups:
            bundles.give_back()

    def _options(self, name: str) -> Options:
        with self._moving:  # engines are replaced in one thread, ranks in another
            if self._lost(name) is not None:
                self._move(name)
        place = self._places[name]
        if place.bundles is None:
            return _near(place.node)
        bundle = place.placed.bundle
        strategy = place.bundles.strategy(bundle)
        if not place.placed.actor.shares:
            return {**self._accelerator.ray_options(place.placed.actor.devices), "scheduling_strategy": strategy}
        # Ray's books give the devices to the ranks, and to an actor without any it shows none.
        environment = {self._accelerator.visible_env: ",".join(place.bundles.visible[bundle])}
        environment[self._accelerator.noset_env] = "1"
        return {"num_cpus": 0, "scheduling_strategy": strategy, "runtime_env": {"env_vars": environment}}

    def _take(self, phase: Phase, nodes: Sequence[Node], bundles: Bundles | None) -> None:
        named = {node.name: node for node in nodes}
        self._places = self._places | {
            one.actor.name: _Place(one, named[one.node], None if one.bundle is None else bundles)
            for one in phase.placed
        }

    def _look(self) -> None:
        """At which actors have lost their devices."""
        gone = {bundles: bundles.lost() for bundles in self._groups}
        self._lost_now = frozenset(
            one.name
            for one in self._places.values()
            if one.bundles is not None and one.placed.bundle in gone[one.bundles]
        )
        self._looked_at = time.monotonic()

    def _lost(self, name: str) -> str | None:
        if time.monotonic() - self._looked_at >= LOOK_S:
            self._look()
        return self._places[name].node.name if name in self._lost_now else None

    def _move(self, name: str) -> None:
        """Devices elsewhere for all that was lost, ranks first: without one of them nothing is trained."""
        home = self._places[name].node.name
        if self._stays:
            raise NoPlace(f"the node of {name}, {home}, is gone, and with it what engines and learner shared there")
        lost = [block for block in self._blocks if block.actors[0].name in self._lost_now]
        nodes = live_nodes(self._accelerator)
        free = with_free(nodes, self._accelerator.ray_resource)
        for is_learner in (True, False):
            own = [block for block in lost if (block.actors[0].role == LEARNER) == is_learner]
            free = self._moved(own, nodes, free)
        if name in self._lost_now:
            wanted = next(block for block in lost if name in [actor.name for actor in block.actors]).devices
            there = ", ".join(f"{node.name} {node.devices}" for node in free)
            raise NoPlace(
                f"the node of {name}, {home}, is gone, and no other has {wanted} free devices for it ({there})"
            )

    def _moved(self, blocks: Sequence[Block], nodes: Sequence[Node], free: Sequence[Node]) -> Sequence[Node]:
        """What is free when those of the `blocks` have moved for which there is room."""
        phase = place("moved", blocks, free) if any(node.devices for node in free) else Phase(name="moved")
        if not phase.bundles:
            return free
        try:
            bundles = Bundles(phase, nodes, self._accelerator, MOVE_S)
        except RunError:
            log.warning("devices of %s went to others just now", ", ".join({one.node for one in phase.bundles}))
            return free
        before = self._places
        self._groups.append(bundles)
        self._take(phase, nodes, bundles)
        for block in blocks:
            old, new = (places[block.actors[0].name].node for places in (before, self._places))
            if old is not new:
                log.warning("%s: moved to %s, since node %s is gone", block.name, new.name, old.name)
        self._lost_now -= {one.actor.name for one in phase.placed}
        used: Counter[str] = Counter()
        for bundle in phase.bundles:
            used[bundle.node] += bundle.devices
        return [replace(node, devices=node.devices - used[node.name]) for node in free]


def _near(node: Node) -> Options:
    if node.id not in {there["NodeID"] for there in ray.nodes() if there["Alive"]}:
        return {"num_cpus": 0}  # its node is gone: whoever replaces it may run anywhere
    # Not soft: Ray sends an actor that asks for nothing to any node then.
    return {"num_cpus": 0, "scheduling_strategy": NodeAffinitySchedulingStrategy(node.id, soft=False)}


@contextmanager
def open_placement(
    config: Any, accelerator: Accelerator, stop: Callable[[], None] = lambda: None
) -> Iterator[Placement]:
    """Ask Ray for the devices of one run; they are given back with the context. `stop` is asked while it waits.

    Nodes are chosen by what is free now; where that is too little, by what they have, and the run waits.

    Raises:
        RunError: Ray did not grant the group within `cluster.wait_s`, or has no nodes for it any more.
    """
    placement = _opened(blocks_of(config), accelerator, config.cluster.wait_s, stop)
    try:
        yield placement
    finally:
        placement.give_back()


def _opened(blocks: Sequence[Block], accelerator: Accelerator, wait_s: float, stop: Callable[[], None]) -> Placement:
    while True:
        nodes = live_nodes(accelerator)
        phase = live_phase(blocks, nodes, accelerator)
        if phase.problems:  # there was room when the run began: its ranks start again after one was lost
            raise RunError(
                f"{'; '.join(phase.problems)}; nodes have left this Ray since the run began: the same command goes on "
                "from the newest checkpoint, once the cluster has what it asks for"
            )
        for node in nodes:
            if here := [placed.actor.name for placed in phase.placed if placed.node == node.name]:
                log.info("%s: %s", node.name, ", ".join(here))
        try:
            bundles = Bundles(phase, nodes, accelerator, wait_s, stop) if phase.bundles else None
        except NoPlace as error:
            log.warning("%s: they are looked for anew", error)
            continue
        return Placement(blocks, phase, nodes, accelerator, bundles)
