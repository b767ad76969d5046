"""The loader beside the learner ranks, in a process of its own: it prepares the next step while this one trains."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Sequence
from functools import reduce
from operator import add

import ray

from pangu_rl.cluster.placement import Placement
from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.data.micro_batches import Dealing
from pangu_rl.data.row_files import RowFiles
from pangu_rl.loops.actor_calls import ActorCalls
from pangu_rl.records import MiniBatch, Pack
from pretrain.train.loader import Counts, PackLoader
from pretrain.train.order import PackOrder, deal_packs


class LoaderActor:
    """One `PackLoader`. `prepare` and `batch` take turns; `prepare` may run a step ahead."""

    def __init__(self) -> None:
        self._loader: PackLoader | None = None
        self._ready: deque[list[Pack]] = deque()

    def start(self, config: PretrainConfig, files: RowFiles) -> None:
        """Not in the constructor, whose errors arrive without a cause."""
        self._loader = PackLoader(config, files)

    def prepare(self, shared: Sequence[Sequence[PackOrder]]) -> Counts:
        """Load the packs of a step's micro-batches; its counts, without the packs."""
        packs, counts = self._loader.load_merged(shared)
        self._ready.append(packs)
        return counts

    def batch(self, total: Counts) -> list[MiniBatch]:
        """The oldest prepared step as the group's mini-batch; `total` are the counts of all groups."""
        return [
            MiniBatch(
                packs=tuple(self._ready.popleft()),
                loss_tokens=total.targets,
                loss_sequences=total.sequences,
                loss_roots=total.roots,
            )
        ]

    @ray.method(concurrency_group="health")
    def ping(self) -> str:
        """That this loader lives, and where."""
        return f"pid {os.getpid()} on {ray.util.get_node_ip_address()}"


class Loaders:
    """All loaders as one: the driver's side. The ranks of a group, which share packs, have one loader.

    Raises (every method):
        RankLost: a loader died or hangs. DataError: a row that cannot be used.
    """

    def __init__(self, config: PretrainConfig, files: RowFiles, placement: Placement) -> None:
        """One actor per group of learner ranks, on the node of its first one, ready to load."""
        handle = ray.put(files)
        self._degree = config.learner.sequence_parallel
        self._dealing = Dealing(
            micro_batch_tokens=config.learner.micro_batch_tokens,
            in_rows=config.learner.ranks_meet_at_micro_batches,
        )
        remote = ray.remote(concurrency_groups={"health": 1})(LoaderActor)
        first_ranks = range(0, config.learner.ranks, self._degree)
        self._actors = [remote.options(**placement.beside_learner(rank)).remote() for rank in first_ranks]
        self._calls = ActorCalls("loader", self._actors, config.trainer.silence_s)
        self._calls.each("start", config, handle)
        self._counts: list[ray.ObjectRef] = []

    def prepare(self, batch: list[PackOrder]) -> None:
        """Deal a global batch out and have it loaded; returns at once."""
        dealt = deal_packs(batch, len(self._actors), self._dealing)
        self._counts = [actor.prepare.remote(own) for actor, own in zip(self._actors, dealt, strict=True)]

    def take(self) -> tuple[list[ray.ObjectRef], Counts]:
        """What was prepared: a handle for each rank, to its group's mini-batches, and the counts of all."""
        total = reduce(add, self._calls.wait(self._counts, "prepare"))
        handles = [actor.batch.remote(total) for actor in self._actors]
        return [handle for handle in handles for _ in range(self._degree)], total

    def close(self) -> None:
        self._calls.kill()
