"""Grounding: boxes, quads, points and depths against the gold's, in the coordinates that the prompt declares."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

from pangu_rl.records import Completion, Outcome, Part, Prompt
from rewards.grounding.depths import depths_nearness
from rewards.grounding.matching import matched_overlap
from rewards.grounding.objects import objects_overlap
from rewards.grounding.points import point_count_share, points_share
from rewards.grounding.quads import quads_overlap
from rewards.recipe.boxed import judge_box
from rewards.rules.boxes import IOU_THRESHOLD, gold_boxes, iou, read_boxes
from rewards.rules.dispatch import grade_directly, infer_type
from rewards.rules.gold import PLACE_TYPES, Gold


def grounding(prompt: Prompt, completion: Completion, *, partial: bool = True) -> Part:
    """How near the boxed places come to the gold's, from 0 to 1; only 1.0 and 0.0 without `partial`.

    Boxes and quads earn their mean IoU, one to one; one that misses its threshold (of a box the prompt's column
    `metric`, 0.5 of several) earns nothing, so that neither the whole picture nor its middle pays. `points` earn the
    share of the boxes that are hit, `point_count` half of that and half for the count, `depths` what they are nearer
    than a guess. A single point is in a gold box or not. The gold null asks for null.
    """
    answer_type = prompt.answer_type
    if answer_type not in PLACE_TYPES and prompt.extra.get("metric") is None:
        answer_type = "bboxes"
    return judge_box(prompt, completion, answer_type, _by_nearness if partial else grade_directly)


def _by_nearness(answer: str, gold: Gold) -> Part:
    part = grade_directly(answer, gold)
    nearness = _NEARNESS.get(infer_type(gold))
    if part.outcome is Outcome.UNPARSABLE or nearness is None:
        return part
    value = nearness(answer, gold)
    return replace(part, value=value, detail=f"{value:.3f} of 1; {part.detail}")


def _box_overlap(answer: str, gold: Gold) -> float:
    wanted, found = gold_boxes(gold), read_boxes(answer, gold)
    right = grade_directly(answer, gold).outcome is Outcome.CORRECT
    return iou(wanted[0], found[0]) if right and wanted else float(right)


def _boxes_overlap(answer: str, gold: Gold) -> float:
    wanted, found = gold_boxes(gold), read_boxes(answer, gold)
    if not wanted:
        return float(not found)
    return matched_overlap([[iou(one, other) for other in found] for one in wanted], len(found), IOU_THRESHOLD)


_NEARNESS: dict[str, Callable[[str, Gold], float]] = {
    "bbox": _box_overlap,
    "bboxes": _boxes_overlap,
    "quads": quads_overlap,
    "points": points_share,
    "point_count": point_count_share,
    "objects": objects_overlap,
    "depths": depths_nearness,
}
