"""A row's `objects` -> **shapes of the grammar by name, and a point inside of each**: what questions are made of."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np

from data_curation.operators.annotations.objects_to_labels import in_thousandths, mask_pixels, placed_shape
from data_curation.pipeline.record import Record
from pangu_rl.data.fields.bad_row import BadRow, Row
from pangu_rl.grounding_labels import LARGEST, BadLabel, Corner, Shape

BOX_SLACK = 0.1
"""As in `objects_to_labels`: how much larger than the least quadrilateral a box may be that is preferred to it."""


@dataclass(slots=True)
class Seen:
    """All objects of one name; without any, none of this name is in the picture."""

    name: str
    shapes: list[Shape] = field(default_factory=list)
    points: list[Corner] = field(default_factory=list)
    """One inside of each."""
    boxes: list[list[int]] = field(default_factory=list)
    """Upright ones, of all objects that have an area."""
    captions: list[str] = field(default_factory=list)
    """What is said of each; its name where nothing is."""


def seen_objects(record: Record) -> list[Seen]:
    """In the order of their names in the row; then the names that `absent_objects` noted.

    Raises:
        BadRow: no picture or several, objects without a name, shapes that leave the picture or are none in thousandths.
    """
    if len(record.images) != 1:
        raise BadRow(f"key objects is of one picture, and images names {len(record.images)}")
    size = record.picture(record.images[0]).size
    found: dict[str, Seen] = {}
    for index, described in enumerate(record.row["objects"]):
        name = str(described.get("name") or "").strip()
        if not name:
            raise BadRow(f"objects[{index}] has no name to ask for")
        _add(found.setdefault(name, Seen(name)), described, index, size)
    for name in (record.notes.get("absent_objects") or {}).get("names", ()):
        found.setdefault(name, Seen(name))
    return list(found.values())


def inner_point(described: Row, size: tuple[int, int]) -> tuple[float, float]:
    """In pixels of a picture of `size`: the point given, the middle of a box, or of an outline the place farthest from
    its edge. Raises `BadRow` for a mask of another size."""
    if described.get("point") is not None:
        return described["point"][0], described["point"][1]
    if described.get("box") is not None:
        x1, y1, x2, y2 = described["box"]
        return (x1 + x2) / 2, (y1 + y2) / 2
    if described.get("mask") is not None:
        inside = mask_pixels(described["mask"], size).T.astype(np.uint8)
        low = np.full(2, 0.5)  # the middle of a pixel
    else:
        corners = np.asarray(described["polygon"], np.float64)
        low = np.floor(corners.min(axis=0))
        width, height = (np.ceil(corners.max(axis=0)) - low + 1).astype(int)
        inside = np.zeros((height, width), np.uint8)
        cv2.fillPoly(inside, [np.round(corners - low).astype(np.int32)], 1)
    distances = cv2.distanceTransform(np.pad(inside, 1), cv2.DIST_L2, 5)
    y, x = np.unravel_index(int(distances.argmax()), distances.shape)
    return float(x - 1 + low[0]), float(y - 1 + low[1])


def task(record: Record, asked: str, said: str, **more: Any) -> Row:
    """The row of one question about the record's picture; what described the objects is left out of it."""
    left_out = ("objects", "camera", "depths", "depth_map", "messages")
    row = {key: value for key, value in record.row.items() if key not in left_out}
    turns = [{"role": "user", "content": asked}, {"role": "assistant", "content": said}]
    return row | {"messages": turns} | more


def _add(seen: Seen, described: Row, index: int, size: tuple[int, int]) -> None:
    placed = placed_shape(described, index, size, BOX_SLACK)
    if placed is None:
        return
    kind, corners = placed
    try:
        seen.shapes.append(Shape(kind, tuple(in_thousandths(corner, size) for corner in corners)))
    except BadLabel as problem:
        raise BadRow(f"objects[{index}]: {problem}") from None
    seen.points.append(in_thousandths(inner_point(described, size), size))
    seen.captions.append(str(described.get("caption") or seen.name))
    if kind != "point":
        (x1, y1), (x2, y2) = (in_thousandths(edge, size) for edge in (corners.min(axis=0), corners.max(axis=0)))
        seen.boxes.append([x1, y1, min(LARGEST, max(x2, x1 + 1)), min(LARGEST, max(y2, y1 + 1))])
