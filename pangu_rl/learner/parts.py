"""What of a model learns, and how: configuration -> **what is frozen, at which rate, with which decay** -> optimizer.

Weight decay acts on matrices alone, embeddings and head among them, as in Megatron: a vector is a norm's scale, a bias
or another offset, whose size is no excess to be pulled to 0. An embedding is a matrix that the next norm divides by its
length; without decay it would grow without a bound.

The names of parts are those of a released checkpoint (`visual.*`, `model.*`, `lm_head.weight`).
"""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from pangu_rl.config.sections.learner import LearnerConfig, ModelPart
from pangu_rl.learner.pictures import is_multimodal

ENCODER = ("visual.patch_embed.", "visual.blocks.")
TOWER = "visual."

Rate = Literal["lr", "lr_encoder"]
"""Metric of a learning rate."""


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


def parameter_groups(lm: nn.Module, config: LearnerConfig) -> list[tuple[Rate, dict[str, Any]]]:
    """(metric of its rate, AdamW's parameter group) of what learns alike; none is empty.

    Without weight decay there is one group a rate, with it two: first what decays, then what does not.
    """
    optimizer, multimodal = config.optimizer, is_multimodal(lm)
    rates: dict[Rate, float] = {"lr": optimizer.lr, "lr_encoder": optimizer.lr * optimizer.encoder_lr_ratio}
    amounts = sorted({optimizer.weight_decay, 0.0}, reverse=True)
    members: dict[tuple[Rate, float], list[nn.Parameter]] = {(rate, decay): [] for rate in rates for decay in amounts}
    for name, parameter in lm.named_parameters():
        if parameter.requires_grad:
            rate = "lr_encoder" if multimodal and part_of(name) == "encoder" else "lr"
            members[rate, optimizer.weight_decay if decays(name, parameter) else 0.0].append(parameter)
    return [
        (rate, {"params": parameters, "lr": rates[rate], "weight_decay": decay})
        for (rate, decay), parameters in members.items()
        if parameters
    ]


def decays(name: str, parameter: nn.Parameter) -> bool:
    """Whether it is a matrix (or more), and not the biases of many experts in one."""
    # ZeRO 3 keeps a flat part of a parameter, and its shape beside.
    return len(getattr(parameter, "ds_shape", parameter.shape)) > 1 and not name.endswith("bias")
