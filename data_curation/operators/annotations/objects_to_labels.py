"""Objects with pixel boxes, polygons, masks or points become labels in text (openPangu-VL, appendix A).

A polygon or mask becomes the quadrilateral of least area around it, or a box where that is no larger than `box_slack`
allows, since the paper prefers boxes. Normalising and padding are switches, as in the paper's table 5; whether digits
are tokens of their own is the tokenizer's, not the text's.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import cv2
import numpy as np
from pydantic import NonNegativeFloat

from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Edit, Record, Verdict
from pangu_rl.data.fields.bad_row import BadRow, Row
from pangu_rl.grounding_labels import LARGEST

Corners = np.ndarray
"""float [N, 2]: x and y in pixels."""


@row_operator(cost="cpu")
def objects_to_labels(
    record: Record,
    *,
    ask: str = "Locate {names} in the picture.",
    normalised: bool = True,
    padded: bool = True,
    box_slack: NonNegativeFloat = 0.1,
) -> Verdict:
    """Of a row with one picture and `objects`, each with a `name` and one of `box`, `polygon`, `mask`, `point`, or none
    of them where there is no such object: the labels end a dialogue that `ask` begins, unless `messages` ask already.
    `padded` writes three digits; it goes with `normalised`, which writes thousandths of the sides."""
    objects = record.row.get("objects")
    if not objects:
        return None
    if len(record.images) != 1:
        raise BadRow(f"key objects is of one picture, and images names {len(record.images)}")
    size = record.picture(record.images[0]).size
    written = "".join(
        written_label(one, index, size, (normalised, padded), box_slack) for index, one in enumerate(objects)
    )
    names = ", ".join(dict.fromkeys(str(one["name"]) for one in objects if one.get("name")))
    asked = record.row.get("messages") or [{"role": "user", "content": ask.replace("{names}", names or "the object")}]
    row = {key: value for key, value in record.row.items() if key != "objects"}
    return Edit(row | {"messages": [*asked, {"role": "assistant", "content": written}]}, "objects became labels")


def written_label(described: Row, index: int, size: tuple[int, int], how: tuple[bool, bool], box_slack: float) -> str:
    """Raises as `placed_shape`."""
    name = f"<|object_ref_start|>{described['name']}<|object_ref_end|>" if described.get("name") else ""
    placed = placed_shape(described, index, size, box_slack)
    if placed is None:
        return name
    kind, corners = placed
    return f"{name}<|{kind}_start|>{','.join(_corner(corner, size, *how) for corner in corners)}<|{kind}_end|>"


def placed_shape(described: Row, index: int, size: tuple[int, int], box_slack: float) -> tuple[str, Corners] | None:
    """Kind and corners, in pixels, of one of a row's `objects`; None of one that is not there.

    Raises:
        BadRow: an object of several shapes, or one that leaves the picture.
    """
    shapes = [key for key in ("box", "polygon", "mask", "point") if described.get(key) is not None]
    where = f"objects[{index}]"
    if len(shapes) > 1 or not (shapes or described.get("name")):
        raise BadRow(f"{where} has {', '.join(shapes) or 'neither name nor shape'}: a name, and one shape or none")
    if not shapes:
        return None
    kind, corners = shape_of(shapes[0], described[shapes[0]], where, size, box_slack)
    if (corners < 0).any() or (corners > np.array(size)).any():
        if kind != "quad":
            raise BadRow(f"{where}.{shapes[0]} {described[shapes[0]]} leaves the picture of {size[0]} x {size[1]}")
        corners = corners.clip(0, size)  # the least quadrilateral of a shape at the edge may lean over it
    return kind, corners


def shape_of(given: str, value: Any, where: str, size: tuple[int, int], box_slack: float) -> tuple[str, Corners]:
    """Kind of the label, and its corners in pixels."""
    if given == "mask":
        try:
            return least_quad(mask_points(value, size), box_slack)
        except BadRow as problem:
            raise BadRow(f"{where}.{problem}") from None
    numbers = np.asarray(value, np.float64)
    wanted = {"point": (2,), "box": (4,)}.get(given)
    if (numbers.shape != wanted) if wanted else (numbers.ndim != 2 or numbers.shape[1] != 2 or len(numbers) < 3):
        raise BadRow(f"{where}.{given} {str(value)[:60]} is no {given} of numbers")
    if given == "polygon":
        return least_quad(numbers, box_slack)
    if given == "box" and not (numbers[0] < numbers[2] and numbers[1] < numbers[3]):
        raise BadRow(f"{where}.box {value} has no area")
    return given, numbers.reshape(-1, 2)


def least_quad(points: Corners, box_slack: float) -> tuple[str, Corners]:
    """`quad` with corners clockwise from the upper left one, or `box` where the upright box around the points is at
    most `box_slack` larger than the least one."""
    low, high = points.min(axis=0), points.max(axis=0)
    rectangle = cv2.minAreaRect(points.astype(np.float32))
    least = rectangle[1][0] * rectangle[1][1]
    if math.prod(high - low) <= (1 + box_slack) * least:
        return "box", np.stack([low, high])
    corners = cv2.boxPoints(rectangle).astype(np.float64)
    middle = corners.mean(axis=0)
    clockwise = corners[np.argsort(np.arctan2(*(corners - middle).T[::-1]))]
    return "quad", np.roll(clockwise, -int(clockwise.sum(axis=1).argmin()), axis=0)


def mask_pixels(mask: Row, size: tuple[int, int]) -> np.ndarray:
    """Whether each pixel of a mask in COCO's run lengths belongs to it, bool [W, H], of a picture of `size`.

    Raises:
        BadRow: a mask of another size, such as one of the picture before it was scaled or turned.
    """
    width, height = size
    if list(mask["size"]) != [height, width]:
        raise BadRow(f"mask has the size {list(mask['size'])} and the picture {[height, width]}, height and width")
    values = np.arange(len(mask["counts"])) % 2 == 1
    return np.repeat(values, mask["counts"]).reshape(width, height)


def mask_points(mask: Row, size: tuple[int, int]) -> Corners:
    """Corners of the pixels of a mask, at most two a column: enough for what is around them."""
    inside = mask_pixels(mask, size)
    height = inside.shape[1]
    columns = np.flatnonzero(inside.any(axis=1))
    if not len(columns):
        raise BadRow("mask is empty")
    tops = inside[columns].argmax(axis=1)
    bottoms = height - inside[columns][:, ::-1].argmax(axis=1)
    return np.concatenate([np.stack([x, y], axis=1) for x in (columns, columns + 1) for y in (tops, bottoms)])


def in_thousandths(corner: Sequence[float], size: tuple[int, int]) -> tuple[int, int]:
    """Of the picture's sides; the edge itself is 999."""
    x, y = (min(LARGEST, int(value * (LARGEST + 1) / side)) for value, side in zip(corner, size, strict=True))
    return x, y


def _corner(corner: Sequence[float], size: tuple[int, int], normalised: bool, padded: bool) -> str:
    x, y = in_thousandths(corner, size) if normalised else (round(value) for value in corner)
    return f"({x:03d},{y:03d})" if padded else f"({x},{y})"
