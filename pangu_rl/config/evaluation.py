"""Evaluation of one model on named sets of prompts."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, model_validator

from pangu_rl.config.base import Strict
from pangu_rl.config.paths import RunDir
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.pixels import TOKEN_AREA, Area, PixelRange
from pangu_rl.config.sections.rewards import RewardFunctionConfig, RewardsConfig
from pangu_rl.config.sections.rollout import RolloutConfig, require_room, require_split
from pangu_rl.config.sections.rows import RowsConfig
from pangu_rl.config.sections.trainer import ClusterConfig, MonitoringConfig

BY_METRIC = ("benchmark", "judged_benchmark")
"""Reward functions that score an answer by its benchmark's metric."""
Areas = Annotated[tuple[Area, ...], Field(min_length=1)]
"""In pixels."""


class BenchmarkFileConfig(PixelRange):
    """One benchmark of an evaluation."""

    definition: str
    """Such as `configs/eval/benchmarks/chartqa.yaml`."""
    file: str
    """As the hub has it: Parquet, TSV of VLMEvalKit, CSV, JSON lines, or a folder of the first or the last."""
    min_pixels: Area | None = None
    """In place of the definition's least area, for models that are made for smaller pictures."""


class EvalDataConfig(RowsConfig, PixelRange):
    sets: dict[str, str] = Field(default_factory=dict)
    """Name -> rows as GRPO reads them. Sets whose rows have the same ids are compared item by item, in this order."""
    benchmarks: dict[str, BenchmarkFileConfig] = Field(default_factory=dict)
    """Name -> a benchmark and its file, in place of `sets`: each with its own prompts, picture sizes and metric."""
    max_bad_share: Annotated[float, Field(ge=0.0, le=1.0)] = 0.05
    """Above this share of a benchmark's rows that cannot be asked (a column or a picture is missing, options do not
    match letters) the run ends before any engine starts."""
    media_root: str | None = None
    """Folder under which the pictures that rows name in `images` lie; nothing outside it is ever read."""
    on_bad_row: Literal["refuse", "skip"] = "refuse"
    max_prompt_tokens: PositiveInt = 1024
    """A longer prompt is a bad row; a picture counts with all its tokens (docs/models.md)."""
    prompts: str | None = None
    """YAML of how each category of rows is asked, such as `configs/prompts/openpangu_vl.yaml`; a row whose `source` it
    does not name is asked as it stands."""
    limit: PositiveInt | None = None
    """Evaluate on the first so many rows of each set only; where several rows of a benchmark are one question, on whole
    ones."""

    @model_validator(mode="after")
    def sets_or_benchmarks(self) -> EvalDataConfig:
        if bool(self.sets) == bool(self.benchmarks):
            raise ValueError("data.sets and data.benchmarks: give one of them, what is to be evaluated on")
        if self.benchmarks:
            for name in ("prompts", "min_pixels", "columns", "pass_through", "format", "on_bad_row"):
                if getattr(self, name) != type(self).model_fields[name].get_default(call_default_factory=True):
                    raise ValueError(f"data.{name} is for data.sets: a benchmark's definition says what its rows are")
        return self


class ResolutionGridConfig(Strict):
    """MindVL's test-time resolution search (section 3.6): every pair of limits is evaluated, 24 by default."""

    min_pixels: Areas = tuple(count * TOKEN_AREA for count in (4, 16, 32, 64))
    max_pixels: Areas = tuple(count * TOKEN_AREA for count in (1280, 2048, 2560, 3072, 4096, 8192))
    choose_on: str | None = None
    """Set of `data.sets` that chooses the pair; the others then say what it is worth. Null chooses on all of them, and
    its accuracy is optimistic."""

    @model_validator(mode="after")
    def every_pair_is_a_range(self) -> ResolutionGridConfig:
        for name, areas in (("min_pixels", self.min_pixels), ("max_pixels", self.max_pixels)):
            if twice := sorted({area for area in areas if areas.count(area) > 1}):
                raise ValueError(f"{name} has {twice[0]} twice: name each once")
        if max(self.min_pixels) > min(self.max_pixels):
            raise ValueError(
                f"min_pixels {max(self.min_pixels)} exceeds max_pixels {min(self.max_pixels)}: leave one of them out"
            )
        return self


class EvalTrainerConfig(Strict):
    run_dir: RunDir
    """Where `evaluations.json` goes."""
    seed: NonNegativeInt = 0
    stall_s: PositiveFloat = 900.0
    """A phase that takes longer is reported with the actor and sample it waits for, and the stacks are dumped."""


class EvalConfig(Strict):
    model: ModelConfig
    data: EvalDataConfig
    resolutions: ResolutionGridConfig | None = None
    """Evaluate at every pair of picture sizes of a grid, with one engine; null evaluates once."""
    rollout: RolloutConfig = RolloutConfig()
    """Answers are drawn at temperature 0, one for each prompt, whatever stands here about sampling."""
    stop: tuple[Annotated[str, Field(min_length=1)], ...] = ()
    """Strings that end an answer, beside the tokens that the chat template and the model folder end it with, such as
    `["\\n\\nQuestion:"]` for a model that was never taught to end. What is graded ends before them."""
    rewards: RewardsConfig = RewardsConfig(functions=(RewardFunctionConfig(name="boxed_accuracy"),))
    """The first function decides what is correct. Benchmarks have their own metrics, and leave this out or name
    `judged_benchmark`."""
    trainer: EvalTrainerConfig
    monitoring: MonitoringConfig = MonitoringConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def lengths_fit_the_engine(self) -> EvalConfig:
        require_room(self.data.max_prompt_tokens, self.rollout)
        require_split(self.rollout)
        return self

    @model_validator(mode="after")
    def benchmarks_have_their_metrics(self) -> EvalConfig:
        if not self.data.benchmarks:
            return self
        by_metric = len(self.rewards.functions) == 1 and self.rewards.functions[0].name in BY_METRIC
        if not by_metric and self.rewards.functions != type(self).model_fields["rewards"].default.functions:
            raise ValueError(
                "rewards.functions and data.benchmarks are both set: a benchmark has its own metric; the one function "
                "beside it is judged_benchmark, whose judge reads what rules cannot"
            )
        if self.resolutions is not None:
            raise ValueError("resolutions and data.benchmarks are both set: a benchmark has its own picture sizes")
        return self

    @model_validator(mode="after")
    def a_grid_has_its_sets_and_its_limits(self) -> EvalConfig:
        if self.resolutions is None:
            return self
        if (name := self.resolutions.choose_on) is not None and name not in self.data.sets:
            raise ValueError(
                f"resolutions.choose_on is {name!r}, data.sets has {', '.join(self.data.sets)}: name one of them"
            )
        if self.data.min_pixels is not None:
            raise ValueError("data.min_pixels and resolutions are both set: a grid has its own limits")
        return self
