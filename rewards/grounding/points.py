"""The `points` type, a point in each of the gold's boxes, and `point_count`, the same and then how many there are."""

from __future__ import annotations

import re

from pangu_rl.records import Part
from rewards.grounding.matching import matched_share
from rewards.grounding.reading import TAG, require_no_metric
from rewards.grounding.reading import read_shapes as _read_shapes
from rewards.mathematics.guard import Refused
from rewards.metrics.said_count import said_count
from rewards.rules.boxes import Box, gold_boxes
from rewards.rules.gold import Gold
from rewards.rules.matching import largest_matching
from rewards.rules.verdict import unparsable, verdict

Point = tuple[float, float]
_TAG_END, _END = re.compile(r"_end\|>"), re.compile(r"[)\]}）］｝】]")
COUNT_SHARE = 0.5
"""Of the partial reward of `point_count`; the points earn the rest."""


def grade_points(answer: str, gold: Gold) -> Part:
    """Each box has a point of its own, edges included, and no point is left over; a gold of null asks for null.

    Raises:
        BadGold: the gold is no boxes.
    """
    boxes = _boxes(gold)
    try:
        points = read_points(answer, gold)
    except Refused as refused:
        return unparsable(answer, str(refused))
    return verdict(_all_hit(boxes, points), answer, gold)


def grade_point_count(answer: str, gold: Gold) -> Part:
    """As `grade_points`, and the number behind the points says how many boxes there are. Nothing there is `0`.

    Raises:
        BadGold: as `grade_points`.
    """
    boxes = _boxes(gold)
    try:
        points, count = read_point_count(answer, gold)
    except Refused as refused:
        return unparsable(answer, str(refused))
    return verdict(count == len(boxes) and _all_hit(boxes, points), answer, gold)


def points_share(answer: str, gold: Gold) -> float:
    """Share of the boxes that are hit, see `matched_share`; raises `Refused` of an answer without points."""
    return _share(_boxes(gold), read_points(answer, gold))


def point_count_share(answer: str, gold: Gold) -> float:
    """Half for the points, half for the right count; raises as `points_share`."""
    boxes = _boxes(gold)
    points, count = read_point_count(answer, gold)
    return (1 - COUNT_SHARE) * _share(boxes, points) + COUNT_SHARE * (count == len(boxes))


def read_points(text: str, gold: Gold) -> list[Point]:
    """Labels of points, pairs of numbers, or a list of them; none for null.

    Raises:
        Refused: it is something else, or outside the declared space.
    """
    return [shape[0] for shape in _read_shapes(text, gold, "point", 1)]


def read_point_count(text: str, gold: Gold) -> tuple[list[Point], int]:
    """The points, and the number behind the last of them.

    Raises:
        Refused: no such number, or as `read_points`.
    """
    end = max((place.end() for place in (_TAG_END if TAG in text else _END).finditer(text)), default=0)
    count = said_count(text[end:])
    if count is None:
        raise Refused("has no count behind its points")
    return read_points(text[:end], gold) if end else [], count


def points_inside(gold: Gold) -> str:
    """An answer to `points` that the gold takes: the middles of its boxes, or null."""
    middles = (f"({(x1 + x2) / 2:g},{(y1 + y2) / 2:g})" for x1, y1, x2, y2 in _boxes(gold))
    return ", ".join(middles) or "null"


def points_inside_and_count(gold: Gold) -> str:
    """The same of `point_count`."""
    boxes = _boxes(gold)
    return f"{points_inside(gold)} {len(boxes)}" if boxes else "0"


def _boxes(gold: Gold) -> list[Box]:
    require_no_metric(gold)
    return gold_boxes(gold)


def _all_hit(boxes: list[Box], points: list[Point]) -> bool:
    return len(points) == len(boxes) and largest_matching(_edges(boxes, points)) == len(boxes)


def _share(boxes: list[Box], points: list[Point]) -> float:
    return matched_share(_edges(boxes, points), len(points)) if boxes else float(not points)


def _edges(boxes: list[Box], points: list[Point]) -> list[list[bool]]:
    return [[box[0] <= x <= box[2] and box[1] <= y <= box[3] for x, y in points] for box in boxes]
