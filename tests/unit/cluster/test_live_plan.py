"""A running Ray that can never place a stage's actors is found out before one of them is made."""

from __future__ import annotations

import pytest

from pangu_rl.accelerators import get_accelerator
from pangu_rl.cluster.demand import blocks_of
from pangu_rl.cluster.live_plan import misfit
from pangu_rl.cluster.nodes import nodes_of_profile, nodes_of_ray
from pangu_rl.cluster.plan import place
from tests.unit.cluster.test_plan import grpo, profile


def described(*devices: int, resource: str = "NPU", hosts: str = "abcdefgh") -> list[dict]:
    """As `ray.nodes()` has them, each with so many devices; the last one is the head, and there is a dead one."""
    nodes = [
        {
            "Alive": True,
            "NodeID": f"id{index}",
            "NodeManagerHostname": hosts[index],
            "NodeManagerAddress": f"10.0.0.{index}",
            "Resources": {"CPU": 8.0, "memory": 2.0**34, **({resource: float(count)} if count else {})},
        }
        for index, count in enumerate(devices)
    ]
    nodes[-1]["Resources"]["node:__internal_head__"] = 1.0
    return [{**nodes[0], "Alive": False, "NodeID": "dead"}, *nodes]


def test_nodes_are_ordered_and_told_apart():
    """The head first; hosts alone name them, and with their addresses where one host has several."""
    found = nodes_of_ray(described(8, 4, 0), "NPU")
    assert [(node.name, node.devices, node.id, node.address) for node in found] == [
        ("c", 0, "id2", "10.0.0.2"),
        ("a", 8, "id0", "10.0.0.0"),
        ("b", 4, "id1", "10.0.0.1"),
    ]
    assert [node.memory_gib for node in found] == [16, 16, 16]
    assert [node.name for node in nodes_of_ray(described(8, 4, hosts="aa"), "NPU")] == ["a 10.0.0.1", "a 10.0.0.0"]
    same = [node | {"NodeManagerAddress": "10.0.0.0"} for node in described(8, 4, hosts="aa")]
    assert len({node.name for node in nodes_of_ray(same, "NPU")}) == 2


def test_a_running_cluster_is_planned_as_a_described_one():
    """Only shapes decide: the same nodes from a profile and from Ray, and the same bundles node by node."""
    config = grpo(actors=3, width=4, ranks=10)
    live, shown = nodes_of_ray(described(8, 8, 8), "NPU"), nodes_of_profile(profile(count=3, devices=8))
    names = {mine.name: theirs.name for mine, theirs in zip(live, shown, strict=True)}
    ours, theirs = place("x", blocks_of(config), live), place("x", blocks_of(config), shown)
    assert [names[placed.node] for placed in ours.placed] == [placed.node for placed in theirs.placed]
    assert [(names[one.node], one.devices) for one in ours.bundles] == [(b.node, b.devices) for b in theirs.bundles]


@pytest.mark.parametrize(
    ("config", "there", "says"),
    [
        (grpo(actors=2, width=4, ranks=2), described(6, 4, 0), None),
        (
            grpo(),
            described(0, 0),
            "cluster.accelerator is npu and no node of this Ray has any NPU (b has 0, a has 0): start its nodes where "
            "the devices are, or choose another cluster.accelerator",
        ),
        (
            grpo(actors=2, width=4, ranks=1),
            described(4, 3),
            "rollout actor 1 asks for 4 devices on one node; 3 are free, at most 3 of them on one node (b): fewer "
            "actors, more nodes, or a rollout.devices_per_actor that divides a node's devices (b has 3, a has 4 NPU)",
        ),
        (
            grpo(ranks=9),
            described(8),
            "learner rank 7 (and 1 more up to learner rank 8) asks for 1 device on one node, and all 8 are taken "
            "(1 by rollout actors, 7 by learner ranks): fewer actors or more nodes (a has 8 NPU)",
        ),
        (
            grpo(width=8),
            described(8, resource="GPU"),
            "cluster.accelerator is npu and no node of this Ray has any NPU (a has 0): start its nodes where the "
            "devices are, or choose another cluster.accelerator",
        ),
    ],
)
def test_what_can_never_be_placed(config, there, says):
    accelerator = get_accelerator("npu")
    assert misfit("grpo", blocks_of(config), nodes_of_ray(there, "NPU"), accelerator) == says
