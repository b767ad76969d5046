"""What lay on a lost node, by plans on described nodes: it moves as a block, ranks first, or has no place.

`test_lost_nodes.py` loses real nodes.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from pangu_rl.accelerators import get_accelerator
from pangu_rl.cluster import placement
from pangu_rl.cluster.demand import blocks_of
from pangu_rl.cluster.nodes import Node
from pangu_rl.cluster.placement import Placement, open_placement
from pangu_rl.cluster.plan import Phase, place
from pangu_rl.config.stages import GrpoConfig
from pangu_rl.errors import NoPlace, RunError
from tests.unit.cluster.test_plan import grpo

NPU = get_accelerator("npu")


class Machines:
    """Nodes by name with their devices, and what Ray has granted of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **devices: int) -> None:
        self.nodes = [Node(name=name, id=name, devices=count, memory_gib=64) for name, count in devices.items()]
        self.dead: set[str] = set()
        self.taken: dict[str, int] = {}
        self.refuses = False
        self.leaving: set[str] = set()
        """Those that go before anything is granted."""
        monkeypatch.setattr(placement, "LOOK_S", 0.0)
        monkeypatch.setattr(placement, "live_nodes", lambda _: [one for one in self.nodes if one.name not in self.dead])
        monkeypatch.setattr(placement, "with_free", self.with_free)
        monkeypatch.setattr(placement, "live_phase", lambda blocks, nodes, _: place("now", blocks, nodes))
        monkeypatch.setattr(placement, "_near", lambda node: {"num_cpus": 0, "node": node.name})
        monkeypatch.setattr(placement, "Bundles", lambda phase, *_: Granted(self, phase))

    def with_free(self, nodes: Sequence[Node], _: str | None) -> list[Node]:
        return [replace(node, devices=node.devices - self.taken.get(node.name, 0)) for node in nodes]

    def run(self, config: GrpoConfig) -> Placement:
        blocks = blocks_of(config)
        phase = place("now", blocks, self.nodes)
        return Placement(blocks, phase, self.nodes, NPU, Granted(self, phase))


class Granted:
    def __init__(self, machines: Machines, phase: Phase) -> None:
        if machines.refuses:
            raise RunError("not granted within 30 s")
        if machines.leaving:
            machines.dead |= machines.leaving
            machines.leaving = set()
            raise NoPlace("b left this Ray")
        self._machines, self._phase = machines, phase
        for bundle in phase.bundles:
            machines.taken[bundle.node] = machines.taken.get(bundle.node, 0) + bundle.devices

    def lost(self) -> set[int]:
        return {index for index, one in enumerate(self._phase.bundles) if one.node in self._machines.dead}

    def give_back(self) -> None:
        pass

    def strategy(self, bundle: int) -> str:
        return self._phase.bundles[bundle].node


def node_of(options: dict) -> str:
    return options["scheduling_strategy"]


def of(ranks: int, degree: int = 1, **more: object) -> GrpoConfig:
    return grpo(learner={"ranks": ranks, "sequence_parallel": degree, "zero_stage": 1}, **more)


def test_a_node_that_is_gone_gives_its_ranks_and_engines_to_another(monkeypatch, caplog):
    """The engine of 2 fills `a`, the two groups of 2 `b` and `c`: what was on `b` goes to `d`, all of a group."""
    machines = Machines(monkeypatch, a=2, b=2, c=2, d=2)
    found = machines.run(of(4, 2, actors=1, width=2))
    assert [node_of(found.learner_options(rank)) for rank in range(4)] == ["b", "b", "c", "c"]
    machines.dead = {"b"}
    assert [found.learner_lost(rank) for rank in range(4)] == ["b", "b", None, None]
    assert found.engine_lost(0) is None
    assert found.reward_options(0)["num_cpus"] == 0
    assert [node_of(found.learner_options(rank)) for rank in range(4)] == ["d", "d", "c", "c"]
    assert caplog.messages == ["learner ranks 0 to 1: moved to d, since node b is gone"]
    assert found.learner_lost(0) is None and node_of(found.engine_options(0)) == "a"


def test_ranks_take_what_is_free_before_an_engine_that_asks_first(monkeypatch):
    """`a` had rank 0 and an engine, and one device of `b` is free: without the rank nothing would be trained."""
    machines = Machines(monkeypatch, a=2, b=2, c=1)
    found = machines.run(of(2, actors=2, width=1))
    homes = [node_of(found.engine_options(0)), node_of(found.engine_options(1))]
    homes += [node_of(found.learner_options(0)), node_of(found.learner_options(1))]
    assert homes == ["c", "a", "a", "b"]
    machines.dead = {"a"}
    with pytest.raises(
        NoPlace, match=r"^the node of rollout actor 1, a, is gone, and no other has 1 free .*\(b 0, c 0\)$"
    ):
        found.engine_options(1)
    assert [node_of(found.learner_options(rank)) for rank in range(2)] == ["b", "b"]


def test_a_rank_without_a_place_names_its_node_and_the_way_out(monkeypatch):
    machines = Machines(monkeypatch, a=2, b=2, c=1)
    found = machines.run(of(2, 2, actors=1, width=1))
    home = node_of(found.learner_options(0))
    machines.dead = {home}
    machines.nodes = [node for node in machines.nodes if node.name in (home, "c")]
    says = rf"^the node of learner rank 1, {home}, is gone, and no other has 2 free .*; the same command goes on from"
    with pytest.raises(NoPlace, match=says):
        found.learner_options(1)
    # A node that came back, or a new one.
    machines.nodes.append(Node(name="d", id="d", devices=2, memory_gib=64))
    assert node_of(found.learner_options(1)) == "d"
    machines.dead |= {"d"}
    machines.nodes.append(Node(name="e", id="e", devices=2, memory_gib=64))
    machines.refuses = True  # another job was faster
    with pytest.raises(NoPlace):
        found.learner_options(1)


@pytest.mark.parametrize("shared", [False, True])
def test_what_shares_the_memory_of_a_node_has_no_place_elsewhere(monkeypatch, shared):
    machines = Machines(monkeypatch, a=4, b=4)
    config = of(2, rollout={"placement": "shared", "actors": 2}) if shared else of(2, actors=1, width=2)
    found = machines.run(config)
    machines.dead = {"a"}
    for options, name in ((found.engine_options, "rollout actor 0"), (found.learner_options, "learner rank 0")):
        with pytest.raises(NoPlace, match=rf"^the node of {name}, a, is gone, and with it what engines and learner"):
            options(0)


def test_a_plan_with_a_node_that_leaves_is_made_anew_and_one_that_fits_no_more_is_one_line(monkeypatch):
    """Ray takes a while to see that a node is gone, and would wait for its devices."""
    machines = Machines(monkeypatch, a=1, b=2, c=2)
    machines.leaving = {"b"}
    with open_placement(of(2), NPU) as found:
        assert [node_of(found.learner_options(rank)) for rank in range(2)] == ["c", "c"]
    machines.dead = {"b", "c"}
    with pytest.raises(RunError, match=r"learner rank 0 .*, and all 1 are taken .*; nodes have left this Ray"):
        open_placement(of(2), NPU).__enter__()
