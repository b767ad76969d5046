"""Stages that sample a set of queries with one model: difficulty, preference pairs, iterative fine-tuning.

Defaults are openPangu-VL's (paper 4.2).
"""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pangu_rl.config.base import Strict
from pangu_rl.config.paths import RunDir
from pangu_rl.config.sections.learner import SftLearnerConfig, TunedOptimizerConfig
from pangu_rl.config.sections.model import ModelConfig, TrainedModelConfig
from pangu_rl.config.sections.rewards import RewardFunctionConfig, RewardsConfig
from pangu_rl.config.sections.rollout import RolloutConfig, require_room, require_split
from pangu_rl.config.sections.rows import RowsConfig
from pangu_rl.config.sections.trainer import ClusterConfig, MonitoringConfig

Share = Annotated[float, Field(ge=0.0, le=1.0)]
Score = Annotated[float, Field(ge=1.0, le=5.0)]


class QueryDataConfig(RowsConfig):
    queries: str
    """Rows as GRPO reads them (`messages` or `prompt`, and `answer`), or as SFT does: of those the last assistant turn
    is taken off, and the reference is `answer`, else the reply's last box, else the whole reply."""
    media_root: str | None = None
    """Folder under which the pictures that rows name in `images` lie; nothing outside it is ever read."""
    on_bad_row: Literal["refuse", "skip"] = "refuse"
    """What a row that cannot be read or scored does: end the run, or be left out and counted."""
    max_prompt_tokens: PositiveInt = 1024
    """A longer prompt is a bad row; a picture counts with all its tokens (docs/models.md)."""
    limit: PositiveInt | None = None
    """Take so many usable rows only, spread evenly over the file."""


class IterativeDataConfig(QueryDataConfig):
    heldout: str | None = None
    """Prompts that are measured and never trained on: what is selected is compared with them."""
    heldout_limit: PositiveInt | None = None
    """Measure the first so many only; the comparison is with all."""


class SampleTrainerConfig(Strict):
    run_dir: RunDir
    """Everything the run writes lies here. The same command goes on after the last whole step."""
    steps: PositiveInt | None = None
    """Steps of `prompts_per_step` queries; null takes every query once."""
    prompts_per_step: PositiveInt = 64
    """Queries that are drawn, scored and stored together: what an interruption can cost."""
    seed: NonNegativeInt = 0
    stall_s: PositiveFloat = 900.0
    """A phase that takes longer is reported with the actor and sample it waits for, and the stacks are dumped."""


class IterativeTrainerConfig(Strict):
    run_dir: RunDir
    """Everything the run writes lies here, a folder for each round. The same command goes on where it ended."""
    steps: PositiveInt = 2
    """Rounds."""
    prompts_per_step: PositiveInt = 64
    """Queries that are drawn, scored and stored together."""
    sequences_per_step: PositiveInt = 64
    """Conversations of a fine-tuning step."""
    epochs: PositiveInt = 1
    """How often a round sees its selected conversations."""
    max_tokens: PositiveInt | None = None
    """Longest conversation of the fine-tuning; a longer one is not selected. Null is `rollout.max_model_tokens`."""
    checkpoint_every: PositiveInt | None = None
    """Steps of a fine-tuning between checkpoints; its last step always writes one."""
    seed: NonNegativeInt = 0
    stall_s: PositiveFloat = 900.0
    """A phase that takes longer is reported with the actor and sample it waits for, and the stacks are dumped."""


class SelectorConfig(Strict):
    """Which queries have several plausible answers, by what rows say of themselves; null takes all."""

    sources: tuple[str, ...] | None = None
    answer_types: tuple[str, ...] | None = None
    modality: Literal["all", "multimodal", "text"] = "all"


class PairRuleConfig(Strict):
    chosen_above: Score = 4.0
    rejected_below: Score = 2.0
    """Both are strict."""

    @model_validator(mode="after")
    def sides_are_apart(self) -> PairRuleConfig:
        if self.rejected_below > self.chosen_above:
            raise ValueError(
                f"rejected_below {self.rejected_below} exceeds chosen_above {self.chosen_above}: one response could "
                "be both; lower the first"
            )
        return self


class HardRuleConfig(Strict):
    correct: Score = 5.0
    """A response with this score or more is right, and may be learned from."""
    wrong_below: Score = 2.0
    """A response below it counts against the query; strict."""
    wrong_at_least: PositiveInt = 2
    """So many of them make a query hard."""


