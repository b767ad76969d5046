"""The rule score from 1 to 5: 5 is correct and nothing else is, 1 is what cannot be read, and the bands lie between."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pangu_rl.records import Outcome
from rewards.recipe.graded import graded
from rewards.rules.dispatch import grade_directly
from rewards.rules.gold import Gold
from tests.unit.rewards.builders import completion, prompt

SQUARE = "[0, 0, 10, 10]"
THREE = "[[0, 0, 10, 10], [20, 20, 30, 30], [40, 40, 50, 50]]"


def graded_score(answer: str, gold: Gold) -> float | None:
    asked = replace(prompt(gold.text, gold.answer_type), extra={"choices": gold.choices, "image_size": gold.image_size})
    return graded(asked, completion(f"\\boxed{{{answer}}}")).value


@pytest.mark.parametrize(
    ("answer", "gold", "answer_type", "score"),
    [
        ("200", "200", "auto", 5),
        ("201", "200", "auto", 4),
        ("190", "200", "auto", 3),
        ("170", "200", "auto", 2),
        ("100", "200", "auto", 1),
        ("-200", "200", "auto", 1),
        ("1", "0", "auto", 1),
        ("5 m", "5 cm", "auto", 1),
        ("10.05 cm", "10 cm", "auto", 4),
        ("10.05", "10 cm", "auto", 4),
        ("100.5 mm", "10 cm", "auto", 4),
        ("10.05 cm", "10", "auto", 4),
        ("10.05 kg", "10 cm", "auto", 1),
        ("10.05 mm", "10 cm", "auto", 1),
        ("26", "25", "auto", 3),
        ("26%", "25", "auto", 3),
        ("-26%", "-25", "auto", 3),
        ("0.26", "25", "auto", 1),
        ("0.26", "25%", "auto", 3),
        ("26", "25%", "auto", 3),
        ("2.6", "25%", "auto", 1),
        ("0.5%", "0.5", "auto", 1),
        ("x = 26", "25", "auto", 3),
        ("x = 26", "x = 25", "auto", 3),
        ("y = 25", "x = 25", "auto", 1),
        (r"\{26\}", "25", "auto", 3),
        (r"S = \{1, 2, 4\}", r"\{1, 2, 3\}", "auto", 3),
        ("There are 41 apples", "42", "integer", 3),
        ("fewer than 42 apples", "42", "integer", 1),
        ("3.14", "3.1", "float1", 5),
        ("3.2", "3.1", "float1", 3),
        ("41", "42", "integer", 3),
        ("no parking", "no parking", "text", 5),
        ("no parkin", "no parking", "text", 4),
        ("one way", "no parking", "text", 1),
        ("[1, 2, 3, 4, 5]", "[1, 2, 3, 4, 5]", "list", 5),
        ("[1, 2, 3, 4, 6]", "[1, 2, 3, 4, 5]", "list", 4),
        ("[1, 2]", "[1, 2, 3]", "list", 3),
        ("[1, 3]", "[1, 2]", "list", 2),
        ("[2, 1]", "[1, 2]", "list", 1),
        ('["red", "blue", "yellow"]', '["Red", "Blue", "Green"]', "list", 3),
        ('["Red", "Blue", "yellow"]', '["Red", "Blue", "Green"]', "list", 3),
        ('["red", ["blue "], "x"]', '["Red", ["Blue"], "Green"]', "list", 3),
        ('["1", "2", "3"]', "[1, 2, 3]", "list", 1),
        (r"\{1, 2, 4\}", r"\{1, 2, 3\}", "auto", 3),
        (r"\{4, 2, 1\}", r"\{1, 2, 3\}", "auto", 3),
        ("[1, 2]", "(1, 2)", "auto", 4),
        (SQUARE, SQUARE, "bbox", 5),
        ("[0, 0, 10, 4.5]", SQUARE, "bbox", 4),
        ("[0, 0, 10, 3]", SQUARE, "bbox", 3),
        ("[0, 0, 10, 2]", SQUARE, "bbox", 2),
        ("[50, 50, 60, 60]", SQUARE, "bbox", 1),
        ("[[0, 0, 10, 10], [20, 20, 30, 30]]", THREE, "bboxes", 4),
        (SQUARE, THREE, "bboxes", 1),
        ("B", "B", "choice", 5),
        ("C", "B", "choice", 1),
        ("A, B", "A, B, C", "choice", 1),
        ("2024-01-03", "2024-01-02", "date", 1),
        ("(x+1)(x-1)", "x^2-1", "math", 5),
        ("x^2+1", "x^2-1", "math", 1),
        ("", "7", "auto", 1),
        ("{", "7", "auto", 1),
    ],
)
def test_bands(answer: str, gold: str, answer_type: str, score: int) -> None:
    """2/3 of a list, F1 of 2 of 3 boxes = 0.8, IoU = 0.45, 0.3, 0.2 of the square, errors of 0.5, 5, 15 and 50 %."""
    assert graded_score(answer, Gold(gold, answer_type)) == score


def test_a_box_around_the_picture_has_no_merit() -> None:
    """The gold covers 40 % of the picture: IoU 0.4 for the whole of it, which would be a 4 without its size."""
    gold = Gold("[0, 0, 100, 40]", "bbox")
    assert graded_score("[0, 0, 100, 100]", gold) == 4
    known = replace(gold, image_size=(100, 100))
    assert graded_score("[0, 0, 100, 100]", known) == graded_score("[0, 1, 100, 99]", known) == 1
    assert graded_score("[0, 18, 100, 47]", known) == 2, "IoU 22/47 = 0.468, and (0.468 - 0.4) / 0.6 = 0.11"


def test_reward_is_the_score_with_the_outcome_of_the_verdict() -> None:
    scores = {
        r"\boxed{200}": (5.0, Outcome.CORRECT),
        r"\boxed{201}": (4.0, Outcome.INCORRECT),
        "200": (1.0, Outcome.NO_BOX),
        r"<think>\boxed{200}": (1.0, Outcome.NO_BOX),
        r"\boxed{" + "9" * 100 + "}": (1.0, Outcome.UNPARSABLE),
    }
    for text, expected in scores.items():
        part = graded(prompt("200"), completion(text))
        assert (part.value, part.outcome) == expected, text
    hopeless = graded(prompt("7", "vibes"), completion(r"\boxed{7}"))
    assert (hopeless.value, hopeless.outcome) == (None, Outcome.ERROR)


def test_bad_gold() -> None:
    part = graded(prompt(""), completion(r"\boxed{7}"))
    assert (part.value, part.outcome) == (None, Outcome.ERROR)


GOLDS = [
    Gold("42"),
    Gold("-0.75"),
    Gold("no parking", "text"),
    Gold("[1, 2, 3]", "list"),
    Gold(r"\{1, 2\}"),
    Gold("2024-01-02", "date"),
    Gold(SQUARE, "bbox"),
    Gold(THREE, "bboxes"),
    Gold(SQUARE, "point"),
    Gold("B", "choice", ("1", "2", "3")),
    Gold("2.67", "float2"),
]


@settings(max_examples=200)
@given(st.text(max_size=40) | st.text("0123456789[](),.-{} ", max_size=40), st.sampled_from(GOLDS))
def test_five_is_correct_and_nothing_else(answer: str, gold: Gold) -> None:
    part = grade_directly(answer, gold)
    if part is None or answer.count("{") or answer.count("}") or "\\" in answer:
        return  # algebra, or not the content of one box
    score = graded_score(answer, gold)
    assert 1 <= score <= 5
    assert (score == 5) == (part.outcome is Outcome.CORRECT)
    if part.outcome is Outcome.UNPARSABLE:
        assert score == 1
