"""Pictures that show nothing or nearly nothing: one colour, up to noise, dust, a dot, and faint gradients.

A drawing of thin lines has little ink too, and it reaches over the picture: that tells both apart.
"""

from __future__ import annotations

import numpy as np
from PIL import Image, ImageChops

from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Drop, Keep, Record, Verdict
from pangu_rl.config.curate import Share

SIDE = 512
SAMPLED = 128
"""Places of a side at which the background's colour is looked for."""
PLACES = 16
"""Of a side, for how far the ink reaches."""
LEVELS = 12
"""Of 256 in each colour, that a pixel of the background may differ from it."""


@row_operator(cost="cpu")
def blank_pictures(record: Record, *, least_ink: Share = 0.002, least_extent: Share = 0.05) -> Verdict:
    """Dropped is what is below both: `least_ink`, the share of pixels that differ from the most frequent colour, and
    `least_extent`, the share of 16 x 16 places that have such pixels."""
    values: dict[str, float] = {}
    for path in record.images:
        values = dict(zip(("ink", "extent"), ink_and_extent(record.picture(path)), strict=True))
        if values["ink"] < least_ink and values["extent"] < least_extent:
            return Drop("blank picture", f"{path}: ink {values['ink']:.4f}, extent {values['extent']:.3f}", values)
    return Keep(values=values)


def ink_and_extent(picture: Image.Image) -> tuple[float, float]:
    """Of a copy of at most `SIDE` pixels a side."""
    small = picture.reduce(-(-max(picture.size) // SIDE))
    away = ImageChops.difference(small, Image.new("RGB", small.size, background(small)))
    red, green, blue = away.split()
    inked = ImageChops.lighter(ImageChops.lighter(red, green), blue).point([0] * (LEVELS + 1) + [255] * (255 - LEVELS))
    ink = inked.histogram()[255] / (small.width * small.height)
    reached = np.asarray(inked.resize((PLACES, PLACES), Image.Resampling.BOX)) > 0
    return ink, float(reached.mean())


def background(picture: Image.Image) -> tuple[int, int, int]:
    """The middle of the most frequent colours."""
    size = (min(SAMPLED, picture.width), min(SAMPLED, picture.height))
    pixels = np.asarray(picture.resize(size, Image.Resampling.NEAREST)).reshape(-1, 3)
    coarse = (pixels >> 3).astype(np.int32)
    codes = (coarse[:, 0] << 10) | (coarse[:, 1] << 5) | coarse[:, 2]
    red, green, blue = np.median(pixels[codes == np.bincount(codes).argmax()], axis=0).astype(int).tolist()
    return red, green, blue
