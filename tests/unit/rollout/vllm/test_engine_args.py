"""What an engine is given, by the device that it is for."""

from __future__ import annotations

from pathlib import Path

import pytest

from pangu_rl.accelerators import ACCELERATORS
from pangu_rl.config.load import checked
from pangu_rl.config.sections.lora import GrpoLoraConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.rollout import RolloutConfig
from pangu_rl.records import SamplingParams
from rollout.engine import EngineSpec, before_stop

pytest.importorskip("vllm")

pytestmark = pytest.mark.slow  # the import alone takes longer than a quick test may


def given(device: str, **rollout) -> dict:
    from rollout.vllm.start import _engine_args

    spec = EngineSpec(
        model=checked(ModelConfig, {"path": "/m"}, "model"),
        rollout=checked(RolloutConfig, {"max_new_tokens": 8} | rollout, "rollout"),
        accelerator=ACCELERATORS[device],
        model_path=Path("/m"),
    )
    return _engine_args(spec)


@pytest.mark.parametrize(("device", "tokens"), [("cpu", 32), ("cuda", 32), ("npu", 128)])
def test_blocks_that_groups_share(device, tokens):
    assert given(device, prefix_caching=True)["block_size"] == tokens
    assert "block_size" not in given(device), "vLLM's own, which no group shares"


@pytest.mark.parametrize("device", sorted(ACCELERATORS))
def test_every_device_is_asked_for_the_log_probs_that_tokens_are_drawn_by(device):
    arguments = given(device)
    assert arguments["logprobs_mode"] == "processed_logprobs"
    assert arguments["worker_extension_cls"] == "rollout.vllm.worker.WeightSyncExtension"


def test_only_engines_that_take_turns_can_sleep():
    sleeper = given("npu", placement="shared")
    assert sleeper["enable_sleep_mode"] and sleeper["additional_config"] == {"weight_nz_mode": 0}
    assert not {"enable_sleep_mode", "additional_config"} & given("npu").keys()
    assert "additional_config" not in given("cuda", placement="shared")
    assert "enable_sleep_mode" not in given("cpu", placement="shared"), "vLLM has none there: the worker does it"


def test_an_adapter_has_room_beside_the_layers_that_it_names(tiny_model):
    from rollout.vllm.engine_args import adapter_args

    every = ["down_proj", "gate_proj", "k_proj", "o_proj", "q_proj", "up_proj", "v_proj"]
    for lora, rank, layers in (
        (GrpoLoraConfig(rank=9), 16, every),
        (GrpoLoraConfig(rank=512, targets=("layers.0.mlp.up_proj", "q_proj")), 512, ["q_proj", "up_proj"]),
    ):
        told = {"enable_lora": True, "max_lora_rank": rank, "lora_target_modules": layers}
        assert adapter_args(lora, tiny_model) == told


def test_strings_that_end_an_answer_are_looked_for_in_its_text():
    from rollout.vllm.engine import _sampling

    plain = _sampling(SamplingParams(), 1, (2, 7))
    assert plain.stop_token_ids == [2, 7]
    assert not plain.detokenize
    stopped = _sampling(SamplingParams(stop=("\n\nQ:",)), 1, (2,))
    assert stopped.stop == ["\n\nQ:"]
    assert stopped.detokenize
    assert before_stop("4\n\nQ: next", ("###", "\n\nQ:")) == "4"
    assert before_stop("4", ("###",)) == "4"
