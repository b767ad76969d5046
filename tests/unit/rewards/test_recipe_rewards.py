"""The rewards of the recipe: values worked by hand, one no-verdict for a gold that is none, and names that resolve."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from pangu_rl.config.sections.rewards import RewardFunctionConfig
from pangu_rl.records import Outcome, Part
from rewards import registry
from rewards.recipe.counting import counting
from rewards.recipe.grounding import grounding
from rewards.recipe.multiple_choice import multiple_choice
from rewards.recipe.ocr import ocr_edit_distance
from tests.unit.rewards.builders import completion, prompt

RIGHT, WRONG, UNPARSABLE = Outcome.CORRECT, Outcome.INCORRECT, Outcome.UNPARSABLE
SQUARE = "[0, 0, 10, 10]"
TWO = "[[0, 0, 10, 10], [20, 20, 30, 30]]"


def part(
    function: Callable[..., Part],
    answer: str,
    gold: str,
    answer_type: str = "auto",
    *,
    columns: Any = None,
    **args: Any,
) -> Part:
    asked = replace(prompt(gold, answer_type), extra=columns or {})
    return function(asked, completion(f"so \\boxed{{{answer}}}"), **args)


@pytest.mark.parametrize(
    ("answer", "gold", "answer_type", "value", "outcome"),
    [
        (SQUARE, SQUARE, "bbox", 1.0, RIGHT),
        ("[0, 0, 10, 8]", SQUARE, "bbox", 0.8, RIGHT),
        ("[0, 0, 10, 5]", SQUARE, "bbox", 0.5, RIGHT),
        ("[0, 0, 10, 4]", SQUARE, "bbox", 0.0, WRONG),
        ("[0, 0, 100, 100]", SQUARE, "bbox", 0.0, WRONG),
        ("[10, 10, 0, 0]", SQUARE, "bbox", 0.0, UNPARSABLE),
        ("[nan, 0, 10, 10]", SQUARE, "bbox", 0.0, UNPARSABLE),
        (TWO, SQUARE, "bbox", 0.0, WRONG),
        ("null", "null", "bbox", 1.0, RIGHT),
        (SQUARE, "null", "bbox", 0.0, WRONG),
        ("null", SQUARE, "bbox", 0.0, WRONG),
        ("[[20, 20, 30, 30], [0, 0, 10, 8]]", TWO, "bboxes", 0.9, RIGHT),
        (SQUARE, TWO, "bboxes", 0.5, WRONG),
        ("[[0, 0, 10, 10], [0, 0, 10, 10]]", TWO, "bboxes", 0.25, WRONG),
        ("[[0, 0, 10, 10], [50, 50, 60, 60], [70, 70, 80, 80]]", TWO, "bboxes", 0.0, WRONG),
        ("[]", TWO, "bboxes", 0.0, WRONG),
        (SQUARE, SQUARE, "auto", 1.0, RIGHT),
        ("(5, 5)", SQUARE, "point", 1.0, RIGHT),
        ("(11, 5)", SQUARE, "point", 0.0, WRONG),
    ],
)
def test_grounding(answer: str, gold: str, answer_type: str, value: float, outcome: Outcome) -> None:
    """Two boxes: (1 + 0.8) / 2; one of two is 1 / 2; a double costs half a box, (1 - 0.5) / 2; two strays cost all."""
    found = part(grounding, answer, gold, answer_type)
    assert (found.value, found.outcome) == (pytest.approx(value), outcome)


def test_grounding_by_threshold_and_by_the_metric_of_the_prompt() -> None:
    near = "[0, 0, 10, 8]"
    assert part(grounding, near, SQUARE, "bbox", partial=False).value == 1.0
    strict = {"metric": "iou>=0.9"}
    assert part(grounding, near, SQUARE, "bbox", columns=strict).value == 0.0
    assert part(grounding, near, SQUARE, columns=strict).value == 0.0
    assert part(grounding, near, SQUARE, columns={"metric": "iou>=0.75"}).value == pytest.approx(0.8)


def test_grounding_in_declared_coordinates() -> None:
    columns = {"coordinates": "0-1"}
    assert part(grounding, "[0.1, 0.1, 0.5, 0.5]", "[0.1, 0.1, 0.5, 0.5]", "bbox", columns=columns).value == 1.0
    assert part(grounding, "[10, 10, 50, 50]", "[0.1, 0.1, 0.5, 0.5]", "bbox", columns=columns).outcome is UNPARSABLE


@pytest.mark.parametrize(
    ("answer", "value", "partial"),
    [("8", 1.0, 0.0), ("eight", 1.0, 0.0), ("There are 8 cats", 1.0, 0.0), ("7-9", 0.0, 0.5), ("6", 0.0, 0.0),
     ("6", 0.375, 0.5), ("10", 0.375, 0.5), ("100", 0.0, 0.5), ("8.5", 0.46875, 0.5), ("many", 0.0, 0.5)],
)  # fmt: skip
def test_counting(answer: str, value: float, partial: float) -> None:
    """For a gold of 8: 6 and 10 are off by a quarter, 0.5 x 0.75; 8.5 by a sixteenth, 0.5 x 0.9375."""
    assert part(counting, answer, "8", partial=partial).value == pytest.approx(value)


@pytest.mark.parametrize(
    ("answer", "value", "outcome"),
    [
        ("NO PARKING", 1.0, RIGHT),
        ("  NO\n PARKING ", 1.0, RIGHT),
        ("ＮＯ ＰＡＲＫＩＮＧ", 1.0, RIGHT),
        ("NO PARKINC", 0.9, WRONG),
        ("NO PARK", 0.7, WRONG),
        ("NO P", 0.0, WRONG),
        ("no parking", 0.0, WRONG),
        ("", 0.0, UNPARSABLE),
    ],
)
def test_ocr_edit_distance(answer: str, value: float, outcome: Outcome) -> None:
    """Ten characters: one wrong is 0.9, three missing 0.7, six missing 0.4, which is below the threshold."""
    found = part(ocr_edit_distance, answer, "NO PARKING", "text")
    assert (found.value, found.outcome) == (pytest.approx(value), outcome)


def test_ocr_threshold_is_an_option_and_a_megabyte_costs_nothing() -> None:
    assert part(ocr_edit_distance, "NO P", "NO PARKING", threshold=0.0).value == pytest.approx(0.4)
    assert part(ocr_edit_distance, "NO PARKING " * 90_000, "NO PARKING").value == 0.0


CHOICES = {"choices": ["12", "15", "18"]}


@pytest.mark.parametrize(
    ("answer", "value"),
    [("B", 1.0), ("b", 1.0), ("15", 1.0), ("B. 15", 1.0), ("B. 18", 0.0), ("C", 0.0), ("ABC", 0.0), ("E", 0.0)],
)
def test_multiple_choice(answer: str, value: float) -> None:
    assert part(multiple_choice, answer, "B", columns=CHOICES).value == value


FUNCTIONS = {
    "grounding": (grounding, "see image"),
    "counting": (counting, "several"),
    "ocr_edit_distance": (ocr_edit_distance, "  "),
    "multiple_choice": (multiple_choice, "Z" * 30),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_names_boxes_and_bad_golds(name: str) -> None:
    function, bad_gold = FUNCTIONS[name]
    assert registry.resolve(RewardFunctionConfig(name=name)) is function
    unboxed = function(prompt("B"), completion("the answer is B"))
    assert (unboxed.value, unboxed.outcome) == (0.0, Outcome.NO_BOX)
    hopeless = part(function, "7", bad_gold)
    assert (hopeless.value, hopeless.outcome) == (None, Outcome.ERROR)
    assert hopeless.detail
