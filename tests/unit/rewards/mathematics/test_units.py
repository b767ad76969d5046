"""Units beside units: what is missing is fine, what is of one dimension converts, what is of another is wrong."""

from __future__ import annotations

import pytest

from rewards.rules.dispatch import grade_by_algebra
from rewards.rules.gold import Gold


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("5 N", "5 kg m/s^2", True),
        ("5 N", r"5\,\mathrm{kg\cdot m/s^2}", True),
        ("5 N", "5000 g m/s^2", True),
        ("5 N", "5 J", False),
        (r"5\ \mathrm{N\cdot m}", "5 J", True),
        ("5 J", "5 kg m^2/s^2", True),
        ("5 N/m^2", "5 Pa", True),
        ("5 Pa", "5 N/m", False),
        ("5 W", "5 J/s", True),
        ("5 W", "5 V A", True),
        (r"5\ \Omega", "5 V/A", True),
        ("5 T", "5 Wb/m^2", True),
        ("5 Hz", "5 s^{-1}", True),
        ("5 Hz", "5 Bq", False),
        ("2 eV", "3.204353268e-19 J", True),
        ("0.1 M", "0.1 mol/L", True),
        ("0.1 mol/L", "100 mM", True),
        ("0.1 M", "0.1 mol", False),
        ("1 kg", "1000 g", True),
        ("1 lb", "453.59237 g", True),
        ("25°C", "298.15 K", False),
        ("1 gallon", "4 quarts", True),
        ("1 gal", "3.785411784 L", True),
        ("1 gallon", "3 quarts", False),
        ("20 m/s", "20 mps", True),
        ("20 m/s", "20 mph", False),
        ("20 mph", "8.9408 m/s", True),
        ("5 months", "5 mo", True),
        (r"5 \AA", "5 Å", True),
        ("5 Å", r"0.5\ \mathrm{nm}", True),
        ("5 Å", "5 nm", False),
    ],
)
def test_one_dimension_converts(gold: str, answer: str, right: bool) -> None:
    assert (grade_by_algebra(answer, Gold(gold, "math")).value == 1.0) is right


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        (r"\$18", r"\$18 per hour", True),
        (r"\$18", r"\$18/day", True),
        (r"\$18", "18 dollars an hour", True),
        (r"\$18", r"\$19 per hour", False),
        (r"\$18", "€18 per hour", False),
        (r"\$18 per hour", r"\$18", True),
        (r"\$18 per hour", "18", True),
        (r"\$18 per hour", r"\$432/day", True),
        (r"\$18 per hour", r"\$18/day", False),
        (r"\$6", r"\$6 each", True),
        (r"\$6 each", "6 dollars", True),
        (r"\$6 each", r"\$7", False),
        (r"\$18", r"\$18 per dozen", False),
        (r"\$\frac34", r"\$3/4", True),
        ("60 miles", "60 miles per hour", False),
        ("60 mph", "60 miles", False),
    ],
)
def test_a_price_need_not_say_of_what_it_is(gold: str, answer: str, right: bool) -> None:
    for answer_type in ("math", "float2"):
        assert (grade_by_algebra(answer, Gold(gold, answer_type)).value == 1.0) is right


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("12", r"12 \text{ units}^2", True),
        (r"12 \text{ units}^2", "12", True),
        ("12", "12u^2", True),
        ("12", "13u^2", False),
        ("12u^2", "12", False),
        ("12 m^2", "12u^2", False),
        ("5 ft 6 in", "5'6\"", True),
        ("66 in", "5′6″", True),
        ("5 ft 6 in", "5'7\"", False),
        ("5°6'", "5'6\"", False),
        ("90 min", "1h30m", True),
        ("1.5 hours", "1 h 30 m", True),
        ("2.5 min", "2m30s", True),
        ("90 m", "1h30m", False),
        ("90 min", "1h31m", False),
    ],
)
def test_squares_on_paper_and_sums_of_units(gold: str, answer: str, right: bool) -> None:
    assert (grade_by_algebra(answer, Gold(gold, "math")).value == 1.0) is right
