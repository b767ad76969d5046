"""What the tests of the pool ask of it."""

from __future__ import annotations

from pangu_rl.records import Completion, RolloutRequest, SamplingParams, WeightManifest, WeightTensor
from rollout.pool import RolloutPool


def requests(groups: int, size: int = 4) -> list[RolloutRequest]:
    return [
        RolloutRequest(
            uid=f"0:p{group}/{index}",
            group=f"0:p{group}",
            prompt_uid=f"p{group}",
            prompt_token_ids=(1, 2, 3),
            sampling=SamplingParams(max_new_tokens=5),
            seed=group * size + index,
        )
        for group in range(groups)
        for index in range(size)
    ]


def manifest(version: int, digest: str = "00") -> WeightManifest:
    tensor = WeightTensor(name="w", shape=(1,), dtype="bfloat16", offset=0, digest=digest)
    return WeightManifest(version=version, tensors=(tensor,), transport="shm", location="unused")


def wait_for(pool: RolloutPool, count: int) -> list[Completion]:
    """The next answers to what was submitted, at least so many."""
    found: list[Completion] = []
    while len(found) < count:
        found += pool.finished(wait_s=1.0)
        assert len(found) >= count or pool.in_flight(), f"{count} were waited for, {len(found)} came"
    return found
