"""Pictures of a stored rollout -> **thumbnails as data URIs**, the gold's boxes green and the completion's orange."""

from __future__ import annotations

import base64
import io
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from pangu_rl.errors import DataError
from pretrain.processing.pictures import open_picture
from rewards.mathematics.guard import Refused
from rewards.rules.boxed_answer import extract_boxed
from rewards.rules.boxes import COORDINATES, Box, read_boxes
from rewards.rules.gold import Gold
from rewards.rules.point import read_point

DRAWN = ("bbox", "bboxes", "point")
"""Answer types whose places are drawn."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class Shapes:
    """What a text says about places in a picture, in the coordinates of `space`."""

    boxes: tuple[Box, ...] = ()
    point: tuple[float, float] | None = None
    space: str = "pixel"


def thumbnails(row: Mapping[str, Any], rollouts: Path) -> list[Thumbnail]:
    """One per picture of the row. With several of them no box is drawn: it is not known whose it is."""
    images = row["images"]
    gold, found = (gold_shapes(row), found_shapes(row)) if len(images) == 1 else (Shapes(), Shapes())
    return [_thumbnail(image, rollouts, gold, found) for image in images]


def gold_shapes(row: Mapping[str, Any]) -> Shapes:
    return _shapes(row["gold"], row) if row["answer_type"] in DRAWN else Shapes()


def found_shapes(row: Mapping[str, Any]) -> Shapes:
    """Of the boxed answer; none where it is no box or point."""
    answer = extract_boxed(row["text"]) if row["answer_type"] in DRAWN else None
    return _shapes(answer, row, point=row["answer_type"] == "point") if answer else Shapes()


def _shapes(text: str, row: Mapping[str, Any], *, point: bool = False) -> Shapes:
    space = json.loads(row["extra"] or "{}").get("coordinates", "pixel")
    if space not in COORDINATES:
        return Shapes()
    gold = Gold(text=text, answer_type=row["answer_type"], coordinates=space)
    try:
        if point:
            return Shapes(point=read_point(text, gold), space=gold.coordinates)
        return Shapes(boxes=tuple(read_boxes(text, gold)), space=gold.coordinates)
    except Refused:
        return Shapes()


def _thumbnail(image: Mapping[str, Any], rollouts: Path, gold: Shapes, found: Shapes) -> Thumbnail:
    name = str(image.get("original") or image["path"])
    try:
        picture = open_picture(image["path"], rollouts).image
    except DataError as error:
        return Thumbnail(uri=None, caption=f"{name}: {error}")
    caption = f"{name}, {picture.width} x {picture.height}"
    small = _resized(picture)
    pen = ImageDraw.Draw(small)
    for shapes, colour in ((gold, GOLD), (found, FOUND)):
        _draw(pen, shapes, colour, picture.size, small.size)
    return Thumbnail(uri=_data_uri(small), caption=caption, width=small.width, height=small.height)


def _resized(picture: Image.Image) -> Image.Image:
    scale = min(SIDE / max(picture.size), 6.0)
    size = tuple(max(1, round(side * scale)) for side in picture.size)
    return picture.resize(size, Image.Resampling.NEAREST if scale > 2 else Image.Resampling.LANCZOS)


def _draw(pen: ImageDraw.ImageDraw, shapes: Shapes, colour: str, true: tuple[int, int], size: tuple[int, int]) -> None:
    full = {"pixel": true, "0-999": (999, 999), "0-1": (1, 1)}[shapes.space]
    x, y = size[0] / full[0], size[1] / full[1]
    for left, top, right, bottom in shapes.boxes:
        # Far outside of the picture Pillow would count pixels that nobody sees.
        corners = [min(left * x, size[0]), min(top * y, size[1]), min(right * x, size[0]), min(bottom * y, size[1])]
        pen.rectangle(corners, outline=colour, width=3)
    if shapes.point is not None:
        across, down = min(shapes.point[0] * x, size[0]), min(shapes.point[1] * y, size[1])
        pen.ellipse([across - _POINT, down - _POINT, across + _POINT, down + _POINT], fill=colour, outline="white")


def _data_uri(picture: Image.Image) -> str:
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG" if len(picture.getcolors(256) or ()) else "JPEG", quality=85)
    kind = "png" if buffer.getvalue()[:4] == b"\x89PNG" else "jpeg"
    return f"data:image/{kind};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
