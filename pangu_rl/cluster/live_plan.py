"""Stage configuration + the Ray that it has joined -> **its plan on the nodes that live**, or a refusal at once.

Ray itself waits for ever for devices that no node has.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import ray
from ray._private.state import available_resources_per_node

from pangu_rl.accelerators import Accelerator
from pangu_rl.cluster.demand import Block, phases_of
from pangu_rl.cluster.nodes import Node, nodes_of_ray
from pangu_rl.cluster.plan import Phase, place
from pangu_rl.errors import ConfigError


def require_room(config: Any, accelerator: Accelerator) -> None:
    """In the driver, when Ray is there and before any actor is. Of a stage in several runs, for all of them.

    Raises:
        ConfigError: the nodes cannot hold what one of them needs, even if other jobs leave everything to it.
    """
    nodes = live_nodes(accelerator)
    for name, blocks in phases_of("the run", config):
        if problem := misfit(name, blocks, nodes, accelerator):
            raise ConfigError(problem)


def misfit(name: str, blocks: Sequence[Block], nodes: Sequence[Node], accelerator: Accelerator) -> str | None:
    """What can never be placed on `nodes` and the way out; None if all fits."""
    resource = accelerator.ray_resource
    if resource is None or not any(block.devices for block in blocks):
        return None
    there = ", ".join(f"{node.name} has {node.devices}" for node in nodes[:8])
    if not any(node.devices for node in nodes):
        return (
            f"cluster.accelerator is {accelerator.name} and no node of this Ray has any {resource} ({there}): start "
            "its nodes where the devices are, or choose another cluster.accelerator"
        )
    problems = place(name, blocks, nodes).problems
    return f"{'; '.join(problems)} ({there} {resource})" if problems else None


def live_phase(blocks: Sequence[Block], nodes: Sequence[Node], accelerator: Accelerator) -> Phase:
    """Where the actors go: by what is free now; where that is too little, by what the nodes have."""
    free = with_free(nodes, accelerator.ray_resource)
    now = place("now", blocks, free)
    if any(node.devices for node in free) and not now.problems:
        return now
    return place("when other jobs have given theirs back", blocks, nodes)


def live_nodes(accelerator: Accelerator) -> list[Node]:
    return nodes_of_ray(ray.nodes(), accelerator.ray_resource)


def with_free(nodes: Sequence[Node], resource: str | None) -> list[Node]:
    """The same with those of their devices that nobody holds."""
    free = available_resources_per_node()
    return [replace(node, devices=min(node.devices, int(free.get(node.id, {}).get(resource, 0.0)))) for node in nodes]
