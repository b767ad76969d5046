"""The process around one rank, and all ranks as one: driver -> **actors** -> `VisionLearner`."""

from __future__ import annotations

import os

import ray

from pangu_rl.accelerators import Accelerator, get_accelerator
from pangu_rl.accelerators.collective import meeting_at
from pangu_rl.accelerators.threads import threads_each
from pangu_rl.cluster.placement import Placement
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.learner.actor import CONCURRENCY, RankActor, take_device
from pangu_rl.loops.learners import RankActors
from pretrain.train.vision.learner import PictureBatch, VisionLearner


class VisionActor(RankActor):
    """One rank. Every call is collective."""

    def __init__(self, config: VisionStageConfig, accelerator: str, rank: int) -> None:
        super().__init__(rank)
        self._config, self._accelerator = config, accelerator

    def start(self, host: str, port: int) -> None:
        """Join the other ranks. Not in the constructor, whose errors arrive without a cause."""
        index = take_device(get_accelerator(self._accelerator))
        os.environ.update(meeting_at(host, port))
        self._learner = VisionLearner(self._config, self._accelerator, self._rank, index)

    def update(self, batch: PictureBatch, step: int) -> dict[str, float]:
        return self._learner.update(batch, step)

    def peak_flops(self) -> float:
        return self._learner.peak_flops()


class VisionLearners(RankActors):
    """The ranks that train a tower."""

    def __init__(self, config: VisionStageConfig, accelerator: Accelerator, placement: Placement) -> None:
        ranks = config.learner.ranks
        threads = config.learner.cpu_threads or threads_each(ranks)
        environment = {"env_vars": accelerator.train_env(threads)}
        remote = ray.remote(concurrency_groups=CONCURRENCY)(VisionActor)
        actors = [
            remote.options(**placement.learner_options(rank), runtime_env=environment).remote(
                config, accelerator.name, rank
            )
            for rank in range(ranks)
        ]
        super().__init__(actors, config.trainer.silence_s)

    def update(self, batches: list[PictureBatch], step: int) -> dict[str, float]:
        """One optimiser step on a part for each rank; metrics of the global batch."""
        calls = [actor.update.remote(own, step) for actor, own in zip(self._actors, batches, strict=True)]
        return self._calls.wait(calls, "update")[0]
