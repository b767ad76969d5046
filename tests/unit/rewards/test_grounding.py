"""Places of several kinds, graded and rewarded in part: quads, points, points with a count, objects, depths."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from pangu_rl.records import Outcome
from rewards import grade
from rewards.audit import gold_problem
from rewards.recipe.accuracy import boxed_accuracy
from rewards.recipe.grounding import grounding
from tests.unit.rewards.builders import completion, prompt

SQUARE = "<|quad_start|>(000,000),(100,000),(100,100),(000,100)<|quad_end|>"
DIAMOND = "<|quad_start|>(500,400),(600,500),(500,600),(400,500)<|quad_end|>"
BOXES = "[[0, 0, 100, 100], [50, 50, 300, 300]]"
CATS = "<|object_ref_start|>cat<|object_ref_end|><|box_start|>(000,000),(100,100)<|box_end|>"
NO_DOG = "<|object_ref_start|>dog<|object_ref_end|>"
DEPTHS = "<|point_start|>(100,200)<|point_end|> 2 m, <|point_start|>(300,400)<|point_end|> 4 m"


def points(*places: tuple[int, int]) -> str:
    return "".join(f"<|point_start|>({x:03d},{y:03d})<|point_end|>" for x, y in places)


CASES: list[tuple[str, str, str, Outcome, float]] = [
    # answer type, gold, answer, outcome, partial reward
    ("quads", SQUARE + DIAMOND, DIAMOND + SQUARE, Outcome.CORRECT, 1.0),
    ("quads", SQUARE, "[0, 100, 100, 100, 100, 0, 0, 0]", Outcome.CORRECT, 1.0),
    # 100 x 50 of 100 x 100 is exactly a half.
    ("quads", SQUARE, "[[0, 0], [100, 0], [100, 50], [0, 50]]", Outcome.CORRECT, 0.5),
    ("quads", SQUARE, "[[0, 0], [100, 0], [100, 49], [0, 49]]", Outcome.INCORRECT, 0.0),
    # One of two is right, and a third one costs half of one: (1 - 0.5) / 2.
    ("quads", SQUARE + DIAMOND, SQUARE + "<|quad_start|>(900,900),(950,900),(950,950),(900,950)<|quad_end|>",
     Outcome.INCORRECT, 0.25),
    ("quads", "null", "null", Outcome.CORRECT, 1.0),
    ("quads", "null", SQUARE, Outcome.INCORRECT, 0.0),
    ("quads", SQUARE, "<|box_start|>(000,000),(100,100)<|box_end|>", Outcome.UNPARSABLE, 0.0),
    ("quads", SQUARE, "<|quad_start|>(000,000),(100,000)<|quad_end|>", Outcome.UNPARSABLE, 0.0),
    ("quads", SQUARE, SQUARE * 65, Outcome.UNPARSABLE, 0.0),
    ("points", BOXES, points((70, 70), (10, 10)), Outcome.CORRECT, 1.0),
    ("points", BOXES, "[[10, 10], [20, 20]]", Outcome.INCORRECT, 0.25),
    ("points", BOXES, points((70, 70)), Outcome.INCORRECT, 0.5),
    ("points", "null", "null", Outcome.CORRECT, 1.0),
    ("points", BOXES, "here", Outcome.UNPARSABLE, 0.0),
    ("points", BOXES, "(70, 1000)", Outcome.UNPARSABLE, 0.0),
    ("point_count", BOXES, points((70, 70), (10, 10)) + " 2", Outcome.CORRECT, 1.0),
    ("point_count", BOXES, "(70, 70), (10, 10): two", Outcome.CORRECT, 1.0),
    ("point_count", BOXES, "[[70, 70], [10, 10]] 2", Outcome.CORRECT, 1.0),
    ("point_count", BOXES, '[{"point_2d": [70.5, 70], "label": "3 cars"}, {"point_2d": [10, 10]}]: 2',
     Outcome.CORRECT, 1.0),
    ("point_count", BOXES, "（７０，７０），（１０，１０）：２", Outcome.CORRECT, 1.0),
    ("point_count", BOXES, "[[70, 70], [10, 10]] 3", Outcome.INCORRECT, 0.5),
    # One of two boxes is hit and one point is left over: (1 - 0.5) / 2, of which half counts, and the right count.
    ("point_count", BOXES, "[[70, 70], [500, 10]] 2", Outcome.INCORRECT, 0.625),
    ("point_count", BOXES, "[[70, 70], [10, 10]]", Outcome.UNPARSABLE, 0.0),
    ("point_count", BOXES, points((70, 70), (10, 10)) + " 3", Outcome.INCORRECT, 0.5),
    ("point_count", BOXES, points((70, 70)) + " 2", Outcome.INCORRECT, 0.75),
    ("point_count", BOXES, points((70, 70), (10, 10)), Outcome.UNPARSABLE, 0.0),
    ("point_count", BOXES, "2", Outcome.INCORRECT, 0.5),
    ("point_count", "null", "0", Outcome.CORRECT, 1.0),
    ("objects", CATS + NO_DOG, NO_DOG + CATS, Outcome.CORRECT, 1.0),
    ("objects", CATS + NO_DOG, CATS, Outcome.INCORRECT, 0.5),
    ("objects", CATS + NO_DOG, CATS + CATS.replace("cat", "dog"), Outcome.INCORRECT, 0.5),
    ("objects", CATS, CATS + NO_DOG, Outcome.INCORRECT, 0.5),
    ("objects", CATS, "<|box_start|>(000,000),(100,100)<|box_end|>", Outcome.UNPARSABLE, 0.0),
    ("depths", DEPTHS, DEPTHS, Outcome.CORRECT, 1.0),
    # AbsRel (0.1 + 0) / 2 = 0.05 of the quarter that earns nothing.
    ("depths", DEPTHS, DEPTHS.replace("2 m", "2.2 m"), Outcome.CORRECT, 0.8),
    ("depths", DEPTHS, DEPTHS.replace("2 m", "3 m"), Outcome.INCORRECT, 0.0),
    ("depths", DEPTHS, DEPTHS.replace("(100", "(101"), Outcome.UNPARSABLE, 0.0),
    ("depths", DEPTHS, "2 m, 4 m", Outcome.UNPARSABLE, 0.0),
]  # fmt: skip


@pytest.mark.parametrize(("answer_type", "gold", "answer", "outcome", "value"), CASES)
def test_graded_and_rewarded(answer_type: str, gold: str, answer: str, outcome: Outcome, value: float) -> None:
    part = grade(f"\\boxed{{{answer}}}", gold, answer_type, coordinates="0-999")
    assert (part.outcome, part.value) == (outcome, float(outcome is Outcome.CORRECT)), part
    row = replace(prompt(gold, answer_type), extra={"coordinates": "0-999"})
    found = grounding(row, completion(f"so \\boxed{{{answer}}}"))
    assert found.outcome is outcome
    assert found.value == pytest.approx(value)


@pytest.mark.parametrize(
    ("answer_type", "gold"),
    [("points", BOXES), ("point_count", BOXES), ("point_count", "null"), ("quads", SQUARE), ("objects", CATS + NO_DOG),
     ("depths", DEPTHS), ("point", BOXES)],
)  # fmt: skip
def test_sound_golds_pass_the_audit(answer_type: str, gold: str) -> None:
    row = replace(prompt(gold, answer_type), extra={"coordinates": "0-999"})
    assert gold_problem(row, boxed_accuracy) is None
    assert gold_problem(row, grounding) is None


@pytest.mark.parametrize(
    ("answer_type", "gold", "extra"),
    [
        ("quads", "", {}),
        ("quads", "[0, 0, 5, 5, 9, 9, 3, 3]", {}),
        ("quads", SQUARE, {"metric": "iou>=0.5"}),
        ("points", "here", {}),
        ("points", BOXES, {"coordinates": "percent"}),
        ("objects", "[1, 2, 3, 4]", {}),
        ("objects", "<|box_start|>(000,000),(100,100)<|box_end|>", {}),
        ("depths", "(100, 200)", {}),
        ("depths", "(100, 200) 0 m", {}),
        ("depths", "(100, 200) 1 m, (100, 200) 2 m", {}),
    ],
)
def test_golds_that_cannot_be_graded_are_found(answer_type: str, gold: str, extra: dict[str, Any]) -> None:
    row = replace(prompt(gold, answer_type), extra={"coordinates": "0-999"} | extra)
    assert "cannot be graded" in str(gold_problem(row, boxed_accuracy))


def test_shapes_all_over_the_picture_earn_nothing() -> None:
    row = replace(prompt(BOXES, "points"), extra={"coordinates": "0-999"})
    everywhere = points(*((x, y) for x in range(5, 999, 100) for y in range(5, 999, 100)))
    assert grounding(row, completion(f"\\boxed{{{everywhere}}}")).value == 0.0
