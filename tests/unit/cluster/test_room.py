"""A running Ray that can never place a stage's actors is found out before one of them is made."""

from __future__ import annotations

import pytest

from pangu_rl.accelerators import get_accelerator
from pangu_rl.cluster.room import misfit
from tests.unit.cluster.test_plan import grpo


def nodes(*devices: int, resource: str = "NPU") -> list[dict]:
    """As `ray.nodes()` has them, each with so many devices."""
    return [
        {
            "NodeManagerHostname": "host",
            "Resources": {"CPU": 8.0, "memory": 2.0**34, **({resource: float(count)} if count else {})},
        }
        for count in devices
    ]


@pytest.mark.parametrize(
    ("config", "there", "says"),
    [
        (grpo(actors=2, width=4, ranks=2), nodes(0, 6, 4), None),
        (
            grpo(),
            nodes(0, 0),
            "cluster.accelerator is npu and no node of this Ray has any NPU (host 0 has 0, host 1 has 0): start its "
            "nodes where the devices are, or choose another cluster.accelerator",
        ),
        (
            grpo(actors=2, width=4, ranks=1),
            nodes(4, 3),
            "rollout actor 1 asks for 4 devices on one node; 3 are free, at most 3 of them on one node (host 1): "
            "fewer actors, more nodes, or a rollout.devices_per_actor that divides a node's devices (host 0 has 4, "
            "host 1 has 3 NPU)",
        ),
        (
            grpo(ranks=9),
            nodes(8),
            "learner rank 7 (and 1 more up to learner rank 8) asks for 1 device on one node, and all 8 are taken: "
            "fewer actors or more nodes (host 0 has 8 NPU)",
        ),
        (
            grpo(width=8),
            nodes(8, resource="GPU"),
            "cluster.accelerator is npu and no node of this Ray has any NPU (host 0 has 0): start its nodes where the "
            "devices are, or choose another cluster.accelerator",
        ),
    ],
)
def test_what_can_never_be_placed(config, there, says):
    assert misfit("grpo", config, there, get_accelerator("npu")) == says
