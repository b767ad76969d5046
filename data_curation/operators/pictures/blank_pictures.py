"""Pictures that show nothing or nearly nothing: one colour, up to noise, dust and faint gradients."""

from __future__ import annotations

import numpy as np
from PIL import Image
from pydantic import NonNegativeFloat

from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Drop, Keep, Record, Verdict
from pangu_rl.config.curate import Share

SIDE = 512
LEVELS = 12
"""Of 256 in each colour, that a pixel of the background may differ from it."""


@row_operator(cost="cpu")
def blank_pictures(record: Record, *, least_ink: Share = 0.002, least_spread: NonNegativeFloat = 3.0) -> Verdict:
    """`least_ink` is the share of pixels that differ from the most frequent colour, `least_spread` the standard
    deviation of luminance, of 255."""
    values: dict[str, float] = {}
    for path in record.images:
        values = {"ink": ink(record.picture(path)), "spread": spread(record.picture(path))}
        if values["ink"] < least_ink or values["spread"] < least_spread:
            return Drop("blank picture", f"{path}: ink {values['ink']:.4f}, spread {values['spread']:.1f}", values)
    return Keep(values=values)


def ink(picture: Image.Image) -> float:
    """Share of pixels, of a picture of at most `SIDE`, that are far from its most frequent colour."""
    pixels = _small(picture).reshape(-1, 3)
    coarse = pixels >> 3
    codes = (coarse[:, 0].astype(np.int32) << 10) | (coarse[:, 1].astype(np.int32) << 5) | coarse[:, 2]
    background = np.median(pixels[codes == np.bincount(codes).argmax()], axis=0)
    return float((np.abs(pixels - background).max(axis=1) > LEVELS).mean())


def spread(picture: Image.Image) -> float:
    """Standard deviation of luminance."""
    return float(np.asarray(picture.convert("L"), np.float32).std())


def _small(picture: Image.Image) -> np.ndarray:
    small = picture.copy()
    small.thumbnail((SIDE, SIDE), Image.Resampling.BOX)
    return np.asarray(small)
