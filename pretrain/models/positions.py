"""Where the tokens of text, pictures and videos stand: ids and grids -> **positions on three axes** -> rotary.

The accumulative rule of openPangu-VL: a picture takes one position of time and spans rows and columns from there; what
follows goes on after its longer side. Frames of a video are pictures with the end and start marks between them.
numpy only: the data layer, the learner and the engine share it. Letters: T tokens.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from pangu_rl.errors import DataError

Grid = tuple[int, int, int]
"""(frames, rows, columns) in patches."""
MERGE = 2
"""Patches per token along each side."""


@dataclass(frozen=True, slots=True)
class VisionTokens:
    """Ids of the tokens that stand for pictures, and of the marks around them."""

    image: int
    video: int
    start: int
    end: int
    sequential: bool = False
    """Positions count 0, 1, 2, ... on all axes, pictures or not."""

    @classmethod
    def from_config_dict(cls, config: Mapping[str, Any]) -> VisionTokens | None:
        """From a model's `config.json`; None for a text model."""
        names = ("image_token_id", "video_token_id", "vision_start_token_id", "vision_end_token_id")
        if any(config.get(name) is None for name in names):
            return None
        ids = (int(config[name]) for name in names)
        return cls(*ids, sequential=config.get("position_scheme") == "sequential")


def multimodal_positions(token_ids: np.ndarray, grids: Sequence[Grid], tokens: VisionTokens) -> np.ndarray:
    """int64 [3, T] positions (time, row, column) of one sequence; the next free one is their maximum plus 1.

    token_ids: int [T], placeholders expanded; grids: of its pictures and videos in token order.

    Raises:
        DataError: the placeholders are not those of the grids.
    """
    token_ids = np.asarray(token_ids)
    pads = np.flatnonzero((token_ids == tokens.image) | (token_ids == tokens.video))
    for grid in grids:
        if min(grid) < 1 or grid[1] % MERGE or grid[2] % MERGE:
            raise DataError(
                f"grid {tuple(grid)} of a picture: frames, rows and columns; the last two multiples of {MERGE}"
            )
    frames = [(rows // MERGE, columns // MERGE) for count, rows, columns in grids for _ in range(count)]
    expected = sum(rows * columns for rows, columns in frames)
    if expected != len(pads):
        raise DataError(f"{len(pads)} placeholder tokens for pictures of {expected} tokens (grids {list(grids)})")
    if tokens.sequential:
        return np.tile(np.arange(len(token_ids)), (3, 1))
    positions = np.empty((3, len(token_ids)), dtype=np.int64)
    done = free = used = 0
    for rows, columns in frames:
        start, size = int(pads[used]), rows * columns
        if pads[used + size - 1] != start + size - 1:
            raise DataError(f"the {size} placeholder tokens from token {start} are not on end")
        positions[:, done:start] = free + np.arange(start - done)
        free += start - done
        offsets = np.zeros(size, dtype=np.int64), *np.divmod(np.arange(size), columns)
        positions[:, start : start + size] = free + np.stack(offsets)
        free += max(rows, columns)
        done, used = start + size, used + size
    positions[:, done:] = free + np.arange(len(token_ids) - done)
    return positions


def expand_placeholders(
    token_ids: Sequence[int] | np.ndarray, grids: Sequence[Grid], tokens: VisionTokens
) -> list[int]:
    """Each single placeholder -> one per token of its picture; a video's frames with end and start marks between them.

    Raises:
        DataError: another number of placeholders than of grids.
    """
    ids = np.asarray(token_ids).tolist()
    found = sum(token in (tokens.image, tokens.video) for token in ids)
    if found != len(grids):
        raise DataError(f"{found} placeholders for {len(grids)} pictures: give each picture one")
    remaining = iter(grids)
    expanded: list[int] = []
    for token in ids:
        if token not in (tokens.image, tokens.video):
            expanded.append(token)
            continue
        frames, rows, columns = next(remaining)
        frame = [token] * (rows * columns // MERGE**2)
        for number in range(frames):
            expanded += [tokens.end, tokens.start, *frame] if number else frame
    return expanded
