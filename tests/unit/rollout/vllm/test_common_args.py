"""The numbers of a configuration that every engine is given, which needs no vLLM."""

from __future__ import annotations

from pathlib import Path

from pangu_rl.accelerators import ACCELERATORS
from pangu_rl.config.load import checked
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.rollout import RolloutConfig
from rollout.engine import EngineSpec
from rollout.vllm.engine_args import common_args

ROLLOUT = {"max_new_tokens": 8, "max_model_tokens": 640, "max_concurrent": 5, "devices_per_actor": 2}


def given(kv_cache_gib: float | None) -> dict:
    spec = EngineSpec(
        model=checked(ModelConfig, {"path": "/m", "dtype": "float32"}, "model"),
        rollout=checked(RolloutConfig, ROLLOUT | {"memory_share": 0.35, "eager": True}, "rollout"),
        accelerator=ACCELERATORS["cuda"],
        model_path=Path("/folder"),
        seed=11,
    )
    return common_args(spec, kv_cache_gib)


def test_what_the_configuration_says_is_what_the_engine_is_given():
    found = given(None)
    assert (found["model"], found["dtype"], found["seed"]) == ("/folder", "float32", 11)
    assert (found["max_model_len"], found["max_num_seqs"], found["tensor_parallel_size"]) == (640, 5, 2)
    assert found["enforce_eager"] is True


def test_the_cache_is_a_share_of_the_device_or_so_many_bytes():
    assert given(None)["gpu_memory_utilization"] == 0.35
    assert "kv_cache_memory_bytes" not in given(None)
    assert given(1.5)["kv_cache_memory_bytes"] == 1_610_612_736
