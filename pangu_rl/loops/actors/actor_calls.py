"""Calls of many actors at once -> **their results, or which actor is lost**: it died, or is silent for too long.

An actor that waits for another one in a collective answers its ping meanwhile; one that is stopped, or hangs in code
that holds the interpreter, does not. So the one that is named is the one that the others wait for.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import ray
from ray.exceptions import ActorUnschedulableError, ObjectLostError, RayActorError, RayError, RayTaskError

from pangu_rl.cluster.own_ray import require_own_ray
from pangu_rl.errors import RankLost, RunError, UserError, first_line

POLL_S = 1.0
"""Between two looks at calls that run."""
BLAME_S = 10.0
"""For all actors to say that they live, after one of them has failed."""
START_LIMIT_S = 600.0
"""Least time that an actor has for its first sign of life: its node may have to load everything first."""

NO_MEMORY = ("out of memory", "allocate memory", "could not create a primitive")
"""What torch says of a device, of the host, and of oneDNN there, each in a class of its own or in none."""


class ActorCalls:
    """Actors of one kind, each of which answers `ping` with where it runs, whatever else it does.

    Raises (every method):
        RankLost: an actor died or gave no sign of life; so does every later call, and every one that waits meanwhile in
            another thread. UserError, RunError: what an actor raised, that it had no memory left, or
            that the run's own Ray is gone.
    """

    def __init__(
        self,
        kind: str,
        actors: Sequence[ray.actor.ActorHandle],
        silence_s: float,
        place_lost: Callable[[int], str | None] = lambda index: None,
    ) -> None:
        """`kind` names an actor together with its place, as in `learner rank 3`; `place_lost` is the node that one
        would start on, if that is gone."""
        self._kind, self._actors, self._silence_s = kind, list(actors), silence_s
        self._place_lost = place_lost
        self._alive = [False] * len(self._actors)
        """Whether each has been heard of at all."""
        self._places = [""] * len(self._actors)
        self._lost: RankLost | None = None

    def each(self, method: str, *args: Any) -> list[Any]:
        """The method's result on every actor."""
        return self.wait([getattr(actor, method).remote(*args) for actor in self._actors], method)

    def dealt(self, method: str, own: Sequence[Any]) -> list[Any]:
        """The same, of an argument for each."""
        calls = [getattr(actor, method).remote(part) for actor, part in zip(self._actors, own, strict=True)]
        return self.wait(calls, method)

    def first(self, method: str, *args: Any) -> Any:
        """Its result on the first actor alone."""
        return self.wait([getattr(self._actors[0], method).remote(*args)], method)[0]

    def wait(self, calls: Sequence[ray.ObjectRef], method: str, step: int = 1, first: int = 0) -> list[Any]:
        """Results of `calls`, in their order, however long they take: one to each actor from the `first`, or to every
        `step`-th."""
        signs = _LifeSigns(self._actors)
        left = {call: first + index * step for index, call in enumerate(calls)}
        results: dict[ray.ObjectRef, Any] = {}
        while left:
            if self._lost is not None:
                raise self._lost
            require_own_ray()
            ready, _ = ray.wait(list(left), num_returns=len(left), timeout=POLL_S)
            results |= {call: self._result(call, left.pop(call), method) for call in ready}
            if left:
                self._check(signs, method)
        return [results[call] for call in calls]

    def kill(self, grace_s: float = 0.0) -> None:
        """End the actors, by their `close` where they get to it within `grace_s`."""
        if grace_s and self._lost is None:
            ray.wait([actor.close.remote() for actor in self._actors], num_returns=len(self._actors), timeout=grace_s)
        for actor in self._actors:
            ray.kill(actor)

    def _result(self, call: ray.ObjectRef, index: int, method: str) -> Any:
        try:
            result = ray.get(call)
        except RayTaskError as error:
            if isinstance(error.cause, UserError | RunError):
                raise error.cause from None
            if isinstance(error.cause, MemoryError) or any(sign in str(error.cause) for sign in NO_MEMORY):
                raise RunError(
                    f"{self._kind} {index}{self._places[index]} ran out of memory in {method}: "
                    f"{first_line(error.cause)}; it holds less with learner.gradient_checkpointing, shorter packs or "
                    "more ranks, and the same command goes on from the newest checkpoint"
                ) from None
            if isinstance(error.cause, RayError):
                raise self._lose(
                    index, f"did not get what it was sent for {method}: {first_line(error.cause)}"
                ) from None
            # A collective fails on the ranks that are left, often before Ray knows of the one that is gone.
            self._blame_the_dead(method)
            raise
        except (RayActorError, ActorUnschedulableError, ObjectLostError) as error:
            raise self._lose(index, f"died in {method}: {first_line(error)}") from None
        self._alive[index] = True
        return result

    def _check(self, signs: _LifeSigns, method: str) -> None:
        for index, ping in signs.answered():
            self._places[index] = f" ({self._result(ping, index, method)})"
        for index, seconds in enumerate(signs.silence):
            limit = self._silence_s if self._alive[index] else max(self._silence_s, START_LIMIT_S)
            if seconds > limit:
                raise self._lose(index, f"gave no sign of life for {limit:g} s in {method} (trainer.silence_s)")
            if not self._alive[index] and (node := self._place_lost(index)) is not None:
                raise self._lose(index, f"had not started when its node {node} was gone")

    def _blame_the_dead(self, method: str) -> None:
        pings = {actor.ping.remote(): index for index, actor in enumerate(self._actors)}
        answered, _ = ray.wait(list(pings), num_returns=len(pings), timeout=BLAME_S)
        for ping in answered:
            self._result(ping, pings[ping], method)

    def _lose(self, index: int, reason: str) -> RankLost:
        self._lost = RankLost(f"{self._kind} {index}{self._places[index]} {reason}")
        return self._lost


class _LifeSigns:
    """How long each actor has been silent, while something is waited for."""

    def __init__(self, actors: Sequence[ray.actor.ActorHandle]) -> None:
        self._actors = actors
        self.silence = [0.0] * len(actors)
        """Seconds since each one's last answer."""
        self._looked_at = time.monotonic()
        self._asked: dict[ray.ObjectRef, int] = {}

    def answered(self) -> list[tuple[int, ray.ObjectRef]]:
        """Pings that are answered, or failed, since the last call; those who owe no answer are asked anew."""
        now = time.monotonic()
        # A driver that was stopped itself has heard nobody: that makes no actor silent.
        passed, self._looked_at = min(now - self._looked_at, 2 * POLL_S), now
        self.silence = [seconds + passed for seconds in self.silence]
        ready, _ = ray.wait(list(self._asked), num_returns=len(self._asked), timeout=0) if self._asked else ([], [])
        found = [(self._asked.pop(ping), ping) for ping in ready]
        for index, _ in found:
            self.silence[index] = 0.0
        owing = set(self._asked.values())
        self._asked |= {actor.ping.remote(): index for index, actor in enumerate(self._actors) if index not in owing}
        return found
