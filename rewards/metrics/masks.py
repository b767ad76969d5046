"""Points and the mask of an object, as COCO's run lengths. **Which points lie in it.**"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Mapping, Sequence
from itertools import accumulate
from typing import Any


def points_in_mask(points: Sequence[tuple[float, float]], mask: Mapping[str, Any]) -> list[bool]:
    """Of each point, in thousandths of the picture's sides, whether its pixel belongs to the mask.

    `mask` has `size` (height, width) and `counts`, run lengths down the columns that begin with the background. A
    coordinate means the middle of its thousandth.
    """
    height, width = mask["size"]
    ends = list(accumulate(mask["counts"]))

    def inside(x: float, y: float) -> bool:
        column, line = int((x + 0.5) * width / 1000), int((y + 0.5) * height / 1000)
        if not (0 <= column < width and 0 <= line < height):
            return False
        return bisect_right(ends, column * height + line) % 2 == 1

    return [inside(x, y) for x, y in points]
