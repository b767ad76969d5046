"""Pictures of a row -> **thumbnails as data URIs**, the places that its texts name drawn on them."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from data_curation.pipeline.record import Record
from pangu_rl.data.fields.bad_row import BadRow
from pangu_rl.errors import DataError
from pangu_rl.grounding_labels import LARGEST, BadLabel, Label, read_labels

SIDE = 240
SHOWN = 3
"""Pictures of a row."""
COLOURS = ("#1a9850", "#d73027", "#4575b4", "#f46d43", "#762a83")


def thumbnails(row: dict[str, Any], media_root: Path | None) -> list[tuple[str | None, str]]:
    """URI and caption of each picture; None of one that cannot be shown, and the caption says why."""
    record = Record(row, str(row.get("id")), "", media_root)
    try:
        paths = record.images
    except BadRow as problem:
        return [(None, str(problem))]
    labels = _labels(record) if len(paths) == 1 else []
    return [_thumbnail(record, path, labels) for path in paths[:SHOWN]]


def _labels(record: Record) -> list[Label]:
    try:
        return [label for _, text in record.texts() for label in read_labels(text)]
    except (BadLabel, BadRow):
        return []


def _thumbnail(record: Record, path: str, labels: list[Label]) -> tuple[str | None, str]:
    name = path if len(path) < 80 else f"{path[:77]}..."
    try:
        picture = record.picture(path)
    except DataError as problem:
        return None, str(problem)[:200]
    small = picture.copy()
    small.thumbnail((SIDE, SIDE))
    _draw(small, labels)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=80)
    uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode("ascii")
    return uri, f"{name}, {picture.width} x {picture.height}"


def _draw(picture: Image.Image, labels: list[Label]) -> None:
    pen = ImageDraw.Draw(picture)
    for number, label in enumerate(labels):
        colour = COLOURS[number % len(COLOURS)]
        for shape in label.shapes:
            corners = [
                (x * picture.width / (LARGEST + 1), y * picture.height / (LARGEST + 1)) for x, y in shape.corners
            ]
            if shape.kind == "point":
                (x, y) = corners[0]
                pen.ellipse((x - 4, y - 4, x + 4, y + 4), fill=colour, outline="white")
            elif shape.kind == "box":
                pen.rectangle((*corners[0], *corners[1]), outline=colour, width=2)
            else:
                pen.polygon(corners, outline=colour, width=2)
            if label.name:
                pen.text(corners[0], label.name, fill=colour)
