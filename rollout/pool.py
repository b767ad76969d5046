"""All rollout actors as one. Requests -> **pool** -> actors -> completions, merged as they finish.

Requests are dealt out by a rule that timing does not touch: group i goes to actor i mod n. An actor that dies or hangs
is replaced and given the current weights; what it had not finished is drawn by whichever actor is idle first, under
the same uids and seeds, and what it had finished is never drawn twice.

Every actor has at most one call in flight, and one loop (`_advance`) waits for all of them.
"""

from __future__ import annotations

import functools
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from pangu_rl.errors import RunError, UserError, WeightSyncError, first_line
from pangu_rl.records import Completion, RolloutRequest, Scorable, WeightManifest
from rollout.actor import create_actor
from rollout.engine import UNKNOWN_VERSION, EngineSpec, Link
from rollout.weights import check_digests

log = logging.getLogger(__name__)

HEALTH_S = 10.0
"""Deadline of a question after an actor's health."""

STOP_S = 1.0
"""Longest wait between two looks at whether the run is to end."""

START_LIMIT_S = 600.0
"""Least deadline of the calls that are no generation: to build an engine may take minutes."""


@dataclass(slots=True, eq=False)
class _Slot:
    """One actor's place: the actor may be replaced, the place stays."""

    index: int
    actor: Any = None
    version: int = UNKNOWN_VERSION
    """Version of the weights that the actor is known to hold."""
    call: ray.ObjectRef | ray.ObjectRefGenerator | None = None
    on_done: Callable[[Any], None] | None = None
    """Takes the result of a plain call; None for a stream of completions."""
    waited: float = 0.0
    """Seconds that the pool has waited for this call since its last sign of life."""
    queue: list[RolloutRequest] = field(default_factory=list)
    running: dict[str, RolloutRequest] = field(default_factory=dict)
    restarts: int = 0

    def begin(self, call: Any, on_done: Callable[[Any], None] | None = None) -> None:
        self.call, self.on_done, self.waited = call, on_done, 0.0


