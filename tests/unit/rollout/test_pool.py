"""The pool keeps every uid exactly once, whatever happens to its actors."""

from __future__ import annotations

import dataclasses
import functools
import logging
import os
import signal
import time

import pytest
import ray

from pangu_rl.errors import BrokenBroadcast, ConfigError, RunError, WeightSyncError
from pangu_rl.records import RolloutRequest, Scorable, WeightManifest
from rollout.fake_engine import FakeEngine
from rollout.pool import RolloutPool
from rollout.probe import mean_gap
from tests.unit.rollout.asked import manifest, requests


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


class Gated(FakeEngine):
    """Draws its second answer when the file `gate` is there."""

    def __init__(self, spec, gate):
        super().__init__(spec)
        self._gate = gate

    def generate(self, requests, intake=None):
        for drawn in super().generate(requests, intake):
            yield drawn
            while not self._gate.exists():
                time.sleep(0.01)


def test_completions_stream_before_the_last_is_drawn(make_pool, tmp_path):
    pool = make_pool(functools.partial(Gated, gate=tmp_path / "gate"), actors=1, max_restarts=0)
    stream = pool.generate(requests(2))
    next(stream)
    (tmp_path / "gate").touch()
    assert len(list(stream)) == 7


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_lost_actor_is_replaced_and_no_uid_is_lost_or_doubled(make_pool, caplog, end):
    pool = make_pool(slow=0.05, silence_s=2.0)
    undisturbed = drawn(pool, requests(6))
    victim = pool.processes()[0].pid
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
    pool._crew.settle()
    assert victim not in [process.pid for process in pool.processes().values()]
    assert len(drawn(pool, requests(4))) == 16


def test_only_actor_lost_while_idle_and_replacement_gets_the_last_weights(make_pool):
    pool = make_pool(actors=1)
    pool.sync(manifest(4))
    os.kill(pool.processes()[0].pid, signal.SIGKILL)
    completions = drawn(pool, requests(2))
    assert {c.weight_version for c in completions.values()} == {4}
    assert pool.restarts == 1


class SlowLoad(FakeEngine):
    def load_weights(self, manifest, link=None):
        time.sleep(1.0)
        return super().load_weights(manifest, link)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "hung"])
def test_actor_lost_during_a_sync(make_pool, monkeypatch, end):
    """The other one takes longer than the silence for its load, and answers."""
    monkeypatch.setattr("rollout.actors.senders.HEALTH_S", 5.0)
    pool = make_pool(SlowLoad, silence_s=0.5)
    os.kill(pool.processes()[1].pid, end)
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
    victim, completions = pool.processes()[0].pid, []
    for completion in pool.generate(requests(4)):
        completions.append(completion.uid)
        if len(completions) == 3:
            os.kill(victim, signal.SIGKILL)
    assert sorted(completions) == sorted(r.uid for r in requests(4))
    assert len(pool.processes()) == 1


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


@pytest.mark.parametrize("level", [1, 2])
def test_engines_that_slept_draw_what_they_would_have(make_pool, level) -> None:
    pool, twin = (make_pool(placement="shared", sleep_level=level) for _ in range(2))
    for one in (pool, twin):
        one.start()
        if one is pool:  # before the first sync nothing else could bring the weights back
            one.sleep()
            one.wake()
        first = {c.uid: c for c in one.generate(requests(2))}
        assert len(first) == 8
        one.sync(manifest(1))
        if one is pool:
            one.sleep()
            one.wake()
            one.reload()
    drawn = [{c.uid: c.token_ids for c in one.generate(requests(2))} for one in (pool, twin)]
    assert drawn[0] == drawn[1]


def test_an_engine_that_is_lost_asleep_is_replaced_and_has_the_weights(make_pool) -> None:
    pool = make_pool(placement="shared")
    pool.start()
    pool.sync(manifest(1))
    pool.sleep()
    os.kill(pool.processes()[0].pid, signal.SIGKILL)
    pool.wake()
    pool.reload()
    assert {c.weight_version for c in pool.generate(requests(2))} == {1}
    assert pool.restarts == 1


class Broadcast(FakeEngine):
    """Loads from a `folder` that stands for a group: a file named by version and world size is one broken broadcast."""

    def __init__(self, spec, folder, seconds=0.0):
        super().__init__(spec, seconds=seconds)
        self._folder = folder

    def load_weights(self, manifest, link=None):
        if (self._folder / f"break_{manifest.version}_{link.world_size}").exists():
            raise BrokenBroadcast("the group broke")
        (self._folder / f"loaded_{manifest.version}_{link.first_rank}_of_{link.world_size}").touch()
        return super().load_weights(manifest, link)


