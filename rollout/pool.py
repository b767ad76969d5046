"""All rollout actors as one. Requests -> **pool** -> actors -> completions, merged as they finish.

`generate` deals by a rule that timing does not touch: group i goes to actor i mod n. `submit` deals by load, to engines
that take further requests while they draw; at a sync their answers are interrupted and go on under the new weights.

What a lost actor had not finished is drawn by another under the same uids and seeds, from where the pool knows its
tokens, and what it had finished is never drawn twice.
"""

from __future__ import annotations

import functools
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

from pangu_rl.errors import WeightSyncError
from pangu_rl.records import Completion, Progress, RolloutRequest, Scorable, WeightManifest
from rollout.actors.actor import RayActors
from rollout.actors.crew import STOP_S, Crew
from rollout.actors.held_weights import Resend
from rollout.actors.senders import SendCall
from rollout.actors.slots import Slot, deal_by_load, deal_in_turn
from rollout.engine import EngineSpec, Interrupted


class RolloutPool:
    """Driver side of the rollout phase; used by one thread, except for `outstanding`, `waiting` and `progress`."""

    def __init__(
        self,
        spec: EngineSpec,
        options: Callable[[int], Mapping[str, Any]] | None = None,
        stop: Callable[[], None] = lambda: None,
        actors: RayActors | None = None,
        place_lost: Callable[[int], str | None] = lambda index: None,
    ) -> None:
        """`options` are Ray's for the actor of each place, the first one's and those that replace it; without them Ray
        chooses. `stop` is asked every second of a wait. What it raises leaves as it is, and what was submitted in
        flight. `place_lost` is the node that an actor would start on, if that is gone."""
        self._probe_tolerance = spec.rollout.probe_tolerance
        self._crew = Crew(spec, options, stop, actors, self._lose, self.outstanding, place_lost)
        self._weights = self._crew.weights
        self._orphans: list[RolloutRequest] = []
        """Of `generate`, without an actor."""
        self._waiting: list[RolloutRequest] = []
        """Of `submit`, without an actor; interrupted ones among them."""
        self._finished: deque[Completion] = deque()
        """Of `submit`, not handed out yet."""

    @property
    def weight_version(self) -> int:
        """Version that every accepted completion was drawn by; 0 before the first sync."""
        return self._weights.version

    @property
    def restarts(self) -> int:
        """Actors replaced since the pool was made."""
        return self._crew.restarts

    def start(self) -> None:
        """Make all actors and wait until their engines are up. Raises as `Crew.start`."""
        self._crew.start()

    def generate(self, requests: Sequence[RolloutRequest]) -> Iterator[Completion]:
        """Draw every request once and yield completions in the order in which they finish. What was submitted is
        interrupted before, and goes on after. A caller that leaves early gives up the rest.

        Raises:
            RunError: no actor is left; names the last one and the outstanding uids.
            WeightSyncError: a completion was drawn by other weights than the last sync's.
        """
        self.interrupt()
        deal_in_turn(requests, self._crew.slots)
        try:
            while self._orphans or any(slot.queue or slot.running for slot in self._crew.slots):
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
        for slot in self._crew.slots:
            if slot.live and not slot.interrupted:
                slot.interrupted, slot.waited = True, 0.0
                slot.actor.interrupt.remote(slot.number)
        while any(slot.live for slot in self._crew.slots):
            self._keep(self._advance())

    def withdraw(self) -> None:
        """Give up what was submitted, finished or not."""
        self.interrupt()
        self._waiting = []
        self._finished.clear()

    def in_flight(self) -> list[RolloutRequest]:
        """What was submitted and is not finished. The tokens so far are those of the last interruption."""
        drawing = [request for slot in self._crew.slots if slot.live for request in slot.running.values()]
        return drawing + self._waiting

    def progress(self) -> dict[str, int]:
        """Uid -> tokens so far, of answers that have begun; callable from another thread."""
        waiting = {request.uid: len(request.begun.token_ids) for request in list(self._waiting) if request.begun}
        return functools.reduce(lambda found, slot: found | slot.tokens, list(self._crew.slots), waiting)

    def outstanding(self) -> list[str]:
        """Uids that were asked for and are not finished; callable from another thread."""
        drawing = [
            uid for slot in list(self._crew.slots) for uid in (*list(slot.running), *(r.uid for r in slot.queue))
        ]
        return drawing + [request.uid for request in (*self._orphans, *self._waiting)]

    def waiting(self) -> list[str]:
        """A line for each actor that something is waited for from, for the report of a stall; callable from another
        thread."""
        now = self._crew.now()
        lines = [slot.waiting(now) for slot in list(self._crew.slots) if slot.running or slot.queue]
        nobody = [request.uid for request in (*self._orphans, *self._waiting)]
        return lines + ([f"no actor yet: {', '.join(nobody[:4])}"] if nobody else [])

    def members(self) -> tuple[str, ...]:
        """A name for every worker that the next weights are for, in the order of their ranks from 1 on.

        Waits for actors that are being replaced; from here on no weights are sent again.
        """
        self._weights.end_resending()
        self.interrupt()
        self._crew.settle()
        return self._weights.members(self._crew.slots)

    def sync(
        self,
        manifest: WeightManifest,
        sending: Sequence[SendCall] = (),
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
        self._crew.settle()
        self._weights.give(self._crew.slots, manifest, sending)
        self._crew.settle()
        self._weights.given(self._crew.slots, resend)
        self._dispatch_live()

    def sleep(self) -> None:
        """Have all engines give up their devices' memory until `wake`."""
        if self._weights.asleep:
            return
        self.interrupt()
        self._crew.settle()
        self._weights.asleep = True
        for slot in self._crew.slots:
            self._weights.lull(slot)
        self._crew.settle()

    def wake(self) -> None:
        """Have them take it again. What lost its weights is given them by `sync` or `reload`."""
        self._weights.asleep = False
        for slot in self._crew.slots:
            slot.begin(slot.actor.wake.remote(), lambda _: None)
        self._crew.settle()

    def reload(self) -> None:
        """Give the last sync's weights to the engines that do not hold them."""
        for slot in self._crew.slots:
            if slot.version != self.weight_version:
                self._weights.load(slot)
        self._crew.settle()
        self._dispatch_live()

    def score(self, sequences: Sequence[Scorable]) -> list[list[float]]:
        """Prompt log-probs at temperature 1 of the first actor; [T] ids -> [T - 1] floats each. What was submitted is
        interrupted for it, and goes on after.

        Raises:
            WeightSyncError: another actor's mean |difference| from them exceeds `rollout.probe_tolerance`.
        """
        self.interrupt()
        self._crew.settle()
        scores: dict[int, list[list[float]]] = {}
        while not scores:
            for slot in self._crew.slots:
                slot.begin(slot.actor.score.remote(sequences), functools.partial(scores.__setitem__, slot.index))
            self._crew.settle()
        first = scores[min(scores)]
        for index, found in scores.items():
            gap, limit = mean_gap(first, found), self._probe_tolerance
            if not gap <= limit:
                raise WeightSyncError(
                    f"rollout actors {min(scores)} and {index} differ by {gap:.3f} nats on the probe "
                    f"(rollout.probe_tolerance {limit}): they do not hold the same weights"
                )
        self._dispatch_live()
        return first

    def pids(self) -> list[int]:
        """Process ids of the actors, by place."""
        return self._crew.pids()

    def close(self) -> None:
        self._crew.close()
        self._orphans, self._waiting = [], []

    def _dispatch(self) -> None:
        for slot in self._crew.slots:
            if slot.call is not None or slot.version != self.weight_version:
                continue
            if not slot.queue:
                slot.queue, self._orphans = self._orphans, []
            if slot.queue:
                self._open(slot, live=False)

    def _dispatch_live(self) -> None:
        ready = [
            slot
            for slot in self._crew.slots
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
        slot.send(slot.queue, self._crew.now())
        slot.queue = []

    def _abandon(self) -> None:
        """Nobody waits any more for what `generate` has not yielded; the engines break it off when they can."""
        self._orphans = []
        for slot in self._crew.slots:
            if slot.running and not slot.live:
                slot.actor.interrupt.remote(slot.number)
            if not slot.live:
                slot.release()

    def _keep(self, completion: Completion | None) -> None:
        if completion is not None:
            self._finished.append(completion)

    def _advance(self, wait_s: float = STOP_S) -> Completion | None:
        drawn = self._crew.advance(wait_s)
        return drawn and self._accept(*drawn)

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

    def _lose(self, slot: Slot) -> int:
        """Whatever was asked of an actor that is gone goes to others; how many requests."""
        lost = slot.release()
        (self._waiting if slot.live else self._orphans).extend(lost)
        return len(lost)


def mean_gap(ours: Sequence[Sequence[float]], theirs: Sequence[Sequence[float]]) -> float:
    """Mean |difference| over all tokens of two sets of log-probs, in nats."""
    pairs = [pair for left, right in zip(ours, theirs, strict=True) for pair in zip(left, right, strict=True)]
    return sum(abs(left - right) for left, right in pairs) / len(pairs)
