"""Numbers that a formula gives for every integer: formulas -> **whether they give the same numbers**.

Of arithmetic progressions, and of formulas whose even and odd members are one each (`(-1)^k`): compared as residues of
a period that all steps divide, so that neither letters nor starts nor the way they are split count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from rewards.rules.gold import BadGold

MemberAt = Callable[[int], Fraction | None]
"""Number of a member -> its value to 100 digits; None where it has none."""
Progression = tuple[Fraction, Fraction]
"""First member, and a step above 0."""

MAX_RESIDUES = 64
"""Members in one period."""
PLACES = 60
"""Digits by which residues are told apart."""
AGREEMENT = Fraction(1, 10**80)
"""Part of a value by which equal ones may differ."""


def same_members(gold: Sequence[MemberAt], answer: Sequence[MemberAt]) -> bool:
    """
    Raises:
        BadGold: a formula is no progression, or their steps have no common multiple: no verdict.
    """
    wanted, found = ([part for formula in side for part in _progressions(formula)] for side in (gold, answer))
    period = _common_period([*wanted, *found])
    return _residues(wanted, period) == _residues(found, period)


def _progressions(member_at: MemberAt) -> list[Progression]:
    whole = _progression(member_at, 0, 1)
    parts = [whole] if whole else [_progression(member_at, 0, 2), _progression(member_at, 1, 2)]
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        raise BadGold("a family that is no arithmetic progression is not compared")
    return found


def _progression(member_at: MemberAt, start: int, stride: int) -> Progression | None:
    values = [member_at(start + stride * index) for index in (0, 1, 2, 7)]
    if None in values:
        return None
    first, second, third, eighth = values
    step = second - first
    even = step and _near(third - second, step) and _near(eighth - first, 7 * step)
    return (first, abs(step)) if even else None


def _common_period(progressions: Sequence[Progression]) -> Fraction:
    one = progressions[0][1]
    ratios = [(step / one).limit_denominator(MAX_RESIDUES) for _, step in progressions]
    if not all(ratio and _near(ratio * one, step) for ratio, (_, step) in zip(ratios, progressions)):
        raise BadGold("families whose steps have no common multiple are not compared")
    multiple = Fraction(math.lcm(*(r.numerator for r in ratios)), math.gcd(*(r.denominator for r in ratios)))
    if any(multiple / ratio > MAX_RESIDUES for ratio in ratios):
        raise BadGold(f"families of more than {MAX_RESIDUES} members in a period are not compared")
    return multiple * one


def _residues(progressions: Sequence[Progression], period: Fraction) -> set[int]:
    """Where in the period the members lie, in 10^-60ths of it."""
    places = ((first + index * step) / period for first, step in progressions for index in range(round(period / step)))
    return {round(place % 1 * 10**PLACES) % 10**PLACES for place in places}


def _near(one: Fraction, other: Fraction) -> bool:
    return abs(one - other) <= AGREEMENT * max(abs(one), abs(other))
