"""Evaluation of one model on named sets of prompts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pangu_rl.config.base import Strict
from pangu_rl.config.model import ModelConfig
from pangu_rl.config.rewards import RewardFunctionConfig, RewardsConfig
from pangu_rl.config.rollout import RolloutConfig, require_room
from pangu_rl.config.trainer import ClusterConfig, MonitoringConfig


class EvalDataConfig(Strict):
    sets: Annotated[dict[str, str], Field(min_length=1)]
    """Name -> rows as GRPO reads them. Sets whose rows have the same ids are compared item by item, in this order."""
    media_root: str | None = None
    """Folder under which the pictures that rows name in `images` lie; nothing outside it is ever read."""
    on_bad_row: Literal["refuse", "skip"] = "refuse"
    max_prompt_tokens: PositiveInt = 1024
    """A longer prompt is a bad row; a picture counts with all its tokens, one per 28 x 28 pixels."""
    limit: PositiveInt | None = None
    """Evaluate on the first so many rows of each set only."""


class EvalTrainerConfig(Strict):
    run_dir: str
    """Where `evaluations.json` goes."""
    seed: NonNegativeInt = 0
    stall_s: PositiveFloat = 900.0
    """A phase that takes longer is reported with the actor and sample it waits for, and the stacks are dumped."""


class EvalConfig(Strict):
    model: ModelConfig
    data: EvalDataConfig
    rollout: RolloutConfig = RolloutConfig()
    """Answers are drawn at temperature 0, one for each prompt, whatever stands here about sampling."""
    rewards: RewardsConfig = RewardsConfig(functions=(RewardFunctionConfig(name="boxed_accuracy"),))
    """The first function decides what is correct."""
    trainer: EvalTrainerConfig
    monitoring: MonitoringConfig = MonitoringConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def lengths_fit_the_engine(self) -> EvalConfig:
        require_room(self.data.max_prompt_tokens, self.rollout)
        return self
