"""The process around one rank, and all ranks as one: driver -> **actors** -> `VisionLearner`."""

from __future__ import annotations

import os
from pathlib import Path

import ray

from pangu_rl.accelerators import Accelerator, get_accelerator
from pangu_rl.accelerators.collective import free_port
from pangu_rl.accelerators.threads import threads_each
from pangu_rl.config.vision import VisionStageConfig
from pangu_rl.loops.learners import RankActors, translated
from pretrain.train.vision.learner import PictureBatch, VisionLearner


class VisionActor:
    """One rank. Every call but `address` and `pid` is collective."""

    def __init__(self, config: VisionStageConfig, accelerator: str, rank: int) -> None:
        self._config, self._accelerator, self._rank = config, accelerator, rank
        self._learner: VisionLearner | None = None

    def address(self) -> tuple[str, int]:
        """(host, free port) of this actor's node, where rank 0 serves the rendezvous."""
        return ray.util.get_node_ip_address(), free_port()

    def start(self, host: str, port: int) -> None:
        """Join the other ranks. Not in the constructor, whose errors arrive without a cause."""
        accelerator = get_accelerator(self._accelerator)
        if accelerator.ray_resource is not None:
            ids = ray.get_runtime_context().get_accelerator_ids()[accelerator.ray_resource]
            accelerator.set_device(accelerator.local_index(ids, os.environ))
        os.environ.update({"MASTER_ADDR": host, "MASTER_PORT": str(port)})
        self._learner = VisionLearner(self._config, self._accelerator, self._rank)

    def update(self, batch: PictureBatch, step: int) -> dict[str, float]:
        return self._learner.update(batch, step)

    def peak_flops(self) -> float:
        return self._learner.peak_flops()

    def save(self, directory: Path) -> None:
        self._learner.save(directory)

    def load(self, directory: Path) -> None:
        self._learner.load(directory)

    def export(self, directory: Path) -> None:
        self._learner.export(directory)

    def close(self) -> None:
        self._learner.close()

    @ray.method(concurrency_group="health")
    def pid(self) -> int:
        return os.getpid()


class VisionLearners(RankActors):
    """The ranks that train a tower."""

    def __init__(self, config: VisionStageConfig, accelerator: Accelerator) -> None:
        ranks = config.learner.ranks
        threads = config.learner.cpu_threads or threads_each(ranks)
        options = {**accelerator.ray_options(1), "runtime_env": {"env_vars": accelerator.train_env(threads)}}
        remote = ray.remote(concurrency_groups={"health": 1})(VisionActor)
        super().__init__([remote.options(**options).remote(config, accelerator.name, rank) for rank in range(ranks)])
        host, port = translated(lambda: ray.get(self._actors[0].address.remote()))
        self._call("start", host, port)

    def update(self, batches: list[PictureBatch], step: int) -> dict[str, float]:
        """One optimiser step on a part for each rank; metrics of the global batch."""
        calls = [actor.update.remote(own, step) for actor, own in zip(self._actors, batches, strict=True)]
        return translated(lambda: ray.get(calls))[0]
