"""Batches of prompts with pictures: ids, mask and grids -> **each row's own pictures and positions** -> the model.

Letters: B batch, T tokens, I pictures of the batch.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from pangu_rl.errors import DataError
from pretrain.models.positions import MERGE, Grid, VisionTokens, multimodal_positions

GRIDS = {"pixel_values": "image_grid_thw", "pixel_values_videos": "video_grid_thw"}
"""Input with the patches -> input with their grids, [I, 3] in patches, all pictures of the batch in token order."""
PICTURE_INPUTS = tuple(name for pair in GRIDS.items() for name in pair)

Pictures = Mapping[str, Tensor | None]
"""Of `PICTURE_INPUTS`, what the caller gave."""


def batch_positions(
    ids: Tensor, mask: Tensor | None, pictures: Pictures, tokens: VisionTokens
) -> tuple[Tensor, Tensor]:
    """(positions int64 [3, B, T], deltas int64 [B, 1]) of ids [B, T]; padding (mask 0), which nothing attends to, at 1.

    A later token stands at its index among the row's unpadded tokens plus the delta.

    Raises:
        DataError: placeholders and grids do not match.
    """
    rows = ids.cpu().numpy()
    kept = np.ones_like(rows, dtype=bool) if mask is None else mask.cpu().numpy().astype(bool)
    positions = np.ones((3, *rows.shape), dtype=np.int64)
    delta = np.zeros((len(rows), 1), dtype=np.int64)
    grids = grids_by_row([row[keep] for row, keep in zip(rows, kept, strict=True)], pictures, tokens)
    for number, (row, keep, own) in enumerate(zip(rows, kept, grids, strict=True)):
        placed = multimodal_positions(row[keep], [grid for _, grid in own], tokens)
        positions[:, number, keep] = placed
        delta[number] = placed.max(initial=-1) + 1 - keep.sum()
    return torch.from_numpy(positions).to(ids.device), torch.from_numpy(delta).to(ids.device)


def grids_by_row(rows: list[np.ndarray], pictures: Pictures, tokens: VisionTokens) -> list[list[tuple[str, Grid]]]:
    """For each row of ids its pictures in token order: (name of the input with the patches, grid).

    Raises:
        DataError: a kind of picture has more grids than the placeholders of the batch take up.
    """
    left = {name: _grids(pictures.get(grids)) for name, grids in GRIDS.items()}
    dealt = [list(_own(row, left, tokens)) for row in rows]
    for name, grids in left.items():
        if unused := len(list(grids)):
            raise DataError(
                f"{GRIDS[name]} has {unused} more pictures than the placeholder tokens of the batch take up"
            )
    return dealt


def _grids(grid_thw: Tensor | None) -> Iterator[Grid]:
    return iter([] if grid_thw is None else [tuple(grid) for grid in grid_thw.tolist()])


def _own(row: np.ndarray, left: dict[str, Iterator[Grid]], tokens: VisionTokens) -> Iterator[tuple[str, Grid]]:
    pads = row[(row == tokens.image) | (row == tokens.video)]
    used = 0
    while used < len(pads):
        name = "pixel_values" if pads[used] == tokens.image else "pixel_values_videos"
        if (grid := next(left[name], None)) is None:
            return
        yield name, grid
        used += max(grid[0] * grid[1] * grid[2] // MERGE**2, 1)
