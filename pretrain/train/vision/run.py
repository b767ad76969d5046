"""The vision-only stage: pictures -> labels -> **cascade of resolutions** -> a checkpoint whose tower sees.

    rows --pictures--> teacher, k-means --labels.arrow--> batches of an epoch --> ranks --> checkpoints/step_N/hf

Which pictures a step has follows from the seed and its number alone, so a run that is cut short goes on as it would
have. The driver knows numbers of pictures; their rows, labels and pixels are read by the ranks, a step ahead.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from pangu_rl.config.paths import resolve_path
from pangu_rl.config.vision import Resolution, VisionStageConfig
from pangu_rl.data.files.row_files import RowFiles
from pangu_rl.data.index.files import edges_digest, row_files
from pangu_rl.data.permutation import Order, order_of
from pangu_rl.loops.actors.learners import closing_ranks
from pangu_rl.loops.actors.restarts import with_restarts
from pangu_rl.loops.begun_with import begun_with
from pangu_rl.loops.session import Run, open_run
from pangu_rl.loops.skipped import log_skipped
from pangu_rl.loops.supervised.stage import train_stage
from pangu_rl.monitoring.run_log import logs_refusals
from pretrain.train.vision.actor import StagePictures, VisionLearners
from pretrain.train.vision.batches import PictureBatch
from pretrain.train.vision.labels import LABELS, drawn, make_labels, open_labels, take_labels
from pretrain.train.vision.picture_file import SUFFIX, PictureFile
from pretrain.train.vision.pictures_of_rows import log_left_out, open_picture_rows
from pretrain.train.vision.regions import REGIONS, make_regions, open_regions, take_regions

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Cascade:
    """Which pictures are shown at which step, at which size and rate."""

    config: VisionStageConfig
    pictures: int
    """Of the stage."""
    known: int | None = None
    """Pictures that these are drawn from, by the seed; None is as many."""

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
        seed = self.config.trainer.seed
        numbers = _order(self.pictures, seed, epoch)[place * size : (place + 1) * size]
        known = self.known or self.pictures
        return numbers if known == self.pictures else _order(known, seed)[numbers]

    def dealt(self, step: int) -> list[PictureBatch]:
        """A part of the step's pictures for each rank."""
        edge, lr = self.resolution(step).edge, self.rate(step)
        return [PictureBatch(own, edge, lr) for own in np.split(self.batch(step), self.config.learner.ranks)]


@dataclass(slots=True)
class VisionParts:
    """What the loop works with."""

    cascade: Cascade
    learners: VisionLearners
    prepared: int = 0
    """The last step whose pictures are under way."""
    skipped: int = 0
    """Pictures that others stood for, from the start of the stage."""

    def train_step(self, run: Run, step: int) -> dict[str, float]:
        """One update, while the next step's pictures are read and decoded."""
        for ahead in range(max(step, self.prepared + 1), min(step + 1, self.cascade.steps) + 1):
            self.learners.prepare(self.cascade.dealt(ahead), ahead)
            self.prepared = ahead
        with run.phase("data"):
            for reason in (skipped := self.learners.wait()):
                log.warning("left out: %s", reason)
            self.skipped += len(skipped)
        with run.phase("train"):
            update = self.learners.update()
        log_skipped(step, update["skipped"], (f"picture {number}" for number in self.cascade.batch(step)))
        metrics = {f"train/{name}": value for name, value in update.items()}
        edge = self.cascade.resolution(step).edge
        data = {"pictures": self.cascade.pictures, "edge": edge, "skipped": self.skipped}
        return metrics | {f"data/{name}": float(value) for name, value in data.items()}

    def state_dict(self) -> dict[str, Any]:
        """The seed and a step's number say which pictures it has."""
        return {"skipped": self.skipped}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        self.skipped = state.get("skipped", 0)


@lru_cache(maxsize=2)
def _order(pictures: int, *key: int) -> Order:
    return order_of(pictures, key)


@logs_refusals
def run_vit(config: VisionStageConfig) -> dict[str, float]:
    """Run the stage to its last step, from the newest checkpoint if there is one; returns the last step's metrics.

    Raises:
        UserError, RunError: see `pangu_rl.errors`. Preempted: SIGTERM came, a checkpoint was written.
    """
    files = open_picture_rows(config)
    begun = begun_with("vit", config, resolve_path(config.model.path), _digests(config, files))
    with open_run(config, "vision stage", steps=config.trainer.steps or 1, settings=begun) as run:
        log_left_out(files.skipped)
        found = labelled(config, files, run)
        pictures = drawn(len(found), config, str(found.path))
        cascade = Cascade(config, pictures, len(found))
        stage = StagePictures(files, found.path)
        run.view.steps = cascade.steps

        def train() -> dict[str, float]:
            with (
                run.placed(config) as placement,
                closing_ranks(VisionLearners(config, run.accelerator, placement, stage), run) as learners,
            ):
                return train_stage(run, VisionParts(cascade, learners), cascade.steps)

        return with_restarts(run, config.trainer.max_restarts, train)


def _digests(config: VisionStageConfig, files: RowFiles) -> dict[str, str]:
    """Of the rows, and of labels or regions that were made elsewhere."""
    named = {"labels": config.data.labels, "regions": config.regions.file if config.regions else None}
    return {"rows": files.digest} | {key: _identity(resolve_path(path)) for key, path in named.items() if path}


def _identity(path: Path) -> str:
    """Sizes and both ends of the files."""
    files = [path] if path.suffix == SUFFIX else row_files([path])
    return " ".join(f"{file.stat().st_size} {edges_digest(file)}" for file in files if file.is_file())


def labelled(config: VisionStageConfig, files: RowFiles, run: Run) -> PictureFile:
    """With the labels or regions that the configuration names, or those of the run directory, which are made first."""
    if config.regions is None:
        named, name, shown = config.data.labels, LABELS, "the pictures"
        opened, take, make = open_labels, take_labels, make_labels
    else:
        named, name, shown = config.regions.file, REGIONS, "the objects in the rows"
        opened, take, make = open_regions, take_regions, make_regions
    given = resolve_path(named) if named is not None else None
    if given is not None and given.suffix == SUFFIX:
        return opened(given, config, files)
    path = Path(config.trainer.run_dir) / name
    if not path.is_file():
        with run.phase("labels"):
            if given is not None:
                run.say(f"finding the rows of the {path.stem} in {given}")
                take(config, files, path)
            else:
                run.say(f"{config.teacher.encoder} embeds {shown} for {config.classes} clusters")
                make(config, files, path)
    return opened(path, config, files)
