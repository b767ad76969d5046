"""A picture -> **its mask, and that one's run lengths**, in COCO's order: down the columns, the background first."""

from __future__ import annotations

from typing import Any

import numpy as np
from PIL import Image


def mask_of(image: Image.Image) -> np.ndarray:
    """bool [H, W] of a picture in its file's own mode: where it is not transparent if some of it is, else where it is
    not black."""
    # Pillow makes one byte of 16 bits, and labels are small numbers.
    wide = image.mode.startswith("I")
    if image.has_transparency_data and not wide:
        opaque = np.asarray(image.convert("RGBA"))[..., 3]
        if opaque.min() != opaque.max():
            return opaque != 0
    values = np.asarray(image if wide else image.convert("RGB"))
    return values.reshape(*values.shape[:2], -1).any(axis=-1)


def mask_runs(mask: np.ndarray) -> dict[str, Any]:
    """`size` (height, width) and `counts`, alternating background and mask. `mask` is [H, W], or [H, W, C] of a
    picture; whatever is not 0 belongs to it."""
    inside = np.asarray(mask) != 0
    if inside.ndim == 3:
        inside = inside[..., :3].any(axis=-1)
    flat = inside.ravel(order="F")
    edges = np.flatnonzero(np.diff(flat.astype(np.int8))) + 1
    counts = np.diff([0, *edges, flat.size]).tolist()
    if flat.size and flat[0]:
        counts = [0, *counts]
    return {"size": list(inside.shape), "counts": counts}


def points_inside(runs: dict[str, Any], count: int) -> list[tuple[int, int]]:
    """`count` different points of the mask in thousandths of its sides, from the middles of its longest runs; none if
    it does not have as many."""
    height, width = runs["size"]
    ends = np.cumsum(runs["counts"])
    insides = sorted(zip(runs["counts"][1::2], ends[1::2], strict=True), reverse=True)
    found: dict[tuple[int, int], None] = {}
    for length, end in insides:
        for offset in (length // 2, length // 4, 3 * length // 4):
            column, line = divmod(int(end) - length + offset, height)
            found[int(1000 * (column + 0.5) / width), int(1000 * (line + 0.5) / height)] = None
            if len(found) == count:
                return list(found)
    return []
