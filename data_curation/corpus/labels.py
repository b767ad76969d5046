"""Places in a picture as the recipe writes them: 0 to 999 of either side, three digits, between tags.

`(x1, y1, x2, y2)` in pixels, edges right and below exclusive -> `<|box_start|>(012,034),(250,999)<|box_end|>`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from pangu_rl.grounding_labels import LARGEST, Shape, write_shape
from pangu_rl.grounding_labels import box as box_shape

Box = tuple[float, float, float, float]
"""Pixels: left, top, right, bottom."""
Size = tuple[int, int]
"""Width and height in pixels."""


def thousandths(value: float, length: int) -> int:
    """`min(999, floor(1000 value / length))`; the paper leaves the rounding open."""
    return min(LARGEST, max(0, int(1000 * value / length)))


def scaled(box: Box, size: Size) -> tuple[int, int, int, int]:
    """The box in thousandths, at least one of them wide and high."""
    x1, y1 = (min(998, thousandths(box[axis], size[axis])) for axis in (0, 1))
    x2, y2 = (thousandths(box[2 + axis], size[axis]) for axis in (0, 1))
    return x1, y1, max(x2, x1 + 1), max(y2, y1 + 1)


def box_tag(box: Box, size: Size) -> str:
    return write_shape(box_shape(scaled(box, size)))


def point_tag(point: tuple[float, float], size: Size) -> str:
    x, y = (thousandths(value, length) for value, length in zip(point, size, strict=True))
    return write_shape(Shape("point", ((x, y),)))


def quad_tag(corners: Iterable[tuple[float, float]], size: Size) -> str:
    """Of four corners in order around the quadrilateral."""
    places = ((thousandths(x, size[0]), thousandths(y, size[1])) for x, y in corners)
    return write_shape(Shape("quad", tuple(places)))


def labelled(name: str, shapes: Iterable[str]) -> str:
    """The name of an object, then its boxes or points; no space between tags."""
    return f"<|object_ref_start|>{name}<|object_ref_end|>{''.join(shapes)}"


def region(boxes: Sequence[Box], size: Size) -> str:
    """The gold of a point: boxes, in any of which it may lie."""
    return str([list(scaled(box, size)) for box in boxes])


def middle(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
