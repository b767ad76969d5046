"""Numbers, intervals or points that formulas give for every integer -> **whether they give the same ones**.

Of arithmetic progressions, and of formulas whose even and odd members are one each (`(-1)^k`). The members of one lie
on a line, and there they are compared as residues of a period that all steps divide, so that neither letters nor starts
nor the way they are split count.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from fractions import Fraction

from rewards.rules.gold import BadGold

Point = tuple[Fraction, ...]
"""One coordinate for a number, two for an interval."""
Formula = tuple[str, Callable[[int], Point | None]]
"""The brackets; and number of a member -> its values to 100 digits, None where it has none."""
Line = tuple[str, int, tuple[int, ...], tuple[int, ...]]
"""Brackets, the first coordinate that changes, and slope and intercept of all along it, in 10^-60ths."""
Progression = tuple[Fraction, Fraction]
"""First member along its line, and a step above 0."""

MAX_RESIDUES = 64
"""Members in one period."""
PLACES = 60
"""Digits by which residues are told apart."""
AGREEMENT = Fraction(1, 10**80)
"""Part of a value by which equal ones may differ."""


def same_members(gold: Sequence[Formula], answer: Sequence[Formula]) -> bool:
    """
    Raises:
        BadGold: a formula is no progression, or their steps have no common multiple: no verdict.
    """
    wanted, found = _lines(gold), _lines(answer)
    return wanted.keys() == found.keys() and all(_same_on(wanted[line], found[line]) for line in wanted)


def _same_on(wanted: Sequence[Progression], found: Sequence[Progression]) -> bool:
    period = _common_period([*wanted, *found])
    return _residues(wanted, period) == _residues(found, period)


def _lines(formulas: Sequence[Formula]) -> dict[Line, list[Progression]]:
    lines: dict[Line, list[Progression]] = {}
    for brackets, member_at in formulas:
        for first, step in _progressions(member_at):
            along = next(index for index, length in enumerate(step) if length)
            slopes = [length / step[along] for length in step]
            starts = [start - first[along] * slope for start, slope in zip(first, slopes)]
            line = (brackets, along, _in_places(slopes), _in_places(starts))
            lines.setdefault(line, []).append((first[along], abs(step[along])))
    return lines


def _in_places(values: Sequence[Fraction]) -> tuple[int, ...]:
    return tuple(round(value * 10**PLACES) for value in values)


def _progressions(member_at: Callable[[int], Point | None]) -> list[tuple[Point, Point]]:
    whole = _progression(member_at, 0, 1)
    parts = [whole] if whole else [_progression(member_at, 0, 2), _progression(member_at, 1, 2)]
    found = [part for part in parts if part is not None]
    if len(found) < len(parts):
        raise BadGold("a family that is no arithmetic progression is not compared")
    return found


def _progression(member_at: Callable[[int], Point | None], start: int, stride: int) -> tuple[Point, Point] | None:
    """The first member and the step of each coordinate."""
    values = [member_at(start + stride * index) for index in (0, 1, 2, 7)]
    points = [value for value in values if value is not None]
    if len(points) < len(values):
        return None
    steps = tuple(second - first for first, second in zip(*points[:2]))
    even = all(
        _near(third - second, step) and _near(eighth - first, 7 * step)
        for first, second, third, eighth, step in zip(*points, steps)
    )
    return (points[0], steps) if even and any(steps) else None


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
