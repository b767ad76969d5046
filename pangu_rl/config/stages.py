"""One schema per stage, and the rules that span sections; each rule's message gives the way out."""

from __future__ import annotations

from pydantic import model_validator

from pangu_rl.config.algorithm import GrpoAlgorithmConfig
from pangu_rl.config.base import Strict
from pangu_rl.config.data import DataConfig, SftDataConfig
from pangu_rl.config.learner import LearnerConfig
from pangu_rl.config.model import ModelConfig
from pangu_rl.config.rewards import RewardsConfig
from pangu_rl.config.rollout import RolloutConfig
from pangu_rl.config.trainer import ClusterConfig, GrpoTrainerConfig, MonitoringConfig, SftTrainerConfig


class StartConfig(Strict):
    """A short SFT that GRPO starts from; made once, cached by the hash of its configuration."""

    sft_config: str
    """YAML of the SFT stage, relative to the working directory."""


class SftConfig(Strict):
    model: ModelConfig
    data: SftDataConfig
    learner: LearnerConfig = LearnerConfig()
    trainer: SftTrainerConfig
    monitoring: MonitoringConfig = MonitoringConfig()
    cluster: ClusterConfig = ClusterConfig()


class GrpoConfig(Strict):
    model: ModelConfig
    data: DataConfig
    rollout: RolloutConfig = RolloutConfig()
    rewards: RewardsConfig = RewardsConfig()
    algorithm: GrpoAlgorithmConfig = GrpoAlgorithmConfig()
    learner: LearnerConfig = LearnerConfig()
    trainer: GrpoTrainerConfig
    monitoring: MonitoringConfig = MonitoringConfig()
    cluster: ClusterConfig = ClusterConfig()
    start: StartConfig | None = None
    """Teach the answer's format first and start from there; null starts from `model.path` itself."""

    @model_validator(mode="after")
    def lengths_fit_the_engine(self) -> GrpoConfig:
        longest = self.data.max_prompt_tokens + self.rollout.max_new_tokens
        if longest > self.rollout.max_model_tokens:
            raise ValueError(
                f"data.max_prompt_tokens {self.data.max_prompt_tokens} + rollout.max_new_tokens "
                f"{self.rollout.max_new_tokens} = {longest} exceed rollout.max_model_tokens "
                f"{self.rollout.max_model_tokens}: raise the last to {longest} or shorten one of the two"
            )
        return self

    @model_validator(mode="after")
    def group_has_a_baseline(self) -> GrpoConfig:
        if self.rollout.completions < 2:
            raise ValueError(
                f"rollout.completions is {self.rollout.completions}: a group of one has no baseline and "
                "every advantage is 0; set 2 or more (the paper: 8)"
            )
        return self

    @model_validator(mode="after")
    def mini_batches_divide_the_step(self) -> GrpoConfig:
        prompts, parts = self.trainer.prompts_per_step, self.algorithm.mini_batches
        if prompts % parts:
            raise ValueError(
                f"trainer.prompts_per_step {prompts} is not a multiple of algorithm.mini_batches {parts}: "
                f"set prompts_per_step to {prompts // parts * parts or parts} or {(prompts // parts + 1) * parts}"
            )
        return self

    @model_validator(mode="after")
    def stale_rollouts_are_corrected(self) -> GrpoConfig:
        if self.trainer.max_staleness and self.algorithm.tis_cap is None:
            raise ValueError(
                "trainer.max_staleness is 1 and algorithm.tis_cap is null: rollouts of older weights need "
                "the correction; set algorithm.tis_cap (2.0 is usual), or max_staleness to 0"
            )
        return self
