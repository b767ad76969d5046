"""What an answer says of places in a picture: text -> **boxes, points, points with depths, a count**, in thousandths.

Labels of the grammar are read as such; without any, JSON or Python lists of numbers, as other models write them.
"""

from __future__ import annotations

import re
from fractions import Fraction

from pangu_rl.grounding_labels import BadLabel, Label, placed_labels, read_labels, shapes_of
from rewards.mathematics.guard import Refused
from rewards.mathematics.number_words import spelled_number
from rewards.rules.boxes import Box, numbers_of, read_boxes, read_literal
from rewards.rules.gold import Gold

Point = tuple[float, float]
_IN_THOUSANDTHS = Gold("null", "bboxes", coordinates="0-999")
_TAGS = "_start|>"
_DEPTH = re.compile(r"(?<![\w.])\d+(?:\.\d+)?")
_WORD = re.compile(r"\d+(?:\.\d+)?|[a-z]+(?:-[a-z]+)?")
_PLAIN_POINT = re.compile(r"\(\s*(\d{1,3})\s*,\s*(\d{1,3})\s*\)")
_LIST = re.compile(r"\[.*\]|\{.*\}", re.DOTALL)


def said_boxes(text: str) -> list[Box]:
    """All boxes, named or not.

    Raises:
        Refused: there are none that can be read.
    """
    return [box for boxes in said_objects(text).values() for box in boxes]


def said_objects(text: str) -> dict[str, list[Box]]:
    """Name -> boxes; those without a name under the empty one.

    Raises:
        Refused: text without a label, or with one that is no label.
    """
    if _TAGS not in text:
        found = _LIST.search(text)
        return {"": read_boxes(found[0] if found else text, _IN_THOUSANDTHS)}
    objects: dict[str, list[Box]] = {}
    for label in _read(text):
        boxes = objects.setdefault((label.name or "").strip(), [])
        for shape in shapes_of([label], "box"):
            (x1, y1), (x2, y2) = shape.corners
            boxes.append((float(x1), float(y1), float(x2), float(y2)))
    return objects


def said_points(text: str) -> list[Point]:
    """All points, in order.

    Raises:
        Refused: as `said_objects`.
    """
    if _TAGS in text:
        return [(float(x), float(y)) for shape in shapes_of(_read(text), "point") for x, y in shape.corners]
    if plain := _PLAIN_POINT.findall(text):
        return [(float(x), float(y)) for x, y in plain]
    found = _LIST.search(text)
    points = _points_in(read_literal(found[0] if found else text))
    if any(not 0 <= value <= 999 for point in points for value in point):
        raise Refused("has a point outside 0 to 999")
    return points


def said_depths(text: str) -> list[tuple[Point, float]]:
    """Each point with the number, in metres, that stands between it and the next.

    Raises:
        Refused: as `said_objects`; also a point without a number.
    """
    if _TAGS in text:
        pairs = [
            ((float(x), float(y)), said)
            for label, said in _placed(text)
            for shape in shapes_of([label], "point")
            for x, y in shape.corners
        ]
    else:
        found = list(_PLAIN_POINT.finditer(text))
        ends = [*(match.start() for match in found), len(text)][1:]
        pairs = [
            ((float(match[1]), float(match[2])), text[match.end() : end])
            for match, end in zip(found, ends, strict=True)
        ]
    if not pairs:
        raise Refused("has no point")
    return [(point, _depth(said)) for point, said in pairs]


def said_count(text: str) -> int | None:
    """The last whole number that is no coordinate, as digits or a word; without one, the number of points."""
    rest = text
    if _TAGS in text:
        rest = " ".join([text.partition("<|")[0], *(said for _, said in _placed(text))])
    rest = _PLAIN_POINT.sub(" ", rest).lower()
    numbers = [number for word in _WORD.findall(rest) if (number := _number(word)) is not None]
    if numbers:
        return int(numbers[-1]) if numbers[-1].denominator == 1 else None
    return len(said_points(text)) or None


def _number(word: str) -> Fraction | None:
    return Fraction(word) if word[0].isdigit() else spelled_number(word)


def _read(text: str) -> list[Label]:
    try:
        return read_labels(text)
    except BadLabel as bad:
        raise Refused(str(bad)) from None


def _placed(text: str) -> list[tuple[Label, str]]:
    try:
        return placed_labels(text)
    except BadLabel as bad:
        raise Refused(str(bad)) from None


def _points_in(value: object) -> list[Point]:
    if value is None:
        return []
    if point := numbers_of(value, 2):
        return [(point[0], point[1])]
    if not isinstance(value, list):
        raise Refused("is no list of points")
    return [point for item in value for point in _points_in(item)]


def _depth(said: str) -> float:
    found = _DEPTH.search(said)
    if found is None:
        raise Refused("has a point without a depth")
    return float(found[0])
