"""Ascend NPUs: the only module that imports torch_npu, and the one that knows CANN's environment knobs.

The knobs are read at a process's first use of the device, so they travel in the actors' environment, split by role:
the learner wants the deeper task queue and expandable segments, the engine's graph capture and sleep mode refuse them.
Sources: vllm-ascend 0.23.0 (worker, camem allocator), torch-npu 2.10 OptionsManager and NPUAllocatorConfig.
"""

from __future__ import annotations

import importlib.util
import logging
import os
import re
from collections.abc import Mapping
from itertools import accumulate
from typing import TYPE_CHECKING, Any

from pangu_rl.accelerators.base import Accelerator, Environment, device_memory, variables_named
from pangu_rl.errors import ConfigError

if TYPE_CHECKING:
    from torch import Tensor

    from pangu_rl.accelerators.attention.kernel import AttentionKernel

log = logging.getLogger(__name__)

_NETWORK = ("HCCL_", "GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME")
_HCCL_DEFAULTS = {
    # The first collective waits for the slowest rank's model load, far longer than the default of 120 s.
    "HCCL_CONNECT_TIMEOUT": "1800",
    "HCCL_EXEC_TIMEOUT": "3600",
    # Several processes may share one device's node: fixed ports would collide.
    "HCCL_HOST_SOCKET_PORT_RANGE": "auto",
    "HCCL_NPU_SOCKET_PORT_RANGE": "auto",
}
_AFFINITY = re.compile(r"[012](,npu\d+:\d+-\d+|,npu_affine:[01]|,force:[01]|,lazy_bind:[01])*")


def train_env(threads: int, environ: Mapping[str, str] = os.environ) -> Environment:
    """Environment of a learner actor; what the user exported wins over the defaults.

    Raises:
        ConfigError: a knob with a value that torch-npu refuses, or two that exclude each other.
    """
    env = {
        **_HCCL_DEFAULTS,
        **variables_named(_NETWORK, environ),
        "OMP_NUM_THREADS": str(threads),
        "DS_ACCELERATOR": "npu",
        "TASK_QUEUE_ENABLE": environ.get("TASK_QUEUE_ENABLE", "2"),
        "PYTORCH_NPU_ALLOC_CONF": environ.get("PYTORCH_NPU_ALLOC_CONF", "expandable_segments:True"),
        "CPU_AFFINITY_CONF": environ.get("CPU_AFFINITY_CONF", "1"),
    }
    _check_train(env)
    return env


def rollout_env(threads: int, environ: Mapping[str, str] = os.environ) -> Environment:
    """Environment of a rollout actor. The learner's knobs do not leak into it, whatever the user exported for them.

    Raises:
        ConfigError: VLLM_ASCEND_ENABLE_NZ is exported with another value than 0.
    """
    if environ.get("VLLM_ASCEND_ENABLE_NZ", "0") != "0":
        raise ConfigError(
            f"VLLM_ASCEND_ENABLE_NZ is {environ['VLLM_ASCEND_ENABLE_NZ']}, but weights are updated in place, which the "
            "NZ format forbids: unset it or set it to 0"
        )
    return {
        **_HCCL_DEFAULTS,
        **variables_named(_NETWORK, environ),
        "OMP_NUM_THREADS": str(threads),
        # Graph capture refuses 2; the engine binds its own cores; sleep mode asserts against expandable segments.
        "TASK_QUEUE_ENABLE": "1",
        "CPU_AFFINITY_CONF": "0",
        "PYTORCH_NPU_ALLOC_CONF": "expandable_segments:False",
        "VLLM_ASCEND_ENABLE_NZ": "0",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }


def _check_train(env: Environment) -> None:
    queue = env["TASK_QUEUE_ENABLE"]
    if queue not in ("0", "1", "2"):
        raise ConfigError(f"TASK_QUEUE_ENABLE is {queue!r}: torch-npu takes 0 (off), 1, or 2 (learner's default)")
    if not _AFFINITY.fullmatch(env["CPU_AFFINITY_CONF"]):
        raise ConfigError(
            f"CPU_AFFINITY_CONF is {env['CPU_AFFINITY_CONF']!r}: write a mode 0, 1 or 2, then e.g. ,npu0:0-15 or "
            ",npu_affine:1 without spaces"
        )
    pairs = (entry.partition(":") for entry in env["PYTORCH_NPU_ALLOC_CONF"].split(","))
    options = {key.strip(): value.strip() for key, _, value in pairs}
    excluded = options.keys() & {"max_split_size_mb", "garbage_collection_threshold"}
    if options.get("expandable_segments") == "True" and excluded:
        raise ConfigError(
            f"PYTORCH_NPU_ALLOC_CONF has expandable_segments:True and {sorted(excluded)[0]}, which exclude each other: "
            "drop one of the two"
        )


def _detect() -> bool:
    # An installed torch_npu proves nothing (without CANN its import fails, and not only with ImportError), but an
    # absent one settles the question without importing torch.
    if importlib.util.find_spec("torch_npu") is None:
        return False
    try:
        import torch
        import torch_npu  # noqa: F401
    except Exception as error:
        log.warning("torch_npu is installed and does not import, so no NPU is used: %r", error)
        return False
    return torch.npu.is_available()


def _varlen_attention(query: Tensor, key: Tensor, value: Tensor, lengths: tuple[int, ...], scale: float) -> Tensor:
    """The fused kernel in its layout TND, which takes cumulative lengths from the host, without the leading 0.

    Not yet run on hardware.
    """
    import torch_npu

    ends = list(accumulate(lengths))
    return torch_npu.npu_fusion_attention(
        query,
        key,
        value,
        query.shape[1],
        "TND",
        scale=scale,
        actual_seq_qlen=ends,
        actual_seq_kvlen=ends,
    )[0]


def _attention() -> AttentionKernel:
    from pangu_rl.accelerators.attention.fusion import FUSION
    from pangu_rl.accelerators.attention.merged import over_trees

    return over_trees(FUSION)


def _profiler() -> Any:
    """torch_npu's own, which stands beside torch's. Not yet run on hardware."""
    from torch_npu.profiler import ProfilerActivity, profile

    return profile(activities=[ProfilerActivity.CPU, ProfilerActivity.NPU])


NPU = Accelerator(
    name="npu",
    dist_backend="hccl",
    ds_accelerator="npu",
    ray_resource="NPU",
    visible_env="ASCEND_RT_VISIBLE_DEVICES",
    noset_env="RAY_EXPERIMENTAL_NOSET_ASCEND_RT_VISIBLE_DEVICES",
    dtypes=("bfloat16", "float16", "float32"),
    detect=_detect,
    train_env=train_env,
    rollout_env=rollout_env,
    memory_stats=lambda: device_memory("npu"),
    device_files="davinci[0-9]*",
    extra="ascend",
    varlen_attention=_varlen_attention,
    attention=_attention,
    profiler=_profiler,
    # At level 2 vllm-ascend 0.23 loses more than the weights that come again (experts' tables); verl too stays at 1.
    sleep_levels=(1,),
    # vllm-ascend sets 128 whatever it is given, where prompts are cached or cut into chunks.
    cache_block=128,
    # Waking reads this setting and a weight update the environment's VLLM_ASCEND_ENABLE_NZ: both must say no NZ.
    sleep_args={"enable_sleep_mode": True, "additional_config": {"weight_nz_mode": 0}},
)
