"""Pictures with heavy compression: by a JPEG's own quantisation tables, and by what quantising leaves in the pixels of
those that were saved anew (JPEG ghosts; Farid 2009, IEEE TIFS 4(1))."""

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
QUALITIES = (2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 18, 20, 24, 29, 35, 42, 50, 58, 65, 70, 75, 80, 85, 90, 95)
"""That are tried; between two of them steps grow by a sixth or so."""
FEWEST = 4
"""Blocks that are not flat; with fewer it cannot be told."""
MOST = 2048
"""Blocks that are looked at, spread over the picture."""
_FLAT = 4.0
_NOISE = 0.02
"""Squared, of a coefficient of a picture whose pixels are whole numbers."""


@row_operator(cost="cpu")
def compressed_pictures(
    record: Record, *, least_quality: NonNegativeInt = 30, least_residue: NonNegativeFloat = 0.2
) -> Verdict:
    """Quality is libjpeg's, 1 to 100. The residue is what JPEG's quantising, at a quality below `least_quality`, takes
    from the picture's blocks, over what it takes from blocks that begin four pixels beside them: about 1 of a picture
    that was never quantised so, near 0 of one that was, whatever format it was saved in since."""
    values: dict[str, float] = {}
    for path in record.images:
        if (quality := jpeg_quality(record.header(path))) is not None:
            values["quality"] = quality
            if quality < least_quality:
                return Drop("heavy compression", f"{path}: JPEG quality {quality}", values)
        if (found := residue(record.picture(path), least_quality)) is not None:
            values["residue"] = found
            if found < least_residue:
                return Drop("heavy compression", f"{path}: residue {found:.2f} of JPEG's blocks", values)
    return Keep(values=values)


def jpeg_quality(image: Image.Image) -> int | None:
    """The quality, 1 to 100, whose table is as coarse as this one; None of no JPEG."""
    tables = getattr(image, "quantization", None)
    if not tables or 0 not in tables:
        return None
    coarseness = np.array([_table(quality).sum() for quality in range(1, 101)])
    return 1 + int(np.abs(coarseness - sum(tables[0])).argmin())


@cache
def _table(quality: int) -> np.ndarray:
    """The luminance table of a quality, by the Independent JPEG Group's rule, float32 [8, 8]."""
    scale = 5000 // quality if quality < 50 else 200 - 2 * quality
    return ((np.array(_LUMINANCE).reshape(BLOCK, BLOCK) * scale + 50) // 100).clip(1, 255).astype(np.float32)


def residue(picture: Image.Image, below: int) -> float | None:
    """The least over the qualities `below`; None of a picture with too little in it to tell.

    Blocks beside the grid are of the same picture and were never quantised, so drawings with few colours, soft
    pictures and such with much noise are each held against their like."""
    grey = np.asarray(picture.convert("L"), np.float32)
    own, beside = _coefficients(grey), _coefficients(grey[BLOCK // 2 :, BLOCK // 2 :])
    qualities = [quality for quality in QUALITIES if quality < below]
    if not qualities or min(len(own), len(beside)) < FEWEST:
        return None
    noise = _NOISE * grey.size / max(1, grey.size // (BLOCK * BLOCK * MOST))
    return min((_taken(own, quality) + noise) / (_taken(beside, quality) + noise) for quality in qualities)


def _coefficients(grey: np.ndarray) -> np.ndarray:
    """Of the blocks that are not flat, without their means, float32 [blocks, 8, 8]."""
    rows, columns = (side // BLOCK for side in grey.shape)
    blocks = grey[: rows * BLOCK, : columns * BLOCK].reshape(rows, BLOCK, columns, BLOCK).swapaxes(1, 2)
    blocks = blocks.reshape(-1, BLOCK, BLOCK)[:: max(1, rows * columns // MOST)]
    found = _cosines() @ blocks @ _cosines().T
    found[:, 0, 0] = 0
    return found[np.abs(found).max(axis=(1, 2), initial=0) > _FLAT]


def _taken(coefficients: np.ndarray, quality: int) -> float:
    """Sum of squares of what is lost by rounding to steps of the table."""
    steps = coefficients / _table(quality)
    lost = (steps - np.rint(steps)) * _table(quality)
    return float(np.vdot(lost, lost))


@cache
def _cosines() -> np.ndarray:
    """The orthonormal cosine transform, float32 [frequency, pixel]."""
    frequency, pixel = np.ogrid[:BLOCK, :BLOCK]
    found = np.cos((2 * pixel + 1) * frequency * np.pi / (2 * BLOCK)) / 2
    found[0] /= np.sqrt(2)
    return found.astype(np.float32)
