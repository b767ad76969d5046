"""Grounding: boxes and points against the gold's, in the coordinates that the prompt declares."""

from __future__ import annotations

from dataclasses import replace

from pangu_rl.records import Completion, Outcome, Part, Prompt
from rewards.recipe.boxed import judge_box
from rewards.rules.boxes import IOU_THRESHOLD, Box, gold_boxes, iou, read_boxes
from rewards.rules.dispatch import grade_directly
from rewards.rules.gold import Gold

BOX_TYPES = ("bbox", "bboxes", "point")
EXTRA_BOX_COST = 0.5
"""Of a box, for each one that matches nothing: boxes all over the picture earn nothing."""


def grounding(prompt: Prompt, completion: Completion, *, partial: bool = True) -> Part:
    """How well the boxed boxes cover the gold's: the mean IoU over the gold boxes, or 1.0 and 0.0 without `partial`.

    Boxes are matched one to one. One that misses its threshold (the prompt's column `metric`, 0.5 for several boxes)
    earns nothing, so that neither the whole picture nor its middle pays. A point is in a gold box or not. The gold null
    asks for null.
    """
    answer_type = prompt.answer_type
    if answer_type not in BOX_TYPES and prompt.extra.get("metric") is None:
        answer_type = "bboxes"
    return judge_box(prompt, completion, answer_type, _by_overlap if partial else grade_directly)


def matched_overlap(wanted: list[Box], found: list[Box]) -> float:
    """Mean IoU over the gold boxes, the nearest pair first, less what superfluous boxes cost."""
    overlaps = [(iou(one, other), i, j) for i, one in enumerate(wanted) for j, other in enumerate(found)]
    free, unused = set(range(len(wanted))), set(range(len(found)))
    total = 0.0
    for overlap, i, j in sorted(overlaps, reverse=True):
        if overlap >= IOU_THRESHOLD and i in free and j in unused:
            free.remove(i)
            unused.remove(j)
            total += overlap
    return max(0.0, total - EXTRA_BOX_COST * len(unused)) / len(wanted)


def _by_overlap(answer: str, gold: Gold) -> Part:
    part = grade_directly(answer, gold)
    wanted = gold_boxes(gold)
    if part.outcome is Outcome.UNPARSABLE or gold.answer_type == "point" or not wanted:
        return part
    found = read_boxes(answer, gold)
    if gold.answer_type == "bboxes":
        value = matched_overlap(wanted, found)
    else:
        value = iou(wanted[0], found[0]) if part.outcome is Outcome.CORRECT else 0.0
    return replace(part, value=value, detail=f"overlap {value:.3f} of {len(found)} with {len(wanted)} boxes")
