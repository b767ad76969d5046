"""What never reaches computer algebra, and that what does is compared exactly."""

from __future__ import annotations

import time

import pytest

from pangu_rl.records import Outcome
from rewards.mathematics.capped import TooLarge, capped
from rewards.rules.dispatch import grade_by_algebra, grade_directly
from rewards.rules.gold import BadGold, Gold

HOSTILE = [
    "9!!!!",
    "(10^{9})!",
    "10000000!",
    "9^{9^{9^{9}}}",
    "x^{10^{10}}",
    "((x^{999})^{999})^{999}",
    "\\sum_{k=1}^{10^{9}}\\frac{1}{k}",
    "\\prod_{k=1}^{10^9}k",
    "\\int_0^1 e^{x^2}dx",
    "\\lim_{x}x",
    "\\binom{10^{8}}{5\\cdot 10^{7}}",
    "\\binom{99999}{5}x",
    "\\sqrt{" * 33 + "7" + "}" * 33,
    "7" * 65,
    "x+" * 300,
    "\\foo{x}+1",
    "\\frac{x}{0}",
    "e^{e^{e^{e^{e}}}}",
    "\\pi^{\\pi^{\\pi^{\\pi^{\\pi}}}}",
    "e^e^e^e^e",
    "e^{e^{e^{99}}}",
    "(xy)^{y^{13}}",
    "(xy)^{y^{13}}+z",
    "x^{x^{1000}}",
    "2^{y^{99}}",
    "\\lfloor e^{e^{e^{e}}} \\rfloor",
    "\\lceil e^{e^{14}} \\rceil+x",
    "\\sin(e^{e^{12}})",
    "\\sin\\sin e^{e^{12}}",
    "\\cos^2(999^{999^x})",
    "\\sin" * 120 + " e^{e^{12}}",
]


@pytest.fixture(scope="module")
def warm() -> None:
    """Computer algebra is imported, once."""
    grade_by_algebra("x+1", Gold("1+x"))


@pytest.mark.parametrize("answer", HOSTILE, ids=lambda text: text[:24])
def test_hostile_answers_are_unparsable_at_once(warm: None, answer: str) -> None:
    """By the text alone, or by the first value that would be too large."""
    start = time.process_time()
    part = grade_by_algebra(answer, Gold("x+y+1"))
    assert time.process_time() - start < 2.0, "a child's deadline"
    assert (part.outcome, part.value) == (Outcome.UNPARSABLE, 0.0)


@pytest.mark.parametrize("gold", ["9!!!!", "\\sum_{k=1}^{n}k", "x^{10^{10}}", "7" * 65, "x+" * 300, "\\frac{1}{0}"])
def test_golds_beyond_the_guard_are_bad(gold: str) -> None:
    with pytest.raises(BadGold):
        grade_directly("1", Gold(gold))


@pytest.mark.parametrize(
    ("gold", "answer"),
    [("x^2-1", "(x-1)(x+1)"), ("2\\sqrt{3}", "\\sqrt{12}"), ("e^{x^2}", "e^{x\\cdot x}"), ("\\binom{5}{2}x", "10x"),
     ("n!", "(n+1)!/(n+1)"), ("e^{e^x}", "\\exp(\\exp(x))"), ("e^{-e^{-x^2}}", "e^{-\\exp(-x^2)}"),
     ("x^{x^x}+1", "1+x^{x^x}"),
     ("2^{2^{n+1}}-1", "-1+2^{2^{n+1}}"), ("n^{n^2}", "(n^n)^n"), ("e^{e^e}+1", "1+e^{e^e}"),
     ("e^\\pi+1", "1+e^{\\pi}"),
     ("e^{-\\frac{(x-\\mu)^2}{2\\sigma^2}}", "e^{-(x-\\mu)^2/(2\\sigma^2)}"),
     ("e^{-2ax^2}\\sin(bx)", "\\sin(bx)e^{-2ax^2}"),
     ("\\frac{1}{1+e^{-(w_1x_1+w_2x_2+b)}}", "(1+e^{-(w_1x_1+w_2x_2+b)})^{-1}")],
)  # fmt: skip
def test_ordinary_algebra_passes(gold: str, answer: str) -> None:
    part = grade_directly(answer, Gold(gold))
    assert (part is None) == ("!" not in answer)  # a factorial of a group is refused even where it is harmless


