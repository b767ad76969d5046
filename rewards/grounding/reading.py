"""Shapes in an answer or a gold: labels of the grammar, else JSON or Python lists -> **corners**, within the space."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

from pangu_rl.grounding_labels import BadLabel, Label, read_labels, shapes_of
from rewards.mathematics.guard import Refused
from rewards.rules.boxes import COORDINATES, MAX_BOXES, Box, check_space, numbers_of
from rewards.rules.gold import Gold
from rewards.rules.literal import MAX_CHARS, read_literal
from rewards.rules.verdict import bad_gold

T = TypeVar("T")
Corners = tuple[tuple[float, float], ...]
TAG = "<|"


def read_shapes(text: str, gold: Gold, kind: str, corners: int) -> list[Corners]:
    """All shapes of the `kind`, which has so many `corners`; none for null.

    Raises:
        Refused: it is something else, has too many shapes, or one outside the declared space.
    """
    if TAG in text:
        labels = labels_in(text)
        if others := [shape.kind for shape in shapes_of(labels) if shape.kind != kind]:
            raise Refused(f"has a {others[0]} where a {kind} is asked for")
        found = [tuple((float(x), float(y)) for x, y in shape.corners) for shape in shapes_of(labels)]
    else:
        value = read_literal(text, 2 * corners)
        found = [] if value is None or value == [] else _shapes_in(value, corners)
    if len(found) > MAX_BOXES:
        raise Refused(f"has {len(found)} shapes, which is more than {MAX_BOXES}")
    for shape in found:
        check_space(tuple(value for corner in shape for value in corner), gold)
    return found


def labels_in(text: str) -> list[Label]:
    """
    Raises:
        Refused: too long, or a tag that is no part of a label.
    """
    if len(text) > MAX_CHARS:
        raise Refused(f"is longer than {MAX_CHARS} characters")
    try:
        return read_labels(text)
    except BadLabel as bad:
        raise Refused(str(bad)) from None


def of_gold(gold: Gold, read: Callable[[str], T]) -> T:
    """`read` of the gold's text.

    Raises:
        BadGold: it cannot be read, is empty, or declares no known space.
    """
    if gold.coordinates not in COORDINATES:
        raise bad_gold(gold, f"has coordinates {gold.coordinates!r}: use one of {', '.join(COORDINATES)}")
    if not gold.text.strip():
        raise bad_gold(gold, "is empty")
    try:
        return read(gold.text)
    except Refused as refused:
        raise bad_gold(gold, str(refused)) from None


def require_no_metric(gold: Gold) -> None:
    """
    Raises:
        BadGold: the row names a metric, and its type has but one.
    """
    if gold.metric is not None:
        raise bad_gold(gold, f"has the metric {gold.metric!r}: {gold.answer_type} has one metric, which needs no name")


def boxes_of(label: Label) -> list[Box]:
    """
    Raises:
        Refused: one of its shapes is no box.
    """
    if others := [shape.kind for shape in label.shapes if shape.kind != "box"]:
        raise Refused(f"has a {others[0]} where a box is asked for")
    return [(*map(float, shape.corners[0]), *map(float, shape.corners[1])) for shape in label.shapes]  # type: ignore[misc]


def _shapes_in(value: Any, corners: int) -> list[Corners]:
    flat = numbers_of(value, 2 * corners)
    if flat:
        return [tuple(zip(flat[::2], flat[1::2], strict=True))]
    if isinstance(value, list) and len(value) == corners and all(numbers_of(item, 2) for item in value):
        return [tuple((item[0], item[1]) for item in (numbers_of(one, 2) for one in value))]
    if not isinstance(value, list) or not value or not all(isinstance(item, list) for item in value):
        raise Refused(f"is no shape of {corners} corners")
    return [shape for item in value for shape in _shapes_in(item, corners)]
