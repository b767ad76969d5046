"""What changes an answer's looks only, and what looks alike and is not."""

from __future__ import annotations

import pytest

from pangu_rl.records import Outcome
from rewards.mathematics.normalise import plain
from rewards.rules.boxed_answer import extract_boxed
from rewards.rules.dispatch import grade_directly
from rewards.rules.gold import Gold


@pytest.mark.parametrize(
    ("answer", "form"),
    [
        (r"5 \mathrm{~cm}", "5 cm"),
        (r"5~\mathrm{~cm}", "5 cm"),
        (r"10 \mathrm{~cm}^2", "10 cm^2"),
        (r"5 \pi \text{~m}", r"5 \pi m"),
        (r"9.8 \mathrm{~m} / \mathrm{s}^{2}", "9.8 m / s^{2}"),
        (r"p \land ~q", r"p \land ~q"),
        (r"p \land \text{~q}", r"p \land ~q"),
        ("3~5", "3~5"),
        ("$5$ cm", "5 cm"),
        ("$5$cm", "5 cm"),
        ("面积是$5$", "面积是5"),
        ("$5$, $6$", "5, 6"),
        (r"\(5\), \(6\)", "5 , 6"),
        (r"1\(2\)", "1 2"),
        (r"1\phantom{0}2", "1 2"),
        ("$$5$$ cm", "5 cm"),
        (r"$\$5$", "$5"),
        ("$5 and $6", "$5 and $6"),
        ("$5, $6", "$5, $6"),
        ("$5-$6", "$5-$6"),
        ("5$, 6$", "5$, 6$"),
        (r"\$5, \$6", "$5, $6"),
        (r"\large 5", "5"),
        (r"\Large{5}", "5"),
        (r"\normalsize 5", "5"),
        (r"\large.5", ".5"),
        (r"\displaystyle.5", ".5"),
        (r"\phantom{0}5", "5"),
        (r"\nicefrac{1}{2}", r"\frac{1}{2}"),
        (r"\left.x\right|", "x|"),
    ],
)
def test_plain(answer: str, form: str) -> None:
    assert plain(answer) == form


@pytest.mark.parametrize(
    ("answer", "gold", "outcome"),
    [
        ("5", r"5 \mathrm{~cm}", Outcome.CORRECT),
        ("5 cm", r"5 \mathrm{~cm}", Outcome.CORRECT),
        (r"5 \mathrm{~m}", r"5 \mathrm{~cm}", Outcome.INCORRECT),
        ("10", r"10 \mathrm{~cm}^2", Outcome.CORRECT),
        (r"10 \mathrm{~cm}^3", r"10 \mathrm{~cm}^2", Outcome.INCORRECT),
        ("$6$, $5$", "5, 6", Outcome.CORRECT),
        ("$5$ m", "5 cm", Outcome.INCORRECT),
        (r"\large.5", "5", Outcome.INCORRECT),
        (r"\nicefrac12", "0.5", Outcome.CORRECT),
    ],
)
def test_verdicts(answer: str, gold: str, outcome: Outcome) -> None:
    part = grade_directly(answer, Gold(gold, "math"))
    assert part is not None
    assert part.outcome is outcome


@pytest.mark.parametrize("around", ["{}", "中 {}"])
@pytest.mark.parametrize("text", ["\\bo\0xed{{7}}", "\\boxed{{\x1b7\x7f}}", "\\boxed{{7}}\x00"])
def test_control_characters_are_dropped_from_ascii_as_from_any_text(around: str, text: str) -> None:
    assert extract_boxed(around.format(text.format())) == "7"
