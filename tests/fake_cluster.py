"""A Ray of several nodes on this machine, each with an address of its own and devices that are only counted."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import ray
from ray.cluster_utils import Cluster

STORE = 80 * 2**20


@contextmanager
def fake_cluster(devices: Sequence[int]) -> Iterator[Cluster]:
    """A node for each entry, the head first, with so many GPUs and as many NPUs; this process has joined it."""
    assert not ray.is_initialized(), "the tests before this one left their Ray"
    cluster = Cluster(initialize_head=True, head_node_args={**_node(devices[0]), "include_dashboard": False})
    try:
        for index, count in enumerate(devices[1:], start=1):
            cluster.add_node(wait=False, node_ip_address=f"127.0.0.{index + 1}", **_node(count))
        cluster.wait_for_nodes(timeout=120)
        ray.init(address=cluster.address, log_to_driver=False, logging_level=logging.ERROR)
        yield cluster
    finally:
        ray.shutdown()
        cluster.shutdown()


def _node(devices: int) -> dict[str, Any]:
    return {
        "num_cpus": 1,
        "num_gpus": devices,
        "resources": {"NPU": devices} if devices else {},
        "object_store_memory": STORE,
    }
