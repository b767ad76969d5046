"""Answer against gold by the declared type: at once where no computer algebra is needed, else in two steps.

grade_directly(answer, gold) -> Part      nearly always, in microseconds; safe on any input, in any thread
                             -> None      `math`, `float1`, `float2`: roots, pi, variables; ask
grade_by_algebra(answer, gold) -> Part    which may hang or eat memory and belongs into a killable child
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from dataclasses import replace

from pangu_rl.records import Part
from rewards.grounding.depths import grade_depths
from rewards.grounding.objects import grade_objects
from rewards.grounding.points import grade_point_count, grade_points
from rewards.grounding.quads import grade_quads
from rewards.mathematics.normalise import MAX_ANSWER_CHARS, plain
from rewards.mathematics.numbers import in_full
from rewards.mathematics.unevaluated import is_unevaluated
from rewards.mathematics.units import split_price
from rewards.mathematics.values import Number, Row
from rewards.rules.boxes import grade_box, grade_boxes
from rewards.rules.choice import grade_choice
from rewards.rules.date import grade_date
from rewards.rules.floats import grade_float
from rewards.rules.gold import ANSWER_TYPES, PLACE_TYPES, BadGold, Gold
from rewards.rules.integer import grade_integer, scalar_of
from rewards.rules.math import gold_value, grade_math
from rewards.rules.point import grade_point
from rewards.rules.sequence import grade_list
from rewards.rules.text import grade_text
from rewards.rules.verdict import bad_gold, unparsable

_GRADERS: dict[str, Callable[..., Part | None]] = {
    "math": grade_math,
    "integer": grade_integer,
    "float1": functools.partial(grade_float, decimals=1),
    "float2": functools.partial(grade_float, decimals=2),
    "list": grade_list,
    "choice": grade_choice,
    "text": grade_text,
    "date": grade_date,
    "bbox": grade_box,
    "bboxes": grade_boxes,
    "point": grade_point,
    "points": grade_points,
    "point_count": grade_point_count,
    "quads": grade_quads,
    "objects": grade_objects,
    "depths": grade_depths,
}
_METRICS = {"point_in_box": "point", "hungarian_f1": "bboxes"}
_NUMERIC = ("math", "integer", "float1", "float2")
_LETTER = re.compile(r"[(\[]?[A-J][)\]]?[.:]?")


def grade_directly(answer: str, gold: Gold) -> Part | None:
    """The verdict on the content of a box; None if only computer algebra can tell.

    Raises:
        BadGold: the gold, its type, choices, metric or coordinates cannot be graded against.
    """
    answer_type = infer_type(gold)
    if gold.metric is not None and answer_type not in PLACE_TYPES:
        raise bad_gold(gold, f"has the metric {gold.metric!r}, which {answer_type} does not know")
    if answer_type not in PLACE_TYPES and len(answer) > MAX_ANSWER_CHARS:
        _check_gold(gold, answer_type)
        return unparsable(answer, f"is longer than {MAX_ANSWER_CHARS} characters")
    if answer_type in _NUMERIC:
        if is_unevaluated(answer) and _numbers(gold) and not is_unevaluated(gold.text):
            return unparsable(answer, "is an operation between numbers that is not carried out")
        answer, gold = _alike(answer, gold)
    return _GRADERS[answer_type](answer, gold)


def _alike(answer: str, gold: Gold) -> tuple[str, Gold]:
    """Beside a gold that is a number: what is short for one in full, and prices without what they buy if one side says
    it alone."""
    numbers, text = _numbers(gold), plain(answer)
    if len(numbers) != 1:
        return answer, gold
    if numbers[0].unit is None and (full := in_full(text)) != text:
        return full, gold
    (paid, bought), (asked, of) = split_price(text), split_price(plain(gold.text))
    return (answer, gold) if bool(bought) == bool(of) else (paid, replace(gold, text=asked))


def _numbers(gold: Gold) -> list[Number]:
    """The numbers that the gold is; none if it is anything else, or not all of it is read."""
    try:
        value = gold_value(gold)
    except BadGold:
        return []
    items = value.items if isinstance(value, Row) else (value,)
    numbers = [scalar_of(item) for item in items]
    return [number for number in numbers if number] if all(numbers) else []


def grade_by_algebra(answer: str, gold: Gold) -> Part:
    """`grade_directly` with computer algebra where it is needed. Call it in a child that can be killed.

    Raises:
        BadGold: as for `grade_directly`.
    """
    part = grade_directly(answer, gold)
    if part is not None:
        return part
    from rewards.mathematics.algebra import SympyLeaves

    part = _GRADERS[infer_type(gold)](answer, gold, leaves=SympyLeaves())
    assert part is not None, "SympyLeaves decides every leaf"
    return part


def infer_type(gold: Gold) -> str:
    """The declared type; for `auto`, `choice` with choices or a capital letter, else what the metric says, else `math`.

    Raises:
        BadGold: no such type.
    """
    if gold.answer_type not in ANSWER_TYPES:
        raise BadGold(f"answer_type {gold.answer_type!r} is unknown: use one of {', '.join(ANSWER_TYPES)}")
    if gold.answer_type != "auto":
        return gold.answer_type
    if gold.metric is not None:
        return _METRICS.get(gold.metric, "bbox")
    if gold.choices or (len(gold.text) <= MAX_ANSWER_CHARS and _LETTER.fullmatch(plain(gold.text))):
        return "choice"
    return "math"


def _check_gold(gold: Gold, answer_type: str) -> None:
    """The gold's own faults, for an answer that is not even read.

    Raises:
        BadGold: as for `grade_directly`.
    """
    _GRADERS[answer_type]("0", gold)
