"""A stage of pre-training: what is read and mixed, what learns, how long. `configs/pretrain/` has the papers'."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from pangu_rl.config.algorithm import SupervisedConfig
from pangu_rl.config.base import Strict
from pangu_rl.config.contrastive import ClusterLossConfig
from pangu_rl.config.learner import LearnerConfig
from pangu_rl.config.model import ModelConfig
from pangu_rl.config.packing import Share
from pangu_rl.config.trainer import ClusterConfig, MonitoringConfig, TrainerConfig


class PretrainDataConfig(Strict):
    train: str
    """JSONL or Parquet, read row by row when a pack is due, by its rank alone. Rows are conversations as SFT reads
    them, or have a `document`: a text, or a list of texts and `{"type": "image"}` parts, of which all text is trained.
    Optional are `id`, `images`, `source`."""
    media_root: str | None = None
    """Folder under which the pictures that rows name in `images` lie; nothing outside it is ever read."""
    plan: str | None = None
    """Folder that `pangu-rl pack` wrote, over the sizes that `pangu-rl pretrain --measure` writes: it says which rows
    each step trains on. Null packs while training."""
    shares: dict[str, Share] = Field(default_factory=dict)
    """Without a plan: packs per `source` of the rows, on any scale; each source is packed apart and they meet in the
    global batch, 0 leaves one out. Without shares all rows are one stream. A plan has its own shares."""
    pool: PositiveInt = 200
    """Without a plan: samples that wait, in each stream, for a pack that they fit into."""
    min_pixels: Annotated[int, Field(ge=28**2)] | None = None
    """Least area that a picture is shown at; null is what the model folder's processor says."""
    max_pixels: PositiveInt | None = None
    """Greatest area."""
    on_bad_row: Literal["refuse", "skip"] = "refuse"
    """What a row that cannot be read or encoded, or is longer than a pack, does when its turn comes: end the run, or be
    left out, named in the log and counted in `data/skipped`."""

    @model_validator(mode="after")
    def limits_come_in_pairs(self) -> PretrainDataConfig:
        if (self.min_pixels is None) != (self.max_pixels is None):
            raise ValueError(f"min_pixels {self.min_pixels}, max_pixels {self.max_pixels}: set both or neither")
        return self

    @model_validator(mode="after")
    def a_plan_is_mixed_already(self) -> PretrainDataConfig:
        if self.plan and self.shares:
            raise ValueError("data.plan and data.shares are both set: give the shares to `pangu-rl pack`")
        return self


class PretrainTrainerConfig(TrainerConfig):
    steps: PositiveInt | None = None
    """Optimiser steps; null takes as many as hold `tokens`."""
    tokens: PositiveInt | None = None
    """Capacity of all packs of the stage, which gives `steps`: tokens / (packs_per_step * learner.pack_tokens)."""
    packs_per_step: PositiveInt
    """The global batch, a multiple of `learner.ranks`."""
    loss_spike: PositiveFloat | None = 2.0
    """A step whose token loss is so many times the median of the last hundred is reported; null watches nothing."""
    peak_tflops: PositiveFloat | None = None
    """Of one rank's device in `model.dtype`; gives `speed/mfu` beside `speed/train_tflops`."""


class PretrainConfig(Strict):
    model: ModelConfig
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
        packs = trainer.get("packs_per_step")
        capacity = (tree.get("learner") or {}).get("pack_tokens", LearnerConfig().pack_tokens)
        if not all(isinstance(value, int) and value > 0 for value in (packs, capacity, trainer["tokens"])):
            return tree
        return tree | {"trainer": trainer | {"steps": max(1, round(trainer["tokens"] / (packs * capacity)))}}

    @model_validator(mode="after")
    def the_length_is_known(self) -> PretrainConfig:
        if self.trainer.steps is None:
            raise ValueError("trainer.steps and trainer.tokens are both null: say how long the stage is")
        return self

    @model_validator(mode="after")
    def packs_divide_over_the_ranks(self) -> PretrainConfig:
        packs, ranks = self.trainer.packs_per_step, self.learner.ranks
        if packs % ranks:
            raise ValueError(
                f"trainer.packs_per_step {packs} cannot be dealt equally to learner.ranks {ranks}: make it a multiple"
            )
        return self


class Resolution(Strict):
    """One step of the cascade of the vision-only stage."""

    edge: PositiveInt
    """Pixels; pictures are square."""
    epochs: PositiveInt
    lr_factor: PositiveFloat = 1.0


class VisionStageConfig(Strict):
    """A vision-only stage of the encoder: what `pretrain.contrastive` needs to know. openPangu-VL 4.1 names pictures,
    classes, labels and the cascade; loss and optimiser are those of MLCD and RICE."""

    pictures: PositiveInt
    classes: PositiveInt
    labels: PositiveInt
    """Nearest clusters of a picture, all of them its positives."""
    cascade: Annotated[tuple[Resolution, ...], Field(min_length=1)]
    loss: ClusterLossConfig = ClusterLossConfig()
    batch: PositiveInt = 32_768
    lr: PositiveFloat = 1e-3
    weight_decay: NonNegativeFloat = 0.2
    regions_per_picture: PositiveInt | None = None
    """Of the text-aware stage; null has no regions."""

    @property
    def samples_seen(self) -> int:
        return self.pictures * sum(step.epochs for step in self.cascade)
