"""A stored rollout -> **the places that its gold and its completion name**, for whoever draws them.

What declares a type of place is read as its grader reads it; any other text by the labels of the grammar.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from rewards.grounding.reading import TAG, Corners, labels_in, read_shapes
from rewards.mathematics.guard import Refused
from rewards.rules.boxed_answer import extract_boxed
from rewards.rules.boxes import COORDINATES, read_boxes
from rewards.rules.gold import PLACE_TYPES, Gold
from rewards.rules.literal import MAX_CHARS
from rewards.rules.point import read_point

LARGEST = {"0-999": (999, 999), "0-1": (1, 1)}
"""Space -> its right and lower end; of pixels they are the picture's."""
CORNERS_OF = {"points": ("point", 1), "quads": ("quad", 4)}
"""Answer type -> the kind of its shapes, and how many corners one has."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """One shape: 1 corner of a point, 2 of a box (left above, right below), 4 of a quadrilateral."""

    corners: Corners
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Places:
    """In the coordinates of `space`: `pixel`, `0-999` or `0-1`."""

    shapes: tuple[Place, ...] = ()
    space: str = "pixel"


def gold_places(row: Mapping[str, Any]) -> Places:
    """None where the gold names no place."""
    return _places(row["gold"], row, _read_gold)


def found_places(row: Mapping[str, Any]) -> Places:
    """Of the boxed answer; of the whole text where nothing is boxed, or no type of place is declared."""
    answer = extract_boxed(row["text"]) if row["answer_type"] in PLACE_TYPES else None
    return _places(_labels_alone(row["text"]) if answer is None else answer, row, _read_answer)


def _places(text: str, row: Mapping[str, Any], read: Callable[[str, Gold], Iterable[Place]]) -> Places:
    declared = row["answer_type"] in PLACE_TYPES
    space = json.loads(row["extra"] or "{}").get("coordinates", "pixel") if declared else "0-999"
    if space not in COORDINATES:
        return Places()
    try:
        shapes = tuple(read(text, Gold(text=text, answer_type=row["answer_type"], coordinates=space)))
    except Refused:
        return Places()
    return Places(shapes=shapes, space=space) if shapes else Places()


def _read_answer(text: str, gold: Gold) -> Iterable[Place]:
    if gold.answer_type == "point":
        point = read_point(text, gold)
        return [] if point is None else [Place(corners=(point,))]
    return _read_gold(text, gold)


def _read_gold(text: str, gold: Gold) -> Iterable[Place]:
    if gold.answer_type in ("bbox", "bboxes", "point"):
        return [Place(corners=((x, y), (right, low))) for x, y, right, low in read_boxes(text, gold)]
    if gold.answer_type in CORNERS_OF:
        return [Place(corners=corners) for corners in read_shapes(text, gold, *CORNERS_OF[gold.answer_type])]
    return [
        Place(corners=tuple((float(x), float(y)) for x, y in shape.corners), name=label.name or "")
        for label in labels_in(_labels_alone(text))
        for shape in label.shapes
    ]


def _labels_alone(text: str) -> str:
    """Of a text that is no answer to a place, what may hold labels."""
    return text[:MAX_CHARS] if TAG in text else ""
