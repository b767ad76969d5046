"""The vision-only stage: pictures -> labels -> **cascade of resolutions** -> a checkpoint whose tower sees.

    rows --pictures--> teacher, k-means --labels.parquet--> batches of an epoch --> ranks --> checkpoints/step_N/hf

Which pictures a step has follows from the seed and its number alone, so a run that is cut short goes on as it would
have.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from pangu_rl.config.paths import resolve_path
from pangu_rl.config.vision import Resolution, VisionStageConfig
from pangu_rl.data.row_files import open_rows
from pangu_rl.loops.begun_with import begun_with
from pangu_rl.loops.learners import closing_ranks
from pangu_rl.loops.restarts import with_restarts
from pangu_rl.loops.session import Run, open_run
from pangu_rl.loops.supervised.stage import train_stage
from pretrain.train.vision.actor import VisionLearners
from pretrain.train.vision.labels import LABELS, make_labels, picture_names, read_labels
from pretrain.train.vision.learner import PictureBatch
from pretrain.train.vision.regions import REGIONS, Place, make_regions, read_regions


@dataclass(frozen=True, slots=True)
class Cascade:
    """Which pictures are shown at which step, at which size and rate."""

    config: VisionStageConfig
    pictures: int

    @property
    def steps(self) -> int:
        """Of the whole cascade, or as many as `trainer.steps` says; an epoch's last, short batch is left out."""
        whole = self.pictures // self.config.batch * sum(step.epochs for step in self.config.cascade)
        return min(whole, self.config.trainer.steps or whole)

    def resolution(self, step: int) -> Resolution:
        """Of step 1, 2, ..."""
        epoch = (step - 1) // (self.pictures // self.config.batch)
        for part in self.config.cascade:
            if epoch < part.epochs:
                return part
            epoch -= part.epochs
        raise AssertionError(f"step {step} is behind the cascade")

    def rate(self, step: int) -> float:
        """Learning rate: up over `warmup_steps`, then straight down to 0 behind the last step, times `lr_factor`."""
        warmup = self.config.learner.warmup_steps
        share = step / warmup if step <= warmup else (self.steps + 1 - step) / max(self.steps + 1 - warmup, 1)
        return self.config.lr * share * self.resolution(step).lr_factor

    def batch(self, step: int) -> np.ndarray:
        """Numbers of the pictures of a step, int64 [batch]."""
        size = self.config.batch
        epoch, place = divmod(step - 1, self.pictures // size)
        return _order(self.config.trainer.seed, epoch, self.pictures)[place * size : (place + 1) * size]


@dataclass(frozen=True, slots=True)
class Pictures:
    """N pictures by name, with what they are told apart by."""

    images: tuple[str, ...]
    labels: Tensor | None
    """int64 [N, L], the classes of each; None in the text-aware stage."""
    places: tuple[tuple[Place, ...], ...] = ()
    """Of each, in the text-aware stage."""


@dataclass(slots=True)
class VisionParts:
    """What the loop works with."""

    cascade: Cascade
    pictures: Pictures
    learners: VisionLearners

    def train_step(self, run: Run, step: int) -> dict[str, float]:
        with run.phase("train"):
            update = self.learners.update(dealt(self.cascade, self.pictures, step), step)
        metrics = {f"train/{name}": value for name, value in update.items()}
        edge = float(self.cascade.resolution(step).edge)
        return metrics | {"data/pictures": float(self.cascade.pictures), "data/edge": edge}

    def state_dict(self) -> dict[str, Any]:
        """Nothing: the seed and a step's number say which pictures it has."""
        return {}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        pass


@lru_cache(maxsize=2)
def _order(seed: int, epoch: int, pictures: int) -> np.ndarray:
    return np.random.default_rng((seed, epoch)).permutation(pictures)


def run_vit(config: VisionStageConfig) -> dict[str, float]:
    """Run the stage to its last step, from the newest checkpoint if there is one; returns the last step's metrics.

    Raises:
        UserError, RunError: see `pangu_rl.errors`. Preempted: SIGTERM came, a checkpoint was written.
    """
    begun = begun_with("vit", config, resolve_path(config.model.path), _rows(config))
    with open_run(config, "vision stage", steps=config.trainer.steps or 1, settings=begun) as run:
        pictures = labelled(config, run) if config.regions is None else with_regions(config, run)
        cascade = Cascade(config, len(pictures.images))
        run.view.steps = cascade.steps

        def train() -> dict[str, float]:
            with (
                run.placed(config) as placement,
                closing_ranks(VisionLearners(config, run.accelerator, placement), run) as learners,
            ):
                return train_stage(run, VisionParts(cascade, pictures, learners), cascade.steps)

        return with_restarts(run, config.trainer.max_restarts, train)


def _rows(config: VisionStageConfig) -> dict[str, str]:
    """Digests of what names the pictures."""
    named = {"labels": config.data.labels, "regions": config.regions.file if config.regions else None}
    files = {key: resolve_path(path) for key, path in named.items() if path is not None}
    if not files:
        return {"rows": open_rows([resolve_path(config.data.train)], on_bad_row="refuse").digest}
    return {key: hashlib.sha256(file.read_bytes()).hexdigest() for key, file in files.items() if file.is_file()}


def labelled(config: VisionStageConfig, run: Run) -> Pictures:
    """With the labels that the configuration names, or those of the run directory, which are made first."""
    if config.data.labels is not None:
        return Pictures(*read_labels(resolve_path(config.data.labels), config))
    path = Path(config.trainer.run_dir) / LABELS
    if not path.is_file():
        names = picture_names(config)
        run.say(f"{config.teacher.encoder} embeds {len(names)} pictures for {config.classes} clusters")
        with run.phase("labels"):
            make_labels(names, config, path)
    return Pictures(*read_labels(path, config))


def with_regions(config: VisionStageConfig, run: Run) -> Pictures:
    """With the regions that the configuration names, or those of the run directory, which are made first."""
    path = Path(config.trainer.run_dir) / REGIONS
    if config.regions.file is not None:
        path = resolve_path(config.regions.file)
    elif not path.is_file():
        run.say(f"{config.teacher.encoder} embeds the objects in the rows for {config.classes} clusters")
        with run.phase("labels"):
            make_regions(config, path)
    found = read_regions(path, config)
    return Pictures(tuple(found), None, tuple(found.values()))


def dealt(cascade: Cascade, pictures: Pictures, step: int) -> list[PictureBatch]:
    """The step's pictures, dealt to the ranks."""
    return [
        PictureBatch(
            images=tuple(pictures.images[number] for number in own),
            labels=None if pictures.labels is None else pictures.labels[own],
            places=tuple(pictures.places[number] for number in own) if pictures.places else (),
            edge=cascade.resolution(step).edge,
            lr=cascade.rate(step),
        )
        for own in np.split(cascade.batch(step), cascade.config.learner.ranks)
    ]
