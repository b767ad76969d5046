"""Which candidates are learned from: the paper's rules on scores written out."""

from __future__ import annotations

import pytest

from pangu_rl.algorithms.rejection_sampling import (
    Candidate,
    Reason,
    score_histogram,
    select_by_difficulty,
    select_hard,
    select_pair,
)


def scored(*scores: float | None, **changes: dict[int, dict]) -> list[Candidate]:
    """Candidates c0, c1, ... with these scores; `at={1: {...}}` changes single ones."""
    at = changes.get("at", {})
    return [
        Candidate(**{"uid": f"c{i}", "text": f"text {i}", "score": score, **at.get(i, {})})
        for i, score in enumerate(scores)
    ]


@pytest.mark.parametrize(
    ("scores", "picked", "reason"),
    [
        ((1, 1, 5, 3), "c2", Reason.SELECTED),
        ((1, 1.9, 5, 5), "c2", Reason.SELECTED),  # the first of two right ones
        ((2, 1, 5, 3), None, Reason.NOT_HARD),  # 2 is not below 2
        ((5, 5, 5, 5), None, Reason.NOT_HARD),
        ((1, 1, 4.9, 3), None, Reason.NO_CORRECT),  # only 5 is right
        ((1, None, 5, None), None, Reason.NOT_HARD),  # no verdict is no wrong answer
        ((None, None), None, Reason.NO_VERDICT),
    ],
)
def test_hard_queries_with_a_right_answer(scores: tuple, picked: str | None, reason: Reason) -> None:
    choice, found = select_hard(scored(*scores))
    assert (choice and choice.uid, found) == (picked, reason)


def test_the_thresholds_of_hardness_are_options() -> None:
    assert select_hard(scored(2.5, 4, 1), correct=4.0, wrong_below=3.0, wrong_at_least=2)[0].uid == "c1"
    assert select_hard(scored(1, 5, 5), wrong_at_least=1)[0].uid == "c1"


def test_a_cut_or_empty_answer_is_never_a_target() -> None:
    group = scored(1, 1, 5, 5, at={2: {"whole": False}})
    assert select_hard(group)[0].uid == "c3"
    assert select_hard(scored(1, 1, 5, at={2: {"text": " \n"}})) == (None, Reason.UNUSABLE)


@pytest.mark.parametrize(
    ("scores", "pair", "reason"),
    [
        ((3, 5, 1, 4), ("c1", "c2"), Reason.SELECTED),
        ((4.5, 5, 1.5, 1), ("c1", "c3"), Reason.SELECTED),  # best against worst
        ((5, 5, 1, 1), ("c0", "c2"), Reason.SELECTED),  # of equals the first drawn
        ((4, 4, 1, 1), None, Reason.NO_CHOSEN),  # above 4 is strict
        ((5, 5, 2, 2), None, Reason.NO_REJECTED),  # below 2 is strict
        ((None, 5, None, 2), None, Reason.NO_REJECTED),
        ((None, None), None, Reason.NO_VERDICT),
    ],
)
def test_pairs(scores: tuple, pair: tuple[str, str] | None, reason: Reason) -> None:
    found, why = select_pair(scored(*scores))
    assert (found and (found.chosen.uid, found.rejected.uid), why) == (pair, reason)


def test_a_cut_answer_may_be_rejected_but_not_chosen() -> None:
    found, _ = select_pair(scored(5, 5, 1, at={0: {"whole": False}, 2: {"whole": False}}))
    assert (found.chosen.uid, found.rejected.uid) == ("c1", "c2")
    assert select_pair(scored(5, 1, at={0: {"whole": False}})) == (None, Reason.UNUSABLE)
    assert select_pair(scored(5, 1, at={1: {"text": ""}})) == (None, Reason.UNUSABLE)


def test_one_text_scored_twice_is_no_preference() -> None:
    assert select_pair(scored(5, 1, at={0: {"text": "same"}, 1: {"text": "same"}})) == (None, Reason.EQUAL)


@pytest.mark.parametrize(
    ("right", "rate", "reason"),
    [
        ((1, 1, 1, 1, 1, 1, 0, 0), 0.75, Reason.SELECTED),  # 6 of 8: the bound is kept
        ((1, 1, 1, 1, 1, 1, 1, 0), 0.875, Reason.TOO_EASY),
        ((0, 0, 0, 0, 0, 0, 0, 0), 0.0, Reason.SELECTED),
        ((1, 0, None, None), 0.5, Reason.SELECTED),  # rows without a verdict leave the count
        ((None, None), None, Reason.NO_VERDICT),
    ],
)
def test_difficulty(right: tuple, rate: float | None, reason: Reason) -> None:
    group = [
        Candidate(uid=str(i), text="", score=None if value is None else float(value), correct=bool(value))
        for i, value in enumerate(right)
    ]
    assert select_by_difficulty(group) == (rate, reason)


def test_the_histogram_keeps_every_candidate() -> None:
    counts = score_histogram(scored(1, 1.5, 2, 4.99, 5, None))
    assert counts == {"1": 2, "2": 1, "3": 0, "4": 1, "5": 1, "none": 1}