def by_broadcast(version: int) -> WeightManifest:
    return dataclasses.replace(manifest(version), transport="broadcast")


def test_replaced_actor_is_a_member_of_the_next_broadcast(make_pool, tmp_path):
    pool = make_pool(functools.partial(Broadcast, folder=tmp_path))
    before = pool.members()
    pool.sync(by_broadcast(1))
    os.kill(pool.processes()[0].pid, signal.SIGKILL)
    drawn(pool, requests(4))
    after = pool.members()
    assert (len(after), len(set(before) & set(after))) == (2, 1)
    pool.sync(by_broadcast(2))
    assert {c.weight_version for c in drawn(pool, requests(4)).values()} == {2}
    assert {path.name for path in tmp_path.glob("loaded_2*")} == {"loaded_2_1_of_3", "loaded_2_2_of_3"}


def test_only_actor_lost_in_a_phase_is_sent_the_same_weights_again(make_pool, tmp_path):
    pool = make_pool(functools.partial(Broadcast, folder=tmp_path), actors=1, slow=0.05)
    undisturbed = drawn(pool, requests(3))
    asked = []

    def resend(members):
        asked.append(members)
        return by_broadcast(0), []

    lost = pool.members()
    pool.sync(by_broadcast(0), resend=resend)
    stream = pool.generate(requests(3))
    completions = [next(stream)]
    os.kill(pool.processes()[0].pid, signal.SIGKILL)
    completions += stream
    assert {c.uid: c.token_ids for c in completions} == {uid: c.token_ids for uid, c in undisturbed.items()}
    assert len(asked) == 1 and asked[0] != lost


def test_broken_broadcast_keeps_the_living_for_the_next_try(make_pool, tmp_path):
    pool = make_pool(functools.partial(Broadcast, folder=tmp_path))
    broken = tmp_path / "break_5_3"
    broken.touch()
    members, processes = pool.members(), pool.processes()
    with pytest.raises(BrokenBroadcast, match=r"rollout actors \[0, 1\] are without weights version 5"):
        pool.sync(by_broadcast(5))
    broken.unlink()
    assert pool.members() == members and pool.processes() == processes
    pool.sync(by_broadcast(5))
    assert {c.weight_version for c in drawn(pool, requests(2)).values()} == {5}


class Rank:
    def send(self, seconds: float) -> None:
        time.sleep(seconds)

    def die(self) -> None:
        os._exit(1)


@pytest.mark.parametrize(
    ("call", "health_s", "says"),
    [
        (lambda rank: rank.die.remote(), 60, "weights version 1: a learner rank died"),
        (lambda rank: rank.send.remote(3600), 1, r"learner ranks \[0\] have not finished to send weights version 1"),
    ],
    ids=["dead", "stuck"],
)
def test_a_sender_that_is_lost_breaks_the_broadcast_and_not_the_run(
    make_pool, tmp_path, monkeypatch, call, health_s, says
):
    """The next publication asks the ranks for something, and finds the one that is lost by name."""
    monkeypatch.setattr("rollout.actors.senders.HEALTH_S", health_s)
    pool = make_pool(functools.partial(Broadcast, folder=tmp_path))
    rank = ray.remote(num_cpus=0)(Rank).remote()
    with pytest.raises(BrokenBroadcast, match=says):
        pool.sync(by_broadcast(1), [call(rank)])
    assert pool.restarts == 0
    pool.sync(by_broadcast(2))
    assert {c.weight_version for c in drawn(pool, requests(2)).values()} == {2}
    ray.kill(rank)


class Waits(FakeEngine):
    def load_weights(self, manifest, link=None):
        time.sleep(3600)


def test_sender_that_hangs_is_named_and_no_actor_is_blamed(make_pool, ray_session, monkeypatch):
    pool = make_pool(Waits, silence_s=1.0)
    monkeypatch.setattr("rollout.actors.slots.START_LIMIT_S", 1.0)
    sending = ray.remote(num_cpus=0)(lambda: time.sleep(3600)).remote()
    with pytest.raises(WeightSyncError, match=r"the learner sent nothing for 1 s, and rollout actors \[0, 1\] wait"):
        pool.sync(by_broadcast(1), [sending])
    assert pool.restarts == 0
    ray.cancel(sending, force=True)
