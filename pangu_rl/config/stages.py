"""One schema per stage, and the rules that span sections; each rule's message gives the way out."""

from __future__ import annotations

from pydantic import model_validator

from pangu_rl.config.base import Strict
from pangu_rl.config.sections.algorithm import GrpoAlgorithmConfig, SupervisedConfig
from pangu_rl.config.sections.data import DataConfig, SftDataConfig
from pangu_rl.config.sections.grpo import GrpoLearnerConfig, GrpoRolloutConfig
from pangu_rl.config.sections.learner import SftLearnerConfig
from pangu_rl.config.sections.lora import MAX_RANK
from pangu_rl.config.sections.model import TrainedModelConfig
from pangu_rl.config.sections.preference import DpoDataConfig, DpoLearnerConfig, DpoTrainerConfig, MpoAlgorithmConfig
from pangu_rl.config.sections.rewards import RewardsConfig
from pangu_rl.config.sections.rollout import require_room
from pangu_rl.config.sections.trainer import ClusterConfig, GrpoTrainerConfig, MonitoringConfig, SftTrainerConfig


class StartConfig(Strict):
    """A short SFT that GRPO starts from; made once, cached by the hash of its configuration."""

    sft_config: str
    """YAML of the SFT stage, relative to the working directory."""


class SftConfig(Strict):
    model: TrainedModelConfig
    data: SftDataConfig
    algorithm: SupervisedConfig = SupervisedConfig()
    learner: SftLearnerConfig = SftLearnerConfig()
    trainer: SftTrainerConfig
    monitoring: MonitoringConfig = MonitoringConfig()
    cluster: ClusterConfig = ClusterConfig()


class DpoConfig(Strict):
    model: TrainedModelConfig
    """Start and reference alike."""
    data: DpoDataConfig
    algorithm: MpoAlgorithmConfig = MpoAlgorithmConfig()
    learner: DpoLearnerConfig = DpoLearnerConfig()
    trainer: DpoTrainerConfig
    monitoring: MonitoringConfig = MonitoringConfig()
    cluster: ClusterConfig = ClusterConfig()

    @property
    def sft_per_step(self) -> int:
        """SFT rows that a step mixes in."""
        share = self.data.sft_share
        return round(self.trainer.pairs_per_step * share / (1 - share))

    @model_validator(mode="after")
    def share_has_rows(self) -> DpoConfig:
        data = self.data
        if (data.sft is None) != (data.sft_share == 0):
            raise ValueError(
                f"data.sft is {data.sft or 'null'} and data.sft_share is {data.sft_share}: set both, to mix SFT rows "
                "in, or neither"
            )
        if data.sft_share and not self.sft_per_step:
            raise ValueError(
                f"data.sft_share {data.sft_share} of a step with {self.trainer.pairs_per_step} pairs is no whole row: "
                f"raise it to {1 / (1 + self.trainer.pairs_per_step):.3g}, or trainer.pairs_per_step"
            )
        return self


class GrpoConfig(Strict):
    model: TrainedModelConfig
    data: DataConfig
    rollout: GrpoRolloutConfig = GrpoRolloutConfig()
    rewards: RewardsConfig = RewardsConfig()
    algorithm: GrpoAlgorithmConfig = GrpoAlgorithmConfig()
    learner: GrpoLearnerConfig = GrpoLearnerConfig()
    trainer: GrpoTrainerConfig
    monitoring: MonitoringConfig = MonitoringConfig()
    cluster: ClusterConfig = ClusterConfig()
    start: StartConfig | None = None
    """Teach the answer's format first and start from there; null starts from `model.path` itself."""

    @model_validator(mode="after")
    def lengths_fit_the_engine(self) -> GrpoConfig:
        require_room(self.data.max_prompt_tokens, self.rollout)
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
    def shared_engines_lie_on_ranks(self) -> GrpoConfig:
        rollout, ranks = self.rollout, self.learner.ranks
        if rollout.placement != "shared":
            return self
        devices = rollout.actors * rollout.devices_per_actor
        if devices > ranks:
            raise ValueError(
                f"rollout.placement is shared and rollout.actors {rollout.actors} x rollout.devices_per_actor "
                f"{rollout.devices_per_actor} = {devices} exceed learner.ranks {ranks}, one device each: raise ranks "
                f"to {devices}, lower actors, or set placement to split"
            )
        if self.trainer.max_staleness:
            raise ValueError(
                f"rollout.placement is shared and trainer.max_staleness is {self.trainer.max_staleness}: engines that "
                "sleep while the learner trains draw nothing ahead; set max_staleness to 0, or placement to split"
            )
        return self

    @model_validator(mode="after")
    def engines_take_the_adapter(self) -> GrpoConfig:
        lora = self.learner.lora
        if lora is None or not lora.apart:
            return self
        if lora.rank > MAX_RANK:
            raise ValueError(
                f"learner.lora.rank is {lora.rank} and in_engines is apart: vLLM takes ranks up to {MAX_RANK}; lower "
                "it, or set in_engines to folded"
            )
        if self.rollout.sleep_level == 2:
            raise ValueError(
                "rollout.sleep_level is 2 and learner.lora.in_engines is apart: engines would lose weights that no "
                "sync sends; set sleep_level to 1, or in_engines to folded"
            )
        return self

    @model_validator(mode="after")
    def stale_rollouts_are_corrected(self) -> GrpoConfig:
        if self.trainer.max_staleness and self.algorithm.correction is None:
            raise ValueError(
                f"trainer.max_staleness is {self.trainer.max_staleness} and algorithm.correction is null: rollouts of "
                "older weights need the correction; set algorithm.correction.high (2.0 is usual), or max_staleness to 0"
            )
        return self

    @model_validator(mode="after")
    def reference_fits_the_stage(self) -> GrpoConfig:
        if self.algorithm.kl_weight and self.learner.zero_stage == 3 and self.learner.lora is None:
            raise ValueError(
                f"algorithm.kl_weight is {self.algorithm.kl_weight:g} and learner.zero_stage is 3: the reference model "
                "is whole on every rank; set learner.zero_stage to 2, or algorithm.kl_weight to 0 (learner.lora "
                "needs none)"
            )
        return self

    @model_validator(mode="after")
    def overlong_penalty_meets_the_limit(self) -> GrpoConfig:
        penalty = next((f for f in self.rewards.functions if f.name == "soft_overlong"), None)
        if penalty is None:
            return self
        limit = self.rollout.max_new_tokens
        if penalty.args.get("limit") != limit:
            raise ValueError(
                f"rewards.functions: soft_overlong has limit {penalty.args.get('limit')} and rollout.max_new_tokens is "
                f"{limit}: make them the same"
            )
        if self.algorithm.overlong == "mask":
            raise ValueError(
                "algorithm.overlong is mask and rewards.functions has soft_overlong, whose greatest penalty is that of "
                "the rows which mask leaves out: set algorithm.overlong to train, or take soft_overlong away"
            )
        return self
