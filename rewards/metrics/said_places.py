"""What an answer says of places in a picture: text -> **boxes, points, points with depths**, in thousandths.

Labels of the grammar are read as such; without any, JSON or Python lists of numbers, as other models write them.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from pangu_rl.grounding_labels import BadLabel, Label, placed_labels, read_labels, shapes_of
from rewards.mathematics.guard import Refused
from rewards.rules.boxes import MAX_BOXES, Box, checked_boxes, numbers_of
from rewards.rules.gold import Gold
from rewards.rules.literal import lower_keys, names_a_place, places_of, read_data, read_literal

Point = tuple[float, float]
TAGS = "_start|>"
_IN_THOUSANDTHS = Gold("null", "bboxes", coordinates="0-999")
_DEPTH = re.compile(r"(?<![\w.])\d+(?:\.\d+)?")
_NUMBER = r"[-+]?\d++(?:\.\d*+)?+"
_PLAIN_POINT = re.compile(rf"\(\s*+({_NUMBER})\s*+,\s*+({_NUMBER})\s*+\)")
_NAMES = ("label", "labels", "category", "category_name", "name", "class", "class_name", "object", "object_name")
_CONTAINERS = ("objects", "detections", "predictions", "annotations", "instances", "results", "items", "answer")
_FULL_WIDTH = {code: code - 0xFEE0 for code in range(0xFF01, 0xFF5F)} | str.maketrans("【】〔〕、", "[][],")


def half_width(text: str) -> str:
    """Brackets, commas and digits of Chinese text as ASCII has them: `（１，２）` -> `(1,2)`."""
    return text.translate(_FULL_WIDTH)


def said_boxes(text: str) -> list[Box]:
    """All boxes, named or not.

    Raises:
        Refused: there are none that can be read.
    """
    return [box for _, boxes in _named_boxes(text) for box in boxes]


def said_objects(text: str, asked: Sequence[str]) -> dict[str, list[Box]]:
    """Name -> boxes. Boxes without a name are those of the one name that is asked for.

    Raises:
        Refused: text without a label, or with one that is no label; no box has a name, and not just one is asked for.
    """
    objects: dict[str, list[Box]] = {}
    for name, boxes in _named_boxes(text):
        objects.setdefault(name or (asked[0] if len(asked) == 1 else ""), []).extend(boxes)
    if objects.get("") and len(objects) == 1:
        raise Refused(f"has boxes without a name, and {len(asked) or 'no'} names are asked for")
    return objects


def said_points(text: str) -> list[Point]:
    """All points, in order.

    Raises:
        Refused: as `said_boxes`, or one lies outside of 0 to 999.
    """
    if TAGS in text:
        return [(float(x), float(y)) for shape in shapes_of(_read(text), "point") for x, y in shape.corners]
    plain = _PLAIN_POINT.findall(half_width(text))
    points = [(float(x), float(y)) for x, y in plain] or _points_in(read_literal(_listed(text), 2))
    if any(not 0 <= value <= 999 for point in points for value in point):
        raise Refused("has a point outside 0 to 999")
    return points


def said_depths(text: str) -> list[tuple[Point, float]]:
    """Each point with the number, in metres, that stands between it and the next.

    Raises:
        Refused: as `said_boxes`; also a point without a number.
    """
    if TAGS in text:
        pairs = [
            ((float(x), float(y)), said)
            for label, said in placed(text)
            for shape in shapes_of([label], "point")
            for x, y in shape.corners
        ]
    else:
        text = half_width(text)
        found = list(_PLAIN_POINT.finditer(text))
        ends = [*(match.start() for match in found), len(text)][1:]
        pairs = [
            ((float(match[1]), float(match[2])), text[match.end() : end])
            for match, end in zip(found, ends, strict=True)
        ]
    if not pairs:
        raise Refused("has no point")
    return [(point, _depth(said)) for point, said in pairs]


def _named_boxes(text: str) -> list[tuple[str, list[Box]]]:
    """Names, which may be empty, each with its boxes, in order."""
    if TAGS not in text:
        found = [
            (name.strip(), checked_boxes(place, _IN_THOUSANDTHS)) for name, place in _named(read_data(_listed(text)))
        ]
        if (count := sum(len(boxes) for _, boxes in found)) > MAX_BOXES:
            raise Refused(f"has {count} boxes, which is more than {MAX_BOXES}")
        return found
    return [((label.name or "").strip(), _boxes_of(label)) for label in _read(text)]


def _boxes_of(label: Label) -> list[Box]:
    corners = [shape.corners for shape in shapes_of([label], "box")]
    return [(float(x1), float(y1), float(x2), float(y2)) for (x1, y1), (x2, y2) in corners]


def _named(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Each name with the places under it: `{"bbox_2d": ..., "label": "cat"}`, `{"cat": [...]}`, or lists of such."""
    if isinstance(value, list) and any(isinstance(item, dict) for item in value):
        for item in value:
            yield from _named(item, name)
    elif not isinstance(value, dict):
        yield name, value
    elif names_a_place(value):
        yield from _of_object(value, name)
    else:
        lists = {key: item for key, item in value.items() if isinstance(item, dict | list)}
        if not lists:
            raise Refused("has no bbox_2d or point_2d")
        for key, item in lists.items():
            yield from _named(item, "" if key.casefold() in _CONTAINERS else key)


def _of_object(value: Mapping[str, Any], name: str) -> Iterator[tuple[str, Any]]:
    """What stands beside its place names an object; a list of names, the places of a list one by one."""
    keys, place = lower_keys(value), places_of(value, 4)
    said = next((keys[key] for key in _NAMES if keys.get(key)), name)
    if isinstance(said, list) and isinstance(place, list) and len(said) == len(place):
        yield from ((one if isinstance(one, str) else "", box) for one, box in zip(said, place, strict=True))
    else:
        yield said if isinstance(said, str) else "", place


def _listed(text: str) -> str:
    """From the first bracket of a list or an object to the last of its kind; all of a text without."""
    text = text if "[" in text or "{" in text else half_width(text)
    start = min((index for index in map(text.find, "[{") if index >= 0), default=len(text))
    end = text.rfind("]" if text[start : start + 1] == "[" else "}")
    return text[start : end + 1] if start < end else text


def _read(text: str) -> list[Label]:
    try:
        return read_labels(text)
    except BadLabel as bad:
        raise Refused(str(bad)) from None


def placed(text: str) -> list[tuple[Label, str]]:
    """Each label and the text between it and the next.

    Raises:
        Refused: a tag that is no part of a label.
    """
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
