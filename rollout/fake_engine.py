"""A deterministic engine without a model, for tests of everything around the engine."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator, Sequence

import xxhash

from pangu_rl.records import Begun, Completion, FinishReason, RolloutRequest, Scorable, WeightManifest
from rollout.engine import UNKNOWN_VERSION, Drawn, EngineSpec, Interrupted, Link, before_stop
from rollout.intake import Intake
from rollout.pulse import Pulse

VOCABULARY = 1000


class FakeEngine:
    """Follows `rollout.engine.Engine`, one answer after the other: tokens and log-probs are hashes of weight version,
    seed and position, so an answer that is gone on with under the same weights is the undisturbed one.

    `crash_after` raises in `generate` after so many completions; `seconds` is the time that each completion takes;
    `stuck_version` goes on claiming a version that a sync has replaced.
    """

    def __init__(
        self,
        spec: EngineSpec,
        *,
        crash_after: int | None = None,
        seconds: float = 0.0,
        stuck_version: int | None = None,
    ) -> None:
        self.weight_version = stuck_version or 0
        self._stuck = stuck_version is not None
        self._crash_after = crash_after
        self._seconds = seconds
        self._finished = 0
        self._asleep = False

    def generate(self, requests: Sequence[RolloutRequest], intake: Intake | None = None) -> Iterator[Drawn]:
        assert not self._asleep
        intake = intake or Intake()
        waiting = deque(requests)
        while not intake.interrupted:
            waiting += intake.take()
            if waiting:
                if self._finished == self._crash_after:
                    raise RuntimeError(f"the fake engine was told to crash after {self._crash_after} completions")
                yield from self._draw(waiting, intake)
            elif intake.live:
                intake.wait()
            else:
                return
        for request in [*waiting, *intake.take()]:
            yield Interrupted(uid=request.uid, begun=request.begun)

    def sleep(self, level: int) -> None:
        self._asleep = True
        if level == 2:
            self.weight_version = UNKNOWN_VERSION

    def wake(self) -> None:
        self._asleep = False

    def load_weights(self, manifest: WeightManifest, link: Link | None = None) -> dict[str, str]:
        assert not self._asleep
        if not self._stuck:
            self.weight_version = manifest.version
        return {tensor.name: tensor.digest for tensor in manifest.tensors}

    def score(self, sequences: Sequence[Scorable]) -> list[list[float]]:
        return [[self._logprob(token, place) for place, token in enumerate(s.token_ids[1:])] for s in sequences]

    def _draw(self, waiting: deque[RolloutRequest], intake: Intake) -> Iterator[Drawn]:
        """Draw the first of `waiting`, token by token, unless it is interrupted."""
        request = waiting.popleft()
        begun, pulse = request.begun or Begun(), Pulse()
        length = min(request.sampling.max_new_tokens, 1 + request.seed % 7)
        ids, logprobs = list(begun.token_ids), list(begun.logprobs)
        for place in range(len(ids), length):
            time.sleep(self._seconds / length)
            if intake.interrupted:
                break
            ids.append(self._hash(request.seed, place) % VOCABULARY)
            logprobs.append(self._logprob(ids[-1], place))
            if progress := pulse.progress(lambda: {request.uid: len(ids)}):
                yield progress
        versions = begun.weight_versions + (self.weight_version,) * (len(ids) - len(begun.token_ids))
        drawn = Begun(token_ids=tuple(ids), logprobs=tuple(logprobs), weight_versions=versions)
        if len(ids) < length:
            yield Interrupted(uid=request.uid, begun=drawn if ids else None)
            return
        self._finished += 1
        yield self._completion(request, drawn)

    def _completion(self, request: RolloutRequest, drawn: Begun) -> Completion:
        return Completion(
            uid=request.uid,
            group=request.group,
            prompt_uid=request.prompt_uid,
            token_ids=drawn.token_ids,
            logprobs=drawn.logprobs,
            text=before_stop(" ".join(map(str, drawn.token_ids)), request.sampling.stop),
            finish_reason=FinishReason.STOP,
            weight_versions=drawn.weight_versions,
            seconds=self._seconds,
        )

    def _logprob(self, token: int, place: int) -> float:
        return -1.0 - self._hash(token, place) % 1000 / 1000

    def _hash(self, *parts: int) -> int:
        return xxhash.xxh3_64_intdigest(f"{self.weight_version}/{parts}".encode())
