"""A template and a row's fields -> **a user turn**, its pictures at their places."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from pangu_rl.config.benchmark import PLACE
from pangu_rl.data.benchmarks.cells import list_of, text_of
from pangu_rl.data.benchmarks.numbers import point_of
from pangu_rl.data.fields.bad_row import BadRow
from pangu_rl.data.fields.markers import IMAGE_PART, VIDEO_PART
from pangu_rl.grounding_labels import Shape, write_shape

_MARKER = re.compile(r"<image(?: ?(\d+))?>")


def filled(template: str, fields: Mapping[str, str]) -> str:
    """The template with each `{name}` replaced by its field, in one pass: braces of the row's own text stay.

    Raises:
        BadRow: the row has no such field.
    """

    def field(place: re.Match[str]) -> str:
        if place[1] not in fields:
            raise BadRow(f"has no {place[1]}, which the prompt shows")
        return fields[place[1]]

    return PLACE.sub(field, template)


def shown(cell: Any) -> str:
    """A field in a prompt: its text, or the labels of the points, in thousandths, that it lists."""
    try:
        points = [point_of(one) for one in list_of(cell)]
    except BadRow:
        points = []
    if not points:
        return text_of(cell)
    return ", ".join(write_shape(Shape("point", (at,))) for at in points)


def lettered(options: Sequence[str]) -> str:
    """`{options}`: `A. ...`, one a line."""
    return "\n".join(f"{chr(ord('A') + index)}. {option}" for index, option in enumerate(options))


def in_brackets(options: Sequence[str]) -> str:
    """`{choices}`: `(A) ...`, one a line, as MathVista writes them."""
    return "\n".join(f"({chr(ord('A') + index)}) {option}" for index, option in enumerate(options))


def with_videos(parts: Sequence[dict[str, Any]], videos: Sequence[str]) -> list[dict[str, Any]]:
    """The parts of a user turn behind those of its videos."""
    return [*[VIDEO_PART] * len(videos), *parts]


def with_pictures(text: str, pictures: Sequence[str]) -> tuple[list[dict[str, Any]], tuple[str, ...]]:
    """The parts of a user turn, and the pictures in the order of their parts.

    `<image 2>` is the second picture, `<image>` the next one; a picture without a place stands before all text.

    Raises:
        BadRow: a place for a picture that the row does not have.
    """
    pieces: list[dict[str, Any]] = []
    places: list[int] = []
    end = 0
    for marker in _MARKER.finditer(text):
        index = int(marker[1]) - 1 if marker[1] else _next_free(places)
        if not 0 <= index < len(pictures):
            raise BadRow(f"its text has {marker[0]} and it has {len(pictures)} pictures")
        pieces += [*_text(text[end : marker.start()]), IMAGE_PART]
        places.append(index)
        end = marker.end()
    pieces += _text(text[end:])
    before = [index for index in range(len(pictures)) if index not in places]
    order = (*before, *places)
    return [*[IMAGE_PART] * len(before), *pieces], tuple(pictures[index] for index in order)


def _next_free(places: Sequence[int]) -> int:
    return max(places, default=-1) + 1


def _text(text: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text}] if text else []
