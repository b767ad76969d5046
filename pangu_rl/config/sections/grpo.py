"""Sections of the GRPO stage whose defaults are openPangu-VL's own (paper 4.2), on devices that hold them."""

from __future__ import annotations

from pydantic import PositiveInt

from pangu_rl.config.sections.learner import LearnerConfig, TunedOptimizerConfig
from pangu_rl.config.sections.lora import GrpoLoraConfig
from pangu_rl.config.sections.rollout import RolloutConfig


class GrpoRolloutConfig(RolloutConfig):
    max_new_tokens: PositiveInt = 24_576
    max_model_tokens: PositiveInt = 32_768
    """Prompt plus completion; the engine's KV cache holds at least one such sequence."""


class GrpoLearnerConfig(LearnerConfig):
    optimizer: TunedOptimizerConfig = TunedOptimizerConfig()
    lora: GrpoLoraConfig | None = None
    """As of the other stages, and what engines draw with."""
    pack_tokens: PositiveInt = 32_768
    """Capacity of a pack; sequences are packed into it, none is ever cut."""
