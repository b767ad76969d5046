"""The `quads` type: quadrilaterals, each with one of the gold's at a polygon IoU of 0.5, and none left over."""

from __future__ import annotations

from functools import partial

from pangu_rl.records import Part
from rewards.grounding.matching import matched_overlap
from rewards.grounding.reading import Corners, of_gold, read_shapes, require_no_metric
from rewards.mathematics.guard import Refused
from rewards.metrics.polygons import polygon_iou
from rewards.rules.boxes import IOU_THRESHOLD
from rewards.rules.gold import Gold
from rewards.rules.matching import largest_matching
from rewards.rules.verdict import bad_gold, unparsable, verdict

MAX_QUADS = 64
"""Each is compared with each whose box it meets, in a tenth of a millisecond, here and not in a child."""


def grade_quads(answer: str, gold: Gold) -> Part:
    """A gold of null asks for null. The order of corners does not count, but that they go around.

    Raises:
        BadGold: the gold is no quads, or one of them has no area.
    """
    wanted = gold_quads(gold)
    try:
        found = read_quads(answer, gold)
    except Refused as refused:
        return unparsable(answer, str(refused))
    if len(found) != len(wanted):
        return verdict(False, answer, gold)
    edges = [[overlap >= IOU_THRESHOLD for overlap in row] for row in _overlaps(wanted, found)]
    return verdict(largest_matching(edges) == len(wanted), answer, gold)


def quads_overlap(answer: str, gold: Gold) -> float:
    """Mean polygon IoU over the gold's quads, see `matched_overlap`; raises `Refused` of an answer without quads."""
    wanted, found = gold_quads(gold), read_quads(answer, gold)
    if not wanted:
        return float(not found)
    return matched_overlap(_overlaps(wanted, found), len(found), IOU_THRESHOLD)


def gold_quads(gold: Gold) -> list[Corners]:
    require_no_metric(gold)
    quads = of_gold(gold, partial(read_quads, gold=gold))
    if any(polygon_iou(quad, quad) == 0.0 for quad in quads):
        raise bad_gold(gold, "has a quadrilateral without area")
    return quads


def read_quads(text: str, gold: Gold) -> list[Corners]:
    """`<|quad_start|>(x1,y1),...,(x4,y4)<|quad_end|>`, eight numbers, or four pairs; none for null."""
    quads = read_shapes(text, gold, "quad", 4)
    if len(quads) > MAX_QUADS:
        raise Refused(f"has {len(quads)} quadrilaterals, which is more than {MAX_QUADS}")
    return quads


def _overlaps(wanted: list[Corners], found: list[Corners]) -> list[list[float]]:
    return [[polygon_iou(one, other) if _near(one, other) else 0.0 for other in found] for one in wanted]


def _near(one: Corners, other: Corners) -> bool:
    """Whether the boxes around them meet."""
    return all(
        max(min(a), min(b)) < min(max(a), max(b)) for a, b in zip(zip(*one, strict=True), zip(*other, strict=True))
    )
