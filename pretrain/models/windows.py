"""Where patches lie: picture grids -> **order by window, positions, lengths of segments** -> vision tower.

Letters: I pictures, K merged cells of 2x2 patches, P = 4 K patches. Everything is computed at once for all pictures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

Grid = tuple[int, int, int]
"""(frames, rows, columns) of a picture, rows and columns in patches."""


@dataclass(frozen=True, slots=True)
class WindowLayout:
    """The merged cells of all pictures, reordered so that each window's lie side by side."""

    order: np.ndarray
    """int64 [K], the cell (numbered as in the input) at each place."""
    inverse: np.ndarray
    """int64 [K], the place of each cell."""
    positions: np.ndarray
    """int64 [P, 2], row and column in its picture of the patch at each place; the same in every frame."""
    window_lengths: tuple[int, ...]
    """Patches of each window, in order."""
    frame_lengths: tuple[int, ...]
    """Patches of each frame, in order: windows never span frames, so frames stay contiguous."""


def lay_out_windows(grids: Sequence[Grid], window: int, merge: int) -> WindowLayout:
    """Cut every frame into windows of `window` x `window` merged cells; those at the right and bottom are smaller.

    Windows are in raster order within a frame and cells in raster order within a window, as in Qwen2.5-VL
    (arXiv 2502.13923). Rows and columns of the grids are multiples of `merge`.
    """
    sizes = np.asarray(grids, dtype=np.int64).reshape(-1, 3)
    frames, rows, columns = sizes[:, 0], sizes[:, 1] // merge, sizes[:, 2] // merge
    cells = frames * rows * columns
    picture = np.repeat(np.arange(len(sizes)), cells)
    place = np.arange(len(picture)) - (np.cumsum(cells) - cells)[picture]
    frame, place = np.divmod(place, (rows * columns)[picture])
    row, column = np.divmod(place, columns[picture])

    down, across = -(-rows // window), -(-columns // window)
    windows = frames * down * across
    first = (np.cumsum(windows) - windows)[picture]
    number = first + (frame * down[picture] + row // window) * across[picture] + column // window
    order = np.argsort(number, kind="stable")
    corner = np.stack([row, column], axis=1)[order] * merge
    inside = np.stack(np.divmod(np.arange(merge * merge), merge), axis=1)
    return WindowLayout(
        order=order,
        inverse=np.argsort(order),
        positions=(corner[:, None] + inside).reshape(-1, 2),
        window_lengths=tuple((np.bincount(number) * merge * merge).tolist()),
        frame_lengths=tuple(np.repeat(sizes[:, 1] * sizes[:, 2], frames).tolist()),
    )