@pytest.mark.parametrize(
    ("gold", "answer", "equal"),
    [
        ("2\\sqrt{3}", "\\sqrt{12}", True),
        ("\\pi", "\\pi+10^{-60}", False),
        ("10^{-100}\\pi", "10^{-101}\\pi", False),
        ("0", "\\sqrt{2}\\sqrt{3}-\\sqrt{6}", True),
        ("0", "e^{-1000}", False),
        ("\\sqrt{x^2}", "x", False),
        ("\\sqrt{2}", "1.414213562", True),
        ("\\sqrt{2}", "1.414213563", False),
        ("\\sqrt{2}", "1.414", False),
        ("AB\\cdot CD", "AC\\cdot BD", False),
        ("2x+y<5", "-2x-y>-5", True),
        ("2x+y<5", "-2x-y<-5", False),
        ("x^2+y^2=25", "2x^2+2y^2=50", True),
        ("x^2+y^2=25", "x^2+y^2=25+10^{-50}", False),
        ("90^{\\circ}", "\\frac{\\pi}{2}", True),
    ],
)
def test_algebra_is_exact(gold: str, answer: str, equal: bool) -> None:
    assert grade_directly(answer, Gold(gold)) is None
    assert grade_by_algebra(answer, Gold(gold)).outcome is (Outcome.CORRECT if equal else Outcome.INCORRECT)


@pytest.mark.parametrize(
    "gold", ["2^{20230}", "\\sum_{k=1}^n k", "a \\mod b", "\\coth x", "e^{e^{e^{e^{e}}}}", "\\frac{1}{0}", "7" * 65]
)
def test_a_gold_beyond_the_guard_matches_its_own_spelling(gold: str) -> None:
    for answer in (gold, f"${gold}$", f" \\displaystyle {gold}."):
        part = grade_directly(answer, Gold(gold, "math"))
        assert part is not None
        assert part.outcome is Outcome.CORRECT
    with pytest.raises(BadGold, match="only its own spelling can match"):
        grade_by_algebra("x+1", Gold(gold, "math"))


def test_a_gold_that_algebra_does_not_read_is_bad_and_not_a_zero() -> None:
    with pytest.raises(BadGold, match="only its own spelling"):
        grade_by_algebra("x+1", Gold("x+*2"))


GROWING = [
    "x^{x^{x^{9}}}",
    "e^{n^{n^{n}}}",
    "\\exp(\\exp(\\exp(\\exp(x))))",
    "\\cosh(\\cosh(\\cosh(x)))",
    "x^{y^{1^{1^{z}}}}",
]
"""Too large at some points, or at none: the first point at which it differs, or is too large, settles it."""


@pytest.mark.parametrize("answer", GROWING)
def test_towers_cost_as_much_as_their_small_values(warm: None, answer: str) -> None:
    start = time.process_time()
    part = grade_by_algebra(answer, Gold("x+n+1"))
    assert time.process_time() - start < 5.0, "a tenth of a second alone; without the cap, minutes"
    assert part.outcome in (Outcome.INCORRECT, Outcome.UNPARSABLE) and part.value == 0.0


def test_a_tower_equals_itself_in_another_spelling() -> None:
    assert grade_by_algebra("1+x^{x^x}", Gold("x^{x^x}+1")).outcome is Outcome.CORRECT


def test_sympy_is_as_ever_after_a_cap() -> None:
    import sympy

    with pytest.raises(TooLarge), capped():
        sympy.Integer(3) ** 10**6
    assert sympy.Integer(3) ** 10**5 == 3**10**5
    assert sympy.N(sympy.sin(sympy.exp(30000)), 5).is_Float
