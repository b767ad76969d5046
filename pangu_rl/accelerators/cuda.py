"""NVIDIA GPUs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING

from pangu_rl.accelerators.base import (
    ENGINE,
    LEARNER,
    Accelerator,
    Environment,
    device_memory,
    torch_module,
    torch_profiler,
    variables_named,
    variables_of,
)

if TYPE_CHECKING:
    from pangu_rl.accelerators.attention.kernel import AttentionKernel

_NETWORK = ("NCCL_", "GLOO_SOCKET_IFNAME")


def _detect() -> bool:
    import torch

    return torch.cuda.is_available()


def _train_env(threads: int, environ: Mapping[str, str] = os.environ) -> Environment:
    return {
        **variables_named(_NETWORK, environ),
        "OMP_NUM_THREADS": str(threads),
        "DS_ACCELERATOR": "cuda",
        "PYTORCH_CUDA_ALLOC_CONF": environ.get("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True"),
        **variables_of(LEARNER, environ),
    }


def _rollout_env(threads: int, environ: Mapping[str, str] = os.environ) -> Environment:
    # A forked worker would inherit the actor's CUDA context, which CUDA forbids.
    return {
        **variables_named(_NETWORK, environ),
        "OMP_NUM_THREADS": str(threads),
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
        # Sleep mode asserts against expandable segments, which a driver's environment may ask for.
        "PYTORCH_CUDA_ALLOC_CONF": "expandable_segments:False",
        **variables_of(ENGINE, environ),
    }


def _attention() -> AttentionKernel:
    from pangu_rl.accelerators.attention.flash import FLASH
    from pangu_rl.accelerators.attention.merged import over_trees

    return over_trees(FLASH)


CUDA = Accelerator(
    name="cuda",
    dist_backend="nccl",
    ds_accelerator="cuda",
    ray_resource="GPU",
    visible_env="CUDA_VISIBLE_DEVICES",
    noset_env="RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES",
    dtypes=("bfloat16", "float16", "float32"),
    detect=_detect,
    module=lambda: torch_module("cuda"),
    train_env=_train_env,
    rollout_env=_rollout_env,
    memory_stats=lambda: device_memory(torch_module("cuda")),
    attention=_attention,
    profiler=lambda: torch_profiler("CPU", "CUDA"),
    sleep_levels=(1, 2),
    sleep_args={"enable_sleep_mode": True},
    device_files="nvidia[0-9]*",
    extra="cuda",
)