class DecontaminationConfig(Strict):
    """What is too like a held-out prompt. The same words are, whatever the case, punctuation and spaces."""

    ngram: PositiveInt | None = 8
    """Words of an n-gram; null compares whole prompts only."""
    share: Annotated[float, Field(gt=0.0, le=1.0)] = 0.7
    """A prompt of which so many n-grams stand in held-out prompts is left out (PaLM: 8-grams, 70 %)."""


class PairsRolloutConfig(RolloutConfig):
    completions: PositiveInt = 4
    """Candidates per query."""


class IterativeOptimizerConfig(TunedOptimizerConfig):
    """Every round goes from 1e-6 to 1e-7."""

    schedule: Literal["constant", "linear", "cosine"] = "cosine"
    min_lr_ratio: Share = 0.1


class IterativeLearnerConfig(SftLearnerConfig):
    optimizer: IterativeOptimizerConfig = IterativeOptimizerConfig()


class SamplingStage(Strict):
    """What all of them have."""

    model: ModelConfig
    rollout: RolloutConfig = RolloutConfig()
    """`completions` is the number of samples of a query. What is drawn is the same after an interruption as without one
    as long as `prefix_caching` is off."""
    monitoring: MonitoringConfig = MonitoringConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def no_learner_shares(self) -> SamplingStage:
        require_split(self.rollout)
        return self


class DifficultyConfig(SamplingStage):
    data: QueryDataConfig
    rewards: RewardsConfig = RewardsConfig(functions=(RewardFunctionConfig(name="boxed_accuracy"),))
    """The first one's outcome says whether a sample is right."""
    max_pass_rate: Share = 0.75
    """Queries that the model answers right more often are left out."""
    trainer: SampleTrainerConfig

    @model_validator(mode="after")
    def lengths_fit_the_engine(self) -> DifficultyConfig:
        require_room(self.data.max_prompt_tokens, self.rollout)
        return self


class ScoredStage(SamplingStage):
    """A stage that selects by scores from 1 to 5."""

    rewards: RewardsConfig = RewardsConfig(functions=(RewardFunctionConfig(name="graded"),))
    """Scorers: functions whose values are 1 to 5, such as `graded` and `llm_score`."""
    aggregation: Literal["min", "mean"] = "min"
    """One score from several functions: the least, or the mean by their weights."""

    @model_validator(mode="after")
    def a_minimum_has_no_weights(self) -> ScoredStage:
        weighted = [f"{f.name} ({f.weight})" for f in self.rewards.functions if f.weight != 1.0]
        if self.aggregation == "min" and weighted:
            raise ValueError(
                f"aggregation is min and functions have weights: {', '.join(weighted)}: set aggregation to mean, or "
                "leave the weights out"
            )
        if self.aggregation == "mean" and not all(f.weight > 0 for f in self.rewards.functions):
            raise ValueError("aggregation is mean: every function needs a weight above 0")
        return self


class PairsConfig(ScoredStage):
    data: QueryDataConfig
    selector: SelectorConfig = SelectorConfig()
    rollout: PairsRolloutConfig = PairsRolloutConfig()
    pair: PairRuleConfig = PairRuleConfig()
    trainer: SampleTrainerConfig

    @model_validator(mode="after")
    def lengths_fit_the_engine(self) -> PairsConfig:
        require_room(self.data.max_prompt_tokens, self.rollout)
        return self

    @model_validator(mode="after")
    def a_pair_needs_two(self) -> PairsConfig:
        if self.rollout.completions < 2:
            raise ValueError("rollout.completions is 1: a pair needs 2 or more (the paper: 4)")
        return self


class IterativeConfig(ScoredStage):
    model: TrainedModelConfig
    data: IterativeDataConfig
    hard: HardRuleConfig = HardRuleConfig()
    decontamination: DecontaminationConfig = DecontaminationConfig()
    learner: IterativeLearnerConfig = IterativeLearnerConfig()
    """That of the SFT stage, with other defaults."""
    trainer: IterativeTrainerConfig

    @model_validator(mode="after")
    def lengths_fit_the_engine(self) -> IterativeConfig:
        require_room(self.data.max_prompt_tokens, self.rollout)
        return self

    @model_validator(mode="after")
    def a_hard_query_can_be_solved(self) -> IterativeConfig:
        needed = self.hard.wrong_at_least + 1
        if self.rollout.completions < needed:
            raise ValueError(
                f"rollout.completions is {self.rollout.completions} and hard.wrong_at_least is "
                f"{self.hard.wrong_at_least}: no query could have so many wrong and one right; set completions to "
                f"{needed} or more"
            )
        return self


SampledStage = DifficultyConfig | PairsConfig | IterativeConfig
