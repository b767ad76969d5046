"""How requests are dealt."""

from __future__ import annotations

from rollout.actors.slots import Slot, deal_by_load, deal_in_turn
from tests.unit.rollout.asked import requests


def dealt(slots: list[Slot]) -> list[list[str]]:
    return [list(dict.fromkeys(request.group for request in slot.queue)) for slot in slots]


def test_groups_in_turn():
    slots = [Slot(0), Slot(1)]
    deal_in_turn(requests(5), slots)
    assert dealt(slots) == [["0:p0", "0:p2", "0:p4"], ["0:p1", "0:p3"]]


def test_whole_groups_go_to_whoever_owes_the_fewest():
    """The first owes 8 answers, so the second gets two groups of 4 before they are level and the first has its turn."""
    slots = [Slot(0), Slot(1)]
    slots[0].send(requests(7)[20:], now=0.0)
    deal_by_load(requests(4), slots)
    assert dealt(slots) == [["0:p2"], ["0:p0", "0:p1", "0:p3"]]
