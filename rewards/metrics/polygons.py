"""Polygons: **area, and intersection over union** of two, convex or not. Exact up to rounding; no raster."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

Point = tuple[float, float]
Edge = tuple[Point, Point]


def polygon_iou(one: Sequence[Point], other: Sequence[Point]) -> float:
    """0 to 1; 0 of a polygon without area. A polygon that crosses itself has the area of its even-odd inside.

    Between two neighbouring x of corners and crossings no edges cross, so every slab is a row of trapezoids, which the
    middle line measures: (intersection, union) is a sum over slabs of width times length on that line.
    """
    edges = [_edges(one), _edges(other)]
    cuts = sorted({x for x, _ in (*one, *other)} | set(_crossings([*edges[0], *edges[1]])))
    shared = united = 0.0
    for left, right in pairwise(cuts):
        middle = (left + right) / 2
        first, second = (_inside(polygon, middle) for polygon in edges)
        both = sum(max(0.0, min(high, up) - max(low, down)) for low, high in first for down, up in second)
        shared += (right - left) * both
        united += (right - left) * (_length(first) + _length(second) - both)
    return shared / united if united > 0 and shared > 0 else 0.0


def _edges(polygon: Sequence[Point]) -> list[Edge]:
    return list(zip(polygon, [*polygon[1:], polygon[0]], strict=True))


def _inside(edges: Sequence[Edge], x: float) -> list[tuple[float, float]]:
    """Intervals of the vertical line at `x` that lie inside.

    An edge has its left end and not its right one, so that the line meets an even number of them wherever it is: of a
    slab as thin as rounding the middle is a corner.
    """
    heights = sorted(
        y1 + (y2 - y1) * (x - x1) / (x2 - x1) for (x1, y1), (x2, y2) in edges if min(x1, x2) <= x < max(x1, x2)
    )
    return list(zip(heights[::2], heights[1::2], strict=True))


def _length(intervals: Sequence[tuple[float, float]]) -> float:
    return sum(high - low for low, high in intervals)


def _crossings(edges: Sequence[Edge]) -> list[float]:
    """x of every crossing of two edges."""
    found = []
    for index, ((ax, ay), (bx, by)) in enumerate(edges):
        for (cx, cy), (dx, dy) in edges[index + 1 :]:
            slope = (bx - ax) * (dy - cy) - (by - ay) * (dx - cx)
            if slope == 0:
                continue  # parallel
            along = ((cx - ax) * (dy - cy) - (cy - ay) * (dx - cx)) / slope
            across = ((cx - ax) * (by - ay) - (cy - ay) * (bx - ax)) / slope
            if 0 < along < 1 and 0 < across < 1:
                found.append(ax + along * (bx - ax))
    return found
