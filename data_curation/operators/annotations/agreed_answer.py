"""What several annotators answer, such as the next action on a screen: **what enough of them say** (MindVL, 3.1.6)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from pydantic import NonNegativeFloat, PositiveInt

from data_curation.operators.annotations.merged_annotations import alike
from data_curation.pipeline.operator import row_operator
from data_curation.pipeline.record import Drop, Edit, Record, Verdict
from pangu_rl.config.curate import Share
from pangu_rl.data.fields.bad_row import BadRow, is_blank


@row_operator(cost="cpu")
def agreed_answer(
    record: Record, *, agreeing: PositiveInt = 2, likeness: Share = 0.9, within: NonNegativeFloat = 0.0
) -> Verdict:
    """Of a row with `answers`, annotator -> text, or an action as an object. Texts agree if they are alike, numbers
    such as the place of a click if they are at most `within` apart, objects if all of their keys agree. The first of
    the largest side that agrees becomes the assistant's turn; a row without `agreeing` on one side is dropped. Who
    said nothing, null or blank, is on no side."""
    answers = record.row.get("answers")
    if answers is None:
        return None
    if not isinstance(answers, Mapping) or not record.row.get("messages"):
        raise BadRow("key answers goes from annotators to answers, and messages ask for them")
    given = [answer for answer in answers.values() if _says_something(answer)]
    sides = [[one for one in given if _agree(one, other, likeness, within)] for other in given]
    side = max(sides, key=len, default=[])
    if len(side) < agreeing:
        said = "; ".join(f"{name}: {str(answer)[:60]}" for name, answer in answers.items())
        return Drop("annotators disagree", said)
    answer = side[0] if isinstance(side[0], str) else json.dumps(side[0], ensure_ascii=False)
    row = {key: value for key, value in record.row.items() if key != "answers"}
    messages = [*record.row["messages"], {"role": "assistant", "content": answer}]
    return Edit(row | {"messages": messages}, "answers were merged")


def _says_something(answer: Any) -> bool:
    if isinstance(answer, Mapping | list):
        return any(map(_says_something, answer.values() if isinstance(answer, Mapping) else answer))
    return answer is not None and not (isinstance(answer, str) and is_blank(answer))


def _agree(one: Any, other: Any, likeness: float, within: float) -> bool:
    if isinstance(one, str) and isinstance(other, str):
        return alike(one, other, likeness)
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(_agree(one[key], other[key], likeness, within) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(_agree(*pair, likeness, within) for pair in zip(one, other, strict=True))
    if isinstance(one, int | float) and isinstance(other, int | float):
        return abs(one - other) <= within
    return one == other
