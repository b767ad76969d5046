"""Plain shapes in plain colours: things to place where no package with pictures is there, and beside them."""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import lru_cache, partial

from PIL import Image, ImageDraw

from data_curation.corpus.cutouts.cutout import Cutout, trimmed
from data_curation.corpus.materials import Materials
from data_curation.schema import Language

COLOURS = {
    ("red", "红色"): (214, 40, 40),
    ("blue", "蓝色"): (37, 84, 199),
    ("green", "绿色"): (34, 139, 60),
    ("yellow", "黄色"): (240, 200, 0),
    ("purple", "紫色"): (128, 50, 170),
    ("orange", "橙色"): (245, 130, 20),
    ("black", "黑色"): (20, 20, 20),
    ("brown", "棕色"): (120, 72, 30),
}
FORMS = {
    ("circle", "圆"): 0,
    ("square", "正方形"): 4,
    ("triangle", "三角形"): 3,
    ("pentagon", "五边形"): 5,
    ("hexagon", "六边形"): 6,
    ("star", "五角星"): -5,
    ("ring", "圆环"): 1,
    ("cross", "十字"): 2,
}
"""Names -> corners; 0 is a circle, 1 a ring, 2 a cross, -5 a star."""


def shapes() -> Iterator[Cutout]:
    for colour, rgb in COLOURS.items():
        for form in FORMS:
            names: dict[Language, str] = {"en": f"{colour[0]} {form[0]}", "zh": f"{colour[1]}{form[1]}"}
            yield Cutout(f"shape:{names['en']}", "drawn", names, partial(_image, form[0], rgb), {}, by_whole_name=True)


def _image(form: str, rgb: tuple[int, int, int], materials: Materials) -> Image.Image:
    return _drawn(form, rgb)


@lru_cache(maxsize=128)
def _drawn(form: str, rgb: tuple[int, int, int]) -> Image.Image:
    """Drawn at four times its size, so that its edge is smooth."""
    corners = next(number for (name, _), number in FORMS.items() if name == form)
    side = 480
    canvas = Image.new("RGBA", (side, side), (*rgb, 0))
    draw, fill = ImageDraw.Draw(canvas), (*rgb, 255)
    if corners == 0:
        draw.ellipse((0, 0, side - 1, side - 1), fill=fill)
    elif corners == 1:
        draw.ellipse((0, 0, side - 1, side - 1), fill=fill)
        draw.ellipse((side // 4, side // 4, side * 3 // 4, side * 3 // 4), fill=(*rgb, 0))
    elif corners == 2:
        draw.rectangle((side // 3, 0, side * 2 // 3, side), fill=fill)
        draw.rectangle((0, side // 3, side, side * 2 // 3), fill=fill)
    elif corners == 4:
        draw.rectangle((0, 0, side, side), fill=fill)
    else:
        draw.polygon(_corners(corners, side / 2), fill=fill)
    return trimmed(canvas.resize((side // 4, side // 4), Image.Resampling.LANCZOS))


def _corners(number: int, radius: float) -> list[tuple[float, float]]:
    count = number if number > 0 else -2 * number
    lengths = [radius if number > 0 or index % 2 == 0 else 0.42 * radius for index in range(count)]
    angles = [2 * math.pi * index / count - math.pi / 2 for index in range(count)]
    return [(radius + r * math.cos(a), radius + r * math.sin(a)) for r, a in zip(lengths, angles, strict=True)]
