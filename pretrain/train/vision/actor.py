"""The process around one rank, and all ranks as one: driver -> **actors** -> `VisionLearner`."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray

from pangu_rl.accelerators import Accelerator, get_accelerator
from pangu_rl.accelerators.collective import meeting_at
from pangu_rl.accelerators.threads import threads_each
from pangu_rl.cluster.placement import Placement
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.data.files.row_files import RowFiles
from pangu_rl.learner.actor import CONCURRENCY, Living, RankActor, take_device
from pangu_rl.loops.actors.actor_calls import ActorCalls
from pangu_rl.loops.actors.learners import RankActors
from pretrain.contrastive.kmeans import CentreShard, parts_of
from pretrain.train.vision.batches import BatchReader, PictureBatch
from pretrain.train.vision.learner import VisionLearner
from pretrain.train.vision.picture_file import PictureFile


@dataclass(frozen=True, slots=True)
class StagePictures:
    """Where every rank finds the pictures, which it maps itself."""

    files: RowFiles
    path: Path
    """Of the labels or regions."""


class VisionActor(RankActor):
    """One rank. Every call is collective."""

    def __init__(self, config: VisionStageConfig, accelerator: str, rank: int, stage: StagePictures) -> None:
        super().__init__(rank)
        self._config, self._accelerator, self._stage = config, accelerator, stage

    def start(self, host: str, port: int) -> None:
        """Join the other ranks. Not in the constructor, whose errors arrive without a cause."""
        index = take_device(get_accelerator(self._accelerator))
        os.environ.update(meeting_at(host, port))
        reader = BatchReader(self._config, self._stage.files, PictureFile(self._stage.path))
        self._learner = VisionLearner(self._config, self._accelerator, self._rank, reader, index)

    def prepare(self, batch: PictureBatch, step: int) -> None:
        self._learner.prepare(batch, step)

    def wait(self) -> list[str]:
        return self._learner.wait()

    def update(self) -> dict[str, float]:
        return self._learner.update()

    def peak_flops(self) -> float:
        return self._learner.peak_flops()


class VisionLearners(RankActors):
    """The ranks that train a tower."""

    def __init__(
        self, config: VisionStageConfig, accelerator: Accelerator, placement: Placement, stage: StagePictures
    ) -> None:
        ranks = config.learner.ranks
        threads = config.learner.cpu_threads or threads_each(ranks)
        environment = {"env_vars": accelerator.train_env(threads)}
        remote = ray.remote(concurrency_groups=CONCURRENCY)(VisionActor)
        actors = [
            remote.options(**placement.learner_options(rank), runtime_env=environment).remote(
                config, accelerator.name, rank, stage
            )
            for rank in range(ranks)
        ]
        super().__init__(actors, config.trainer.silence_s, placement)

    def prepare(self, batches: Sequence[PictureBatch], step: int) -> None:
        """Have a part for each rank read and decoded, while earlier steps train; returns at once."""
        for actor, own in zip(self._actors, batches, strict=True):
            actor.prepare.remote(own, step)

    def wait(self) -> list[str]:
        """Until every rank has the oldest step that was prepared: why pictures were left out of it."""
        return [reason for own in self._call("wait") for reason in own]

    def update(self) -> dict[str, float]:
        """One optimiser step, the oldest that was prepared; metrics of the global batch."""
        return self._call("update")[0]


class CentreActor(Living):
    """A shard of the centres of k-means."""

    def __init__(self, first: int, last: int, width: int) -> None:
        self._shard = CentreShard(first, last, width)

    def call(self, method: str, *args: Any) -> Any:
        return getattr(self._shard, method)(*args)


class CentreActors:
    """All shards of the centres, a CPU each.

    Raises (every method):
        RunError: a shard died or hangs.
    """

    def __init__(self, classes: int, width: int, shards: int, silence_s: float) -> None:
        remote = ray.remote(num_cpus=1, concurrency_groups={"health": 1})(CentreActor)
        actors = [remote.remote(first, last, width) for first, last in parts_of(classes, shards)]
        self._calls = ActorCalls("shard of centres", actors, silence_s)

    def each(self, method: str, *args: Any) -> list[Any]:
        """The method's result on every shard; each of `args` travels to a node once."""
        return self._calls.each("call", method, *map(ray.put, args))

    def close(self) -> None:
        self._calls.kill()
