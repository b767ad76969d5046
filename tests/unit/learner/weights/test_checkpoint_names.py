"""What engines are sent has the names and values of the checkpoint that transformers writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from pangu_rl.learner.weights.checkpoint_names import as_checkpoint, plan_units, sources_of
from pangu_rl.learner.weights.tensors import ModelWeights
from rollout.weights import required_names
from tests.unit.learner.families import tiny

FAST = ("llama", "gemma3_text", "qwen3_moe", "mixtral")
SLOW = (
    *("qwen2", "qwen3", "mistral", "gemma", "phi3", "glm4", "smollm3", "olmo2", "olmo3", "ernie4_5", "exaone4"),
    *("seed_oss", "hunyuan_v1_dense", "starcoder2", "granite", "cohere2", "qwen2_moe", "olmoe", "glm4_moe"),
    *("hunyuan_v1_moe", "granitemoe", "dots1", "ernie4_5_moe", "deepseek_v3", "gpt_oss", "phimoe", "minimax_m2"),
)


@pytest.mark.parametrize("family", [*FAST, *(pytest.param(family, marks=pytest.mark.slow) for family in SLOW)])
def test_a_sync_replaces_every_tensor_of_the_checkpoint(family: str, tmp_path: Path) -> None:
    lm = tiny(family)
    lm.save_pretrained(tmp_path)
    weights = ModelWeights(lm, gathered=lambda parameter: torch.no_grad())
    units = plan_units(lm, weights.described())
    sent = {name: tensor.clone() for name, tensor in as_checkpoint(lm, units, weights.stream(sources_of(units)))}
    assert sent.keys() == required_names(tmp_path)
    stored = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(tensor, stored[name]) for name, tensor in sent.items())
    assert {entry.name: entry.shape for unit in units for entry in unit.entries} == {
        name: tuple(tensor.shape) for name, tensor in sent.items()
    }
