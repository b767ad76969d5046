"""What a learner is built from: configuration -> **one record** -> every rank. Imports no heavy library."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from pangu_rl.config.sections.algorithm import GrpoAlgorithmConfig, SupervisedConfig
from pangu_rl.config.sections.learner import LearnerConfig
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.preference import MpoAlgorithmConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class LearnerSpec:
    """The same on every rank but for `rank`."""

    model: ModelConfig
    learner: LearnerConfig
    objective: Literal["grpo", "sft", "mpo"]
    total_steps: int
    """Optimiser steps of the whole run, which the learning-rate schedule spans."""
    algorithm: GrpoAlgorithmConfig | MpoAlgorithmConfig | SupervisedConfig | None = None
    """Required by the objectives `grpo` and `mpo`, which have one each; `sft` has the paper's without."""
    temperature: float = 1.0
    """Sampling temperature: log-probs are those of the distribution that was sampled."""
    constant_length: int = 1
    """Length that `aggregation: sequence_sum` divides by: the completion limit."""
    seed: int = 0
    accelerator: str = "cpu"
    rank: int = 0
    world_size: int = 1
