"""What several annotators see in one picture, merged: **elements that enough of them name alike** (MindVL, 3.1.6).

They may be models, people, or the annotations that a data set came with.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from pydantic import PositiveInt
from rapidfuzz.distance import Levenshtein

from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Drop, Edit, Record, Verdict
from pangu_rl.config.curate import Share
from pangu_rl.data.fields.bad_row import BadRow, Row, is_blank
from rewards.rules.boxes import iou


@dataclass(frozen=True, slots=True)
class Element:
    annotator: str
    name: str
    box: tuple[float, float, float, float]


@row_operator(cost="cpu")
def merged_annotations(
    record: Record,
    *,
    agreeing: PositiveInt = 2,
    least_overlap: Share = 0.5,
    likeness: Share = 0.9,
    least_share: Share = 0.5,
) -> Verdict:
    """Of a row with `annotations`, annotator -> elements with `name` and `box`. Boxes of different annotators that
    overlap (IoU) are one element; it stays where at least `agreeing` of them name it alike, with the median of their
    boxes, and becomes one of the row's `objects`. A row of whose elements fewer than `least_share` stay is dropped."""
    annotations = record.row.get("annotations")
    if annotations is None:
        return None
    groups = grouped(_elements(annotations), least_overlap)
    merged = [one for group in groups if (one := _merged(group, agreeing, likeness)) is not None]
    values = {"agreed": len(merged) / len(groups) if groups else 0.0}
    if not merged or values["agreed"] < least_share:
        return Drop("annotators disagree", f"{len(merged)} of {len(groups)} elements are named alike", values)
    row = {key: value for key, value in record.row.items() if key != "annotations"}
    return Edit(row | {"objects": merged}, "annotations were merged")


def grouped(elements: Sequence[Element], least_overlap: float) -> list[list[Element]]:
    """Each element joins the group whose first box it overlaps most, and enough, if its annotator has none there."""
    groups: list[list[Element]] = []
    for element in elements:
        open_ones = [group for group in groups if all(one.annotator != element.annotator for one in group)]
        best = max(open_ones, key=lambda group: iou(group[0].box, element.box), default=None)
        if best is not None and (overlap := iou(best[0].box, element.box)) > 0 and overlap >= least_overlap:
            best.append(element)
        else:
            groups.append([element])
    return groups


def _merged(group: Sequence[Element], agreeing: int, likeness: float) -> Row | None:
    """The name that most say, of equals the first annotator's; None where fewer than `agreeing` do."""
    named = [one for one in group if not is_blank(one.name)]
    sides = [[one for one in named if alike(one.name, other.name, likeness)] for other in named]
    side = max(sides, key=len, default=[])
    if len(side) < agreeing:
        return None
    return {"name": side[0].name, "box": np.median([one.box for one in side], axis=0).tolist()}


def alike(one: str, other: str, likeness: float) -> bool:
    """Up to case and spaces."""
    plain = (" ".join(text.casefold().split()) for text in (one, other))
    return Levenshtein.normalized_similarity(*plain) >= likeness


def _elements(annotations: Mapping[str, Sequence[Row]]) -> list[Element]:
    try:
        return [
            Element(annotator, "" if one["name"] is None else str(one["name"]), _box(one["box"]))
            for annotator, listed in annotations.items()
            for one in listed
        ]
    except (AttributeError, KeyError, TypeError, ValueError) as problem:
        raise BadRow(f"key annotations: {problem}: annotator -> elements with a name and a box of an area") from None


def _box(numbers: Sequence[float]) -> tuple[float, float, float, float]:
    x1, y1, x2, y2 = map(float, numbers)
    if not (x1 < x2 and y1 < y2):
        raise ValueError(f"box {list(numbers)} has no area")
    return x1, y1, x2, y2
