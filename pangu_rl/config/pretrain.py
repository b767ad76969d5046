"""A stage of pre-training: what is read and mixed, what learns, how long."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, TypeAdapter, ValidationError, model_validator

from pangu_rl.config.base import Strict
from pangu_rl.config.paths import resolve_path
from pangu_rl.config.sections.algorithm import SupervisedConfig
from pangu_rl.config.sections.learner import LearnerConfig
from pangu_rl.config.sections.model import TrainedModelConfig
from pangu_rl.config.sections.packing import Share, require_shares
from pangu_rl.config.sections.pixels import PixelRange
from pangu_rl.config.sections.trainer import ClusterConfig, MonitoringConfig, TrainerConfig

_COUNT = TypeAdapter(PositiveInt)


class PretrainDataConfig(PixelRange):
    train: str | Annotated[tuple[str, ...], Field(min_length=1)]
    """Rows, read one by one when a pack is due, by its rank alone: a JSONL or Parquet file, a WebDataset tar, a folder
    of files of one of these kinds, a list of such files and folders, or a folder that `pangu-rl index` made. Rows are
    conversations as SFT reads them, or have a `document`: a text, or a list of texts, `{"type": "image"}` and `{"type":
    "video"}` parts, of which all text is trained. Optional are `id`, which no two rows of all files share, `images`,
    `videos`, `time_precise` and `source`."""
    media_root: str | None = None
    """Folder under which what rows name in `images` and `videos` lies; nothing outside it is ever read."""
    pass_through: tuple[str, ...] = ()
    """Columns, and keys of messages, that look like media, tools or text to train on and are meant to be unused."""
    plan: str | None = None
    """Folder that `pangu-rl pack` wrote, over the sizes that `pangu-rl pretrain --measure` writes: it says which rows
    each step trains on. Null packs while training."""
    shares: dict[str, Share] = Field(default_factory=dict)
    """Without a plan: packs per `source` of the rows, on any scale; each source is packed apart and they meet in the
    global batch, 0 leaves one out. Where `train` is a list, its entries may be named in place of sources. Without
    shares all rows are one stream. Shares that are all below 1 add up to 1. A plan has its own shares."""
    shares_by: Literal["packs", "tokens", "samples"] = "packs"
    """What the shares are of; for the stage `pack` packs are tokens."""
    end_shares: dict[str, Share] = Field(default_factory=dict)
    """Without a plan: the shares of the last step, of the same names; from `shares` at the first step they change by as
    much at every step. Empty: they stay."""
    pool: PositiveInt = 200
    """Without a plan: samples that wait, in each stream, for a pack that they fit into."""
    visual_tokens: PositiveInt | None = None
    """At most so many in a pack, where the encoder's memory needs it: a row with more is a bad row, and a plan of other
    packs is refused."""
    on_bad_row: Literal["refuse", "skip"] = "refuse"
    """What a row that cannot be read or encoded, or is longer than a pack, does when its turn comes: end the run, or be
    left out, named in the log and counted in `data/skipped`."""

    def row_paths(self) -> list[Path]:
        """The files and folders of `train`."""
        return [resolve_path(path) for path in ([self.train] if isinstance(self.train, str) else self.train)]

    def media_path(self) -> Path | None:
        """The folder of `media_root`."""
        return resolve_path(self.media_root) if self.media_root else None

    @model_validator(mode="after")
    def a_plan_is_mixed_already(self) -> PretrainDataConfig:
        if self.plan and self.shares:
            raise ValueError("data.plan and data.shares are both set: give the shares to `pangu-rl pack`")
        return self

    @model_validator(mode="after")
    def shares_are_whole(self) -> PretrainDataConfig:
        require_shares("data.shares", self.shares)
        require_shares("data.end_shares", self.end_shares)
        if self.end_shares and (other := sorted(set(self.shares) ^ set(self.end_shares))):
            raise ValueError(f"data.shares and data.end_shares name other sources: {other[0]} is in one alone")
        if self.shares_by != "packs" and not self.shares:
            raise ValueError(f"data.shares_by is {self.shares_by} without data.shares: give each source one")
        return self


class PretrainTrainerConfig(TrainerConfig):
    steps: PositiveInt | None = None
    """Optimiser steps; null takes as many as hold `tokens`."""
    tokens: PositiveInt | None = None
    """Capacity of all packs of the stage, which gives `steps`: tokens / (packs_per_step * learner.pack_tokens)."""
    packs_per_step: PositiveInt
    """The global batch, a multiple of `learner.ranks` / `learner.sequence_parallel`."""
    loss_spike: PositiveFloat | None = 2.0
    """A step whose token loss is so many times the median of the last hundred is reported; null watches nothing."""


class PretrainConfig(Strict):
    model: TrainedModelConfig
    """The stage's start: a model folder, or the run directory of the stage before, whose newest checkpoint is taken."""
    data: PretrainDataConfig
    algorithm: SupervisedConfig = SupervisedConfig(average="token")
    learner: LearnerConfig = LearnerConfig()
    trainer: PretrainTrainerConfig
    monitoring: MonitoringConfig = MonitoringConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="before")
    @classmethod
    def steps_follow_from_tokens(cls, tree: Any) -> Any:
        """Fills `trainer.steps` in; what is malformed is left for the fields' own messages."""
        trainer = tree.get("trainer") if isinstance(tree, dict) else None
        if not isinstance(trainer, dict) or trainer.get("steps") is not None or trainer.get("tokens") is None:
            return tree
        learner = tree.get("learner")
        capacity = (learner if isinstance(learner, dict) else {}).get("pack_tokens", LearnerConfig().pack_tokens)
        try:
            counts = trainer["tokens"], trainer.get("packs_per_step"), capacity
            tokens, packs, pack = map(_COUNT.validate_python, counts)
        except ValidationError:
            return tree
        return tree | {"trainer": trainer | {"steps": max(1, round(tokens / (packs * pack)))}}

    @model_validator(mode="after")
    def the_length_is_known(self) -> PretrainConfig:
        if self.trainer.steps is None:
            raise ValueError("trainer.steps and trainer.tokens are both null: say how long the stage is")
        return self

    @model_validator(mode="after")
    def packs_divide_over_the_ranks(self) -> PretrainConfig:
        packs, groups, degree = self.trainer.packs_per_step, self.learner.groups, self.learner.sequence_parallel
        if packs % groups:
            ranks = f"learner.ranks {groups}" if degree == 1 else f"the {groups} groups of {degree} learner.ranks"
            raise ValueError(f"trainer.packs_per_step {packs} cannot be dealt equally to {ranks}: make it a multiple")
        return self
