"""All learner ranks as one: the driver's side of training."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import ray
from ray.exceptions import RayActorError, RayTaskError

from pangu_rl.checkpoint.manifest import Entry
from pangu_rl.checkpoint.shared_folder import Answer, require_shared
from pangu_rl.checkpoint.store import RANKS
from pangu_rl.config.paths import resolve_path
from pangu_rl.data.micro_batches import Dealing
from pangu_rl.errors import RunError, UserError
from pangu_rl.learner.actor import start_learners
from pangu_rl.learner.measure.flops import ModelFlops, loaded_config
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.learner.wire import compact
from pangu_rl.loops.session import Run
from pangu_rl.records import MiniBatch, Pack, WeightManifest

log = logging.getLogger(__name__)


class RankActors:
    """The actors of all ranks of a learner: each method is called on every one at once and waited for.

    Raises (every method):
        RunError: a rank died; the run resumes from its checkpoint. UserError: what a rank raised.
    """

    def __init__(self, actors: Sequence[ray.actor.ActorHandle]) -> None:
        self._actors = list(actors)

    def save(self, checkpoint: Path) -> None:
        """Begin to write the ranks' part of a checkpoint, and the model as a folder; then training may go on."""
        (checkpoint / RANKS).mkdir(parents=True)
        self._call("save", checkpoint.resolve())

    def written(self) -> dict[str, Entry]:
        """What `save` wrote, once it is on disk: name below the checkpoint -> what its rank says of the file."""
        return {name: entry for entries in self._call("written") for name, entry in entries.items()}

    def check_files(self, checkpoint: Path, entries: Mapping[str, Entry]) -> None:
        """Have each file hashed once, by the rank that is to read it where there is one, all at the same time."""
        dealt: list[dict[str, Entry]] = [{} for _ in self._actors]
        for name, entry in entries.items():
            dealt[(entry.rank or 0) % len(dealt)][name] = entry
        folder = checkpoint.resolve()
        calls = [actor.check_files.remote(folder, own) for actor, own in zip(self._actors, dealt, strict=True)]
        translated(lambda: ray.get(calls))

    def load(self, checkpoint: Path) -> None:
        self._call("load", checkpoint.resolve())

    def answer(self, folder: Path) -> list[Answer]:
        """Of every rank, whether it sees `folder`; see `shared_folder`."""
        return self._call("answer", folder)

    def peak_flops(self) -> float:
        """FLOP/s that the devices of all ranks reach together at most; measured, unless the configuration says."""
        return sum(self._call("peak_flops"))

    def pids(self) -> dict[str, int]:
        """Process of every rank, for the watchdog."""
        return {f"learner rank {r}": ray.get(actor.pid.remote(), timeout=10.0) for r, actor in enumerate(self._actors)}

    def close(self) -> None:
        """End the ranks; what they published in shared memory goes with them."""
        try:
            self._call("close")
        finally:
            for actor in self._actors:
                ray.kill(actor)

    def _call(self, method: str, *args: Any) -> list[Any]:
        calls = [getattr(actor, method).remote(*args) for actor in self._actors]
        return translated(lambda: ray.get(calls))


