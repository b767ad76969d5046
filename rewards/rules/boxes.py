"""Boxes in pictures: one by IoU, several by one-to-one matching. The coordinate space is declared, never guessed."""

from __future__ import annotations

import math
import re
from typing import Any

from pangu_rl.records import Part
from rewards.mathematics.guard import Refused
from rewards.rules.gold import Gold
from rewards.rules.literal import read_literal
from rewards.rules.matching import largest_matching
from rewards.rules.verdict import bad_gold, unparsable, verdict

Box = tuple[float, float, float, float]
COORDINATES = ("pixel", "0-999", "0-1")
MAX_BOXES = 200
"""Each is compared with each, here and not in a child: some 25 ms."""
IOU_THRESHOLD = 0.5
_IOU = re.compile(r"iou ?>= ?(0?\.\d+|1(?:\.0+)?)", re.IGNORECASE)


def grade_box(answer: str, gold: Gold) -> Part:
    """The `bbox` type: IoU at least the metric's threshold; a gold of null asks for null.

    Raises:
        BadGold: the gold is no box, or the metric or the coordinates are unknown.
    """
    threshold = _threshold(gold)
    wanted = gold_boxes(gold)
    if len(wanted) > 1:
        raise bad_gold(gold, "is more than one box: the type is bboxes")
    try:
        found = read_boxes(answer, gold)
    except Refused as refused:
        return unparsable(answer, str(refused))
    if not wanted or not found:
        return verdict(len(wanted) == len(found), answer, gold)
    return verdict(len(found) == 1 and iou(wanted[0], found[0]) >= threshold, answer, gold)


def grade_boxes(answer: str, gold: Gold) -> Part:
    """The `bboxes` type: every gold box has a predicted box of its own at IoU 0.5, and none is left over (F1 is 1).

    Raises:
        BadGold: as for `grade_box`.
    """
    if gold.metric not in (None, "hungarian_f1"):
        raise bad_gold(gold, f"has the metric {gold.metric!r}: bboxes knows hungarian_f1")
    wanted = gold_boxes(gold)
    try:
        found = read_boxes(answer, gold)
    except Refused as refused:
        return unparsable(answer, str(refused))
    if len(wanted) != len(found):
        return verdict(False, answer, gold)
    edges = [[iou(one, other) >= IOU_THRESHOLD for other in found] for one in wanted]
    return verdict(largest_matching(edges) == len(wanted), answer, gold)


def gold_boxes(gold: Gold) -> list[Box]:
    """The gold's boxes; none for null.

    Raises:
        BadGold: it has no boxes, or ones outside the declared space, inverted, empty or not finite.
    """
    if gold.coordinates not in COORDINATES:
        raise bad_gold(gold, f"has coordinates {gold.coordinates!r}: use one of {', '.join(COORDINATES)}")
    if not gold.text.strip():
        raise bad_gold(gold, "is empty")
    try:
        return read_boxes(gold.text, gold)
    except Refused as refused:
        raise bad_gold(gold, str(refused)) from None


def iou(one: Box, other: Box) -> float:
    """Intersection over union of two boxes of positive area; invariant under the scale of either axis."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (_area(one) + _area(other) - shared)


def read_boxes(text: str, gold: Gold) -> list[Box]:
    """The boxes in an answer: JSON, a Python list, or the tags `<|box_start|>(x1,y1),(x2,y2)<|box_end|>`.

    Raises:
        Refused: it is something else, has too many boxes, or one that is inverted, empty, not finite or outside the
            declared space.
    """
    return checked_boxes(read_literal(text, 4), gold)


def checked_boxes(value: Any, gold: Gold) -> list[Box]:
    """The same of `read_literal`'s data; raises as `read_boxes`."""
    boxes = [] if value is None or value == [] else _boxes_in(value)
    if len(boxes) > MAX_BOXES:
        raise Refused(f"has {len(boxes)} boxes, which is more than {MAX_BOXES}")
    for box in boxes:
        if not (box[0] < box[2] and box[1] < box[3]):
            raise Refused("has a box without area: corners are x1, y1, x2, y2 with x1 < x2 and y1 < y2")
        check_space(box, gold)
    return boxes


def check_space(numbers: tuple[float, ...], gold: Gold) -> None:
    """Alternating x and y within the declared space.

    Raises:
        Refused: one is not.
    """
    limits = {"0-999": (999.0, 999.0), "0-1": (1.0, 1.0), "pixel": gold.image_size or (math.inf, math.inf)}
    width, height = limits[gold.coordinates]
    for index, number in enumerate(numbers):
        if not 0 <= number <= (height if index % 2 else width):
            raise Refused(f"has {number:g}, which is outside the {gold.coordinates} coordinates of the task")


def _boxes_in(value: Any) -> list[Box]:
    numbers = numbers_of(value, 4)
    if numbers:
        return [numbers]  # type: ignore[list-item]
    if isinstance(value, list) and len(value) == 2 and all(numbers_of(item, 2) for item in value):
        return [(*numbers_of(value[0], 2), *numbers_of(value[1], 2))]  # type: ignore[misc, list-item]
    if not isinstance(value, list) or not value or not all(isinstance(item, list) for item in value):
        raise Refused("is no box of four numbers")
    return [box for item in value for box in _boxes_in(item)]


def numbers_of(value: Any, count: int) -> tuple[float, ...]:
    """`count` finite numbers, or nothing."""
    if not isinstance(value, list) or len(value) != count:
        return ()
    if any(isinstance(item, bool) or not isinstance(item, int | float) or abs(item) > 1e9 for item in value):
        return ()
    return tuple(float(item) for item in value)


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


def _threshold(gold: Gold) -> float:
    if gold.metric is None:
        return IOU_THRESHOLD
    match = _IOU.fullmatch(gold.metric)
    if not match or float(match[1]) <= 0:
        raise bad_gold(gold, f"has the metric {gold.metric!r}: bbox knows iou>=T with T in (0, 1]")
    return float(match[1])
