"""A sum that is not added up is no answer; numbers that are written as operations are."""

from __future__ import annotations

import pytest

from pangu_rl.records import Outcome
from rewards.mathematics.unevaluated import is_unevaluated
from rewards.rules.dispatch import grade_by_algebra, grade_directly
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


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("11", "8 + 3 apples"),
        ("11", r"8+3 \text{ cm}"),
        ("11 apples", "8 + 3 apples"),
        ("5 m", "3 m + 2 m"),
        ("5 m", "3m+2m"),
        ("5 m/s", "2 m/s + 3 m/s"),
        ("11 dollars", "8 + 3 dollars"),
        (r"\$11", r"\$8 + \$3"),
        ("11", "USD 8 + 3"),
        ("11", "the answer is 8 + 3"),
        ("24", "8(3)"),
        ("24", "(8)(3)"),
        ("12", r"3\left(4\right)"),
        ("12", "3+9+0i"),
        ("11", "5!-109"),
        ("11", r"\binom52+1"),
        ("11", r"\max(3,11)"),
        ("11", r"\gcd(22,33)"),
        ("11", r"\lfloor 11.5 \rfloor"),
        ("11", "|8-19|"),
        ("11", r"\sqrt{64}+3"),
        ("11", r"8+3\cdot 1^{9}"),
        ("11", r"8\cdot10^0+3\cdot10^0"),
        ("11", r"\frac{8+14}{2}"),
        ("11", "-(-8-3)"),
        ("(11, 5)", "(8+3, 5)"),
        ("11, 5", "8+3, 5"),
    ],
)
def test_units_brackets_and_functions_hide_no_operation(gold: str, answer: str) -> None:
    assert grade_directly(answer, Gold(gold, "math")).outcome is Outcome.UNPARSABLE


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("1023", "2^{10}-1"),
        ("1023/1024", r"1-\frac{1}{2^{10}}"),
        ("1536", r"3\cdot2^9"),
        ("11", r"\sqrt{121}"),
        ("11", r"\frac{22}{2}"),
        ("10", r"\binom{5}{2}"),
        ("120", "5!"),
        ("5", "-(-5)"),
        ("5", "|-5|"),
        ("7/2", r"3\frac12"),
        ("3/2", "1 1/2"),
        ("1/6", "0.1(6)"),
        ("1234567", "1 234 567"),
        ("300", r"3 \times 10^2"),
        ("12", "12 square units"),
        ("(11, 5)", "(11, 5)"),
        ("2^2\\cdot 3", "12"),
        ("2^2\\cdot 3", "3\\cdot 2^2"),
    ],
)
def test_numbers_in_the_forms_that_answers_have(gold: str, answer: str) -> None:
    assert grade_by_algebra(answer, Gold(gold, "math")).outcome is Outcome.CORRECT


@pytest.mark.parametrize("answer_type", ["math", "integer", "float1", "auto"])
@pytest.mark.parametrize("gold", ["2^{10}-1", "2^{100}-1", r"3\cdot2^9", r"2^2\cdot 3", "8 + 3"])
def test_a_gold_that_is_written_as_an_operation_takes_its_own_spelling(gold: str, answer_type: str) -> None:
    assert grade_directly(gold, Gold(gold, answer_type)).outcome is Outcome.CORRECT


@pytest.mark.parametrize(
    ("gold", "answer", "answer_type", "outcome"),
    [
        ("-1.47", r"3-2\sqrt5", "float2", Outcome.CORRECT),
        ("4.5", r"1+2\sqrt3", "float1", Outcome.CORRECT),
        ("5.8", r"10-3\sqrt2", "float1", Outcome.CORRECT),
        ("0.38", r"\frac{5-3\sqrt2}{2}", "float2", Outcome.CORRECT),
        ("2.08", r"3\ln 2", "float2", Outcome.CORRECT),
        ("37.70", r"12\pi", "float2", Outcome.CORRECT),
        ("37.70", r"\frac13\pi\cdot 9\cdot 4", "float2", Outcome.UNPARSABLE),
        ("5.8", r"10-3\sqrt4", "float1", Outcome.UNPARSABLE),
        ("5.8", r"10-4\sqrt2", "float1", Outcome.INCORRECT),
    ],
)
def test_roots_and_logarithms_keep_their_operations(gold: str, answer: str, answer_type: str, outcome: Outcome) -> None:
    assert grade_by_algebra(answer, Gold(gold, answer_type)).outcome is outcome


def test_expressions_still_answer_expressions() -> None:
    part = grade_directly("x + 3", Gold(text="3 + x", answer_type="math"))
    assert part is None or part.outcome is Outcome.CORRECT


def test_digits_of_every_script() -> None:
    for answer in ("٤٢", "४२", "４２", "42"):
        assert grade_directly(answer, Gold(text="42", answer_type="integer")).outcome is Outcome.CORRECT
