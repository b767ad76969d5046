"""Pictures of a stored rollout -> **thumbnails as data URIs**, the gold's places green and the completion's orange."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from pangu_rl.errors import DataError
from pangu_rl.report.places import LARGEST, Places, found_places, gold_places
from pretrain.processing.pictures import open_picture

SIDE = 336
"""Pixels of a thumbnail's longer side; small pictures are enlarged to it, at most six times."""
GOLD, FOUND = "#1a9850", "#f46d43"
_POINT = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class Thumbnail:
    """One picture of a row."""

    uri: str | None
    """None for a file that is gone or broken."""
    caption: str
    width: int = SIDE
    height: int = SIDE


def thumbnails(row: Mapping[str, Any], rollouts: Path) -> list[Thumbnail]:
    """One per picture of the row. With several of them nothing is drawn: it is not known whose a place is."""
    images = row["images"]
    gold, found = (gold_places(row), found_places(row)) if len(images) == 1 else (Places(), Places())
    return [_thumbnail(image, rollouts, gold, found) for image in images]


def _thumbnail(image: Mapping[str, Any], rollouts: Path, gold: Places, found: Places) -> Thumbnail:
    name = str(image.get("original") or image["path"])
    try:
        picture = open_picture(image["path"], rollouts).image
    except DataError as error:
        return Thumbnail(uri=None, caption=f"{name}: {error}")
    caption = f"{name}, {picture.width} x {picture.height}"
    small = _resized(picture)
    pen = ImageDraw.Draw(small)
    for places, colour in ((gold, GOLD), (found, FOUND)):
        _draw(pen, places, colour, picture.size, small.size)
    return Thumbnail(uri=_data_uri(small), caption=caption, width=small.width, height=small.height)


def _resized(picture: Image.Image) -> Image.Image:
    scale = min(SIDE / max(picture.size), 6.0)
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    return picture.resize(size, Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS)


def _draw(pen: ImageDraw.ImageDraw, places: Places, colour: str, true: tuple[int, int], size: tuple[int, int]) -> None:
    full = LARGEST.get(places.space, true)
    scale = size[0] / full[0], size[1] / full[1]
    for place in places.shapes:
        # Far outside of the picture Pillow would count pixels that nobody sees.
        corners = [(min(x * scale[0], size[0]), min(y * scale[1], size[1])) for x, y in place.corners]
        if len(corners) == 1:
            ((x, y),) = corners
            pen.ellipse([x - _POINT, y - _POINT, x + _POINT, y + _POINT], fill=colour, outline="white")
        elif len(corners) == 2:
            pen.rectangle(corners, outline=colour, width=3)
        else:
            pen.line([*corners, corners[0]], fill=colour, width=3)


def _data_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG" if len(picture.getcolors(256) or ()) else "JPEG", quality=85)
    kind = "png" if buffer.getvalue()[:4] == b"\x89PNG" else "jpeg"
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
