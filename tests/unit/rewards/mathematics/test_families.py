"""Infinitely many answers by one integer: numbers, intervals and points, however that is said."""

from __future__ import annotations

import pytest

from pangu_rl.records import Outcome
from rewards.rules.dispatch import grade_by_algebra, grade_directly
from rewards.rules.gold import BadGold, Gold

ANGLES = r"\frac\pi4+k\pi, k\in\mathbb{Z}"
INTERVALS = r"[k\pi-\frac\pi4,k\pi+\frac\pi4], k\in\mathbb{Z}"
POINTS = r"(\frac{k\pi}{2},0), k\in\mathbb{Z}"
HOLES = r"\{x|x\neq k\pi, k\in\mathbb{Z}\}"
DEGREES = r"45°+k\cdot180°, k\in\mathbb{Z}"


@pytest.mark.parametrize(
    "said",
    [", k∈Z", "(k∈Z)", "（k∈Z）", r" \quad (k \in \mathbf{Z})", r" for any integer $k$", " for all integers k",
     ", where k is an integer", ", where k is any integer", r" for every integer k", r" \forall k",
     r", \forall k\in\mathbb{Z}", r", k=0,\pm1,\ldots", r", k = 0, ±1, ±2, …", ", k=...,-1,0,1,...", "，k为整数"],
)  # fmt: skip
def test_an_integer_is_said_in_many_ways(said: str) -> None:
    for formula, gold in ((r"\frac\pi4+k\pi", ANGLES), (r"[k\pi-\frac\pi4,k\pi+\frac\pi4]", INTERVALS)):
        assert grade_by_algebra(formula + said, Gold(gold, "math")).outcome is Outcome.CORRECT
        assert grade_by_algebra(gold, Gold(formula + said, "math")).outcome is Outcome.CORRECT


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (ANGLES, r"\left\{\frac\pi4+k\pi \mid k\in\mathbb{Z}\right\}"),
        (ANGLES, r"S = \{\frac\pi4+k\pi \mid k\in\mathbb{Z}\}"),
        (ANGLES, r"x \in \{\frac\pi4+n\pi : n\in\mathbb{Z}\}"),
        (ANGLES, r"\{\alpha|\alpha=\frac\pi4+k\pi, k\in\mathbb{Z}\}"),
        (INTERVALS, r"[n\pi-\frac\pi4,n\pi+\frac\pi4], n\in\mathbb{Z}"),
        (INTERVALS, r"k\pi-\frac\pi4 \leq x \leq k\pi+\frac\pi4, k\in\mathbb{Z}"),
        (INTERVALS, r"[k\pi+\frac{3\pi}4,k\pi+\frac{5\pi}4], k\in\mathbb{Z}"),
        (INTERVALS, r"[k\pi-\frac\pi4,k\pi+\frac\pi4]"),
        (r"(k\pi, k\pi+\frac\pi2), k\in Z", r"(2k\pi,2k\pi+\frac\pi2)\cup(2k\pi+\pi,2k\pi+\frac{3\pi}2), k\in Z"),
        (POINTS, r"(\frac{n\pi}{2},0), n\in\mathbb{Z}"),
        (POINTS, r"(\frac{\pi}{2}-\frac{k\pi}{2},0)(k∈Z)"),
        (r"(1+k, 2-k), k\in Z", r"(3-n, n), n\in Z"),
        (HOLES, r"x \neq k\pi (k∈Z)"),
        (DEGREES, r"225°+n\cdot180° (n∈Z)"),
        (DEGREES, r"\frac\pi4+k\pi, k\in Z"),
        (r"(2k+1)180°, k\in Z", r"180°+k\cdot360° (k∈Z)"),
    ],
)
def test_the_same_members(gold: str, answer: str) -> None:
    assert grade_by_algebra(answer, Gold(gold, "math")).outcome is Outcome.CORRECT


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        (ANGLES, r"\{\frac\pi4+2k\pi \mid k\in\mathbb{Z}\}"),
        (ANGLES, r"\frac\pi4+k\pi, k=1,2,3,\ldots"),
        (ANGLES, r"\frac\pi4+k\pi, k=0,1,2"),
        (ANGLES, r"\frac\pi4 for all integers k"),
        (ANGLES, r"\frac\pi4+k\pi for all positive integers k"),
        (ANGLES, r"\frac\pi4+k\pi, where k is not an integer"),
        (ANGLES, r"\frac\pi4+k\pi, k\in Z, k\neq 0"),
        (INTERVALS, r"(k\pi-\frac\pi4,k\pi+\frac\pi4), k\in\mathbb{Z}"),
        (INTERVALS, r"[2k\pi-\frac\pi4,2k\pi+\frac\pi4], k\in\mathbb{Z}"),
        (INTERVALS, r"[k\pi-\frac\pi4,k\pi+\frac{5\pi}4], k\in\mathbb{Z}"),
        (INTERVALS, r"[-\frac\pi4,\frac\pi4]"),
        (INTERVALS, r"k\pi-\frac\pi4, k\pi+\frac\pi4, k\in\mathbb{Z}"),
        (r"(k\pi, 2k\pi), k\in Z", r"(k\pi+\pi, 2k\pi), k\in Z"),
        (POINTS, r"(k\pi,0), k\in\mathbb{Z}"),
        (POINTS, r"(\frac{k\pi}{2},1), k\in\mathbb{Z}"),
        (POINTS, r"(0,\frac{k\pi}{2}), k\in\mathbb{Z}"),
        (HOLES, r"x \neq 2k\pi (k∈Z)"),
        (HOLES, r"x = k\pi (k∈Z)"),
        (DEGREES, r"45°+n\cdot360° (n∈Z)"),
    ],
)
def test_other_members(gold: str, answer: str) -> None:
    assert grade_by_algebra(answer, Gold(gold, "math")).value == 0.0


@pytest.mark.parametrize("gold", [r"|x-k\pi|<1, k\in Z", r"(k\pi, +\infty), k\in\mathbb{Z}", r"k^2, k\in\mathbb{Z}"])
def test_what_has_no_members_to_compare_gets_no_verdict(gold: str) -> None:
    assert grade_directly(gold, Gold(gold, "math")).outcome is Outcome.CORRECT
    with pytest.raises(BadGold):
        grade_by_algebra(r"x = n\pi, n\in\mathbb{Z}", Gold(gold, "math"))
