"""JSON, boxes and points in answers that cannot be read, or that lie outside their picture."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Drop, Record, Verdict
from pangu_rl.data.fields.bad_row import BadRow, Row
from rewards.grounding.right_answers import right_answer
from rewards.rules.dispatch import grade_directly
from rewards.rules.gold import PLACE_TYPES, BadGold, Gold

Space = Literal["pixel", "0-999", "0-1"]
PLACES = ("bbox_2d", "bbox", "box_2d", "box", "point_2d", "point")
"""Keys whose values are x and y by turns."""
_FENCED = re.compile(r"```json\s*\n(.*?)```", re.DOTALL)


@row_operator(cost="cpu")
def structured_answers(record: Record, *, coordinates: Space = "0-999") -> Verdict:
    """What an assistant's turn writes as JSON (fenced, or the whole turn) parses, and its boxes and points are within
    the space of the row's `coordinates`, by default the setting; so does an `answer` whose type is a place."""
    space = str(record.row.get("coordinates") or coordinates)
    try:
        limits = _limits(record, space)
        if record.row.get("answer_type") in PLACE_TYPES:
            gold = gold_of(record, space)
            grade_directly(right_answer(gold), gold)
        for field, text in _answers(record.row):
            for written in _json_in(text):
                _check_places(_parsed(written, field), field, limits)
    except BadGold as error:
        return Drop("answer is no place", f"answer: {error}")
    except BadRow as problem:
        reason, _, detail = str(problem).partition(": ")
        return Drop(reason, detail)
    return None


def gold_of(record: Record, space: str) -> Gold:
    """The row's answer as the graders see it, in the picture's size where there is one picture."""
    size = _size(record) if space == "pixel" and len(record.images) == 1 else None
    return Gold(str(record.row["answer"]), record.row["answer_type"], coordinates=space, image_size=size)


def _answers(row: Row) -> Iterator[tuple[str, str]]:
    if isinstance(row.get("response"), str):
        yield "response", row["response"]
    for index, message in enumerate(row.get("messages") or ()):
        if message.get("role") == "assistant" and isinstance(message.get("content"), str):
            yield f"messages[{index}].content", message["content"]


def _json_in(text: str) -> list[str]:
    fenced = _FENCED.findall(text)
    bare = text.strip()
    return fenced or ([bare] if bare.startswith(('{"', '[{"', "[[", "[\n", "{\n")) else [])


def _parsed(text: str, field: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise BadRow(f"JSON that does not parse: {field}: {error}: {text[:60]!r}") from None


def _check_places(value: Any, field: str, limits: tuple[float, float]) -> None:
    """Raises `BadRow` for a box or point without 2 or 4 numbers, or outside."""
    if isinstance(value, list):
        for item in value:
            _check_places(item, field, limits)
    elif isinstance(value, dict):
        for key, item in value.items():
            if key in PLACES:
                _check_place(item, f"{field}: {key} {json.dumps(item)[:60]}", limits, 2 if "point" in key else 4)
            else:
                _check_places(item, field, limits)


def _check_place(value: Any, said: str, limits: tuple[float, float], count: int) -> None:
    numbers = value if isinstance(value, list) else []
    if len(numbers) != count or any(isinstance(one, bool) or not isinstance(one, int | float) for one in numbers):
        raise BadRow(f"place that is none: {said}: not {count} numbers")
    for index, number in enumerate(numbers):
        if not 0 <= number <= limits[index % 2]:
            raise BadRow(f"coordinates out of range: {said}: {number:g} is not within 0 to {limits[index % 2]:g}")
    if count == 4 and not (numbers[0] < numbers[2] and numbers[1] < numbers[3]):
        raise BadRow(f"place that is none: {said}: a box without area")


def _limits(record: Record, space: str) -> tuple[float, float]:
    if space == "pixel":
        width, height = _size(record) if len(record.images) == 1 else (float("inf"), float("inf"))
        return width, height
    return (1.0, 1.0) if space == "0-1" else (999.0, 999.0)


def _size(record: Record) -> tuple[int, int]:
    return record.picture(record.images[0]).size
