"""Which parameter belongs to which part, by the names of a released checkpoint; what a text model makes of it."""

from __future__ import annotations

import pytest
from pydantic import ValidationError

from pangu_rl.config.learner import LearnerConfig, OptimizerConfig
from pangu_rl.learner.parts import freeze_parts, parameter_groups, part_of
from tests.unit.learner.builders import llama


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
    assert part_of(name) == part


def test_a_text_model_is_trained_whole_at_one_rate() -> None:
    lm, config = (
        llama(),
        LearnerConfig(trainable=("encoder",), optimizer=OptimizerConfig(encoder_lr_ratio=0.1, lr=1e-3)),
    )
    freeze_parts(lm, config)
    groups = parameter_groups(lm, config)
    assert all(parameter.requires_grad for parameter in lm.parameters())
    assert list(groups) == ["lr"]
    assert (len(groups["lr"]["params"]), groups["lr"]["lr"]) == (len(list(lm.parameters())), 1e-3)


@pytest.mark.parametrize("trainable", [(), ("tower",)])
def test_unknown_or_no_parts_are_refused(trainable: tuple[str, ...]) -> None:
    with pytest.raises(ValidationError, match="trainable"):
        LearnerConfig(trainable=trainable)
