"""Percents: the rounded types take what exact numbers take, with either sign, and nothing more."""

from __future__ import annotations

import pytest

from rewards.rules.dispatch import grade_directly
from rewards.rules.gold import Gold


@pytest.mark.parametrize("answer_type", ["math", "float1", "float2"])
@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("25", "25%", True),
        ("-25", "-25%", True),
        ("-25", "25%", False),
        ("-25", "-0.25", False),
        ("1.2", "120%", True),
        ("1.2", "12%", False),
        ("120%", "1.2", True),
        ("120%", "120", True),
        ("120%", "12", False),
        ("-120%", "-1.2", True),
        ("125%", "1.25", True),
        ("125%", "12.5", False),
        ("25%", "0.25", True),
        ("25%", "25", True),
        ("25%", "2.5", False),
        ("25%", "0.26", False),
        ("0.5", "0.5%", False),
        ("-0.5", "-0.5%", False),
        ("0.5", "50%", True),
        ("50", "0.5", False),
        ("5%", "5 m", False),
        ("5 cm", "5%", False),
        ("1 m", "100 cm", True),
        ("1 m", "100 kg", False),
    ],
)
def test_percents(answer_type: str, gold: str, answer: str, right: bool) -> None:
    part = grade_directly(answer, Gold(gold, answer_type))
    assert part is not None
    assert part.value == float(right), part


@pytest.mark.parametrize(("answer", "right"), [("33.3", True), ("0.333", True), ("0.34", False), ("33.34%", True)])
def test_rounding_is_of_what_the_gold_shows(answer: str, right: bool) -> None:
    """33.33 % to one place is 33.3; 0.34 is 34.0."""
    part = grade_directly(answer, Gold("33.33%", "float1"))
    assert part is not None
    assert part.value == float(right)
