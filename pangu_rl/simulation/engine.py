"""One engine, in virtual time: requests -> **continuous batching** -> when each answer is whole.

Sequences that run make a token each per step. Between two events (an answer ends, one is admitted) their number is
constant and their cache grows by it at each step, so the time of any number of steps is a closed form, and the
simulation jumps from event to event. Letters: n running sequences, K tokens in their cache.
"""

from __future__ import annotations

import heapq
import math
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineCost:
    """Seconds of an engine's work. Matrix products wait for the weights or for the arithmetic, whichever is longer;
    attention of a decode step waits for the cache; neither overlaps the other, nor what the host does."""

    step_s: float
    """Of every step, whatever runs: the host's work and the launches. Above 0."""
    sequence_s: float = 0.0
    """Of every running sequence in a step: sampling, log-probs, bookkeeping."""
    weights_s: float = 0.0
    """Reading the weights once."""
    token_s: float = 0.0
    """Arithmetic of one token, attention's pairs aside."""
    cached_s: float = 0.0
    """Reading one token of the cache."""
    pair_s: float = 0.0
    """Arithmetic of one pair of attention in a prompt."""

    def decode(self, running: int, cached: int, steps: int) -> float:
        """`steps` decode steps of n sequences that begin with K tokens in the cache."""
        each = self.fixed(running) + self.cached_s * cached
        return steps * each + self.cached_s * running * steps * (steps - 1) / 2

    def steps_in(self, seconds: float, running: int, cached: int) -> int:
        """The steps that have begun after so many seconds: the least number whose `decode` is no shorter."""
        growth = self.cached_s * running / 2
        first = self.fixed(running) + self.cached_s * cached - growth
        exact = 2 * seconds / (first + math.sqrt(first**2 + 4 * growth * seconds))
        return max(0, math.ceil(exact - 1e-9))

    def fixed(self, running: int) -> float:
        return self.step_s + running * self.sequence_s + max(self.weights_s, running * self.token_s)

    def prefill(self, tokens: int) -> float:
        """Computing the keys of `tokens` at once."""
        return tokens * self.token_s + tokens * (tokens + 1) / 2 * self.pair_s


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """One answer that is to be drawn."""

    group: int
    prompt: int
    """Tokens."""
    answer: int
    """Tokens; at least 1."""
    prefill: int
    """Tokens of the prompt that are computed: none where another request of the group has left them in the cache."""

    @property
    def tokens(self) -> int:
        return self.prompt + self.answer


class Engine:
    """Requests are admitted in order while there is a slot and, for prompt and whole answer, room in the cache: an
    engine that knows no lengths admits more and, when the cache is full, computes some anew."""

    def __init__(self, cost: EngineCost, slots: int, cache_tokens: int) -> None:
        self.cost = cost
        self.slots = slots
        self.cache_tokens = cache_tokens
        self.now = 0.0
        """All that happened before is decided; at or after the time that the engine was last moved to."""
        self.busy = 0.0
        """Seconds that it has drawn."""
        self.stretches: list[tuple[float, float]] = []
        """When it had answers to draw, without the stretch that is not at its end."""
        self.steps = 0
        self.sequence_steps = 0
        self._waiting: deque[Request] = deque()
        self._running: list[tuple[int, int, Request]] = []
        """(the step after which it ends, order of admission, request), a heap."""
        self._admitted = 0
        self._begun = 0.0
        self._cached = 0
        self._reserved = 0

    @property
    def load(self) -> int:
        """Requests that are not finished."""
        return len(self._waiting) + len(self._running)

    @property
    def has_room(self) -> bool:
        """Whether one more request would start at once, as far as slots go and nobody waits for the cache."""
        return not self._waiting and len(self._running) < self.slots

    def submit(self, requests: Sequence[Request], at: float) -> None:
        self.advance(at)
        if not self._running:
            self._begun = self.now
        self._waiting.extend(requests)
        self._admit()

    def next_time(self) -> float:
        """When the next answer is whole; infinity without one."""
        return self.now + self._time_of(self._to_next()) if self._running else math.inf

    def finish(self) -> list[Request]:
        """Move to `next_time`: the answers that are whole then."""
        self._decode(self._to_next())
        done = []
        while self._running and self._running[0][0] == self.steps:
            done.append(heapq.heappop(self._running)[2])
        finished = sum(request.tokens for request in done)
        self._cached -= finished
        self._reserved -= finished
        self._admit()
        if not self._running:
            self.stretches.append((self._begun, self.now))
        return done

    def advance(self, to: float) -> None:
        """Move to `to`, or to the end of the step that is under way then; never beyond `next_time`."""
        if not self._running:
            self.now = max(self.now, to)
        elif to > self.now:
            steps = self.cost.steps_in(to - self.now, len(self._running), self._cached)
            self._decode(min(steps, self._to_next()))

    def pause(self, at: float, seconds: float) -> None:
        """New weights: nothing runs for so long, then the caches of what runs are computed anew, prompts and tokens so
        far, and it goes on."""
        self.advance(at)
        self.now = max(self.now, at) + seconds
        running = len(self._running)
        if running:
            self._spend(running * self.cost.prefill(self._cached // running))

    def drawn(self) -> list[tuple[float, float]]:
        """`stretches`, and up to now the one that is not at its end."""
        return [*self.stretches, (self._begun, self.now)] if self._running else self.stretches

    def _to_next(self) -> int:
        return self._running[0][0] - self.steps

    def _time_of(self, steps: int) -> float:
        return self.cost.decode(len(self._running), self._cached, steps)

    def _decode(self, steps: int) -> None:
        self._spend(self._time_of(steps))
        self.steps += steps
        self.sequence_steps += steps * len(self._running)
        self._cached += steps * len(self._running)

    def _admit(self) -> None:
        while self._waiting and len(self._running) < self.slots:
            request = self._waiting[0]
            if self._reserved + request.tokens > self.cache_tokens:
                break
            self._waiting.popleft()
            self._spend(self.cost.prefill(request.prefill))
            self._cached += request.prompt
            self._reserved += request.tokens
            self._admitted += 1
            heapq.heappush(self._running, (self.steps + request.answer, self._admitted, request))

    def _spend(self, seconds: float) -> None:
        self.now += seconds
        self.busy += seconds
