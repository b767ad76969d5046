"""Golds that are no answers themselves -> **an answer that they take**: what the audit of golds grades."""

from __future__ import annotations

from collections.abc import Callable

from rewards.grounding.points import points_inside, points_inside_and_count
from rewards.rules.gold import Gold
from rewards.rules.point import point_inside

_RIGHT: dict[str, Callable[[Gold], str]] = {
    "point": point_inside,
    "points": points_inside,
    "point_count": points_inside_and_count,
}


def right_answer(gold: Gold) -> str:
    """
    Raises:
        BadGold: the gold cannot be graded against.
    """
    return _RIGHT[gold.answer_type](gold) if gold.answer_type in _RIGHT else gold.text
