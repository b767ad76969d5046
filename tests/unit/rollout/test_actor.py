"""The actor's own part: pictures that travel by handle are fetched once, and what is said to a stream arrives."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import ray

from pangu_rl.accelerators.cpu import CPU
from pangu_rl.records import Picture, RolloutRequest, Scorable
from rollout.actors.actor import RolloutActor, fetch_patches
from rollout.engine import EngineSpec, Interrupted
from rollout.fake_engine import FakeEngine
from rollout.intake import Intake
from tests.unit.rollout.asked import requests


def picture(patches: object) -> Picture:
    return Picture(path="a.png", sha256="00", grid=(1, 2, 2), patches=patches)


def test_each_handle_is_fetched_once_and_arrays_stay(ray_session, monkeypatch):
    arrays = [np.full((4, 588), value, np.uint8) for value in (1, 2, 3)]
    first, second = ray.put(arrays[0]), ray.put(arrays[1])
    items = [
        Scorable(token_ids=(1,), pictures=(picture(first), picture(second), picture(first))),
        Scorable(token_ids=(2,)),
        # Another record around the same handle: what a group that crossed processes in pieces looks like.
        Scorable(token_ids=(3,), pictures=(picture(first), picture(arrays[2]))),
    ]
    fetched = []
    get = ray.get
    monkeypatch.setattr(ray, "get", lambda handles: fetched.extend(handles) or get(handles))

    whole = fetch_patches(items)

    assert sorted(fetched, key=str) == sorted([first, second], key=str)
    assert [item.token_ids for item in whole] == [(1,), (2,), (3,)]
    shown = [[int(p.patches[0, 0]) for p in item.pictures] for item in whole]
    assert shown == [[1, 2, 1], [], [1, 3]]
    assert whole[0].pictures[0].patches is whole[2].pictures[0].patches


def unfinished(actor: RolloutActor, number: int, wanted: list[RolloutRequest]) -> list[Interrupted]:
    return list(actor.generate(number, wanted, live=True))


def test_a_word_for_a_stream_may_come_before_it_and_after_it(ray_session):
    actor = RolloutActor(EngineSpec(model=None, rollout=None, accelerator=CPU, model_path=None, factory=FakeEngine))
    actor.start()
    first, second = requests(2, size=1)
    actor.add(1, [second])
    actor.interrupt(1)
    assert unfinished(actor, 1, [first]) == [Interrupted(uid=r.uid, begun=None) for r in (first, second)]
    # A live stream waits for what else may come, so only the interruption ends it.
    actor.interrupt(1)
    stream = actor.generate(2, [first], live=True)
    assert next(stream).uid == first.uid
    actor.add(2, [second])
    assert next(stream).uid == second.uid
    actor.interrupt(2)
    assert list(stream) == []


class Drawing:
    """An engine whose answers are a plain iterator."""

    def __init__(self, spec: EngineSpec) -> None:
        pass

    def generate(self, wanted: list[RolloutRequest], intake: Intake) -> Iterator[Interrupted]:
        return iter([Interrupted(uid=request.uid, begun=None) for request in wanted])


def test_what_ray_sends_into_a_stream_does_not_reach_the_engine():
    actor = RolloutActor(EngineSpec(model=None, rollout=None, accelerator=CPU, model_path=None, factory=Drawing))
    actor.start()
    stream = actor.generate(1, requests(2, size=1))
    uids = [next(stream).uid, stream.send("seconds that the last item took").uid]
    assert uids == [request.uid for request in requests(2, size=1)]
