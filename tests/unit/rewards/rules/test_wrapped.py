"""Golds with their answer in something: taken out where it is plain, refused with their row where it is not."""

from __future__ import annotations

import logging

import pytest

from pangu_rl.records import Outcome
from rewards.rules.dispatch import grade_directly
from rewards.rules.gold import BadGold, Gold
from rewards.rules.wrapped import _say

GSM8K = "She sold 48/2 = <<48/2=24>>24 clips in May.\nShe sold 48+24 = 72 clips.\n#### 72"


@pytest.mark.parametrize(
    ("gold", "answer_type", "right", "wrong"),
    [
        (GSM8K, "auto", "72", "24"),
        (GSM8K, "integer", "72", "48"),
        ("x " * 400 + "#### 72", "math", "72", "7"),
        ("#### 1,234", "math", "1234", "1"),
        ("<answer>3</answer>", "auto", "3", "4"),
        ("<think>4</think> <answer> 3 </answer>", "math", "3", "4"),
        ("<answer>B</answer>", "auto", "B", "A"),
        ("<answer>Paris</answer>", "text", "paris", "Rome"),
        ("<answer>[1, 1, 5, 5]</answer>", "bbox", "[1, 1, 5, 5]", "[6, 6, 9, 9]"),
        ("<answer>\\boxed{3}</answer>", "auto", "3", "4"),
        (r"Therefore, $48+24=\boxed{72}$.", "auto", "72", "48"),
        (r"\boxed{72}", "auto", "72", "48"),
        ("Ans: 72", "auto", "72", "48"),
        ("The answer is 72.", "auto", "72", "48"),
        ("#### Title", "text", "#### title", "Title"),
        ('["a", "b"]', "list", "['a', 'b']", "['b', 'a']"),
        ("{1, 2}", "math", "{1, 2}", "{1, 3}"),
        ("[1, 2]", "math", "[1, 2]", "[1, 3]"),
    ],
)
def test_the_answer_in_a_gold_is_graded(gold: str, answer_type: str, right: str, wrong: str) -> None:
    assert grade_directly(right, Gold(gold, answer_type)).outcome is Outcome.CORRECT
    assert grade_directly(wrong, Gold(gold, answer_type)).outcome is Outcome.INCORRECT


@pytest.mark.parametrize(
    ("gold", "answer_type", "message"),
    [
        ("We have $x=4$, so the answer is $4$.", "auto", "is a solution"),
        ("There are 48 clips in April. She sold half of them in May.", "auto", "is a solution"),
        ("the perimeter of it is even, and the whole area = 12", "math", "is a solution"),
        ("#### 1 #### 2", "auto", "marks that are not there once"),
        (r"\boxed{1} then \boxed{2}", "auto", "marks that are not there once"),
        ("<answer>3", "text", "marks that are not there once"),
        ("A. 12", "auto", "there are no choices"),
        ("(A) 12", "math", "there are no choices"),
        ('["Paris","paris"]', "auto", "list of texts"),
        ('["Paris","paris"]', "text", "list of texts"),
        ('{"target": ["Paris"]}', "auto", "JSON object"),
        ('{"target":98,"numbers":[44, 19, 35]}', "math", "JSON object"),
        ("{'target': 98}", "integer", "JSON object"),
    ],
)
def test_golds_that_are_no_answers_are_bad_whatever_the_answer(gold: str, answer_type: str, message: str) -> None:
    for answer in ("4", gold):
        with pytest.raises(BadGold, match=message):
            grade_directly(answer, Gold(gold, answer_type))


@pytest.mark.parametrize(
    "gold",
    ["Dr. Martin Luther King", "A. Lincoln", "A. M.", "Washington, D.C.", "Force = mass times acceleration", "C#",
     "the sum of the first n odd numbers", "x = 5 square metres"],
)  # fmt: skip
def test_words_are_answers(gold: str) -> None:
    assert grade_directly(gold, Gold(gold)).outcome is Outcome.CORRECT


def test_it_is_said_once(caplog: pytest.LogCaptureFixture) -> None:
    _say.cache_clear()
    with caplog.at_level(logging.WARNING):
        golds = [Gold("#### 1"), Gold("#### 2"), Gold("3")]
    assert [gold.text for gold in golds] == ["1", "2", "3"]
    assert [record.message for record in caplog.records] == [
        "golds stand in a text: what #### marks in each is graded alone"
    ]
