"""Boxes that are said without a confidence -> **mean average precision**, as COCO counts it with equal confidences.

Equal confidences leave the order of the pictures, and within one that of the boxes, as the order of the curve.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from rewards.rules.boxes import Box, iou

THRESHOLDS = tuple(0.5 + 0.05 * step for step in range(10))
RECALLS = np.linspace(0.0, 1.0, 101)
MOST = 100
"""Boxes of one name and picture that count."""

Named = Mapping[str, Sequence[Box]]


@dataclass(frozen=True, slots=True)
class Matched:
    """One name in one picture."""

    right: np.ndarray
    """bool [10, boxes said]: whether each has a gold box of its own, by threshold."""
    golds: int


def matched(found: Named, gold: Named) -> dict[str, Matched]:
    """By name; names of either side."""
    names = dict.fromkeys((*gold, *found))
    return {name: _matched(found.get(name, ())[:MOST], gold.get(name, ())) for name in names}


def mean_average_precision(pictures: Sequence[Mapping[str, Matched]]) -> float:
    """Over the names that have a gold box in any picture, and over IoU 0.5 to 0.95; 0 to 1, nan without a gold."""
    names = {name for picture in pictures for name, one in picture.items() if one.golds}
    precisions = [_average_precision([picture[name] for picture in pictures if name in picture]) for name in names]
    return float(np.mean(precisions)) if precisions else float("nan")


def _average_precision(parts: Sequence[Matched]) -> float:
    right = np.concatenate([part.right for part in parts], axis=1)
    hits = np.cumsum(right, axis=1)
    said = np.arange(1, right.shape[1] + 1)
    recall, precision = hits / sum(part.golds for part in parts), hits / said
    # Interpolated: the best precision at this recall or a greater one.
    precision = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    total = 0.0
    for line, reached in zip(precision, recall, strict=True):
        places = np.searchsorted(reached, RECALLS, side="left")
        total += float(line[places[places < len(line)]].sum()) / len(RECALLS)
    return total / len(THRESHOLDS)


def _matched(found: Sequence[Box], golds: Sequence[Box]) -> Matched:
    overlaps = np.array([[iou(one, gold) for gold in golds] for one in found]).reshape(len(found), len(golds))
    right = np.zeros((len(THRESHOLDS), len(found)), dtype=bool)
    for line, threshold in zip(right, THRESHOLDS, strict=True):
        free = np.ones(len(golds), dtype=bool)
        for index, row in enumerate(overlaps):
            best = np.where(free & (row >= threshold), row, -1.0)
            if len(best) and best.max() >= 0:
                line[index] = True
                free[len(best) - 1 - int(best[::-1].argmax())] = False  # of equal ones COCO takes the last
    return Matched(right, len(golds))
