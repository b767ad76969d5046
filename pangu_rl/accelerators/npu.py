"""Ascend NPUs: the only module that imports torch_npu. The environment of their processes stands in `npu_env.py`."""

from __future__ import annotations

import importlib.util
import logging
import os
from typing import TYPE_CHECKING, Any

from pangu_rl.accelerators.base import Accelerator, device_memory
from pangu_rl.accelerators.npu_env import rollout_env, train_env
from pangu_rl.accelerators.npu_host import examine

if TYPE_CHECKING:
    from pangu_rl.accelerators.attention.kernel import AttentionKernel

log = logging.getLogger(__name__)

AUTOLOAD = "TORCH_DEVICE_BACKEND_AUTOLOAD"
"""Whether torch imports the plugins of devices that are installed beside it."""


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
    examine=examine,
    extra="ascend",
    attention=_attention,
    profiler=_profiler,
    # At level 2 vllm-ascend 0.23 loses more than the weights that come again (experts' tables); verl too stays at 1.
    sleep_levels=(1,),
    # Its `wake_up` transposes the weights of experts that were not transposed.
    experts_sleep=False,
    # vllm-ascend sets 128 whatever it is given, where prompts are cached or cut into chunks.
    cache_block=128,
    # Of `npu_top_k_top_p`, by which vllm-ascend filters on A2 and A3.
    most_top_k=1024,
    # Waking reads this setting and a weight update the environment's VLLM_ASCEND_ENABLE_NZ: both must say no NZ.
    sleep_args={"enable_sleep_mode": True, "additional_config": {"weight_nz_mode": 0}},
)
