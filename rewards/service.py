"""The reward service: Ray actors that grade while the engines still draw, and the driver's side of them.

A score that takes too long, or that takes its worker with it, ends as "no verdict" for that row alone.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from types import MappingProxyType
from typing import Any

import ray
from ray.exceptions import RayActorError, RayTaskError

from pangu_rl.config.sections.rewards import RewardsConfig
from pangu_rl.errors import RewardError, RunError
from pangu_rl.records import Completion, Outcome, Part, Prompt, Score
from rewards.rubric import Rubric, no_verdict_problem

CONCURRENCY = 32
"""Scores that one worker has under way; the others wait in it."""
MAX_CALLS = 1000
"""Calls that one worker takes at once; all but `CONCURRENCY` of them wait in it."""
GRACE_S = 60.0
"""Silence beyond the deadline of one score after which a worker counts as hung: its start, or a C call that holds the
interpreter so that no deadline inside it can act."""


class RewardService:
    """One worker: the rubric, with a bound on what runs at once."""

    def __init__(self, config: RewardsConfig, concurrency: int = CONCURRENCY) -> None:
        self._rubric = Rubric.from_config(config)
        self._slots = asyncio.Semaphore(concurrency)

    async def score(self, prompt: Prompt, completion: Completion) -> Score:
        """Grade one completion; see `Rubric.score`. Waiting for a slot does not count against the deadline."""
        async with self._slots:
            return await self._rubric.score(prompt, completion)


@dataclass(frozen=True, slots=True)
class _Job:
    prompt: Prompt
    completion: Completion
    worker: int
    started: float
    """Monotonic seconds."""
    again: bool = False
    """Its worker died once already."""


class RewardPool:
    """Spreads completions over the workers, restarts a dead one, and collects a step's scores."""

    def __init__(
        self,
        config: RewardsConfig,
        options: Callable[[int], Mapping[str, Any]] | None = None,
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        """`options` are Ray's for each worker; without them Ray chooses where it goes. `stop` is asked every second
        that `collect` waits; what it raises ends the wait.

        Raises:
            ConfigError: a reward function cannot be resolved; found here, before any actor starts.
        """
        self._config = config
        self._stop = stop
        self._rubric = Rubric.from_config(config)
        self._options = options or (lambda worker: {"num_cpus": 0})
        self._workers = [self._start_worker(index) for index in range(config.workers)]
        self._jobs: dict[ray.ObjectRef, _Job] = {}
        self._suspects: list[_Job] = []
        """Each has seen two workers die; graded alone once nothing else is under way."""
        self._found: dict[str, Score] = {}
        self._heard_at = [0.0] * config.workers
        self._submitted = 0
        self.restarts = 0
        """Workers replaced so far, by death or by a hung call."""

    def submit(self, prompt: Prompt, completion: Completion) -> None:
        """Start grading; returns at once."""
        self._start(_Job(prompt, completion, self._submitted % len(self._workers), time.monotonic()))
        self._submitted += 1

    def finished(self, wait_s: float = 0.0) -> dict[str, Score]:
        """Scores since the last call, by completion uid; returns when all are there, or after `wait_s`.

        Raises:
            RewardError: as `collect`.
        """
        if self._jobs:
            self._collect_finished(wait_s)
        if not self._jobs:
            for job in self._suspects:
                self._found[job.completion.uid] = self._score_alone(job)
            self._suspects = []
        found, self._found = self._found, {}
        return found

    def collect(self, earlier: Mapping[str, Score] = MappingProxyType({})) -> dict[str, Score]:
        """Wait for everything submitted; scores by completion uid, with those that `finished` gave before.

        What a dead worker left unfinished is graded again; what then dies once more is graded one by one, so that the
        row that kills workers is known for certain: it ends with outcome `killed`, its neighbours with their verdicts.

        Raises:
            RewardError: a function raised or returned no finite score.
            RunError: too many rows without a verdict.
        """
        scores = dict(earlier)
        rows = len(scores) + len(self._jobs) + len(self._suspects) + len(self._found)
        while len(scores) < rows:
            self._stop()
            self._require_verdicts(scores, rows)
            scores |= self.finished(wait_s=1.0)
        self._require_verdicts(scores, rows)
        return scores

    def waiting_for(self) -> list[str]:
        """Completions without a score yet, for the watchdog."""
        return [job.completion.uid for job in (*self._jobs.values(), *self._suspects)]

    def close(self) -> None:
        for worker in self._workers:
            ray.kill(worker)
        self._workers = []

    def _require_verdicts(self, scores: dict[str, Score], rows: int) -> None:
        problem = no_verdict_problem(list(scores.values()), rows, self._config.max_no_verdict_share)
        if problem is not None:
            raise RunError(problem)

    def _collect_finished(self, wait_s: float) -> None:
        done, _ = ray.wait(list(self._jobs), num_returns=len(self._jobs), timeout=wait_s)
        for reference in done:
            job = self._jobs.pop(reference, None)
            if job is None:  # taken over with its worker a moment ago
                continue
            try:
                self._found[job.completion.uid] = _get(reference)
                self._heard_at[job.worker] = time.monotonic()
            except RayActorError:
                self._jobs[reference] = job
                self._take_over(job.worker)
        now = time.monotonic()
        oldest: dict[int, float] = {}
        for job in self._jobs.values():
            oldest.setdefault(job.worker, job.started)
        for worker, started in oldest.items():
            if now - max(started, self._heard_at[worker]) > self._config.timeout_s + GRACE_S:
                self._take_over(worker)

    def _take_over(self, worker: int) -> None:
        """Replace a worker; its unfinished jobs go to the new one, or aside if that happened to them before."""
        self._replace(worker)
        orphans = [reference for reference, job in self._jobs.items() if job.worker == worker]
        for job in [self._jobs.pop(reference) for reference in orphans]:
            if job.again:
                self._suspects.append(job)
            else:
                self._start(replace(job, again=True, started=time.monotonic()))

    def _start(self, job: _Job) -> None:
        self._jobs[self._workers[job.worker].score.remote(job.prompt, job.completion)] = job

    def _score_alone(self, job: _Job) -> Score:
        reference = self._workers[job.worker].score.remote(job.prompt, job.completion)
        try:
            return _get(reference, timeout=self._config.timeout_s + GRACE_S)
        except ray.exceptions.GetTimeoutError:
            self._replace(job.worker)
            return self._without_verdict(job, Outcome.TIMEOUT, "the worker hung beyond the deadline")
        except RayActorError as error:
            self._replace(job.worker)
            reason = " ".join(str(error).split())[:200]
            return self._without_verdict(job, Outcome.KILLED, f"the worker died, alone with this completion: {reason}")

    def _without_verdict(self, job: _Job, outcome: Outcome, detail: str) -> Score:
        part = Part.no_verdict(outcome, detail)
        parts = {function.name: part for function in self._rubric.functions}
        return Score(completion_uid=job.completion.uid, reward=None, parts=parts)

    def _replace(self, worker: int) -> None:
        ray.kill(self._workers[worker])
        self._workers[worker] = self._start_worker(worker)
        self._heard_at[worker] = time.monotonic()
        self.restarts += 1

    def _start_worker(self, index: int) -> Any:
        options = {**self._options(index), "max_concurrency": MAX_CALLS}
        return ray.remote(RewardService).options(**options).remote(self._config)


def _get(reference: ray.ObjectRef, timeout: float | None = None) -> Score:
    try:
        return ray.get(reference, timeout=timeout)
    except RayTaskError as error:
        if isinstance(error.cause, RewardError):
            raise RewardError(str(error.cause)) from None
        raise
