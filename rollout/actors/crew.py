"""The pool's actors and what each is doing. Calls -> **crew** -> their results, and what engines draw, one at a time.

Every actor has at most one call in flight, and one loop (`advance`) waits for all of them. An actor that dies, or hangs
(is silent for `rollout.silence_s`; a long answer is not silent), is replaced and given the current weights.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from typing import Any

import ray
from ray.exceptions import ActorUnschedulableError, RayActorError, RayTaskError

from pangu_rl.errors import BrokenBroadcast, NoPlace, RunError, UserError, first_line
from rollout.actors.actor import RayActors
from rollout.actors.held_weights import HeldWeights
from rollout.actors.senders import HEALTH_S, unanswering
from rollout.actors.slots import Slot
from rollout.engine import UNKNOWN_VERSION, Drawn, EngineSpec

log = logging.getLogger(__name__)

STOP_S = 1.0
"""Longest wait between two questions whether to stop."""


class Crew:
    """The slots of one pool; those without an actor, and without restarts, are gone."""

    def __init__(
        self,
        spec: EngineSpec,
        options: Callable[[int], Mapping[str, Any]] | None,
        stop: Callable[[], None],
        actors: RayActors | None,
        lose: Callable[[Slot], int],
        outstanding: Callable[[], list[str]],
        place_lost: Callable[[int], str | None],
    ) -> None:
        """`options`, `stop`, `actors` and `place_lost` are the pool's. `lose` takes back what a slot was asked for and
        says how many requests that is; `outstanding` names those that nobody has finished."""
        self._spec = spec
        self._options = options
        self._stop = stop
        self._actors = actors or RayActors()
        self._lose = lose
        self._outstanding = outstanding
        self._place_lost = place_lost
        self.slots = [Slot(index) for index in range(spec.rollout.actors)]
        self.weights = HeldWeights(spec)
        self.restarts = 0
        """Actors replaced since the crew was made."""

    def start(self) -> None:
        """Make all actors and wait until their engines are up.

        Raises:
            UserError: an engine cannot start with this configuration.
            RunError: an actor died at its start once too often.
        """
        for slot in self.slots:
            self._launch(slot)
        self.settle()

    def now(self) -> float:
        return self._actors.now()

    def settle(self) -> None:
        """Wait until no call is in flight; after an error the other calls' results are of no interest."""
        try:
            while any(slot.call is not None for slot in self.slots):
                self.advance()
        except (UserError, RunError):
            for slot in self.slots:
                slot.call = None
            raise

    def advance(self, wait_s: float = STOP_S) -> tuple[Slot, Drawn] | None:
        """Wait for one sign of life from any actor, for a deadline, or for the next question whether to stop.

        Raises:
            RunError: no actor has a call, or none is left.
            WeightSyncError: all actors wait for the learner's weights.
        """
        slots = [slot for slot in self.slots if slot.call is not None]
        if not slots:
            raise RunError(f"no rollout actor holds weights version {self.weights.version}; {self._outstanding_text()}")
        silence_s = self._spec.rollout.silence_s
        left = min(slot.limit(silence_s) - slot.waited for slot in slots)
        started = self.now()
        ready = self._actors.wait([slot.call for slot in slots], max(0.0, min(left, wait_s)))
        # Only time spent waiting counts: a slow consumer of what is drawn makes no actor late.
        elapsed = self.now() - started
        self._stop()
        for slot in slots:
            slot.waited = 0.0 if slot.call is ready else slot.waited + elapsed
        self._replace_silent(slots, silence_s)
        return None if ready is None else self._take(next(slot for slot in slots if slot.call is ready))

    def pids(self) -> list[int]:
        """Process ids of the actors, by place; asked when something hangs already, so it waits for seconds at most."""
        return ray.get([slot.actor.pid.remote() for slot in self.slots], timeout=HEALTH_S)

    def close(self) -> None:
        for slot in self.slots:
            if slot.actor is not None:
                self._actors.kill(slot.actor)
        self.slots = []

    def _launch(self, slot: Slot) -> None:
        slot.actor = self._actors.create(self._spec, self._options and self._options(slot.index))
        slot.version = UNKNOWN_VERSION
        slot.begin(slot.actor.start.remote(), lambda _: self.weights.started(slot), starting=True)

    def _replace_silent(self, slots: list[Slot], silence_s: float) -> None:
        late = [slot for slot in slots if slot.waited >= slot.limit(silence_s)]
        late = [slot for slot in late if self._actors.wait([slot.call], 0.0) is None]
        for slot in self.weights.senders.silent(late, silence_s):
            self._replace(slot, f"gave no sign of life for {slot.limit(silence_s):g} s")
        for slot in slots:
            # One that is answered is taken: what it says is known.
            if (
                slot.starting
                and slot.waited
                and slot not in late
                and (node := self._place_lost(slot.index)) is not None
            ):
                self._replace(slot, f"had not started when its node {node} was gone")
        asked = [slot for slot in slots if slot not in late and slot.must_answer(silence_s)]
        for slot in unanswering(asked):
            self._replace(slot, f"gave no sign of life for {slot.waited:.0f} s")
        for slot in asked:
            slot.answered = slot.waited

    def _take(self, slot: Slot) -> tuple[Slot, Drawn] | None:
        try:
            if slot.on_done is None:
                return slot, self._actors.item(slot.call)
            result, slot.call = self._actors.result(slot.call), None
            slot.on_done(result)
        except StopIteration:
            self._stream_ended(slot)
        except (RayActorError, ActorUnschedulableError) as error:
            self._replace(slot, f"died: {first_line(error)}")
        except RayTaskError as error:
            if isinstance(error.cause, BrokenBroadcast) and not self.weights.is_sent_again:
                # Another member was lost; this one lives and is sent the weights once more.
                log.warning("rollout actor %d: %s", slot.index, error.cause)
                slot.call = None
                return None
            if isinstance(error.cause, UserError | RunError) and not isinstance(error.cause, BrokenBroadcast):
                raise error.cause from None
            self._replace(slot, f"failed: {error.cause!r}")
        return None

    def _stream_ended(self, slot: Slot) -> None:
        slot.call = None
        if slot.running:
            self._replace(slot, f"ended its stream without {', '.join(slot.running)}")
        slot.live = False

    def _replace(self, slot: Slot, reason: str) -> None:
        self._actors.kill(slot.actor)
        lost = self._lose(slot)
        slot.call, slot.actor, slot.live = None, None, False
        if slot.restarts >= self._spec.rollout.max_restarts:
            self._give_up(slot, reason, f" after {slot.restarts} restarts of it (rollout.max_restarts)")
            return
        try:
            self._launch(slot)
        except NoPlace as error:
            self._give_up(slot, reason, f": {error}")
            return
        slot.restarts += 1
        self.restarts += 1
        log.warning(
            "rollout actor %d %s; restart %d of %d, %d requests are drawn again",
            *(slot.index, reason, slot.restarts, self._spec.rollout.max_restarts, lost),
        )

    def _give_up(self, slot: Slot, reason: str, why: str) -> None:
        self.slots.remove(slot)
        log.error("rollout actor %d %s; it is given up%s", slot.index, reason, why)
        if not self.slots:
            raise RunError(f"rollout actor {slot.index} {reason}; no actor is left{why}; {self._outstanding_text()}")

    def _outstanding_text(self) -> str:
        return f"outstanding: {', '.join(self._outstanding()) or 'none'}"