class RolloutPool:
    """Driver side of the rollout phase; used by one thread, except for `outstanding`."""

    def __init__(self, spec: EngineSpec, stop: Callable[[], None] = lambda: None) -> None:
        """`stop` is asked at least every second of waiting; what it raises ends the wait, and the pool's work."""
        self._spec = spec
        self._stop = stop
        self._slots = [_Slot(index) for index in range(spec.rollout.actors)]
        self._manifest: WeightManifest | None = None
        self._orphans: list[RolloutRequest] = []
        self.restarts = 0
        """Actors replaced since the pool was made."""

    @property
    def weight_version(self) -> int:
        """Version that every accepted completion was drawn by; 0 before the first sync."""
        return self._manifest.version if self._manifest else 0

    def start(self) -> None:
        """Make all actors and wait until their engines are up.

        Raises:
            UserError: an engine cannot start with this configuration.
            RunError: an actor died at its start once too often.
        """
        for slot in self._slots:
            self._launch(slot)
        self._settle()

    def generate(self, requests: Sequence[RolloutRequest]) -> Iterator[Completion]:
        """Draw every request once and yield completions in the order in which they finish; to be exhausted.

        Raises:
            RunError: no actor is left; names the last one and the outstanding uids.
            WeightSyncError: a completion was drawn by other weights than the last sync's.
        """
        self._deal(requests)
        while self._orphans or any(slot.queue or slot.running for slot in self._slots):
            self._dispatch()
            completion = self._advance()
            if completion is not None:
                yield completion

    def outstanding(self) -> list[str]:
        """Uids that were asked for and are not finished; callable from another thread."""
        return [uid for uids in self.outstanding_by_actor().values() for uid in uids]

    def outstanding_by_actor(self) -> dict[str, list[str]]:
        """The same by the actor that each is waited for from, for the report of a stall."""
        waiting = {f"rollout actor {slot.index}": [*slot.running, *(r.uid for r in slot.queue)] for slot in self._slots}
        waiting["no actor yet"] = [request.uid for request in self._orphans]
        return {name: uids for name, uids in waiting.items() if uids}

    def sync(self, manifest: WeightManifest) -> None:
        """Give all actors the published weights, and compare what each consumed with what was published.

        Raises:
            WeightSyncError: a name or a digest differs; names the tensor and both values.
            RunError: by broadcast, and an actor was lost since the last sync: the group cannot take another in.
        """
        self._settle()
        if manifest.transport == "broadcast":
            self._check_members(manifest)
        self._manifest = manifest
        for slot in self._slots:
            self._load(slot)
        self._settle()

    def score(self, sequences: Sequence[Scorable]) -> list[list[float]]:
        """Prompt log-probs at temperature 1 of the first actor; [T] ids -> [T - 1] floats each.

        Raises:
            WeightSyncError: another actor's mean |difference| from them exceeds `rollout.probe_tolerance`.
        """
        scores: dict[int, list[list[float]]] = {}
        while not scores:
            for slot in self._slots:
                slot.begin(slot.actor.score.remote(sequences), functools.partial(scores.__setitem__, slot.index))
            self._settle()
        first = scores[min(scores)]
        for index, found in scores.items():
            gap, limit = mean_gap(first, found), self._spec.rollout.probe_tolerance
            if not gap <= limit:
                raise WeightSyncError(
                    f"rollout actors {min(scores)} and {index} differ by {gap:.3f} nats on the probe "
                    f"(rollout.probe_tolerance {limit}): they do not hold the same weights"
                )
        return first

    def pids(self) -> list[int]:
        """Process ids of the actors, by place; asked when something hangs already, so it waits for seconds at most."""
        return ray.get([slot.actor.pid.remote() for slot in self._slots], timeout=HEALTH_S)

    def close(self) -> None:
        for slot in self._slots:
            if slot.actor is not None:
                ray.kill(slot.actor)
        self._slots, self._orphans = [], []

    def _deal(self, requests: Sequence[RolloutRequest]) -> None:
        order = {group: place for place, group in enumerate(dict.fromkeys(request.group for request in requests))}
        for request in requests:
            self._slots[order[request.group] % len(self._slots)].queue.append(request)

    def _dispatch(self) -> None:
        for slot in self._slots:
            if slot.call is not None or slot.version != self.weight_version:
                continue
            if not slot.queue:
                slot.queue, self._orphans = self._orphans, []
            if slot.queue:
                slot.running = {request.uid: request for request in slot.queue}
                slot.begin(slot.actor.generate.remote(slot.queue))
                slot.queue = []

    def _launch(self, slot: _Slot) -> None:
        slot.actor = create_actor(self._spec)
        slot.version = UNKNOWN_VERSION
        slot.begin(slot.actor.start.remote(), lambda _: self._started(slot))

    def _started(self, slot: _Slot) -> None:
        if self._manifest is None:
            slot.version = 0
        elif self._manifest.transport == "shm":
            self._load(slot)
        # A broadcast that is over cannot be repeated for one: the survivors finish the step without it.

    def _load(self, slot: _Slot) -> None:
        manifest = self._manifest
        rollout = self._spec.rollout
        devices = rollout.devices_per_actor
        link = Link(first_rank=1 + slot.index * devices, world_size=1 + rollout.actors * devices)

        def loaded(digests: dict[str, str]) -> None:
            check_digests(manifest, digests)
            slot.version = manifest.version

        slot.begin(slot.actor.load_weights.remote(manifest, link), loaded)

    def _check_members(self, manifest: WeightManifest) -> None:
        members = [slot.index for slot in self._slots if self._manifest is None or slot.version != UNKNOWN_VERSION]
        if lost := sorted(set(range(self._spec.rollout.actors)) - set(members)):
            raise RunError(
                f"weights version {manifest.version}: rollout actors {lost} were lost, and a broadcast group cannot "
                "take new ones in; start the run again, it resumes from its last checkpoint"
            )

    def _settle(self) -> None:
        """Wait until no call is in flight; after an error the other calls' results are of no interest."""
        try:
            while any(slot.call is not None for slot in self._slots):
                self._advance()
        except (UserError, RunError):
            for slot in self._slots:
                slot.call = None
            raise

    def _advance(self) -> Completion | None:
        """Wait for one sign of life from any actor, or for a deadline."""
        slots = [slot for slot in self._slots if slot.call is not None]
        if not slots:
            raise RunError(f"no rollout actor holds weights version {self.weight_version}; {self._outstanding_text()}")
        limits = [self._limit(slot) for slot in slots]
        left = min(limit - slot.waited for slot, limit in zip(slots, limits))
        started = time.monotonic()
        self._stop()
        ready, _ = ray.wait([slot.call for slot in slots], timeout=min(max(0.0, left), STOP_S))
        # Only time spent waiting counts: a slow consumer of `generate` makes no actor late.
        elapsed = time.monotonic() - started
        for slot in slots:
            slot.waited += elapsed
        if ready:
            return self._take(next(slot for slot in slots if slot.call is ready[0]))
        for slot, limit in zip(slots, limits):
            if slot.waited >= limit:
                self._replace(slot, f"gave no sign of life for {limit:g} s")
        return None

    def _limit(self, slot: _Slot) -> float:
        timeout = self._spec.rollout.timeout_s
        return timeout if slot.on_done is None else max(timeout, START_LIMIT_S)

    def _take(self, slot: _Slot) -> Completion | None:
        slot.waited = 0.0
        try:
            if slot.on_done is None:
                return self._accept(slot, ray.get(next(slot.call)))
            result, slot.call = ray.get(slot.call), None
            slot.on_done(result)
        except StopIteration:
            self._stream_ended(slot)
        except RayActorError as error:
            self._replace(slot, f"died: {first_line(error)}")
        except RayTaskError as error:
            if isinstance(error.cause, UserError | RunError):
                raise error.cause from None
            self._replace(slot, f"failed: {error.cause!r}")
        return None

    def _accept(self, slot: _Slot, completion: Completion) -> Completion:
        if completion.weight_version != self.weight_version:
            raise WeightSyncError(
                f"rollout actor {slot.index} drew {completion.uid} with weights version {completion.weight_version}; "
                f"the current version is {self.weight_version}"
            )
        del slot.running[completion.uid]
        return completion

    def _stream_ended(self, slot: _Slot) -> None:
        slot.call = None
        if slot.running:
            self._replace(slot, f"ended its stream without {', '.join(slot.running)}")

    def _replace(self, slot: _Slot, reason: str) -> None:
        ray.kill(slot.actor)
        self._orphans += [*slot.running.values(), *slot.queue]
        slot.running, slot.queue, slot.call, slot.actor = {}, [], None, None
        if slot.restarts >= self._spec.rollout.max_restarts:
            self._slots.remove(slot)
            log.error("rollout actor %d %s; it had its %d restarts", slot.index, reason, slot.restarts)
            if not self._slots:
                raise RunError(
                    f"rollout actor {slot.index} {reason}; no actor is left after {slot.restarts} restarts of it "
                    f"(rollout.max_restarts); {self._outstanding_text()}"
                )
            return
        slot.restarts += 1
        self.restarts += 1
        log.warning(
            "rollout actor %d %s; restart %d of %d, %d requests are drawn again",
            *(slot.index, reason, slot.restarts, self._spec.rollout.max_restarts, len(self._orphans)),
        )
        self._launch(slot)

    def _outstanding_text(self) -> str:
        return f"outstanding: {', '.join(self.outstanding()) or 'none'}"


def mean_gap(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    """Mean |difference| over all tokens of two sets of log-probs, in nats."""
    pairs = [pair for left, right in zip(ours, theirs, strict=True) for pair in zip(left, right, strict=True)]
    return sum(abs(left - right) for left, right in pairs) / len(pairs)
