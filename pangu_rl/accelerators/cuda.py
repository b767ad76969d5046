"""NVIDIA GPUs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import lru_cache
from itertools import accumulate
from typing import TYPE_CHECKING

from pangu_rl.accelerators.base import (
    ENGINE,
    LEARNER,
    Accelerator,
    Environment,
    device_memory,
    torch_profiler,
    variables_named,
    variables_of,
)

if TYPE_CHECKING:
    import torch
    from torch import Tensor

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


def _varlen_attention(query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], scale: float) -> Tensor:
    """torch's flash attention over cumulative lengths, which has no float32; that goes through SDPA.

    Not yet run on hardware.
    """
    import torch
    from torch.nn.attention.varlen import varlen_attn

    from pangu_rl.accelerators.varlen import sdpa_by_length

    if query.dtype == torch.float32:
        return sdpa_by_length(query, key, value, lengths, scale)
    ends, longest = _cumulative(lengths, query.device), max(lengths)
    return varlen_attn(query, key, value, ends, ends, longest, longest, scale=scale)


@lru_cache(maxsize=16)  # every layer of a forward pass asks for the same one or two
def _cumulative(lengths: tuple[int, ...], device: torch.device) -> Tensor:
    """int32 [N + 1] on `device`, from 0."""
    import torch

    with torch.inference_mode(False):  # kept for calls that autograd follows, whoever asks first
        return torch.tensor((0, *accumulate(lengths)), dtype=torch.int32, device=device)


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
    train_env=_train_env,
    rollout_env=_rollout_env,
    memory_stats=lambda: device_memory("cuda"),
    varlen_attention=_varlen_attention,
    attention=_attention,
    profiler=lambda: torch_profiler("CPU", "CUDA"),
    sleep_levels=(1, 2),
    sleep_args={"enable_sleep_mode": True},
    device_files="nvidia[0-9]*",
    extra="cuda",
)
