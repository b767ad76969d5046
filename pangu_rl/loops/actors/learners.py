"""All learner ranks as one: the driver's side of training."""

from __future__ import annotations

import logging
import secrets
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import ray

from pangu_rl.checkpoint.manifest import Entry
from pangu_rl.checkpoint.shared_folder import Answer, require_shared
from pangu_rl.checkpoint.store import RANKS
from pangu_rl.cluster.placement import Placement
from pangu_rl.config.paths import resolve_path
from pangu_rl.data.packs.micro_batches import Dealing
from pangu_rl.learner.actor import create_learners
from pangu_rl.learner.measure.flops import ModelFlops, loaded_config
from pangu_rl.learner.spec import LearnerSpec
from pangu_rl.loops.actors.actor_calls import ActorCalls
from pangu_rl.loops.session import Run
from pangu_rl.records import MiniBatch, Pack, PackLike, WeightManifest

log = logging.getLogger(__name__)

CLOSE_S = 30.0
"""For ranks to end by themselves; one that waits for another in a collective does not."""


class RankActors:
    """The actors of all ranks of a learner: each method is called on every one at once and waited for.

    Raises (every method):
        RankLost: a rank died or hangs; `with_restarts` goes on from the last checkpoint. UserError, RunError: what a
            rank raised.
    """

    def __init__(
        self, actors: Sequence[ray.actor.ActorHandle], silence_s: float, placement: Placement | None = None
    ) -> None:
        """Ranks that are to `start` yet, where `placement` says; one that gives no sign of life for `silence_s`
        hangs."""
        self._actors = list(actors)
        self._silence_s = silence_s
        places = [] if placement is None else [placement.learner_lost]
        self._calls = ActorCalls("learner rank", actors, silence_s, *places)
        try:
            host, port = self._calls.first("address")
            self._call("start", host, port)
        except BaseException:
            self._calls.kill()
            raise

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
        self._calls.wait(calls, "check_files")

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
        self._calls.kill(CLOSE_S)

    def _call(self, method: str, *args: Any) -> list[Any]:
        return self._calls.each(method, *args)


