"""What leaves the device for the host: configuration -> **DeepSpeed's settings, and proof that the host has room**."""

from __future__ import annotations

import socket
from typing import Any

import torch.distributed as dist

from pangu_rl.accelerators import get_accelerator
from pangu_rl.config.sections.learner import LearnerConfig
from pangu_rl.errors import ConfigError

OPTIMIZER_BYTES = 18
"""Of each trained weight of a rank's part: float32 weight, gradient and two moments, and the bf16 copy on its way."""


def offload_settings(learner: LearnerConfig) -> dict[str, Any]:
    """The entries of DeepSpeed's `zero_optimization`; pinned, so that copies run beside the device's work."""
    chosen = {"offload_optimizer": learner.offload.optimizer, "offload_param": learner.offload.parameters}
    return {name: {"device": place, "pin_memory": True} for name, place in chosen.items() if place != "none"}


def offloaded_bytes(learner: LearnerConfig, trained: int, model_bytes: int) -> int:
    """Host memory of one rank, for so many `trained` weights of a model of `model_bytes`."""
    optimizer = OPTIMIZER_BYTES * trained if learner.offload.optimizer == "cpu" else 0
    parameters = model_bytes if learner.offload.parameters == "cpu" else 0
    return -(-(optimizer + parameters) // learner.ranks)


def check_host_memory(needed: int, who: str) -> None:
    """Refuse, on all ranks alike, `needed` bytes a rank of which some node has too few; collective. `who` keeps them.

    Raises:
        ConfigError: names the node, with both sizes.
    """
    own = (socket.gethostname(), get_accelerator("cpu").memory_stats()["free"])
    found = [own]
    if dist.get_world_size() > 1:
        found = [own] * dist.get_world_size()
        dist.all_gather_object(found, own)
    for node in sorted({node for node, _ in found}):
        free = [bytes_free for name, bytes_free in found if name == node]
        if needed * len(free) > min(free):
            raise ConfigError(
                f"{who} {needed * len(free) / 2**30:.3g} GiB of {len(free)} ranks in the memory of "
                f"node {node}, which has {min(free) / 2**30:.3g} GiB free: use more nodes, or keep less there"
            )
