"""Pointing: one point inside the gold's box, its boundary included."""

from __future__ import annotations

from pangu_rl.records import Part
from rewards.mathematics.guard import Refused
from rewards.rules.boxes import check_space, gold_boxes, numbers_of
from rewards.rules.gold import Gold
from rewards.rules.literal import read_literal
from rewards.rules.verdict import bad_gold, unparsable, verdict


def grade_point(answer: str, gold: Gold) -> Part:
    """The `point` type. A gold of several boxes takes a point in any of them; a gold of null asks for null.

    Raises:
        BadGold: the gold is no box, or the metric or the coordinates are unknown.
    """
    if gold.metric not in (None, "point_in_box"):
        raise bad_gold(gold, f"has the metric {gold.metric!r}: point knows point_in_box")
    boxes = gold_boxes(gold)
    try:
        point = read_point(answer, gold)
    except Refused as refused:
        return unparsable(answer, str(refused))
    if point is None or not boxes:
        return verdict(point is None and not boxes, answer, gold)
    x, y = point
    return verdict(any(box[0] <= x <= box[2] and box[1] <= y <= box[3] for box in boxes), answer, gold)


def point_inside(gold: Gold) -> str:
    """An answer that the gold takes: the middle of its first box, or null. Raises `BadGold` as `grade_point` does."""
    boxes = gold_boxes(gold)
    if not boxes:
        return "null"
    x1, y1, x2, y2 = boxes[0]
    return f"({(x1 + x2) / 2:g},{(y1 + y2) / 2:g})"


def read_point(text: str, gold: Gold) -> tuple[float, float] | None:
    """`(30,30)`, `{"point_2d": [30, 30]}`, `<|point_start|>(30,30)<|point_end|>`; None for null.

    Raises:
        Refused: it is something else, or outside the declared space.
    """
    value = read_literal(text, 2)
    if value is None or value == []:
        return None
    while isinstance(value, list) and len(value) == 1:
        value = value[0]
    point = numbers_of(value, 2)
    if not point:
        raise Refused("is no single point")
    check_space(point, gold)
    return point[0], point[1]
