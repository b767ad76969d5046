"""The `objects` type: names, each with its boxes, or without one where no such object is there."""

from __future__ import annotations

from functools import partial

from pangu_rl.records import Part
from rewards.grounding.matching import EXTRA_COST, matched_overlap
from rewards.grounding.reading import boxes_of, labels_in, of_gold, require_no_metric
from rewards.mathematics.guard import Refused
from rewards.rules.boxes import IOU_THRESHOLD, Box, check_space, iou
from rewards.rules.gold import Gold
from rewards.rules.matching import largest_matching
from rewards.rules.verdict import bad_gold, unparsable, verdict

Objects = dict[str, list[Box]]
"""Name in lower case -> boxes, none of an object that is said not to be there."""


def grade_objects(answer: str, gold: Gold) -> Part:
    """The same names, and of each the same boxes: one to one at IoU 0.5, none missing and none left over. A name of the
    gold that has no box must be said without one.

    Raises:
        BadGold: the gold is no labels with names.
    """
    wanted = gold_objects(gold)
    try:
        found = read_objects(answer, gold)
    except Refused as refused:
        return unparsable(answer, str(refused))
    right = found.keys() == wanted.keys() and all(_same(boxes, found[name]) for name, boxes in wanted.items())
    return verdict(right, answer, gold)


def objects_overlap(answer: str, gold: Gold) -> float:
    """Mean over the gold's names: the overlap of its boxes, see `matched_overlap`, or 1 where none is there and none is
    said; a name that the gold does not have costs half of one. Raises `Refused` of an answer without labels."""
    wanted, found = gold_objects(gold), read_objects(answer, gold)
    total = sum(_overlap(boxes, found.get(name)) for name, boxes in wanted.items())
    return max(0.0, total - EXTRA_COST * len(found.keys() - wanted.keys())) / len(wanted)


def gold_objects(gold: Gold) -> Objects:
    require_no_metric(gold)
    objects = of_gold(gold, partial(read_objects, gold=gold))
    if not objects:
        raise bad_gold(gold, "has no label")
    return objects


def read_objects(text: str, gold: Gold) -> Objects:
    """
    Raises:
        Refused: no label, one without a name, a name twice, a shape that is no box or outside the declared space.
    """
    objects: Objects = {}
    for label in labels_in(text):
        name = " ".join((label.name or "").casefold().split())
        if not name or name in objects:
            raise Refused(f"has a label {'twice' if name else 'without a name'}")
        objects[name] = boxes_of(label)
        for box in objects[name]:
            check_space(box, gold)
    if not objects:
        raise Refused("has no label")
    return objects


def _same(wanted: list[Box], found: list[Box]) -> bool:
    edges = [[iou(one, other) >= IOU_THRESHOLD for other in found] for one in wanted]
    return len(wanted) == len(found) and largest_matching(edges) == len(wanted)


def _overlap(wanted: list[Box], found: list[Box] | None) -> float:
    if not wanted:
        return float(found == [])
    overlaps = [[iou(one, other) for other in found or []] for one in wanted]
    return matched_overlap(overlaps, len(found or []), IOU_THRESHOLD)
