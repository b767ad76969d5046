"""A deterministic engine without a model, for tests of everything around the engine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence

import xxhash

from pangu_rl.records import Completion, FinishReason, RolloutRequest, Scorable, WeightManifest
from rollout.engine import EngineSpec, Link

VOCABULARY = 1000


class FakeEngine:
    """Follows `rollout.engine.Engine`: tokens and log-probs are hashes of weight version, seed and position.

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

    def generate(self, requests: Sequence[RolloutRequest]) -> Iterator[Completion]:
        for request in requests:
            if self._finished == self._crash_after:
                raise RuntimeError(f"the fake engine was told to crash after {self._crash_after} completions")
            time.sleep(self._seconds)
            self._finished += 1
            yield self._completion(request)

    def load_weights(self, manifest: WeightManifest, link: Link | None = None) -> dict[str, str]:
        if not self._stuck:
            self.weight_version = manifest.version
        return {tensor.name: tensor.digest for tensor in manifest.tensors}

    def score(self, sequences: Sequence[Scorable]) -> list[list[float]]:
        return [[self._logprob(token, place) for place, token in enumerate(s.token_ids[1:])] for s in sequences]

    def _completion(self, request: RolloutRequest) -> Completion:
        length = min(request.sampling.max_new_tokens, 1 + request.seed % 7)
        ids = tuple(self._hash(request.seed, place) % VOCABULARY for place in range(length))
        return Completion(
            uid=request.uid,
            group=request.group,
            prompt_uid=request.prompt_uid,
            token_ids=ids,
            logprobs=tuple(self._logprob(token, place) for place, token in enumerate(ids)),
            text=" ".join(map(str, ids)),
            finish_reason=FinishReason.STOP,
            weight_versions=(self.weight_version,) * length,
            seconds=self._seconds,
        )

    def _logprob(self, token: int, place: int) -> float:
        return -1.0 - self._hash(token, place) % 1000 / 1000

    def _hash(self, *parts: int) -> int:
        return xxhash.xxh3_64_intdigest(f"{self.weight_version}/{parts}".encode())
