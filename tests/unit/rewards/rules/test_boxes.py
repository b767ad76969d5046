"""Many boxes: matched in milliseconds in the caller's process, and no more than a bound."""

from __future__ import annotations

import random
import time
from itertools import permutations

import pytest

from pangu_rl.records import Outcome
from rewards.rules.boxes import MAX_BOXES
from rewards.rules.dispatch import grade_directly
from rewards.rules.gold import BadGold, Gold
from rewards.rules.matching import largest_matching

SOME = "[[1,1,9,9]]"


@pytest.mark.parametrize("count", [MAX_BOXES, MAX_BOXES - 1])
def test_equal_boxes_at_the_bound_cost_milliseconds(count: int) -> None:
    """Measured 30 ms; matching that tries all pairs again for each box takes a second."""
    gold = Gold(str([[1, 1, 9, 9]] * MAX_BOXES), "bboxes")
    start = time.process_time()
    part = grade_directly(str([[1, 1, 9, 9]] * count), gold)
    assert time.process_time() - start < 0.25
    assert part is not None
    assert part.outcome is (Outcome.CORRECT if count == MAX_BOXES else Outcome.INCORRECT)


def test_more_boxes_than_the_bound_are_no_answer_and_no_gold() -> None:
    many = str([[1, 1, 9, 9]] * (MAX_BOXES + 1))
    part = grade_directly(many, Gold(SOME, "bboxes"))
    assert part is not None
    assert part.outcome is Outcome.UNPARSABLE
    with pytest.raises(BadGold, match=f"more than {MAX_BOXES}"):
        grade_directly(SOME, Gold(many, "bboxes"))


def test_matching_against_all_permutations() -> None:
    source = random.Random(0)
    for _ in range(300):
        size, share = source.randint(1, 5), source.random()
        edges = [[source.random() < share for _ in range(size)] for _ in range(size)]
        most = max(sum(edges[row][column] for row, column in enumerate(order)) for order in permutations(range(size)))
        assert largest_matching(edges) == most


@pytest.mark.parametrize(
    "edge",
    [lambda r, c: True, lambda r, c: c <= r, lambda r, c: c >= r, lambda r, c: c < 100, lambda r, c: c - r in (0, 1)],
)
def test_no_shape_makes_matching_slow(edge) -> None:
    edges = [[edge(row, column) for column in range(MAX_BOXES)] for row in range(MAX_BOXES)]
    start = time.process_time()
    largest_matching(edges)
    assert time.process_time() - start < 0.1
