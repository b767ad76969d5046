"""Every measured failure class of verifiers, both ways: the shared cases and a thousand of our own.

Algebra runs in this process here: the guard is what makes these rows safe, and the child pool has tests of its own.
"""

from __future__ import annotations

import pytest

from rewards.rules.boxed_answer import extract_boxed
from rewards.rules.dispatch import grade_by_algebra, grade_directly
from rewards.rules.gold import BadGold
from tests.unit.rewards.cases import Case, more_cases, verifier_cases

REJECTED_GOLDS = {"vc194", "vc211"}
"""Rows whose gold is empty or points elsewhere: the data audit must refuse them, so no answer is ever correct."""


def credited(case: Case) -> bool:
    answer = extract_boxed(case.prediction)
    if answer is None:
        return False
    part = grade_directly(answer, case.gold)
    return (part if part is not None else grade_by_algebra(answer, case.gold)).value == 1.0


@pytest.mark.parametrize("case", verifier_cases(), ids=lambda case: case.id)
def test_verifier_cases(case: Case) -> None:
    if case.id in REJECTED_GOLDS:
        with pytest.raises(BadGold):
            credited(case)
    else:
        assert credited(case) == case.expected


@pytest.mark.parametrize("category", sorted({case.category for case in more_cases()}))
def test_more_cases(category: str) -> None:
    wrong = [case for case in more_cases() if case.category == category and not _as_expected(case)]
    assert not wrong, "\n".join(f"{case.id}: {case.gold.text!r} {case.prediction[-80:]!r}" for case in wrong)


def _as_expected(case: Case) -> bool:
    try:
        return credited(case) == case.expected
    except BadGold:
        return not case.expected


def test_the_cases_cover_every_category_both_ways() -> None:
    shared = {case.category for case in verifier_cases()}
    ours = {(case.category, case.expected) for case in more_cases()}
    assert {(category, False) for category in shared} - ours == {("nested_braces", False)}
    assert {(category, True) for category in shared} <= ours


def test_most_cases_need_no_algebra() -> None:
    """The direct path is what makes grading cheap: the shared rows need a child in two cases of a hundred."""
    asked = [case.id for case in verifier_cases() if case.id not in REJECTED_GOLDS and _asks_algebra(case)]
    assert asked == ["vc052", "vc058"]


def _asks_algebra(case: Case) -> bool:
    answer = extract_boxed(case.prediction)
    return answer is not None and grade_directly(answer, case.gold) is None
