"""Parts of a multimodal model: configuration -> **what is frozen, and what learns at which rate** -> optimizer.

The names are those of a released checkpoint (`visual.*`, `model.*`, `lm_head.weight`).
"""

from __future__ import annotations

from typing import Any

from torch import nn

from pangu_rl.config.learner import LearnerConfig, ModelPart
from pangu_rl.learner.pictures import is_multimodal

ENCODER = ("visual.patch_embed.", "visual.blocks.")
TOWER = "visual."


def part_of(name: str) -> ModelPart:
    """The part of a multimodal model that the parameter `name` belongs to."""
    if name.startswith(ENCODER):
        return "encoder"
    return "connector" if name.startswith(TOWER) else "language"


def freeze_parts(lm: nn.Module, config: LearnerConfig) -> None:
    """Take parameters outside `trainable` out of autograd: a frozen tower then runs without keeping anything."""
    if is_multimodal(lm):
        for name, parameter in lm.named_parameters():
            parameter.requires_grad_(part_of(name) in config.trainable)


def parameter_groups(lm: nn.Module, config: LearnerConfig) -> dict[str, dict[str, Any]]:
    """Metric of the rate (`lr`, `lr_encoder`) -> AdamW's parameter group of what learns at it; none is empty."""
    rate = config.optimizer.lr
    if not is_multimodal(lm):
        return {"lr": {"params": list(lm.parameters()), "lr": rate}}
    trained = [(name, parameter) for name, parameter in lm.named_parameters() if parameter.requires_grad]
    encoder = [parameter for name, parameter in trained if part_of(name) == "encoder"]
    others = [parameter for name, parameter in trained if part_of(name) != "encoder"]
    groups = {
        "lr": {"params": others, "lr": rate},
        "lr_encoder": {"params": encoder, "lr": rate * config.optimizer.encoder_lr_ratio},
    }
    return {name: group for name, group in groups.items() if group["params"]}
