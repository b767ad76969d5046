"""The process around one rank. Driver -> **actor** -> `Learner`; all ranks are started, and called, together."""

from __future__ import annotations

import itertools
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import ray

from pangu_rl.accelerators import Accelerator, get_accelerator
from pangu_rl.accelerators.collective import meeting_at, serve_store
from pangu_rl.accelerators.threads import threads_each
from pangu_rl.checkpoint.disk import told
from pangu_rl.checkpoint.manifest import Entry, check_files
from pangu_rl.checkpoint.shared_folder import Answer, answer
from pangu_rl.checkpoint.store import ADAPTER, MODEL, RANKS
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.monitoring.watchdog import Process
from pangu_rl.records import MiniBatch, PackLike, WeightManifest
from pangu_rl.records.prompts import with_patches

if TYPE_CHECKING:
    from pangu_rl.learner.checks.packing_check import PackingCheck

CONCURRENCY = {"health": 1, "files": 2}
"""Calls of these groups do not wait for a step."""


def take_device(accelerator: Accelerator) -> int:
    """Make the device that Ray gave this actor the current one; returns its index as torch counts them here."""
    if accelerator.ray_resource is None:
        return 0
    index = accelerator.local_index(
        ray.get_runtime_context().get_accelerator_ids()[accelerator.ray_resource], os.environ
    )
    accelerator.set_device(index)
    return index


class Living:
    """An actor that says that it lives, whatever else it does."""

    @ray.method(concurrency_group="health")
    def ping(self) -> str:
        """Where."""
        return f"pid {os.getpid()} on {ray.util.get_node_ip_address()}"


class RankActor(Living):
    """What an actor around one rank does whatever it trains: checkpoints, and signs of life.

    `save`, `load` and `close` are collective.
    """

    def __init__(self, rank: int) -> None:
        self._rank = rank
        self._learner: Any = None
        self._writing: dict[str, Future[dict[str, Entry]]] = {}

    def host(self) -> str:
        """Address of this actor's node."""
        return ray.util.get_node_ip_address()

    def address(self) -> tuple[str, int]:
        """(host, port) of this actor's node, where rank 0 serves the store that all meet at from now on."""
        self._store = serve_store(self.host())
        return self.host(), self._store.port

    def save(self, checkpoint: Path) -> None:
        """Begin to write this rank's part of a checkpoint and of the model; `written` says when it is there."""
        parts = {RANKS: self._learner.save} | self._exports()
        with told(checkpoint):
            self._writing = {folder: part(checkpoint / folder) for folder, part in parts.items()}

    def _exports(self) -> dict[str, Callable[[Path], Future[dict[str, Entry]]]]:
        """What is written of the model for everybody else: folder of a checkpoint -> what fills it."""
        return {MODEL: self._learner.export}

    def load(self, checkpoint: Path) -> None:
        self._learner.load(checkpoint / RANKS)

    def close(self) -> None:
        self._learner.close()

    @ray.method(concurrency_group="files")
    def written(self) -> dict[str, Entry]:
        """The files of the last `save`, once they are on disk; names are below the checkpoint."""
        return {
            f"{folder}/{name}": replace(entry, rank=self._rank)
            for folder, writing in self._writing.items()
            for name, entry in writing.result().items()
        }

    @ray.method(concurrency_group="files")
    def check_files(self, directory: Path, entries: Mapping[str, Entry]) -> None:
        check_files(directory, entries)

    @ray.method(concurrency_group="files")
    def answer(self, folder: Path) -> Answer:
        return answer(folder, self._rank)


class LearnerActor(RankActor):
    """One rank in a Ray actor. Every call is collective."""

    def __init__(self, spec: LearnerSpec) -> None:
        super().__init__(spec.rank)
        self._spec = spec

    def start(self, host: str, port: int) -> Process:
        """Join the other ranks and build the engine. Not in the constructor, whose errors arrive without a cause."""
        from pangu_rl.learner.learner import Learner

        spec = self._spec
        index = take_device(get_accelerator(spec.accelerator))
        ranks = {"LOCAL_RANK": index, "RANK": spec.rank, "WORLD_SIZE": spec.world_size}
        os.environ.update(meeting_at(host, port) | {name: str(value) for name, value in ranks.items()})
        self._learner = Learner(spec)
        return Process.here()

    def _exports(self) -> dict[str, Callable[[Path], Future[dict[str, Entry]]]]:
        outlet = self._learner.outlet
        return {ADAPTER: outlet.export_adapters} if self._spec.learner.lora else {MODEL: outlet.export}

    def log_probs(
        self, packs: Sequence[PackLike], temperature: float | None = None, adapted: bool = True
    ) -> list[np.ndarray]:
        return self._learner.log_probs(with_patches(packs, ray.ObjectRef, ray.get), temperature, adapted)

    def update(self, batches: Sequence[MiniBatch]) -> list[dict[str, float]]:
        own = [ray.get(batch.packs) if isinstance(batch.packs, ray.ObjectRef) else batch.packs for batch in batches]
        packs = iter(with_patches([pack for some in own for pack in some], ray.ObjectRef, ray.get))
        return self._learner.update(
            [replace(batch, packs=tuple(itertools.islice(packs, len(some)))) for batch, some in zip(batches, own)]
        )

    @ray.method(concurrency_group="files")
    def old_logprobs(self) -> list[dict[int, np.ndarray]]:
        return self._learner.old_logprobs

    def profile_next(self, folder: Path) -> None:
        self._learner.profile_next(folder)

    def check_packing(self) -> PackingCheck:
        return self._learner.check_packing()

    def peak_flops(self) -> float:
        return self._learner.peak_flops()

    def to_host(self) -> int:
        return self._learner.to_host()

    def to_device(self) -> None:
        self._learner.to_device()

    def open_publisher(self, transport: str, **settings: Any) -> None:
        """See `Outlet.open_publisher`."""
        self._learner.outlet.open_publisher(transport, **settings)

    def publish(self, version: int) -> WeightManifest | None:
        return self._learner.outlet.publish(version)

    def send(self) -> None:
        self._learner.outlet.send()


def create_learners(
    spec: LearnerSpec, options: Callable[[int], Mapping[str, Any]] | None = None
) -> list[ray.actor.ActorHandle]:
    """All ranks of `spec.world_size`, yet to `start`; `options` are Ray's for each rank, with its place."""
    accelerator = get_accelerator(spec.accelerator)
    threads = spec.learner.cpu_threads or threads_each(spec.world_size)
    environment = {"env_vars": accelerator.train_env(threads)}
    remote = ray.remote(concurrency_groups=CONCURRENCY)(LearnerActor)
    return [
        remote.options(**(options(rank) if options else accelerator.ray_options(1)), runtime_env=environment).remote(
            replace(spec, rank=rank)
        )
        for rank in range(spec.world_size)
    ]
