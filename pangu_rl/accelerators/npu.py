"""Ascend NPUs: the only module that imports torch_npu, and the one that knows CANN's environment knobs.

The knobs are read at a process's first use of the device, so they travel in the actors' environment, split by role:
the learner wants the deeper task queue and expandable segments, the engine's graph capture and sleep mode refuse them.
Sources: vllm-ascend 0.23.0 (worker, camem allocator), torch-npu 2.10 OptionsManager and NPUAllocatorConfig.
"""

from __future__ import annotations

import importlib.util
import logging
import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from pangu_rl.accelerators.base import Accelerator, Environment, device_memory, variables_named
from pangu_rl.accelerators.npu_settings import ALLOCATOR, check_settings
from pangu_rl.errors import ConfigError

if TYPE_CHECKING:
    from pangu_rl.accelerators.attention.kernel import AttentionKernel

log = logging.getLogger(__name__)

AUTOLOAD = "TORCH_DEVICE_BACKEND_AUTOLOAD"
"""Whether torch imports the plugins of devices that are installed beside it."""
_NETWORK = ("HCCL_", "GLOO_SOCKET_IFNAME", "TP_SOCKET_IFNAME")
_HCCL_DEFAULTS = {
    # The first collective waits for the slowest rank's model load, far longer than the default of 120 s.
    "HCCL_CONNECT_TIMEOUT": "1800",
    "HCCL_EXEC_TIMEOUT": "3600",
    # Several processes may share one device's node: fixed ports would collide.
    "HCCL_HOST_SOCKET_PORT_RANGE": "auto",
    "HCCL_NPU_SOCKET_PORT_RANGE": "auto",
}


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
        ALLOCATOR: environ.get(ALLOCATOR, "expandable_segments:True"),
        "CPU_AFFINITY_CONF": environ.get("CPU_AFFINITY_CONF", "1"),
    }
    check_settings(env, environ)
    return env


def rollout_env(threads: int, environ: Mapping[str, str] = os.environ) -> Environment:
    """Environment of a rollout actor. The learner's knobs do not leak into it, whatever the user exported for them.

    Raises:
        ConfigError: VLLM_ASCEND_ENABLE_NZ is exported with another value than 0, or the allocator has two settings.
    """
    if environ.get("VLLM_ASCEND_ENABLE_NZ", "0") != "0":
        raise ConfigError(
            f"VLLM_ASCEND_ENABLE_NZ is {environ['VLLM_ASCEND_ENABLE_NZ']}, but weights are updated in place, which the "
            "NZ format forbids: unset it or set it to 0"
        )
    env = {
        **_HCCL_DEFAULTS,
        **variables_named(_NETWORK, environ),
        "OMP_NUM_THREADS": str(threads),
        # Graph capture refuses 2; the engine binds its own cores; sleep mode asserts against expandable segments.
        "TASK_QUEUE_ENABLE": "1",
        "CPU_AFFINITY_CONF": "0",
        ALLOCATOR: "expandable_segments:False",
        "VLLM_ASCEND_ENABLE_NZ": "0",
        "VLLM_WORKER_MULTIPROC_METHOD": "spawn",
    }
    check_settings(env, environ)
    return env


def _detect() -> bool:
    # An installed torch_npu proves nothing (without CANN its import fails, and not only with ImportError), but an
    # absent one settles the question without importing torch.
    if importlib.util.find_spec("torch_npu") is None:
        return False
    autoload = os.environ.get(AUTOLOAD)
    # torch would import it too, and be left half imported where that fails.
    os.environ[AUTOLOAD] = "0"
    try:
        found = _module().is_available()
    except Exception as error:
        # The setting stays, for this process and its children: torch would fail in each of them.
        log.warning("torch_npu is installed and does not import, so no NPU is used: %r", error)
        return False
    if autoload is None:
        del os.environ[AUTOLOAD]
    else:
        os.environ[AUTOLOAD] = autoload
    return found


def _module() -> Any:
    """`torch.npu`. Imported by name: torch's own loading of it may be off."""
    import torch_npu

    return torch_npu.npu


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
    module=_module,
    memory_stats=lambda: device_memory(_module()),
    device_files="davinci[0-9]*",
    extra="ascend",
    attention=_attention,
    profiler=_profiler,
    # At level 2 vllm-ascend 0.23 loses more than the weights that come again (experts' tables); verl too stays at 1.
    sleep_levels=(1,),
    # Waking reads this setting and a weight update the environment's VLLM_ASCEND_ENABLE_NZ: both must say no NZ.
    sleep_args={"enable_sleep_mode": True, "additional_config": {"weight_nz_mode": 0}},
)
