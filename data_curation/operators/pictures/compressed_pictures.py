"""Pictures with heavy compression: by a JPEG's own quantisation tables, and by the edges of blocks for those that were
saved anew in another format."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image
from pydantic import NonNegativeFloat, NonNegativeInt

from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Drop, Keep, Record, Verdict

BLOCK = 8
_LUMINANCE = (
    16, 11, 10, 16, 24, 40, 51, 61, 12, 12, 14, 19, 26, 58, 60, 55, 14, 13, 16, 24, 40, 57, 69, 56, 14, 17, 22, 29, 51,
    87, 80, 62, 18, 22, 37, 56, 68, 109, 103, 77, 24, 35, 55, 64, 81, 104, 113, 92, 49, 64, 78, 87, 103, 121, 120, 101,
    72, 92, 95, 98, 112, 100, 103, 99,
)  # fmt: skip
"""The standard's table, of quality 50 (ITU-T T.81, annex K.1)."""
ALONE = 1.5
"""Times as large as at any other place of the 8 are steps between blocks."""
_ENOUGH = 64
"""Pixels of a side; of a smaller picture the blocks are too few."""


@row_operator(cost="cpu")
def compressed_pictures(
    record: Record, *, least_quality: NonNegativeInt = 30, most_blockiness: NonNegativeFloat = 2.5
) -> Verdict:
    """Quality is libjpeg's, 1 to 100. Blockiness is how much larger steps between neighbours are where blocks of 8 meet
    than within them, in the direction in which it is larger; natural pictures have about 1."""
    values: dict[str, float] = {}
    for path in record.images:
        if (quality := jpeg_quality(record.header(path))) is not None:
            values["quality"] = quality
            if quality < least_quality:
                return Drop("heavy compression", f"{path}: JPEG quality {quality}", values)
        values["blockiness"] = blockiness(record.picture(path))
        if values["blockiness"] > most_blockiness:
            return Drop("heavy compression", f"{path}: blockiness {values['blockiness']:.2f}", values)
    return Keep(values=values)


def jpeg_quality(image: Image.Image) -> int | None:
    """The quality, 1 to 100, whose table is as coarse as this one; None of no JPEG."""
    tables = getattr(image, "quantization", None)
    if not tables or 0 not in tables:
        return None
    return 1 + int(np.abs(_coarseness() - sum(tables[0])).argmin())


@cache
def _coarseness() -> np.ndarray:
    """Sum of the luminance table of each quality, by the Independent JPEG Group's rule, int64 [100]."""
    quality = np.arange(1, 101)
    scale = np.where(quality < 50, 5000 // quality, 200 - 2 * quality)
    return ((np.array(_LUMINANCE)[:, None] * scale + 50) // 100).clip(1, 255).sum(axis=0)


def blockiness(picture: Image.Image) -> float:
    """0 of a picture that is too small to tell."""
    grey = np.asarray(picture.convert("L"), np.float32)
    return max((_steps(grey), _steps(grey.T)) if min(grey.shape) >= _ENOUGH else (0.0,))


def _steps(grey: np.ndarray) -> float:
    """Step over an edge of blocks, over that at other places: medians over columns, so that a few lines that are drawn
    at such places do not count. Half a level is added to both: flat pictures do not divide by nothing.

    A grid of thin lines that are drawn every 8 pixels has steps on both sides of a line, blocks have them on one: where
    another place of the 8 has nearly as large ones, these are what it is held against."""
    steps = np.abs(np.diff(grey, axis=1)).mean(axis=0)
    steps = steps[: len(steps) // BLOCK * BLOCK].reshape(-1, BLOCK)
    edge = np.median(steps[:, BLOCK - 1]) + 0.5
    strongest = np.median(steps[:, : BLOCK - 1], axis=0).max() + 0.5
    usual = np.median(steps[:, : BLOCK - 1]) + 0.5
    return float(edge / (usual if edge > ALONE * strongest else strongest))
