"""Cells of a benchmark's row -> **numbers, points, parts of videos**; what is none of them is a bad row."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from pangu_rl.data.fields.bad_row import BadRow
from pangu_rl.grounding_labels import LARGEST

GREATEST = 1e12
"""No pixel, second, metre or count of a benchmark is as much."""


def is_number(cell: Any) -> bool:
    """Whether it is one, finite and of a size that people measure."""
    return isinstance(cell, (int, float)) and not isinstance(cell, bool) and abs(cell) < GREATEST


def whole(cell: Any) -> int:
    """
    Raises:
        BadRow: no whole number, nor a text that spells one.
    """
    number = _spelled(cell)
    if number is None or not number.is_integer():
        raise BadRow(f"{cell!r:.40} is not a whole number")
    return int(number)


def point_of(cell: Any) -> tuple[int, int]:
    """x and y in thousandths of the picture's sides.

    Raises:
        BadRow: it is no two whole numbers of 0 to 999.
    """
    if not isinstance(cell, (list, tuple)) or len(cell) != 2:
        raise BadRow(f"{cell!r:.40} is no point, x and y")
    x, y = map(whole, cell)
    if not (0 <= x <= LARGEST and 0 <= y <= LARGEST):
        raise BadRow(f"point {cell!r:.40} is outside 0 to {LARGEST} thousandths")
    return x, y


def seconds_of(cells: Sequence[Any]) -> tuple[float, float]:
    """Begin and end of a part of a video.

    Raises:
        BadRow: no two numbers, or a part that ends before it begins.
    """
    numbers = [number for cell in cells if (number := _spelled(cell)) is not None]
    if len(cells) != 2 or len(numbers) != 2:
        raise BadRow(f"{cells!r:.60} is no begin and end in seconds")
    start, end = numbers
    if not 0 <= start < end:
        raise BadRow(f"a part of a video from {start:g} to {end:g} s")
    return start, end


def rate_of(cell: Any) -> float:
    """
    Raises:
        BadRow: no number of frames a second.
    """
    rate = _spelled(cell)
    if rate is None or rate <= 0:
        raise BadRow(f"{cell!r:.40} is no number of frames a second")
    return rate


def _spelled(cell: Any) -> float | None:
    """A number, or one that a text spells; None of anything else."""
    try:
        number = float(cell)
    except (TypeError, ValueError, OverflowError):
        return None
    return number if is_number(number) else None
