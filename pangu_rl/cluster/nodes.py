"""A cluster's nodes as the planner sees them: **one record, from a profile or from a running Ray**."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pangu_rl.config.cluster_profile import ClusterProfile

GIB = 2**30


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    name: str
    devices: int
    memory_gib: float
    device_memory_gib: float | None = None
    """Of one device; None where nobody can tell."""
    id: str = ""
    """Ray's, of a node that runs."""
    address: str = ""
    """The same: its IP."""


def nodes_of_profile(profile: ClusterProfile) -> list[Node]:
    """The head first."""
    return [
        Node(
            name=group.name if group.count == 1 else f"{group.name} {index}",
            devices=group.devices,
            memory_gib=group.memory_gib,
            device_memory_gib=group.device_memory_gib,
        )
        for group in profile.nodes
        for index in range(group.count)
    ]


def nodes_of_ray(described: Sequence[Mapping[str, Any]], resource: str | None) -> list[Node]:
    """The living ones among `ray.nodes()`, the head first, then by name; `resource` is Ray's name of the devices."""
    living = [node for node in described if node["Alive"]]
    living.sort(key=lambda node: (not _is_head(node), node["NodeManagerHostname"], node["NodeManagerAddress"]))
    return [
        Node(
            name=name,
            devices=int(node["Resources"].get(resource, 0)) if resource else 0,
            memory_gib=node["Resources"].get("memory", 0.0) / GIB,
            id=node["NodeID"],
            address=node["NodeManagerAddress"],
        )
        for name, node in zip(_names(living), living, strict=True)
    ]


def _names(described: Sequence[Mapping[str, Any]]) -> list[str]:
    """Hosts; with the address, then with Ray's identifier, where those before do not tell the nodes apart."""
    hosts = [node["NodeManagerHostname"] for node in described]
    longer = [f"{host} {node['NodeManagerAddress']}" for host, node in zip(hosts, described, strict=True)]
    whole = [f"{name} {node['NodeID'][:8]}" for name, node in zip(longer, described, strict=True)]
    return next(names for names in (hosts, longer, whole) if len(set(names)) == len(names) or names is whole)


def _is_head(node: Mapping[str, Any]) -> bool:
    return "node:__internal_head__" in node["Resources"]