class Learners(RankActors):
    """The ranks that train a language model.

    The ranks of a sequence-parallel group get the same packs; without sequence parallelism each rank is a group.
    """

    def __init__(self, spec: LearnerSpec) -> None:
        """Start the ranks and check, for every stage, that the model may be trained packed.

        Raises:
            DataError: its packed log-probs are not its own; see `pangu_rl.learner.packing_check`.
        """
        super().__init__(translated(lambda: start_learners(spec)))
        self._spec = spec
        self.dealing = dealing(spec)
        try:
            found = self._call("check_packing")[0]
        except (UserError, RunError):
            self.close()
            raise
        log.info("packed log-probs are the model's own to %.2g nats (rounding: %.2g)", found.plain, found.plain_limit)

    def profile_next(self, folder: Path) -> None:
        """Have rank 0 profile the next update into `folder`."""
        translated(lambda: ray.get(self._actors[0].profile_next.remote(folder.resolve())))

    def update(self, mini_batches: Sequence[Sequence[MiniBatch]]) -> list[dict[str, float]]:
        """[mini-batch][group] -> metrics per optimiser step."""
        return self.update_from(self.hand_out(mini_batches))

    def hand_out(self, mini_batches: Sequence[Sequence[MiniBatch]]) -> list[ray.ObjectRef]:
        """[mini-batch][group] -> a handle per rank to its own, stored once for all ranks of a group."""
        groups, degree = self._spec.learner.groups, self._spec.learner.sequence_parallel
        stored = [ray.put(compact([batch[group] for batch in mini_batches])) for group in range(groups)]
        return [handle for handle in stored for _ in range(degree)]

    def update_from(self, handles: Sequence[ray.ObjectRef]) -> list[dict[str, float]]:
        """As `update`, of one handle per rank to its mini-batches: they never pass through the driver."""
        calls = [actor.update.remote(handle) for actor, handle in zip(self._actors, handles, strict=True)]
        return translated(lambda: ray.get(calls))[0]

    def log_probs(self, packs: Sequence[Pack], temperature: float) -> list[np.ndarray]:
        """float32 [M] per pack at `temperature`, of the current weights."""
        return self._call("log_probs", list(packs), temperature)[0]

    def shared_log_probs(self, packs: Sequence[Sequence[Pack]], temperature: float) -> list[list[np.ndarray]]:
        """[group][pack] -> float32 [M] each: every group computes its own packs, all the same number of them."""
        own = self._for_ranks([list(group) for group in packs])
        calls = [actor.log_probs.remote(mine, temperature) for actor, mine in zip(self._actors, own, strict=True)]
        return translated(lambda: ray.get(calls[:: self._spec.learner.sequence_parallel]))

    @contextmanager
    def published(self, version: int) -> Iterator[WeightManifest]:
        """The weights as `version`, for rollout engines that load them within the context, while the ranks send.

        Raises:
            WeightSyncError: they did not reach the engines.
        """
        manifest = self._call("publish", version)[0]
        sending = [actor.send.remote() for actor in self._actors]
        yield manifest
        translated(lambda: ray.get(sending))

    def open_publisher(self, transport: str, receivers: int) -> None:
        """Choose the transport of `published`: `shm`, or `broadcast` to so many engine workers."""
        host, _ = ray.get(self._actors[0].address.remote())
        self._call("open_publisher", transport, host, receivers)

    def _for_ranks(self, per_group: Sequence[Any]) -> list[Any]:
        """What each rank is sent; what a group shares is stored once."""
        degree = self._spec.learner.sequence_parallel
        shared = per_group if degree == 1 else [ray.put(own) for own in per_group]
        return [own for own in shared for _ in range(degree)]


def dealing(spec: LearnerSpec) -> Dealing:
    """How packs come to the ranks of `spec`: by the FLOPs of its model, alike at every micro-batch where ranks meet."""
    flops = ModelFlops.of(loaded_config(resolve_path(spec.model.path), spec.model.trust_remote_code))
    return Dealing(
        cost=lambda pack: flops.of_training(pack, spec.learner.trainable),
        micro_batch_tokens=spec.learner.micro_batch_tokens,
        in_rows=spec.learner.ranks_meet_at_micro_batches,
    )


def translated(call: Any) -> Any:
    """`call()`, whose Ray errors arrive as what an actor raised for the user."""
    try:
        return call()
    except RayTaskError as error:
        if isinstance(error.cause, UserError | RunError):
            raise error.cause from None
        raise
    except RayActorError as error:
        reason = str(error).strip().splitlines()[0]
        raise RunError(f"a learner rank died: {reason}; the same command goes on from the last checkpoint") from None


Ranks = TypeVar("Ranks", bound=RankActors)


@contextmanager
def closing_ranks(learners: Ranks, run: Run) -> Iterator[Ranks]:
    """Ranks that have started, watched by the run; they end with the context, once what they write is written.

    Raises:
        ConfigError: a rank does not see the run directory.
    """
    run.watchdog.pids = learners.pids
    run.view.start_at(0)
    try:
        run.peak_flops = learners.peak_flops()
        require_shared(run.dir, learners.answer)
        yield learners
    finally:
        run.saving.settle()
        learners.close()
