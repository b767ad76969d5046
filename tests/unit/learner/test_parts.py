"""Which parameter belongs to which part, by the names of a released checkpoint; what a text model makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from pangu_rl.config.sections.learner import LearnerConfig, OptimizerConfig
from pangu_rl.learner.parts import decays, freeze_parts, parameter_groups
from pretrain.families.pangu import Pangu
from tests.unit.learner.builders import llama
from tests.unit.learner.families import tiny
from tests.unit.learner.vl_builders import pangu_vl


@pytest.mark.parametrize(
    ("name", "part"),
    [
        ("visual.patch_embed.proj.weight", "encoder"),
        ("visual.blocks.25.mlp.down_proj.bias", "encoder"),
        ("visual.final_layernorm.weight", "connector"),
        ("visual.merger.1.mlp.2.weight", "connector"),
        ("visual.merger.ln_q.weight", "connector"),
        ("visual.vision_projection.fc1.weight", "connector"),
        ("model.embed_tokens.weight", "language"),
        ("model.layers.0.self_attn.q_proj.weight", "language"),
        ("lm_head.weight", "language"),
    ],
)
def test_parts_by_name(name: str, part: str) -> None:
    assert Pangu({}, Path()).part(name) == part


def test_a_text_model_is_trained_whole_at_one_rate() -> None:
    lm, config = (
        llama(),
        LearnerConfig(trainable=("encoder",), optimizer=OptimizerConfig(encoder_lr_ratio=0.1, lr=1e-3)),
    )
    freeze_parts(lm, config)
    groups = parameter_groups(lm, config)
    assert all(parameter.requires_grad for parameter in lm.parameters())
    [(rate, group)] = groups
    assert (rate, group["lr"], group["weight_decay"]) == ("lr", 1e-3, 0.0)
    assert len(group["params"]) == len(list(lm.parameters()))


@pytest.mark.parametrize("partitioned", [False, True])
def test_norms_and_biases_do_not_decay_and_matrices_do(partitioned: bool) -> None:
    """Under ZeRO 3 every parameter is flat and keeps its shape beside."""
    lm = tiny("qwen2")
    names = {id(parameter): name for name, parameter in lm.named_parameters()}
    if partitioned:
        for parameter in lm.parameters():
            parameter.ds_shape, parameter.data = parameter.shape, parameter.data.new_empty(0)
    (_, decaying), (_, free) = parameter_groups(lm, LearnerConfig(optimizer=OptimizerConfig(weight_decay=0.1)))
    assert (decaying["weight_decay"], free["weight_decay"]) == (0.1, 0.0)
    kept = {names[id(parameter)] for parameter in free["params"]}
    assert kept == {name for name in names.values() if name.endswith("bias") or "norm" in name}
    assert {names[id(parameter)] for parameter in decaying["params"]} == set(names.values()) - kept


def test_the_biases_of_many_experts_in_one_tensor_do_not_decay() -> None:
    assert not decays("model.layers.0.mlp.experts.gate_up_proj_bias", nn.Parameter(torch.zeros(4, 8)))
    assert decays("model.layers.0.mlp.experts.gate_up_proj", nn.Parameter(torch.zeros(4, 8, 8)))


def test_a_tower_has_groups_of_its_own_and_the_rates_stand_once() -> None:
    optimizer = OptimizerConfig(lr=1e-3, encoder_lr_ratio=0.1, weight_decay=0.05)
    groups = parameter_groups(pangu_vl(), LearnerConfig(optimizer=optimizer))
    found = [(rate, group["lr"], group["weight_decay"]) for rate, group in groups]
    assert found == [
        ("lr", 1e-3, 0.05),
        ("lr", 1e-3, 0.0),
        ("lr_encoder", pytest.approx(1e-4), 0.05),
        ("lr_encoder", pytest.approx(1e-4), 0.0),
    ]
    assert sum(len(group["params"]) for _, group in groups) == len(list(pangu_vl().parameters()))


@pytest.mark.parametrize("trainable", [(), ("tower",)])
def test_unknown_or_no_parts_are_refused(trainable: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="trainable"):
        LearnerConfig(trainable=trainable)
