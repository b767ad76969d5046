"""Regions of pictures -> **those worth training on, and which patches each may see** -> region head.

After RICE (arXiv 2507.20025): objects and lines of text, large and read with confidence, so many of each picture.
Letters: R regions, I pictures, P patches of all pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

MIN_SIDE = 128
"""Pixels of the shorter side."""
MIN_CONFIDENCE = 0.7
"""Of a line of text; it must be above."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Region:
    """A box of a picture, and the classes that it is a positive of."""

    picture: int
    """Number of the picture in its batch."""
    box: tuple[float, float, float, float]
    """Left, top, right, bottom in pixels of the picture as it is shown."""
    classes: tuple[int, ...]
    """Of an object its one cluster; of a line of text the ids of its tokens."""
    confidence: float = 1.0
    """Of the reader of a line of text."""

    @property
    def side(self) -> float:
        """The shorter one, in pixels."""
        left, top, right, bottom = self.box
        return min(right - left, bottom - top)


def sample_regions(
    regions: Sequence[Region], per_picture: int, seed: int, step: int, min_side: int = MIN_SIDE
) -> list[Region]:
    """At most `per_picture` usable ones of each picture, in order; drawn anew at every step."""
    random = np.random.default_rng((seed, step))
    usable: dict[int, list[int]] = {}
    for number, region in enumerate(regions):
        if region.side >= min_side and region.confidence > MIN_CONFIDENCE and region.classes:
            usable.setdefault(region.picture, []).append(number)
    kept = [random.permutation(numbers)[:per_picture] for _, numbers in sorted(usable.items())]
    return [regions[number] for number in sorted(np.concatenate(kept))] if kept else []


def region_mask(regions: Sequence[Region], grids: Sequence[tuple[int, int, int]], patch: int = 14) -> Tensor:
    """float32 [R, P], added to the scores of attention: 0 for the patches of a region, -inf for all others.

    Inside are the patches of the region's own picture whose centre lies in the box, and always the one under the box's
    centre. `grids` [I]: (1, rows, columns) in patches, which are ordered as in `pretrain.processing.patches`.
    """
    starts = np.cumsum([0, *(rows * columns for _, rows, columns in grids)])
    mask = torch.full((len(regions), int(starts[-1])), -torch.inf)
    for number, region in enumerate(regions):
        inside = _inside(region, grids[region.picture], patch)
        mask[number, starts[region.picture] : starts[region.picture + 1]][torch.from_numpy(inside)] = 0.0
    return mask


def padded_classes(regions: Sequence[Region], none: int = -1) -> Tensor:
    """int64 [R, L], `none` where a region has fewer classes than the most."""
    longest = max((len(region.classes) for region in regions), default=1)
    rows = [[*region.classes, *[none] * (longest - len(region.classes))] for region in regions]
    return torch.tensor(rows, dtype=torch.int64).reshape(len(regions), longest)


def _inside(region: Region, grid: tuple[int, int, int], patch: int) -> np.ndarray:
    """bool [rows * columns], cells of 2 x 2 patches in raster order."""
    _, rows, columns = grid
    left, top, right, bottom = region.box
    down, across = (np.arange(count) for count in (rows, columns))
    middle = (down * patch + patch / 2, across * patch + patch / 2)
    in_rows = (middle[0] >= top) & (middle[0] < bottom)
    in_columns = (middle[1] >= left) & (middle[1] < right)
    in_rows[int(np.clip((top + bottom) / 2 // patch, 0, rows - 1))] = True
    in_columns[int(np.clip((left + right) / 2 // patch, 0, columns - 1))] = True
    return np.outer(in_rows, in_columns).reshape(rows // 2, 2, columns // 2, 2).swapaxes(1, 2).ravel()
