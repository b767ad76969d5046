"""NVIDIA GPUs."""

from __future__ import annotations

import os

from pangu_rl.accelerators.base import Accelerator, Environment, device_memory, variables_named

_NETWORK = ("NCCL_", "GLOO_SOCKET_IFNAME")


def _detect() -> bool:
    import torch

    return torch.cuda.is_available()


def _train_env(threads: int) -> Environment:
    return {
        **variables_named(_NETWORK, os.environ),
        "OMP_NUM_THREADS": str(threads),
        "DS_ACCELERATOR": "cuda",
        "PYTORCH_CUDA_ALLOC_CONF": os.environ.get("PYTORCH_CUDA_ALLOC_CONF", "expandable_segments:True"),
    }


def _rollout_env(threads: int) -> Environment:
    # A forked worker would inherit the actor's CUDA context, which CUDA forbids.
    return {
        **variables_named(_NETWORK, os.environ),
        "OMP_NUM_THREADS": str(threads),
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }


CUDA = Accelerator(
    name="cuda",
    dist_backend="nccl",
    ds_accelerator="cuda",
    ray_resource="GPU",
    visible_env="CUDA_VISIBLE_DEVICES",
    noset_env="RAY_EXPERIMENTAL_NOSET_CUDA_VISIBLE_DEVICES",
    dtypes=("bfloat16", "float16", "float32"),
    attn_implementation="sdpa",
    detect=_detect,
    train_env=_train_env,
    rollout_env=_rollout_env,
    memory_stats=lambda: device_memory("cuda"),
)
