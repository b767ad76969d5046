"""What of a model learns, and how: configuration -> **what is frozen, at which rate, with which decay** -> optimizer.

Weight decay acts on matrices alone, embeddings and head among them, as in Megatron: a vector is a norm's scale, a bias
or another offset, whose size is no excess to be pulled to 0. An embedding is a matrix that the next norm divides by its
length; without decay it would grow without a bound.

Which part a parameter belongs to, its name and the model's family say (`pretrain.families`).
"""

from __future__ import annotations

from typing import Any, Literal

from torch import nn

from pangu_rl.config.sections.learner import LearnerConfig
from pangu_rl.learner.pictures import family_of_model

Rate = Literal["lr", "lr_encoder"]
"""Metric of a learning rate."""


def freeze_parts(lm: nn.Module, config: LearnerConfig) -> None:
    """Take parameters outside `trainable` out of autograd: a frozen tower then runs without keeping anything."""
    if (family := family_of_model(lm)) is not None:
        for name, parameter in lm.named_parameters():
            parameter.requires_grad_(family.part(name) in config.trainable)


def parameter_groups(lm: nn.Module, config: LearnerConfig) -> list[tuple[Rate, dict[str, Any]]]:
    """(metric of its rate, AdamW's parameter group) of what learns alike; none is empty.

    Without weight decay there is one group a rate, with it two: first what decays, then what does not.
    """
    optimizer, family = config.optimizer, family_of_model(lm)
    rates: dict[Rate, float] = {"lr": optimizer.lr, "lr_encoder": optimizer.lr * optimizer.encoder_lr_ratio}
    amounts = sorted({optimizer.weight_decay, 0.0}, reverse=True)
    members: dict[tuple[Rate, float], list[nn.Parameter]] = {(rate, decay): [] for rate in rates for decay in amounts}
    for name, parameter in lm.named_parameters():
        if parameter.requires_grad:
            rate = "lr_encoder" if family is not None and family.part(name) == "encoder" else "lr"
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
