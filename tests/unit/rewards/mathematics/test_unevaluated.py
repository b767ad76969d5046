"""A sum that is not added up is no answer; numbers that are written as operations are."""

from __future__ import annotations

import pytest

from pangu_rl.records import Outcome
from rewards.mathematics.unevaluated import is_unevaluated
from rewards.rules.dispatch import grade_directly
from rewards.rules.gold import Gold


@pytest.mark.parametrize(
    "answer",
    [
        "8 + 3",
        "8+3",
        r"8 \times 3",
        r"2\cdot 3",
        "12 - 5",
        "12−5",
        "2 * 3",
        "6 / 2 + 1",
        "x = 8 + 3",
        r"\frac{1}{2}+\frac{1}{3}",
        "2^3 + 1",
        r"2^{3}+1",
        "(8) + (3)",
        "5 + -2",
        r"50\% + 3",
        "3 × 10^2 + 1",
    ],
)
def test_operations_between_plain_numbers(answer: str) -> None:
    assert is_unevaluated(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "11",
        "-11",
        "1/2",
        r"\frac{1}{2}",
        "1 1/2",
        r"2\sqrt{3}",
        r"\sqrt{2}",
        "2^{10}",
        "10^{-3}",
        "1e-3",
        r"2\pi",
        r"2 \cdot \pi",
        r"3 \times 10^8",
        r"3 \cdot 10^{-8}",
        "3*10**8",
        "8 + 3 = 11",
        r"\approx 3.14",
        "1,234",
        "2x + 3",
        "x^2 - 1",
        "y - 3",
        r"3 \div 4",
        r"\sin^2 1 + \cos^2 1 - 1",
        "+5",
        "7 apples",
    ],
)
def test_numbers_and_expressions(answer: str) -> None:
    assert not is_unevaluated(answer)


@pytest.mark.parametrize("answer_type", ["math", "integer", "float1", "auto"])
@pytest.mark.parametrize("answer", ["8 + 3", r"11 \times 1", "22 - 11", "10+1"])
def test_a_gold_that_is_a_number_is_not_answered_by_the_question(answer: str, answer_type: str) -> None:
    gold = Gold(text="11", answer_type=answer_type)
    assert grade_directly(answer, gold).outcome is Outcome.UNPARSABLE
    assert grade_directly("11", gold).outcome is Outcome.CORRECT


def test_expressions_still_answer_expressions() -> None:
    part = grade_directly("x + 3", Gold(text="3 + x", answer_type="math"))
    assert part is None or part.outcome is Outcome.CORRECT


def test_digits_of_every_script() -> None:
    for answer in ("٤٢", "४२", "４２", "42"):
        assert grade_directly(answer, Gold(text="42", answer_type="integer")).outcome is Outcome.CORRECT