class Learners(RankActors):
    """The ranks that train a language model.

    The ranks of a sequence-parallel group get the same packs; without sequence parallelism each rank is a group.
    """

    def __init__(self, spec: LearnerSpec, silence_s: float, placement: Placement | None = None) -> None:
        """Start the ranks and check, for every stage, that the model may be trained packed. Without a placement Ray
        chooses where they go.

        Raises:
            DataError: its packed log-probs are not its own; see `pangu_rl.learner.checks.packing_check`.
        """
        super().__init__(create_learners(spec, placement and placement.learner_options), silence_s, placement)
        self._spec = spec
        self._transport, self._every_node, self._members = "shm", False, ()
        self.dealing = dealing(spec)
        try:
            found = self._call("check_packing")[0]
        except BaseException:
            self.close()
            raise
        log.info("packed log-probs are the model's own to %.2g nats (rounding: %.2g)", found.plain, found.plain_limit)

    def profile_next(self, folder: Path) -> None:
        """Have rank 0 profile the next update into `folder`."""
        self._calls.first("profile_next", folder.resolve())

    def hand_out(self, mini_batches: Sequence[Sequence[MiniBatch]]) -> list[ray.ObjectRef]:
        """[mini-batch][group] -> a handle per rank to its own, stored once for all ranks of a group."""
        groups, degree = self._spec.learner.groups, self._spec.learner.sequence_parallel
        own = [[batch[group] for batch in mini_batches] for group in range(groups)]
        with ThreadPoolExecutor() as threads:  # Ray copies without the interpreter's lock
            stored = threads.map(ray.put, own)
            return [handle for handle in stored for _ in range(degree)]

    def update_from(self, own: Sequence[ray.ObjectRef | Sequence[MiniBatch]]) -> list[dict[str, float]]:
        """Metrics per optimiser step, of each rank's mini-batches or a handle to them: the packs of a handle never pass
        through the driver."""
        return self._calls.dealt("update", own)[0]

    def log_probs(self, packs: Sequence[Pack], temperature: float) -> list[np.ndarray]:
        """float32 [M] per pack at `temperature`, of the current weights."""
        return self._call("log_probs", list(packs), temperature)[0]

    def shared_log_probs(
        self, packs: Sequence[Sequence[PackLike]], temperature: float, adapted: bool = True
    ) -> list[list[np.ndarray]]:
        """[group][pack] -> float32 [M] each: every group computes its own packs, all the same number of them. Not
        `adapted`, adapters are switched off, if there are any."""
        own = self._for_ranks([list(group) for group in packs])
        calls = [
            actor.log_probs.remote(mine, temperature, adapted) for actor, mine in zip(self._actors, own, strict=True)
        ]
        degree = self._spec.learner.sequence_parallel
        return self._calls.wait(calls[::degree], "log_probs", step=degree)

    def old_logprobs(self) -> list[list[dict[int, np.ndarray]]]:
        """[group][mini-batch] of the last update: sequence -> float32 [T], under the weights before it; see
        `Learner.old_logprobs`. It waits for nothing that the ranks are at."""
        degree = self._spec.learner.sequence_parallel
        calls = [actor.old_logprobs.remote() for actor in self._actors[::degree]]
        return self._calls.wait(calls, "old_logprobs", step=degree)

    def publish(
        self, version: int, members: tuple[str, ...], fresh: bool = False
    ) -> tuple[WeightManifest, list[ray.ObjectRef]]:
        """The weights as `version`, and the ranks' calls that send them while the engines' workers `members` load.

        The group of a broadcast is made anew when its members change, and when it is to be `fresh`, as after
        one that broke.
        """
        if self._transport == "broadcast" and (fresh or members != self._members):
            self._open_publisher(len(members))
            self._members = members
        return self._call("publish", version)[0], [actor.send.remote() for actor in self._actors]

    def to_host(self) -> int:
        """Have all ranks leave their devices, until `to_device`; returns the bytes that went into host memory.

        Raises:
            ConfigError: a node's memory does not hold those of its ranks.
        """
        return sum(self._call("to_host"))

    def to_device(self) -> None:
        """Bring back what `to_host` took away, to the bit."""
        self._call("to_device")

    def choose_transport(self, transport: str, every_node: bool = False) -> None:
        """How `publish` hands weights out: `shm`, or `broadcast`.

        Rank 0 hands them out; with `every_node` the first rank of each node does, all under one name.
        """
        self._transport, self._every_node = transport, every_node
        if transport == "shm":
            self._open_publisher(0)

    def _open_publisher(self, receivers: int) -> None:
        hosts = self._call("host")
        shared = {
            "host": hosts[0],
            "receivers": receivers,
            "name": secrets.token_hex(8),
            "timeout_s": self._silence_s,
        }
        calls = [
            actor.open_publisher.remote(self._transport, hands_out=hands_out, **shared)
            for actor, hands_out in zip(self._actors, handing_out(hosts, self._every_node), strict=True)
        ]
        self._calls.wait(calls, "open_publisher")

    def _for_ranks(self, per_group: Sequence[Any]) -> list[Any]:
        """What each rank is sent; what a group shares is stored once."""
        degree = self._spec.learner.sequence_parallel
        shared = per_group if degree == 1 else [ray.put(own) for own in per_group]
        return [own for own in shared for _ in range(degree)]


def handing_out(hosts: Sequence[str], every_node: bool) -> list[bool]:
    """Of each rank, by its host, whether it writes the weights where engines read them."""
    return [rank == 0 or (every_node and host not in hosts[:rank]) for rank, host in enumerate(hosts)]


def dealing(spec: LearnerSpec) -> Dealing:
    """How packs come to the ranks of `spec`: by the FLOPs of its model, alike at every micro-batch where ranks meet."""
    flops = ModelFlops.of(loaded_config(resolve_path(spec.model.path), spec.model.trust_remote_code))
    return Dealing(
        cost=lambda pack: flops.of_training(pack, spec.learner.trainable, spec.learner.lora is not None),
        micro_batch_tokens=spec.learner.micro_batch_tokens,
        in_rows=spec.learner.ranks_meet_at_micro_batches,
    )


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
        run.milestone("learner ready")
        yield learners
    finally:
        run.saving.settle()
        learners.close()
