"""What engines are sent has the names and values of the checkpoint that transformers writes."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import PreTrainedModel

from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.learner.model import load_causal_lm
from pangu_rl.learner.weights.checkpoint_names import as_checkpoint, plan_units, sources_of
from pangu_rl.learner.weights.tensors import ModelWeights
from rollout.weights import TIED, required_names
from tests.family_builders import KINDS, build_tiny_family
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
    sent = sent_by(lm)
    assert sent.keys() == required_names(tmp_path).names
    stored = load_file(tmp_path / "model.safetensors")
    assert all(torch.equal(tensor, stored[name]) for name, tensor in sent.items())


@pytest.mark.parametrize("kind", KINDS)
def test_a_sync_replaces_every_tensor_of_a_model_with_pictures(kind: str, tmp_path: Path) -> None:
    """Checkpoints of one family have names of several ages: those that are sent need not be those of the folder."""
    build_tiny_family(tmp_path, kind)
    sent = sent_by(load_causal_lm(ModelConfig(path=str(tmp_path), dtype="float32")))
    required = required_names(tmp_path)
    assert {required.one_name(name) for name in sent} - {TIED} == required.names
    stored = {required.one_name(name): tensor for name, tensor in load_file(tmp_path / "model.safetensors").items()}
    assert all(torch.equal(tensor, stored[required.one_name(name)]) for name, tensor in sent.items() if name != TIED)


def sent_by(lm: PreTrainedModel) -> dict[str, torch.Tensor]:
    weights = ModelWeights(lm, gathered=lambda parameter: torch.no_grad())
    units = plan_units(lm, weights.described())
    sent = {name: tensor.clone() for name, tensor in as_checkpoint(lm, units, weights.stream(sources_of(units)))}
    assert {entry.name: entry.shape for unit in units for entry in unit.entries} == {
        name: tuple(tensor.shape) for name, tensor in sent.items()
    }
    return sent
