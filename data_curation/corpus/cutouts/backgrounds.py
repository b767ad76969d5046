"""What stands behind things: plain colours, gradients, grain, stripes; and how large a canvas is."""

from __future__ import annotations

from random import Random

import numpy as np
from PIL import Image

from data_curation.corpus.labels import Size

NAMED: dict[tuple[str, str], tuple[int, int, int]] = {
    ("white", "白色"): (250, 250, 250),
    ("light grey", "浅灰色"): (208, 208, 208),
    ("light blue", "浅蓝色"): (190, 216, 240),
    ("light green", "浅绿色"): (200, 230, 200),
    ("light yellow", "浅黄色"): (248, 240, 190),
    ("pink", "粉色"): (244, 205, 215),
    ("dark grey", "深灰色"): (70, 72, 76),
}
"""Name in English and Chinese -> RGB."""

ASPECTS = (0.4, 0.56, 0.67, 0.75, 0.8, 1.0, 1.0, 1.25, 1.33, 1.5, 1.78, 2.4)


def canvas_size(rng: Random, low: int = 150, high: int = 560) -> Size:
    """Any size whose root of the area lies between `low` and `high`, in the usual aspect ratios and beside them."""
    aspect = rng.choice(ASPECTS) * rng.uniform(0.95, 1.05)
    side = rng.uniform(low, high)
    return max(48, round(side * aspect**0.5)), max(48, round(side / aspect**0.5))


def named_background(rng: Random, size: Size) -> tuple[Image.Image, tuple[str, str]]:
    """A plain one, and the name of its colour."""
    name, colour = rng.choice(list(NAMED.items()))
    return Image.new("RGB", size, colour), name


def plain_background(rng: Random, size: Size) -> Image.Image:
    """A light one of one colour."""
    return Image.new("RGB", size, _light(rng))


def background(rng: Random, size: Size) -> Image.Image:
    """A light one of any kind."""
    kind = rng.randrange(4)
    if kind == 0:
        return plain_background(rng, size)
    width, height = size
    one, other = np.array(_light(rng), float), np.array(_light(rng), float)
    if kind == 1:
        angle = rng.random()
        ramp = angle * np.linspace(0, 1, width)[None, :] + (1 - angle) * np.linspace(0, 1, height)[:, None]
    elif kind == 2:
        period = rng.randrange(12, 40)
        ramp = ((np.arange(width)[None, :] + np.arange(height)[:, None]) // period % 2).astype(float)
        other = one * 0.93
    else:
        grain = np.random.default_rng(rng.getrandbits(32)).random((-(-height // 4), -(-width // 4)))
        ramp = np.kron(grain, np.ones((4, 4)))[:height, :width]
        other = one * 0.9
    mixed = one + (other - one) * ramp[..., None]
    return Image.fromarray(mixed.round().astype(np.uint8), "RGB")


def _light(rng: Random) -> tuple[int, int, int]:
    return rng.randrange(190, 256), rng.randrange(190, 256), rng.randrange(190, 256)
