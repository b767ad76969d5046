"""All rollout actors as one. Requests -> **pool** -> actors -> completions, merged as they finish.

`generate` deals by a rule that timing does not touch: group i goes to actor i mod n. `submit` deals by load, to engines
that take further requests while they draw; at a sync their answers are interrupted and go on under the new weights.

An actor that dies, or hangs (is silent for `rollout.silence_s`; a long answer is not silent), is replaced and given the
current weights. What it had not finished is drawn by another under the same uids and seeds, from where the pool knows
its tokens, and what it had finished is never drawn twice.

Every actor has at most one call in flight, and one loop (`_advance`) waits for all of them.
"""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from pangu_rl.errors import BrokenBroadcast, RunError, UserError, WeightSyncError, first_line
from pangu_rl.records import Completion, Progress, RolloutRequest, Scorable, WeightManifest
from rollout.actor import RayActors
from rollout.engine import UNKNOWN_VERSION, EngineSpec, Interrupted
from rollout.held_weights import HeldWeights, Resend
from rollout.senders import HEALTH_S, unanswering
from rollout.slots import Slot, deal_by_load, deal_in_turn

log = logging.getLogger(__name__)

STOP_S = 1.0
"""Longest wait between two questions whether to stop."""


class RolloutPool:
    """Driver side of the rollout phase; used by one thread, except for `outstanding`, `waiting` and `progress`."""

    def __init__(
        self,
        spec: EngineSpec,
        options: Callable[[int], Mapping[str, Any]] | None = None,
        stop: Callable[[], None] = lambda: None,
        actors: RayActors | None = None,
    ) -> None:
        """`options` are Ray's for the actor of each place, the first one's and those that replace it; without them Ray
        chooses. `stop` is asked every second of a wait. What it raises leaves as it is, and what was submitted in
        flight."""
        self._spec = spec
        self._options = options
        self._stop = stop
        self._actors = actors or RayActors()
        self._slots = [Slot(index) for index in range(spec.rollout.actors)]
        self._weights = HeldWeights(spec)
        self._orphans: list[RolloutRequest] = []
        """Of `generate`, without an actor."""
        self._waiting: list[RolloutRequest] = []
        """Of `submit`, without an actor; interrupted ones among them."""
        self._finished: deque[Completion] = deque()
        """Of `submit`, not handed out yet."""
        self.restarts = 0
        """Actors replaced since the pool was made."""

    @property
    def weight_version(self) -> int:
        """Version that every accepted completion was drawn by; 0 before the first sync."""
        return self._weights.version

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
        """Draw every request once and yield completions in the order in which they finish. What was submitted is
        interrupted before, and goes on after. A caller that leaves early gives up the rest.

        Raises:
            RunError: no actor is left; names the last one and the outstanding uids.
            WeightSyncError: a completion was drawn by other weights than the last sync's.
        """
        self.interrupt()
        deal_in_turn(requests, self._slots)
        try:
            while self._orphans or any(slot.queue or slot.running for slot in self._slots):
                self._dispatch()
                completion = self._advance()
                if completion is not None:
                    yield completion
        finally:
            self._abandon()
        self._dispatch_live()

    def submit(self, requests: Sequence[RolloutRequest]) -> None:
        """Have further requests drawn, each group by the actor that owes the fewest answers. Does not wait."""
        self._waiting += requests
        self._dispatch_live()

    def finished(self, wait_s: float = 0.0) -> list[Completion]:
        """Answers to what was submitted, each once, after waiting `wait_s` at most for a sign of life.

        Raises:
            RunError, WeightSyncError: as `generate`.
        """
        if wait_s and not self._finished and self.in_flight():
            self._dispatch_live()
            self._keep(self._advance(wait_s))
        taken = list(self._finished)
        self._finished.clear()
        return taken

    def interrupt(self) -> None:
        """Break off what was submitted; it waits, with the tokens it has, until something is next asked of the pool."""
        for slot in self._slots:
            if slot.live and not slot.interrupted:
                slot.interrupted, slot.waited = True, 0.0
                slot.actor.interrupt.remote(slot.number)
        while any(slot.live for slot in self._slots):
            self._keep(self._advance())

    def withdraw(self) -> None:
        """Give up what was submitted, finished or not."""
        self.interrupt()
        self._waiting = []
        self._finished.clear()

    def in_flight(self) -> list[RolloutRequest]:
        """What was submitted and is not finished. The tokens so far are those of the last interruption."""
        drawing = [request for slot in self._slots if slot.live for request in slot.running.values()]
        return drawing + self._waiting

    def progress(self) -> dict[str, int]:
        """Uid -> tokens so far, of answers that have begun; callable from another thread."""
        waiting = {request.uid: len(request.begun.token_ids) for request in list(self._waiting) if request.begun}
        return functools.reduce(lambda found, slot: found | slot.tokens, list(self._slots), waiting)

    def outstanding(self) -> list[str]:
        """Uids that were asked for and are not finished; callable from another thread."""
        drawing = [uid for slot in list(self._slots) for uid in (*list(slot.running), *(r.uid for r in slot.queue))]
        return drawing + [request.uid for request in (*self._orphans, *self._waiting)]

    def waiting(self) -> list[str]:
        """A line for each actor that something is waited for from, for the report of a stall; callable from another
        thread."""
        now = self._actors.now()
        lines = [slot.waiting(now) for slot in list(self._slots) if slot.running or slot.queue]
        nobody = [request.uid for request in (*self._orphans, *self._waiting)]
        return lines + ([f"no actor yet: {', '.join(nobody[:4])}"] if nobody else [])

    def members(self) -> tuple[str, ...]:
        """A name for every worker that the next weights are for, in the order of their ranks from 1 on.

        Waits for actors that are being replaced; from here on no weights are sent again.
        """
        self._weights.end_resending()
        self.interrupt()
        self._settle()
        return self._weights.members(self._slots)

    def sync(
        self,
        manifest: WeightManifest,
        sending: Sequence[ray.ObjectRef] = (),
        resend: Resend | None = None,
    ) -> None:
        """Give all actors the published weights, and compare what each consumed with what was published. What was
        submitted is interrupted for it, and goes on under the new weights.

        `sending` are the senders' calls of a broadcast, whose group is the workers of `members`. While the senders
        keep these weights, `resend` publishes them again, to the workers named, for an actor that is replaced.

        Raises:
            BrokenBroadcast: an actor or a sender was lost on the way; those in an actor's place have no weights, and
                the others may not.
            WeightSyncError: a name or a digest differs, or the sender gave no sign of life; names what and whom.
        """
        self._weights.end_resending()
        self.interrupt()
        self._settle()
        self._weights.give(self._slots, manifest, sending)
        self._settle()
        self._weights.given(self._slots, resend)
        self._dispatch_live()

    def sleep(self) -> None:
        """Have all engines give up their devices' memory until `wake`."""
        if self._weights.asleep:
            return
        self.interrupt()
        self._settle()
        self._weights.asleep = True
        for slot in self._slots:
            self._weights.lull(slot)
        self._settle()

    def wake(self) -> None:
        """Have them take it again. What lost its weights is given them by `sync` or `reload`."""
        self._weights.asleep = False
        for slot in self._slots:
            slot.begin(slot.actor.wake.remote(), lambda _: None)
        self._settle()

    def reload(self) -> None:
        """Give the last sync's weights to the engines that do not hold them."""
        for slot in self._slots:
            if slot.version != self.weight_version:
                self._weights.load(slot)
        self._settle()
        self._dispatch_live()

    def score(self, sequences: Sequence[Scorable]) -> list[list[float]]:
        """Prompt log-probs at temperature 1 of the first actor; [T] ids -> [T - 1] floats each. What was submitted is
        interrupted for it, and goes on after.

        Raises:
            WeightSyncError: another actor's mean |difference| from them exceeds `rollout.probe_tolerance`.
        """
        self.interrupt()
        self._settle()
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
        self._dispatch_live()
        return first

    def pids(self) -> list[int]:
        """Process ids of the actors, by place; asked when something hangs already, so it waits for seconds at most."""
        return ray.get([slot.actor.pid.remote() for slot in self._slots], timeout=HEALTH_S)

    def close(self) -> None:
        for slot in self._slots:
            if slot.actor is not None:
                self._actors.kill(slot.actor)
        self._slots, self._orphans, self._waiting = [], [], []

    def _dispatch(self) -> None:
        for slot in self._slots:
            if slot.call is not None or slot.version != self.weight_version:
                continue
            if not slot.queue:
                slot.queue, self._orphans = self._orphans, []
            if slot.queue:
                self._open(slot, live=False)

    def _dispatch_live(self) -> None:
        ready = [
            slot
            for slot in self._slots
            if slot.version == self.weight_version and (slot.call is None or (slot.live and not slot.interrupted))
        ]
        if ready:
            deal_by_load(self._waiting, ready)
            self._waiting = []
        for slot in ready:
            if not slot.queue:
                continue
            if slot.call is None:
                self._open(slot, live=True)
            else:
                slot.actor.add.remote(slot.number, slot.queue)
                self._sent(slot)

    def _open(self, slot: Slot, *, live: bool) -> None:
        slot.number += 1
        slot.begin(slot.actor.generate.remote(slot.number, slot.queue, live))
        slot.live = live
        self._sent(slot)

    def _sent(self, slot: Slot) -> None:
        slot.send(slot.queue, self._actors.now())
        slot.queue = []

    def _abandon(self) -> None:
        """Nobody waits any more for what `generate` has not yielded; the engines break it off when they can."""
        self._orphans = []
        for slot in self._slots:
            if slot.running and not slot.live:
                slot.actor.interrupt.remote(slot.number)
            if not slot.live:
                slot.release()

    def _keep(self, completion: Completion | None) -> None:
        if completion is not None:
            self._finished.append(completion)

    def _launch(self, slot: Slot) -> None:
        slot.actor = self._actors.create(self._spec, self._options and self._options(slot.index))
        slot.version = UNKNOWN_VERSION
        slot.begin(slot.actor.start.remote(), lambda _: self._weights.started(slot), starting=True)

    def _settle(self) -> None:
        """Wait until no call is in flight; after an error the other calls' results are of no interest."""
        try:
            while any(slot.call is not None for slot in self._slots):
                self._advance()
        except (UserError, RunError):
            for slot in self._slots:
                slot.call = None
            raise

    def _advance(self, wait_s: float = STOP_S) -> Completion | None:
        """Wait for one sign of life from any actor, for a deadline, or for the next question whether to stop."""
        slots = [slot for slot in self._slots if slot.call is not None]
        if not slots:
            raise RunError(f"no rollout actor holds weights version {self.weight_version}; {self._outstanding_text()}")
        silence_s = self._spec.rollout.silence_s
        left = min(slot.limit(silence_s) - slot.waited for slot in slots)
        started = self._actors.now()
        ready = self._actors.wait([slot.call for slot in slots], max(0.0, min(left, wait_s)))
        # Only time spent waiting counts: a slow consumer of `generate` makes no actor late.
        elapsed = self._actors.now() - started
        self._stop()
        for slot in slots:
            slot.waited = 0.0 if slot.call is ready else slot.waited + elapsed
        late = [slot for slot in slots if slot.waited >= slot.limit(silence_s)]
        late = [slot for slot in late if self._actors.wait([slot.call], 0.0) is None]
        for slot in self._weights.senders.silent(late, silence_s):
            self._replace(slot, f"gave no sign of life for {slot.limit(silence_s):g} s")
        asked = [slot for slot in slots if slot not in late and slot.must_answer(silence_s)]
        for slot in unanswering(asked):
            self._replace(slot, f"gave no sign of life for {slot.waited:.0f} s")
        for slot in asked:
            slot.answered = slot.waited
        return None if ready is None else self._take(next(slot for slot in slots if slot.call is ready))

    def _take(self, slot: Slot) -> Completion | None:
        try:
            if slot.on_done is None:
                return self._accept(slot, self._actors.item(slot.call))
            result, slot.call = self._actors.result(slot.call), None
            slot.on_done(result)
        except StopIteration:
            self._stream_ended(slot)
        except RayActorError as error:
            self._replace(slot, f"died: {first_line(error)}")
        except RayTaskError as error:
            if isinstance(error.cause, BrokenBroadcast) and not self._weights.is_sent_again:
                # Another member was lost; this one lives and is sent the weights once more.
                log.warning("rollout actor %d: %s", slot.index, error.cause)
                slot.call = None
                return None
            if isinstance(error.cause, UserError | RunError) and not isinstance(error.cause, BrokenBroadcast):
                raise error.cause from None
            self._replace(slot, f"failed: {error.cause!r}")
        return None

    def _accept(self, slot: Slot, item: Completion | Progress | Interrupted) -> Completion | None:
        if isinstance(item, Progress):
            slot.tokens = {uid: count for uid, count in item.tokens.items() if uid in slot.running}
            return None
        request = slot.finish(item.uid)
        if request is None:
            return None
        if isinstance(item, Interrupted):
            self._check_versions(slot, request, item.begun.weight_versions if item.begun else ())
            self._waiting.append(replace(request, begun=item.begun))
            return None
        self._check_versions(slot, request, item.weight_versions)
        return item

    def _check_versions(self, slot: Slot, request: RolloutRequest, versions: Sequence[int]) -> None:
        """Tokens that the request came with keep their versions, the others are of the current one."""
        kept = request.begun.weight_versions if request.begun else ()
        expected = (*kept, *[self.weight_version] * (len(versions) - len(kept)))
        for found, wanted in zip(versions, expected):
            if found != wanted:
                raise WeightSyncError(
                    f"rollout actor {slot.index} drew {request.uid} with weights version {found}; the current version "
                    f"is {wanted}"
                )

    def _stream_ended(self, slot: Slot) -> None:
        slot.call, slot.live = None, False
        if slot.running:
            self._replace(slot, f"ended its stream without {', '.join(slot.running)}")

    def _replace(self, slot: Slot, reason: str) -> None:
        self._actors.kill(slot.actor)
        lost = slot.release()
        (self._waiting if slot.live else self._orphans).extend(lost)
        slot.call, slot.actor, slot.live = None, None, False
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
            *(slot.index, reason, slot.restarts, self._spec.rollout.max_restarts, len(lost)),
        )
        self._launch(slot)

    def _outstanding_text(self) -> str:
        return f"outstanding: {', '.join(self.outstanding()) or 'none'}"


def mean_gap(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    """Mean |difference| over all tokens of two sets of log-probs, in nats."""
    pairs = [pair for left, right in zip(ours, theirs, strict=True) for pair in zip(left, right, strict=True)]
    return sum(abs(left - right) for left, right in pairs) / len(pairs)
