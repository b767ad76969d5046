"""Which weights an engine is given when; the calls are written down and not made."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pangu_rl.accelerators import get_accelerator
from pangu_rl.config.sections.model import ModelConfig
from pangu_rl.config.sections.rollout import RolloutConfig
from pangu_rl.errors import BrokenBroadcast, WeightSyncError
from pangu_rl.records import WeightManifest
from rollout.actors.held_weights import HeldWeights
from rollout.actors.slots import Slot
from rollout.engine import UNKNOWN_VERSION, EngineSpec, Link
from tests.unit.rollout.asked import manifest

RIGHT, WRONG = {"w": "00"}, {"w": "ff"}


class Asked:
    """A method of an actor; a call is its arguments."""

    def remote(self, *args: Any) -> tuple[Any, ...]:
        return args


def slot(index: int) -> Slot:
    name = SimpleNamespace(hex=lambda: f"actor{index}")
    return Slot(index, actor=SimpleNamespace(_actor_id=name, load_weights=Asked(), sleep=Asked()))


def held(**rollout: Any) -> HeldWeights:
    spec = EngineSpec(
        model=ModelConfig(path="unused"),
        rollout=RolloutConfig(engine="fake", **rollout),
        accelerator=get_accelerator("cpu"),
        model_path=Path("unused"),
    )
    return HeldWeights(spec)


def broadcast(version: int, location: str = "host:1") -> WeightManifest:
    return replace(manifest(version), transport="broadcast", location=location)


def given(weights: HeldWeights, slots: list[Slot], sent: WeightManifest, **resend: Any) -> None:
    weights.give(slots, sent, [])
    for one in slots:
        one.on_done(RIGHT)
    weights.given(slots, resend.get("resend"))


def test_a_slot_holds_a_version_once_its_digests_are_right() -> None:
    weights, slots = held(), [slot(0), slot(1)]
    weights.give(slots, manifest(3), [])
    assert weights.version == 3
    assert [one.call for one in slots] == [(manifest(3), one.link) for one in slots]
    slots[0].on_done(RIGHT)
    assert [one.version for one in slots] == [3, UNKNOWN_VERSION]
    with pytest.raises(WeightSyncError, match="digest 00 at the learner and ff"):
        slots[1].on_done(WRONG)
    with pytest.raises(BrokenBroadcast, match=r"actors \[1\] are without weights version 3"):
        weights.given(slots, None)


def test_the_first_engines_have_the_model_folders_weights() -> None:
    weights, one = held(), slot(0)
    weights.started(one)
    assert (one.version, weights.version, one.call) == (0, 0, None)


def test_over_shared_memory_a_new_engine_is_given_the_current_weights() -> None:
    weights, late = held(), slot(1)
    given(weights, [slot(0)], manifest(2))
    weights.started(late)
    assert late.call == (manifest(2), None)
    late.on_done(RIGHT)
    assert late.version == 2


def test_when_the_learner_has_gone_a_new_engine_waits_for_the_next_weights() -> None:
    """What its ranks had written into shared memory is gone with them."""
    weights, late = held(), slot(1)
    given(weights, [slot(0)], manifest(2))
    weights.end_resending()
    weights.started(late)
    assert (late.call, late.version) == (None, UNKNOWN_VERSION)
    given(weights, [slot(0), late], manifest(2))
    assert late.version == 2


def test_weights_that_no_sync_sends_are_not_slept_away() -> None:
    weights, one = held(placement="shared"), slot(0)
    for sent, level in ((manifest(1), 2), (replace(manifest(2), adapter={"r": 8}), 1)):
        given(weights, [one], sent)
        weights.lull(one)
        assert (one.call, one.version == UNKNOWN_VERSION) == ((level,), level == 2)
        one.call = None


def test_after_a_broadcast_a_new_engine_is_sent_them_alone_or_waits() -> None:
    """A group of the sender and the one worker, at the place where the senders meet it."""
    weights, late = held(), slot(1)
    names: list[tuple[str, ...]] = []

    def resend(members: tuple[str, ...]) -> tuple[WeightManifest, list[Any]]:
        names.append(members)
        return broadcast(2, "host:2"), []

    given(weights, [slot(0), slot(1)], broadcast(2), resend=resend)
    assert weights.is_sent_again
    weights.started(late)
    assert (names, late.call) == ([("actor1/0",)], (broadcast(2, "host:2"), Link(first_rank=1, world_size=2)))

    weights.end_resending()
    assert not weights.is_sent_again
    later = slot(2)
    later.version = UNKNOWN_VERSION
    weights.started(later)
    assert (later.call, later.version) == (None, UNKNOWN_VERSION)


def test_every_engines_workers_have_ranks_of_their_own_in_a_broadcast() -> None:
    weights, slots = held(), [slot(0), slot(1)]
    weights.give(slots, broadcast(1), [])
    assert weights.members(slots) == ("actor0/0", "actor1/0")
    assert [one.link for one in slots] == [Link(first_rank=1, world_size=3), Link(first_rank=2, world_size=3)]


def test_before_the_first_sync_sleep_keeps_the_weights_whatever_the_level() -> None:
    weights, one = held(placement="shared", sleep_level=2), slot(0)
    one.version = 0
    weights.lull(one)
    assert (one.call, one.version) == ((1,), 0)
    given(weights, [one], manifest(1))
    weights.lull(one)
    assert (one.call, one.version) == ((2,), UNKNOWN_VERSION)


def test_an_engine_that_starts_while_the_others_sleep_sleeps_too() -> None:
    weights, late = held(placement="shared", sleep_level=1), slot(1)
    given(weights, [slot(0)], manifest(1))
    weights.asleep = True
    weights.started(late)
    assert late.call == (1,)
