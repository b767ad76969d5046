"""Which type grades what, and every fault of a gold as one clear line."""

from __future__ import annotations

import pickle

import pytest

from pangu_rl.records import Outcome
from rewards.rules.boxes import iou
from rewards.rules.dispatch import grade_by_algebra, grade_directly, infer_type
from rewards.rules.gold import BadGold, Gold
from rewards.rules.matching import largest_matching


@pytest.mark.parametrize(
    ("gold", "kind"),
    [
        (Gold("7"), "math"),
        (Gold("Paris"), "math"),
        (Gold("B"), "choice"),
        (Gold("(C)"), "choice"),
        (Gold("K"), "math"),
        (Gold("b"), "math"),
        (Gold("15", choices=("12", "15")), "choice"),
        (Gold("B", "text"), "text"),
        (Gold("[0,0,1,1]", metric="iou>=0.5"), "bbox"),
        (Gold("[0,0,1,1]", metric="point_in_box"), "point"),
        (Gold("[[0,0,1,1]]", metric="hungarian_f1"), "bboxes"),
    ],
)
def test_infer_type(gold: Gold, kind: str) -> None:
    assert infer_type(gold) == kind


BAD = [
    (Gold(""), "is empty"),
    (Gold("  "), "is empty"),
    (Gold("\\text{}"), "is empty"),
    (Gold('"""', "text"), "is empty"),
    (Gold("see image"), "points elsewhere"),
    (Gold("见解析", "text"), "points elsewhere"),
    (Gold("7", "colour"), "answer_type 'colour' is unknown"),
    (Gold("cat", "integer"), "no whole number"),
    (Gold("3.5", "integer"), "no whole number"),
    (Gold("cat", "float1"), "no number"),
    (Gold("7", "list"), "no list"),
    (Gold("soon", "date"), "no date"),
    (Gold("15", "choice"), "there are no choices"),
    (Gold("E", "choice", ("1", "2", "3", "4")), "no choice letter"),
    (Gold("A", "choice", ("x",) * 27), "27 choices"),
    (Gold("7", "integer", metric="iou>=0.5"), "which integer does not know"),
    (Gold("[0,0,1]", "bbox"), "no box of four numbers"),
    (Gold("[0,0,NaN,1]", "bbox"), "NaN"),
    (Gold("[0,0,1e999,1]", "bbox"), "no box of four numbers"),
    (Gold("[5,5,1,1]", "bbox"), "without area"),
    (Gold("", "bbox"), "is empty"),
    (Gold("[[0,0,1,1],[2,2,3,3]]", "bbox"), "the type is bboxes"),
    (Gold("[0,0,1,1]", "bbox", metric="giou"), "metric 'giou'"),
    (Gold("[0,0,1,1]", "bbox", metric="iou>=0"), "metric 'iou>=0'"),
    (Gold("[0,0,1,1]", "bboxes", metric="f2"), "metric 'f2'"),
    (Gold("[0,0,1,1]", "point", metric="near"), "metric 'near'"),
    (Gold("[3,3]", "point"), "no box of four numbers"),
    (Gold("[0,0,1,1]", "bbox", coordinates="percent"), "coordinates 'percent'"),
    (Gold("[0,0,1,1000]", "bbox", coordinates="0-999"), "outside the 0-999"),
    (Gold("[0,0,1,2]", "bbox", coordinates="0-1"), "outside the 0-1"),
    (Gold("[0,0,9,9]", "bbox", image_size=(5, 5)), "outside the pixel"),
]


@pytest.mark.parametrize(("gold", "message"), BAD, ids=lambda value: repr(value)[:40])
@pytest.mark.parametrize("answer", ["7", "x" * 600])
def test_a_bad_gold_is_an_error_whatever_the_answer(gold: Gold, message: str, answer: str) -> None:
    with pytest.raises(BadGold, match=message) as caught:
        grade_directly(answer, gold)
    assert "\n" not in str(caught.value)


def test_both_steps_travel_to_a_child() -> None:
    for function in (grade_directly, grade_by_algebra):
        assert pickle.loads(pickle.dumps(function)) is function
    assert hash(Gold("7", choices=("1",))) == hash(pickle.loads(pickle.dumps(Gold("7", choices=("1",)))))


def test_the_second_step_repeats_the_first() -> None:
    assert grade_by_algebra("7", Gold("7")).outcome is Outcome.CORRECT
    assert grade_by_algebra("8", Gold("7")).outcome is Outcome.INCORRECT


@pytest.mark.parametrize("answer_type", ["math", "integer", "float2"])
@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("1500000", "1.5M", True),
        ("1500000", "1.5k", False),
        ("2300", "2.3k", True),
        ("1200000000", "1.2bn", True),
        ("5", "5B", False),
        ("1234567", "12,34,567", True),
        ("1234567", "12,34,57", False),
        ("12", "١٢٫٠", True),
        ("1000", "1٬000", True),
        ("1000", "1٫000", False),
        ("36", "3 dozen eggs", True),
        (r"\$1.5 million", r"\$1.5M", True),
        (r"\$15", r"\$1.5M", False),
    ],
)
def test_numbers_in_short_and_in_other_groups(gold: str, answer: str, right: bool, answer_type: str) -> None:
    assert (grade_directly(answer, Gold(gold, answer_type)).value == 1.0) is right


@pytest.mark.parametrize(
    ("gold", "answer", "right"),
    [
        ("5k", "5000", False),
        ("5\\cdot k", "5k", True),
        ("300 K", "300K", True),
        ("300 K", "0.3k", False),
        ("12,34,567", "12, 34, 567", True),
        ("1/3", r"0.333\ldots", True),
        ("0.333", "0.333...", False),
        ("1/6", "0.16...", False),
        ("0.16...", r"0.16\ldots", True),
    ],
)
def test_what_is_short_for_a_number_is_not_elsewhere(gold: str, answer: str, right: bool) -> None:
    assert (grade_by_algebra(answer, Gold(gold, "math")).value == 1.0) is right


def test_iou_by_hand() -> None:
    """[0,4]x[0,4] and [2,6]x[0,4] share 2x4 = 8 of 16 + 16 - 8 = 24; touching boxes share nothing."""
    assert iou((0, 0, 4, 4), (2, 0, 6, 4)) == pytest.approx(8 / 24)
    assert iou((0, 0, 4, 4), (4, 0, 8, 4)) == 0.0
    assert iou((0, 0, 4, 4), (0, 0, 4, 4)) == 1.0


def test_matching_finds_what_a_greedy_one_misses() -> None:
    """Row 0 could take either column, row 1 only the first: taking the first for row 0 leaves one pair."""
    assert largest_matching([[True, True], [True, False]]) == 2
    assert largest_matching([[True, False], [True, False]]) == 1
    assert largest_matching([]) == 0
