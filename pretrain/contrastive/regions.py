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
    regions: Sequence[Region], per_picture: int, keys: Sequence[Sequence[int]], min_side: int = MIN_SIDE
) -> list[Region]:
    """At most `per_picture` usable ones of each picture, in order. `keys` [I] seed the draw of each picture, so that it
    does not depend on which others it is drawn with."""
    usable: dict[int, list[int]] = {}
    for number, region in enumerate(regions):
        if region.side >= min_side and region.confidence > MIN_CONFIDENCE and region.classes:
            usable.setdefault(region.picture, []).append(number)
    kept = [
        np.random.default_rng(tuple(keys[picture])).permutation(numbers)[:per_picture]
        for picture, numbers in usable.items()
    ]
    return [regions[number] for number in sorted(np.concatenate(kept))] if kept else []


@dataclass(frozen=True, slots=True)
class RegionPatches:
    """Which patches each region may see, by picture: J pictures with regions, padded to the most regions and patches
    that one of them has."""

    patches: Tensor
    """int64 [J, P], places among the patches of all pictures."""
    seen: Tensor
    """bool [J, R, P]: the patches of a region; all of a region that is padding, so that its softmax has something."""
    slots: Tensor
    """int64 [S], where in J * R each region lies, in the order that they were given in."""

    def to(self, device: torch.device) -> RegionPatches:
        return RegionPatches(self.patches.to(device), self.seen.to(device), self.slots.to(device))


def region_patches(regions: Sequence[Region], grids: Sequence[tuple[int, int, int]], patch: int = 14) -> RegionPatches:
    """Inside are the patches of the region's own picture whose centre lies in the box, and always the one under the
    box's centre. `grids` [I]: (1, rows, columns) in patches, which are ordered as in `pretrain.processing.patches`.
    """
    sizes = np.array([rows * columns for _, rows, columns in grids], dtype=np.int64)
    starts = np.concatenate([[0], np.cumsum(sizes)])
    pictures, own = np.unique([region.picture for region in regions], return_inverse=True)
    pictures = pictures.astype(np.int64)
    filled = np.zeros(len(pictures), dtype=np.int64)
    places = np.zeros(len(regions), dtype=np.int64)
    for number, picture in enumerate(own):
        places[number], filled[picture] = filled[picture], filled[picture] + 1
    most, longest = (int(counts.max(initial=0)) for counts in (filled, sizes[pictures]))
    column = np.arange(longest)
    patches = starts[pictures, None] + np.minimum(column, sizes[pictures, None] - 1)
    seen = np.ones((len(pictures), most, longest), dtype=bool)
    for region, picture, place in zip(regions, own, places, strict=True):
        inside = _inside(region, grids[region.picture], patch)
        seen[picture, place] = False
        seen[picture, place, : len(inside)] = inside
    return RegionPatches(*(torch.from_numpy(array) for array in (patches, seen, own.reshape(-1) * most + places)))


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
