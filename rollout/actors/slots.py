"""One actor's place in the pool: what was asked of it, what it has begun, and how long it has been silent."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

from pangu_rl.monitoring.watchdog import Process
from pangu_rl.records import RolloutRequest
from rollout.engine import UNKNOWN_VERSION, Link

START_LIMIT_S = 600.0
"""Least deadline of the calls that are no generation: to build an engine may take minutes."""


@dataclass(slots=True, eq=False)
class Slot:
    """The actor may be replaced, the place stays."""

    index: int
    actor: Any = None
    process: Process | None = None
    """The actor's, once its engine is up."""
    version: int = UNKNOWN_VERSION
    """Version of the weights that the actor is known to hold."""
    call: Any = None
    """What the actor is doing: at most one call, and None between two."""
    on_done: Callable[[Any], None] | None = None
    """Takes the result of a plain call; None for a stream of what an engine draws."""
    link: Link | None = None
    """Its place in the group of the broadcast that it takes part in."""
    number: int = 0
    """Of its last stream; what is said to an actor about a stream names it."""
    live: bool = False
    """Whether its stream takes further requests."""
    interrupted: bool = False
    """Whether its stream was told to end."""
    waited: float = 0.0
    """Seconds that the pool has waited for this call since its last sign of life."""
    queue: list[RolloutRequest] = field(default_factory=list)
    running: dict[str, RolloutRequest] = field(default_factory=dict)
    sent: dict[str, float] = field(default_factory=dict)
    """Uid -> when it went to the actor."""
    tokens: dict[str, int] = field(default_factory=dict)
    """Uid -> tokens so far, as last reported."""
    restarts: int = 0
    starting: bool = False
    """Whether its engine is being built."""
    answered: float = 0.0
    """What `waited` was when the actor last answered a question beside its call."""

    def begin(self, call: Any, on_done: Callable[[Any], None] | None = None, *, starting: bool = False) -> None:
        self.call, self.on_done, self.waited, self.answered = call, on_done, 0.0, 0.0
        self.live = self.interrupted = False
        self.starting = starting

    def send(self, requests: Iterable[RolloutRequest], now: float) -> None:
        if not self.running:
            self.waited = 0.0
        for request in requests:
            self.running[request.uid] = request
            self.sent[request.uid] = now

    def finish(self, uid: str) -> RolloutRequest | None:
        """The request of an answer that leaves the actor; None if nobody waits for it any more."""
        self.sent.pop(uid, None)
        self.tokens.pop(uid, None)
        return self.running.pop(uid, None)

    def release(self) -> list[RolloutRequest]:
        """Everything that was asked of the actor, which owes it no longer."""
        requests = [*self.running.values(), *self.queue]
        self.queue, self.running, self.sent, self.tokens = [], {}, {}, {}
        return requests

    def limit(self, silence_s: float) -> float:
        """Seconds of silence after which the actor counts as hung, also if it answers questions. An open stream with
        nothing to draw is silent by right."""
        if self.on_done is not None:
            return max(silence_s, START_LIMIT_S)
        return math.inf if self.live and not self.running and not self.interrupted else silence_s

    def silence(self, silence_s: float) -> str:
        """In words, why an actor that has reached its limit is replaced."""
        building = " while it built its engine: raise rollout.silence_s if it needs longer" if self.starting else ""
        return f"gave no sign of life for {self.limit(silence_s):g} s{building}"

    def must_answer(self, silence_s: float) -> bool:
        """Whether the call, which has no signs of life of its own, has lasted so long since the actor last answered. A
        process that builds an engine may be too busy to."""
        return self.on_done is not None and not self.starting and self.waited - self.answered >= silence_s

    def waiting(self, now: float, shown: int = 4) -> str:
        """Its unfinished answers in words, the longest first: those are what a step waits for."""
        running = sorted(dict(self.running), key=lambda uid: -self.tokens.get(uid, 0))
        lines = [
            f"{uid} ({self.tokens.get(uid, 0)} tokens in {now - self.sent.get(uid, now):.0f} s)" for uid in running
        ] + [request.uid for request in list(self.queue)]
        more = [f"and {len(lines) - shown} more"] if len(lines) > shown else []
        return f"rollout actor {self.index}, silent for {self.waited:.0f} s: {', '.join(lines[:shown] + more)}"


def deal_in_turn(requests: Sequence[RolloutRequest], slots: Sequence[Slot]) -> None:
    """Group i to slot i mod n: a rule that timing does not touch."""
    order = {group: place for place, group in enumerate(dict.fromkeys(request.group for request in requests))}
    for request in requests:
        slots[order[request.group] % len(slots)].queue.append(request)


def deal_by_load(requests: Sequence[RolloutRequest], slots: Sequence[Slot]) -> None:
    """Each group, whole, to the slot that owes the fewest answers; the first of several."""
    groups: dict[str, list[RolloutRequest]] = {}
    for request in requests:
        groups.setdefault(request.group, []).append(request)
    for group in groups.values():
        min(slots, key=lambda slot: len(slot.running) + len(slot.queue)).queue.extend(group)
