"""The `depths` type: points with their depths in metres, each within a factor of 1.25 of the gold's."""

from __future__ import annotations

from pangu_rl.records import Part
from rewards.grounding.reading import of_gold, require_no_metric
from rewards.mathematics.guard import Refused
from rewards.metrics.depths import abs_rel, delta
from rewards.metrics.said_places import Point, said_depths
from rewards.rules.boxes import check_space
from rewards.rules.gold import Gold
from rewards.rules.verdict import bad_gold, unparsable, verdict

WORTHLESS = 0.25
"""AbsRel from which on nothing is earned: what a guess of the usual depth gets."""


def grade_depths(answer: str, gold: Gold) -> Part:
    """
    Raises:
        BadGold: the gold is no points with positive depths.
    """
    wanted = gold_depths(gold)
    try:
        found = _in_order(wanted, answer, gold)
    except Refused as refused:
        return unparsable(answer, str(refused))
    return verdict(delta(found, list(wanted.values())) == 1.0, answer, gold)


def depths_nearness(answer: str, gold: Gold) -> float:
    """1 less AbsRel over a quarter, at least 0; raises `Refused` of an answer that lacks a point.

    Example: 2.2 m for 2 m is AbsRel 0.1, and earns 0.6.
    """
    wanted = gold_depths(gold)
    return max(0.0, 1 - abs_rel(_in_order(wanted, answer, gold), list(wanted.values())) / WORTHLESS)


def gold_depths(gold: Gold) -> dict[Point, float]:
    require_no_metric(gold)
    found = of_gold(gold, said_depths)
    depths = dict(found)
    if len(depths) < len(found) or min(depths.values()) <= 0:
        raise bad_gold(gold, "has a point twice, or a depth that is not positive")
    return depths


def _in_order(wanted: dict[Point, float], answer: str, gold: Gold) -> list[float]:
    """The depths that are said of the gold's points.

    Raises:
        Refused: of one of them none is, or of others, or of one twice.
    """
    said = said_depths(answer)
    for point, _ in said:
        check_space(point, gold)
    by_point = dict(said)
    if by_point.keys() != wanted.keys() or len(said) != len(wanted):
        raise Refused(f"has depths of {len(said)} points that are not the {len(wanted)} that are asked for")
    return [by_point[point] for point in wanted]
