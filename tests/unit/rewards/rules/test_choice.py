"""A letter, letters or an option's text, and that letter and text agree."""

from __future__ import annotations

import pytest

from pangu_rl.records import Outcome
from rewards.rules.dispatch import grade_directly
from rewards.rules.gold import Gold

OPTIONS = ("12", "15", "-3", "x")


@pytest.mark.parametrize(
    ("answer", "gold", "outcome"),
    [
        ("B - 15", "B", Outcome.CORRECT),
        ("B – 15", "B", Outcome.CORRECT),
        ("B — 15", "B", Outcome.CORRECT),
        ("(B) - 15", "B", Outcome.CORRECT),
        ("B - 12", "B", Outcome.INCORRECT),
        ("A - 15", "B", Outcome.INCORRECT),
        ("C - 3", "C", Outcome.CORRECT),
        ("C -3", "C", Outcome.CORRECT),
        ("B -15", "B", Outcome.INCORRECT),
        ("A和C", "AC", Outcome.CORRECT),
        ("A与C", "AC", Outcome.CORRECT),
        ("A和C", "A", Outcome.INCORRECT),
        ("A或C", "A", Outcome.UNPARSABLE),
        (r"\{A,C\}", "AC", Outcome.CORRECT),
        (r"\{A,C\}", "A", Outcome.INCORRECT),
        ("B选项", "B", Outcome.CORRECT),
        ("选项B", "B", Outcome.CORRECT),
        ("A选项", "B", Outcome.INCORRECT),
    ],
)
def test_with_options(answer: str, gold: str, outcome: Outcome) -> None:
    part = grade_directly(answer, Gold(gold, "choice", OPTIONS))
    assert part is not None
    assert part.outcome is outcome


CITIES, CHINESE = ("London", "Paris", "Los Angeles"), ("减少", "增加")


@pytest.mark.parametrize(
    ("answer", "options", "outcome"),
    [
        ("B (Paris)", CITIES, Outcome.CORRECT),
        ("B(Paris)", CITIES, Outcome.CORRECT),
        ("B: (Paris)", CITIES, Outcome.CORRECT),
        ("(B) (Paris)", CITIES, Outcome.CORRECT),
        ('B ("Paris")', CITIES, Outcome.CORRECT),
        ("B [Paris]", CITIES, Outcome.CORRECT),
        ("B (Los Angeles)", CITIES, Outcome.INCORRECT),
        ("B (Paris) or C", CITIES, Outcome.INCORRECT),
        ("A (Paris)", CITIES, Outcome.INCORRECT),
        ("A (London)", CITIES, Outcome.INCORRECT),
        ("B（增加）", CHINESE, Outcome.CORRECT),
        ("B【增加】", CHINESE, Outcome.CORRECT),
        ("B（减少）", CHINESE, Outcome.INCORRECT),
        ("A（增加）", CHINESE, Outcome.INCORRECT),
        ("Paris (B)", CITIES, Outcome.CORRECT),
        ("The answer is Paris [B].", CITIES, Outcome.CORRECT),
        ("Paris (option B)", CITIES, Outcome.CORRECT),
        ("增加（B）", CHINESE, Outcome.CORRECT),
        ("Paris (A)", CITIES, Outcome.INCORRECT),
        ("London (B)", CITIES, Outcome.INCORRECT),
        ("I think Paris, so (B)", CITIES, Outcome.UNPARSABLE),
        ("B(Paris", CITIES, Outcome.UNPARSABLE),
        ("Paris (D)", CITIES, Outcome.UNPARSABLE),
        ("Paris (B)", (), Outcome.UNPARSABLE),
        ("A cat (B)", ("a dog", "a cat"), Outcome.CORRECT),
        ("A cat (B)", ("cat (B)", "a cat"), Outcome.INCORRECT),
        ("B (0, 1)", ("(0, 1]", "(0, 1)"), Outcome.CORRECT),
        ("B (0, 1)", ("(0, 1)", "0, 1"), Outcome.INCORRECT),
        ("B [2]", ("1", "2"), Outcome.CORRECT),
        ("B (-2)", ("1", "2"), Outcome.INCORRECT),
    ],
)
def test_text_or_letter_in_brackets(answer: str, options: tuple[str, ...], outcome: Outcome) -> None:
    """Brackets that are an option's own, as those of an open interval, stay."""
    part = grade_directly(answer, Gold("B", "choice", options))
    assert part is not None
    assert part.outcome is outcome


@pytest.mark.parametrize(
    ("answer", "options", "outcome"),
    [
        ("15", ("A、12", "B、15"), Outcome.CORRECT),
        ("12", ("A、12", "B、15"), Outcome.INCORRECT),
        ("B、15", ("A、12", "B、15"), Outcome.CORRECT),
        ("B", ("A、B", "B、A"), Outcome.CORRECT),
        ("与A选项", ("甲", "与A选项"), Outcome.CORRECT),
    ],
)
def test_labels_of_options(answer: str, options: tuple[str, ...], outcome: Outcome) -> None:
    part = grade_directly(answer, Gold("B", "choice", options))
    assert part is not None
    assert part.outcome is outcome


@pytest.mark.parametrize("answer", ["A - B", "a - 15", "A - 15"])
def test_without_options_a_dash_may_be_a_minus(answer: str) -> None:
    part = grade_directly(answer, Gold("A", "choice"))
    assert part is not None
    assert part.outcome is Outcome.UNPARSABLE
