"""How engines sleep and sample is data of each device, and what a device lacks is refused by name."""

from __future__ import annotations

import pytest

from pangu_rl.accelerators.base import Accelerator
from pangu_rl.accelerators.cpu import CPU
from pangu_rl.accelerators.cuda import CUDA
from pangu_rl.accelerators.npu import NPU
from pangu_rl.config.sections.rollout import RolloutConfig
from pangu_rl.errors import ConfigError


def test_null_is_the_deepest() -> None:
    assert [device.sleep_level(None) for device in (CPU, CUDA, NPU)] == [2, 2, 1]
    assert CUDA.sleep_level(1) == 1


def test_a_level_that_engines_lack_is_refused_with_the_way_out() -> None:
    with pytest.raises(ConfigError, match=r"rollout.sleep_level is 2, and on npu engines sleep at level 1: set it to"):
        NPU.sleep_level(2)


def test_a_level_without_sleepers_is_refused() -> None:
    with pytest.raises(ValueError, match="sleep_level is 1 and placement is split"):
        RolloutConfig(sleep_level=1)


@pytest.mark.parametrize("nested", [False, True])
def test_experts_that_wake_up_as_others_are_refused(nested: bool) -> None:
    def require(device: Accelerator, text: dict[str, int]) -> None:
        device.require_sleeper({"text_config": text} if nested else text)

    for key in ("num_experts", "num_local_experts", "n_routed_experts"):
        require(CUDA, {key: 128})
        with pytest.raises(ConfigError, match=rf"placement is shared, the model has {key} 128, and on npu .*to split"):
            require(NPU, {key: 128})
    require(NPU, {"num_experts": 0, "hidden_size": 64})


def test_no_sleeper_has_expandable_segments() -> None:
    """vLLM's and vllm-ascend's allocators assert against them, and the driver's environment may ask for them."""
    assert NPU.rollout_env(1)["PYTORCH_NPU_ALLOC_CONF"] == "expandable_segments:False"
    assert CUDA.rollout_env(1)["PYTORCH_CUDA_ALLOC_CONF"] == "expandable_segments:False"
    assert "expandable_segments:True" in CUDA.train_env(1)["PYTORCH_CUDA_ALLOC_CONF"]
    assert NPU.sleep_args["additional_config"] == {"weight_nz_mode": 0}, "NZ is off for the waker too"


def test_a_top_k_that_the_sampler_does_not_take_is_refused() -> None:
    for device in (CPU, CUDA, NPU):
        device.require_top_k(0)
        device.require_top_k(1024)
    CUDA.require_top_k(1025)
    with pytest.raises(
        ConfigError, match=r"rollout.top_k is 1025, and on npu the sampler takes at most 1024: lower it"
    ):
        NPU.require_top_k(1025)
