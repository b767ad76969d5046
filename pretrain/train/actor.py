"""The loaders beside the learner ranks, in processes of their own: they prepare the next step while this one trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import reduce
from itertools import cycle
from operator import add

import ray

from pangu_rl.cluster.placement import Placement
from pangu_rl.config.pretrain import PretrainConfig
from pangu_rl.data.files.row_files import RowFiles
from pangu_rl.data.packs.micro_batches import Dealing
from pangu_rl.learner.actor import Living
from pangu_rl.loops.actors.actor_calls import ActorCalls
from pangu_rl.records import MiniBatch, Pack
from pretrain.packing.online import StreamSample
from pretrain.train.loader import Counts, FoundRow, PackLoader
from pretrain.train.order import PackOrder, deal_packs


class LoaderActor(Living):
    """One `PackLoader`. Both results of a method are objects of their own: what is large stays where it is needed."""

    def __init__(self) -> None:
        self._loader: PackLoader | None = None

    def start(self, config: PretrainConfig, files: RowFiles) -> None:
        """Not in the constructor, whose errors arrive without a cause."""
        self._loader = PackLoader(config, files)

    @ray.method(num_returns=2)
    def measure(self, rows: Sequence[int]) -> tuple[list[StreamSample | str], dict[int, FoundRow]]:
        return self._loader.measure(rows)

    @ray.method(num_returns=2)
    def load(
        self, shared: Sequence[Sequence[PackOrder]], kept: Sequence[ray.ObjectRef]
    ) -> tuple[Counts, tuple[Pack, ...]]:
        """A step's micro-batches, and their counts; of its rows those that were measured are `kept`."""
        rows = {index: row for chunk in ray.get(list(kept)) for index, row in chunk.items()}
        packs, counts = self._loader.load_merged(shared, rows)
        return counts, tuple(packs)


@dataclass(frozen=True, slots=True)
class MeasuredThere:
    """Follows `Measured`, of the loader with that number."""

    calls: ActorCalls
    loader: int
    answer: ray.ObjectRef
    rows: ray.ObjectRef

    def samples(self) -> list[StreamSample | str]:
        return self.calls.wait([self.answer], "measure", first=self.loader)[0]


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
        self._turns = cycle(range(len(self._actors)))

    def measure(self, rows: Sequence[int]) -> MeasuredThere:
        """Have one of the loaders measure these rows, each in its turn; returns at once."""
        loader = next(self._turns)
        answer, encoded = self._actors[loader].measure.remote(list(rows))
        return MeasuredThere(self._calls, loader, answer, encoded)

    def load(self, batch: Sequence[PackOrder]) -> tuple[list[list[MiniBatch]], Counts]:
        """Deal a global batch out and have it loaded: the mini-batches of each rank, whose packs are handles to what
        its loader has ready, and the counts of all."""
        dealt = deal_packs(list(batch), len(self._actors), self._dealing)
        loading = [actor.load.remote(*_with_handles_apart(own)) for actor, own in zip(self._actors, dealt, strict=True)]
        total = reduce(add, self._calls.wait([counts for counts, _ in loading], "load"))
        mini_batches = [
            [MiniBatch(packs=packs, loss_tokens=total.targets, loss_sequences=total.sequences, loss_roots=total.roots)]
            for _, packs in loading
        ]
        return [own for own in mini_batches for _ in range(self._degree)], total

    def close(self) -> None:
        self._calls.kill()


def _with_handles_apart(
    shared: Sequence[Sequence[PackOrder]],
) -> tuple[list[list[PackOrder]], list[ray.ObjectRef]]:
    """The orders without the handles to their rows, and each of these once."""
    kept = dict.fromkeys(handle for orders in shared for order in orders for handle in order.kept)
    return [[replace(order, kept=()) for order in orders] for orders in shared], list(kept)
