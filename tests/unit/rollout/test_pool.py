"""The pool keeps every uid exactly once, whatever happens to its actors."""

from __future__ import annotations

import functools
import logging
import os
import signal
import time
from pathlib import Path

import pytest

from pangu_rl.accelerators import get_accelerator
from pangu_rl.config.model import ModelConfig
from pangu_rl.config.rollout import RolloutConfig
from pangu_rl.errors import ConfigError, RunError, WeightSyncError
from pangu_rl.records import RolloutRequest, SamplingParams, Scorable, WeightManifest, WeightTensor
from rollout.engine import EngineSpec
from rollout.fake_engine import FakeEngine
from rollout.pool import RolloutPool, mean_gap


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


class WrongDigest(FakeEngine):
    def load_weights(self, manifest, link=None):
        return {"w": "ff"}


class NoMemory(FakeEngine):
    def __init__(self, spec):
        raise ConfigError("rollout.kv_cache_gib is 0.001: too little")


class OtherWeights(FakeEngine):
    """Scores like the fake engine, moved by its process id: no two actors agree."""

    def score(self, sequences):
        return [[value + os.getpid() for value in row] for row in super().score(sequences)]


@pytest.fixture
def make_pool(ray_session):
    pools = []

    def make(factory=FakeEngine, *, slow: float = 0.0, **rollout) -> RolloutPool:
        config = RolloutConfig(engine="fake", **({"actors": 2, "silence_s": 20.0} | rollout))
        if slow:
            factory = functools.partial(factory, seconds=slow)
        spec = EngineSpec(
            model=ModelConfig(path="unused"),
            rollout=config,
            accelerator=get_accelerator("cpu"),
            model_path=Path("unused"),
            factory=factory,
        )
        pools.append(RolloutPool(spec))
        pools[-1].start()
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def drawn(pool: RolloutPool, wanted: list[RolloutRequest]) -> dict:
    completions = list(pool.generate(wanted))
    assert sorted(c.uid for c in completions) == sorted(r.uid for r in wanted)
    return {completion.uid: completion for completion in completions}


def test_same_requests_give_same_completions_on_any_number_of_actors(make_pool):
    one, two = drawn(make_pool(actors=1), requests(3)), drawn(make_pool(actors=2), requests(3))
    assert one == two


def test_groups_are_dealt_whole_and_in_turn(make_pool):
    pool = make_pool(slow=0.2)
    stream = pool.generate(requests(4, size=2))
    next(stream)
    left, right = pool.waiting()
    assert left.startswith("rollout actor 0, silent for 0 s: ") and right.startswith("rollout actor 1, ")
    assert "0:p2/1 (0 tokens in 0 s)" in left and "0:p1" not in left and "0:p3" not in left
    assert "0:p3/1" in right and "0:p0" not in right and "0:p2" not in right
    assert len(pool.outstanding()) == 7
    assert len(list(stream)) == 7
    assert pool.outstanding() == []


def test_completions_stream_before_the_last_is_drawn(make_pool):
    pool = make_pool(actors=1, slow=0.2)
    started = time.monotonic()
    stream = pool.generate(requests(2))
    next(stream)
    first = time.monotonic() - started
    list(stream)
    # 8 completions of 0.2 s each: the first must not have waited for the seven others.
    assert time.monotonic() - started > 1.5 > 1.0 > first


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_lost_actor_is_replaced_and_no_uid_is_lost_or_doubled(make_pool, caplog, end):
    pool = make_pool(slow=0.05, silence_s=2.0)
    undisturbed = drawn(pool, requests(6))
    victim = pool.pids()[0]
    with caplog.at_level(logging.WARNING):
        completions = []
        for completion in pool.generate(requests(6)):
            completions.append(completion)
            if len(completions) == 5:
                os.kill(victim, end)
    assert len(completions) == 24
    assert {c.uid: c for c in completions} == undisturbed
    assert pool.restarts == 1
    assert "rollout actor 0" in caplog.text and "restart 1 of 3" in caplog.text
    pool._settle()
    assert victim not in pool.pids()
    assert len(drawn(pool, requests(4))) == 16


def test_only_actor_lost_while_idle_and_replacement_gets_the_last_weights(make_pool):
    pool = make_pool(actors=1)
    pool.sync(manifest(4))
    os.kill(pool.pids()[0], signal.SIGKILL)
    completions = drawn(pool, requests(2))
    assert {c.weight_version for c in completions.values()} == {4}
    assert pool.restarts == 1


class SlowLoad(FakeEngine):
    def load_weights(self, manifest, link=None):
        time.sleep(1.0)
        return super().load_weights(manifest, link)


def test_actor_lost_during_a_sync(make_pool):
    pool = make_pool(SlowLoad)
    os.kill(pool.pids()[1], signal.SIGKILL)
    pool.sync(manifest(1))
    assert pool.restarts == 1
    assert {c.weight_version for c in drawn(pool, requests(4)).values()} == {1}


def test_run_ends_when_no_actor_is_left_and_names_it_and_the_uids(make_pool):
    pool = make_pool(functools.partial(FakeEngine, crash_after=2), actors=1, max_restarts=1)
    with pytest.raises(
        RunError, match=r"rollout actor 0 failed: .*crash after 2.*no actor is left.*outstanding: 0:p1/0"
    ):
        list(pool.generate(requests(3)))


def test_survivor_finishes_the_work_of_an_actor_without_restarts(make_pool):
    pool = make_pool(slow=0.05, max_restarts=0)
    victim, completions = pool.pids()[0], []
    for completion in pool.generate(requests(4)):
        completions.append(completion.uid)
        if len(completions) == 3:
            os.kill(victim, signal.SIGKILL)
    assert sorted(completions) == sorted(r.uid for r in requests(4))
    assert len(pool.pids()) == 1


def test_completions_of_old_weights_are_refused(make_pool):
    pool = make_pool(functools.partial(FakeEngine, stuck_version=1), actors=1)
    pool.sync(manifest(2))
    with pytest.raises(WeightSyncError, match=r"actor 0 drew 0:p0/0 with weights version 1; the current version is 2"):
        list(pool.generate(requests(1)))


def test_wrong_digest_is_refused(make_pool):
    pool = make_pool(WrongDigest, actors=1)
    with pytest.raises(WeightSyncError, match=r"tensor w has digest 00 at the learner and ff at the engine"):
        pool.sync(manifest(1))


def test_error_the_user_can_mend_arrives_as_itself(make_pool):
    with pytest.raises(ConfigError, match=r"^rollout.kv_cache_gib is 0.001: too little$"):
        make_pool(NoMemory)


def test_probe_compares_the_actors(make_pool):
    probe = [Scorable(token_ids=(5, 6, 7))]
    assert make_pool().score(probe) == FakeEngine(None).score(probe)
    with pytest.raises(WeightSyncError, match="rollout actors 0 and 1 differ"):
        make_pool(OtherWeights).score(probe)


def test_mean_gap():
    # |(-1) - (-1.5)| = 0.5, 0 and 1: mean 0.5 over three tokens, not over two sequences.
    assert mean_gap([[-1.0, -2.0], [-3.0]], [[-1.5, -2.0], [-4.0]]) == pytest.approx(0.5)
