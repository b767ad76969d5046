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
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from pangu_rl.errors import BrokenBroadcast, RunError, UserError, WeightSyncError, first_line
from pangu_rl.records import Completion, RolloutRequest, Scorable, WeightManifest
from rollout.actor import create_actor
from rollout.engine import UNKNOWN_VERSION, EngineSpec, Link
from rollout.weights import check_digests

log = logging.getLogger(__name__)

HEALTH_S = 10.0
"""Deadline of a question after an actor's health."""

START_LIMIT_S = 600.0
"""Least deadline of the calls that are no generation: to build an engine may take minutes."""


Publication = tuple[WeightManifest, list[ray.ObjectRef]]
"""What was published, and the calls of those who send it."""


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
    link: Link | None = None
    """Its place in the group of the broadcast that it takes part in."""
    waited: float = 0.0
    """Seconds that the pool has waited for this call since its last sign of life."""
    queue: list[RolloutRequest] = field(default_factory=list)
    running: dict[str, RolloutRequest] = field(default_factory=dict)
    restarts: int = 0

    def begin(self, call: Any, on_done: Callable[[Any], None] | None = None) -> None:
        self.call, self.on_done, self.waited = call, on_done, 0.0


class RolloutPool:
    """Driver side of the rollout phase; used by one thread, except for `outstanding`."""

    def __init__(self, spec: EngineSpec, options: Callable[[int], Mapping[str, Any]] | None = None) -> None:
        """`options` are Ray's for the actor of each place, the first one's and those that replace it; without them Ray
        chooses."""
        self._spec = spec
        self._options = options
        self._slots = [_Slot(index) for index in range(spec.rollout.actors)]
        self._manifest: WeightManifest | None = None
        self._orphans: list[RolloutRequest] = []
        self._asleep = False
        self._resend: Callable[[tuple[str, ...]], Publication] | None = None
        self._sending: list[ray.ObjectRef] = []
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

    def members(self) -> tuple[str, ...]:
        """A name for every worker that the next weights are for, in the order of their ranks from 1 on.

        Waits for actors that are being replaced; from here on no weights are sent again.
        """
        self._resend, self._sending = None, []
        self._settle()
        return self._names(self._slots)

    def sync(
        self,
        manifest: WeightManifest,
        sending: Sequence[ray.ObjectRef] = (),
        resend: Callable[[tuple[str, ...]], Publication] | None = None,
    ) -> None:
        """Give all actors the published weights, and compare what each consumed with what was published.

        `sending` are the senders' calls of a broadcast, whose group is the workers of `members`. While the senders
        keep these weights, `resend` publishes them again, to the workers named, for an actor that is replaced.

        Raises:
            BrokenBroadcast: an actor was lost on the way; those in its place have no weights, and the others may not.
            WeightSyncError: a name or a digest differs, or the sender gave no sign of life; names what and whom.
        """
        self._resend = None
        self._settle()
        self._manifest, self._sending = manifest, list(sending)
        self._link(self._slots)
        for slot in self._slots:
            self._load(slot, manifest)
        self._settle()
        self._await_senders()
        if without := [slot.index for slot in self._slots if slot.version != manifest.version]:
            raise BrokenBroadcast(f"rollout actors {without} are without weights version {manifest.version}")
        self._resend = resend

    def sleep(self) -> None:
        """Have all engines give up their devices' memory until `wake`; nothing may be in flight.

        Before the first sync at level 1 whatever the configuration says: nothing could bring their weights back.
        """
        self._settle()
        self._asleep = True
        for slot in self._slots:
            self._lull(slot)
        self._settle()

    def wake(self) -> None:
        """Have them take it again. What lost its weights is given them by `sync` or `reload`."""
        self._asleep = False
        for slot in self._slots:
            slot.begin(slot.actor.wake.remote(), lambda _: None)
        self._settle()

    def reload(self) -> None:
        """Give the last sync's weights to the engines that do not hold them."""
        for slot in self._slots:
            if slot.version != self.weight_version:
                self._load(slot, self._manifest)
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
        slot.actor = create_actor(self._spec, self._options and self._options(slot.index))
        slot.version = UNKNOWN_VERSION
        slot.begin(slot.actor.start.remote(), lambda _: self._started(slot))

    def _lull(self, slot: _Slot) -> None:
        rollout = self._spec.rollout
        level = self._spec.accelerator.sleep_level(rollout.sleep_level) if self._manifest else 1
        if level > 1:
            slot.version = UNKNOWN_VERSION
        slot.begin(slot.actor.sleep.remote(level), lambda _: None)

    def _started(self, slot: _Slot) -> None:
        if self._manifest is None:
            slot.version = 0
        if self._asleep:
            # In the place of one that was lost asleep: it has weights once it wakes.
            self._lull(slot)
        elif self._manifest is None:
            return
        elif self._manifest.transport == "shm":
            self._load(slot, self._manifest)
        elif self._resend is not None:
            manifest, _ = self._resend(self._names([slot]))
            self._link([slot])
            self._load(slot, manifest)
        # Else it waits for the next weights: a broadcast that is over cannot be repeated.

    def _names(self, slots: Sequence[_Slot]) -> tuple[str, ...]:
        devices = range(self._spec.rollout.devices_per_actor)
        return tuple(f"{slot.actor._actor_id.hex()}/{device}" for slot in slots for device in devices)

    def _link(self, slots: Sequence[_Slot]) -> None:
        devices = self._spec.rollout.devices_per_actor
        for place, slot in enumerate(slots):
            slot.link = Link(first_rank=1 + place * devices, world_size=1 + len(slots) * devices)

    def _load(self, slot: _Slot, manifest: WeightManifest) -> None:
        def loaded(digests: dict[str, str]) -> None:
            check_digests(manifest, digests)
            slot.version = manifest.version

        slot.version = UNKNOWN_VERSION
        slot.begin(slot.actor.load_weights.remote(manifest, slot.link), loaded)

    def _silent(self, late: Sequence[_Slot]) -> Sequence[_Slot]:
        """Of slots that wait for a broadcast too long, those whose process is the cause: the others wait for them.

        Raises:
            WeightSyncError: they all live, so it is the sender.
        """
        if not ray.wait(self._sending, num_returns=len(self._sending), timeout=0.0)[1]:
            return late
        pings = [slot.actor.ping.remote() for slot in late]
        alive, _ = ray.wait(pings, num_returns=len(pings), timeout=HEALTH_S)
        silent = [slot for slot, ping in zip(late, pings, strict=True) if ping not in alive]
        if not silent:
            raise WeightSyncError(
                f"weights version {self.weight_version}: the learner sent nothing for {self._limit(late[0]):g} s, and "
                f"rollout actors {[slot.index for slot in late]} wait for it; the run goes on from its last checkpoint"
            )
        return silent

    def _await_senders(self) -> None:
        """The engines are done: the senders, who waited for them alone, are done within seconds."""
        sending, self._sending = self._sending, []
        late = ray.wait(sending, num_returns=len(sending), timeout=START_LIMIT_S)[1] if sending else []
        if late:
            raise WeightSyncError(
                f"weights version {self.weight_version}: learner ranks {[sending.index(call) for call in late]} have "
                f"not finished to send for {START_LIMIT_S:g} s; the run goes on from its last checkpoint"
            )
        try:
            ray.get(sending)
        except RayTaskError as error:
            raise error.cause if isinstance(error.cause, RunError) else error from None

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
        ready, _ = ray.wait([slot.call for slot in slots], timeout=max(0.0, left))
        # Only time spent waiting counts: a slow consumer of `generate` makes no actor late.
        elapsed = time.monotonic() - started
        for slot in slots:
            slot.waited += elapsed
        if ready:
            return self._take(next(slot for slot in slots if slot.call is ready[0]))
        late = [slot for slot, limit in zip(slots, limits) if slot.waited >= limit]
        for slot in self._silent(late) if late and self._sending else late:
            self._replace(slot, f"gave no sign of life for {self._limit(slot):g} s")
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
            if isinstance(error.cause, BrokenBroadcast) and self._resend is None:
                # Another member was lost; this one lives and is sent the weights once more.
                log.warning("rollout actor %d: %s", slot.index, error.cause)
                slot.call = None
                return None
            if isinstance(error.cause, UserError | RunError) and not isinstance(error.cause, BrokenBroadcast):
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
