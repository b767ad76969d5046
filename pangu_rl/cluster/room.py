"""Stage configuration + the Ray that it has joined -> **refused at once if its actors can never be placed**.

Ray itself waits for ever for devices that no node has.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from typing import Any

from pangu_rl.accelerators import Accelerator
from pangu_rl.cluster.plan import GIB, phases_of, plan
from pangu_rl.config.cluster_profile import ClusterProfile, NodeGroup
from pangu_rl.config.sampling import IterativeConfig
from pangu_rl.errors import ConfigError

log = logging.getLogger(__name__)


def require_room(config: Any, accelerator: Accelerator) -> None:
    """In the driver, when Ray is there and before any actor is.

    Devices that another job holds are waited for, and the log says so.

    Raises:
        ConfigError: the living nodes together have too few devices, or none has enough for one actor.
    """
    if accelerator.ray_resource is None:
        return
    import ray

    stage = "iterative" if isinstance(config, IterativeConfig) else "the run"
    nodes = [node for node in ray.nodes() if node["Alive"]]
    if problem := misfit(stage, config, nodes, accelerator):
        raise ConfigError(problem)
    needed = max(sum(actor.devices for actor in actors) for _, actors in phases_of(stage, config))
    free = ray.available_resources().get(accelerator.ray_resource, 0.0)
    if free < needed:
        log.warning(
            "%d %s are asked for and %d are free: the run begins when other jobs give theirs back",
            needed,
            accelerator.ray_resource,
            free,
        )


def misfit(stage: str, config: Any, nodes: Sequence[Mapping[str, Any]], accelerator: Accelerator) -> str | None:
    """What can never be placed on `nodes` (as `ray.nodes()` describes them) and the way out; None if all fits."""
    resource = accelerator.ray_resource
    groups = [
        NodeGroup(
            name=f"{node['NodeManagerHostname']} {index}",
            devices=int(node["Resources"].get(resource, 0)),
            cpus=max(1, int(node["Resources"].get("CPU", 1))),
            memory_gib=max(1.0, node["Resources"].get("memory", 0.0) / GIB),
        )
        for index, node in enumerate(nodes)
    ]
    there = ", ".join(f"{group.name} has {group.devices}" for group in groups[:8])
    if not any(group.devices for group in groups):
        return (
            f"cluster.accelerator is {accelerator.name} and no node of this Ray has any {resource} ({there}): start "
            "its nodes where the devices are, or choose another cluster.accelerator"
        )
    profile = ClusterProfile(description="", accelerator=accelerator.name, nodes=tuple(groups))
    problems = [problem for phase in plan(stage, config, profile).phases for problem in phase.problems]
    return f"{'; '.join(problems)} ({there} {resource})" if problems else None
