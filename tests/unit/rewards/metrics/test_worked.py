"""Metrics on cases small enough to be worked by hand."""

from __future__ import annotations

import asyncio
from fractions import Fraction
from typing import Any, get_args

import pytest

from pangu_rl.config.benchmark import Metric
from pangu_rl.records import Completion, FinishReason, Outcome, Part, Prompt
from rewards.mathematics.guard import Refused
from rewards.metrics.benchmark import METRICS, benchmark
from rewards.metrics.depths import abs_rel, delta
from rewards.metrics.detections import matched, mean_average_precision
from rewards.metrics.gold_check import benchmark_problem
from rewards.metrics.option_letter import chosen_letter
from rewards.metrics.polygons import polygon_iou
from rewards.metrics.said_count import said_count
from rewards.metrics.said_places import said_boxes, said_depths, said_points
from rewards.metrics.texts import anls, charxiv_match, contains_answer, relaxed_accuracy, vqa_accuracy


def test_anls() -> None:
    """kitten to sitting: 3 of 7 signs, so 4/7; kit: 5 of 7, below a half. The best gold counts."""
    assert anls("Kitten", ["sitting"]) == pytest.approx(4 / 7)
    assert anls("kit", ["sitting"]) == 0.0
    assert anls("kit", ["sitting", "KIT"]) == 1.0
    assert anls("ab", ["abcd"]) == 0.5


def test_relaxed_accuracy() -> None:
    """5 % of 40 is 2."""
    assert [relaxed_accuracy(said, ["40"]) for said in ("42", "38", "42.01", "forty")] == [1, 1, 0, 0]
    assert relaxed_accuracy("5%", ["0.05"]) == 1 and relaxed_accuracy("0.0", ["0"]) == 0


def test_vqa_accuracy() -> None:
    """Two of ten: (8 * 2/3 + 2 * 1/3) / 10 = 0.6; four of ten are enough for all."""
    assert vqa_accuracy("The red!", ["red"] * 2 + ["blue"] * 8) == pytest.approx(0.6)
    assert vqa_accuracy("two", ["2"] * 4 + ["3"] * 6) == 1.0


def test_containment() -> None:
    assert contains_answer("The sign says STOP\nhere.", ["stop here"]) == 1
    assert contains_answer(r"It is \frac{ a }{ b }", [r"\frac{a}{b}"], spaces=False) == 1
    assert contains_answer("x", ["X"], spaces=False) == 0 and contains_answer("st op", ["stop"]) == 0


def test_charxiv() -> None:
    assert charxiv_match("1,000.", ["1000.0"]) == 1 and charxiv_match("b; a", ["a; b"]) == 0
    assert charxiv_match("Not Applicable", ["not applicable"]) == 1 and charxiv_match("12", ["1, 2"]) == 0


def test_an_article_is_no_letter() -> None:
    options = ["dog", "a cat"]
    assert [chosen_letter(said, options) for said in ("A cat", "A", "It is A.", "A dog", "B or A")] == [
        "B", "A", "A", "A", None,
    ]  # fmt: skip


def test_polygons() -> None:
    """Squares shifted by half: 0.5 / 1.5. A dart of area 4 in a square of 16; a crossed quad of two triangles, 8."""
    square = [(0, 0), (4, 0), (4, 4), (0, 4)]
    assert polygon_iou(square, [(2, 0), (6, 0), (6, 4), (2, 4)]) == pytest.approx(1 / 3)
    assert polygon_iou(square, [(0, 0), (2, 2), (4, 0), (2, 4)]) == pytest.approx(4 / 16)
    assert polygon_iou([(0, 0), (4, 4), (4, 0), (0, 4)], square) == pytest.approx(8 / 16)
    assert polygon_iou(square, [(9, 9), (10, 9), (10, 10)]) == polygon_iou(square, [(1, 1), (2, 2), (3, 3)]) == 0


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([(15, 32), (37, 30), (27, 11), (24, 24)], [(17, 5), (38, 22), (0, 6), (17, 31)]),
        ([(115, 297), (39, 586), (332, 720), (115, 944)], [(333, 276), (27, 712), (325, 233), (360, 847)]),
        ([(962, 508), (419, 70), (881, 473), (499, 127)], [(116, 449), (218, 65), (55, 511), (116, 0)]),
    ],
)
def test_polygons_whose_crossing_is_a_corner_but_for_rounding(
    one: list[tuple[int, int]], other: list[tuple[int, int]]
) -> None:
    """Equal to exact fractions; an odd number of edges was met in a slab of no width, one pair of 25,000 drawn ones."""
    exact = [[(Fraction(x), Fraction(y)) for x, y in polygon] for polygon in (one, other)]
    assert polygon_iou(one, other) == pytest.approx(float(polygon_iou(*exact)), abs=1e-12)


def test_average_precision() -> None:
    """Two golds, both found, a wrong box said between them: precisions 1, 1/2, 2/3 at recalls 1/2, 1/2, 1. Of the 101
    recalls 51 take 1 and 50 take 2/3."""
    gold = {"cat": [(0, 0, 10, 10), (20, 20, 30, 30)]}
    found = {"cat": [(0, 0, 10, 10), (50, 50, 60, 60), (20, 20, 30, 30)]}
    assert mean_average_precision([matched(found, gold)]) == pytest.approx((51 + 50 * 2 / 3) / 101)
    assert mean_average_precision([matched({}, gold)]) == 0.0
    assert mean_average_precision([matched({**found, "dog": found["cat"]}, gold)]) > 0.8, "dog has no gold anywhere"


def test_depths() -> None:
    """(0.2 / 2 + 1 / 4) / 2; 4 / 3 is above 1.25."""
    assert abs_rel([2.2, 3.0], [2.0, 4.0]) == pytest.approx(0.175)
    assert delta([2.2, 3.0], [2.0, 4.0]) == 0.5 and delta([0.0], [2.0]) == 0.0


POINTS = "<|point_start|>(100,200)<|point_end|><|point_start|>(300,400)<|point_end|>"


@pytest.mark.parametrize(
    ("text", "count"),
    [
        (f"{POINTS} There are 2 cats.", 2),
        (f"<|object_ref_start|>3 cats<|object_ref_end|>{POINTS}", 2),
        ("Five: (10, 20), (30, 40)", 5),
        ("(10, 20), (30, 40)", 2),
        ("There are two of them, 3 in all", 3),
        ("2.5", None),
    ],
)
def test_counts(text: str, count: int | None) -> None:
    assert said_count(text) == count


def test_places() -> None:
    assert said_points(POINTS) == [(100, 200), (300, 400)] == said_points("[[100, 200], [300, 400]]")
    assert said_boxes('```json\n[{"bbox_2d": [1, 2, 3, 4]}]\n```') == [(1, 2, 3, 4)]
    assert said_boxes("<|box_start|>(001,002),(003,004)<|box_end|>") == [(1, 2, 3, 4)]
    assert said_depths("<|point_start|>(1,2)<|point_end|> 2.5 m, <|point_start|>(3,4)<|point_end|>: 4") == [
        ((1, 2), 2.5), ((3, 4), 4.0),
    ]  # fmt: skip
    assert said_depths("(1,2): 2.5m (3,4) is at 4 meters") == [((1, 2), 2.5), ((3, 4), 4.0)]
    for text in ("here", "<|box_start|>(1,2)", "(1,2) somewhere"):
        with pytest.raises(Refused):
            said_depths(text)


def scored(metric: str, said: str, answer: str = "x", **extra: Any) -> Part:
    prompt = Prompt(uid="p", messages=(), answer=answer, answer_type="auto", extra={"scored_by": metric, **extra})
    completion = Completion(
        uid="c", group="g", prompt_uid="p", token_ids=(), logprobs=(), text=said,
        finish_reason=FinishReason.STOP, weight_versions=(),
    )  # fmt: skip
    return asyncio.run(benchmark(prompt, completion))


CAT = {"objects": {"cat": [[0, 0, 9, 9]]}}
MASK = {"size": [2, 4], "counts": [2, 2, 4]}
"""Two lines of four, of which the second column is inside."""


@pytest.mark.parametrize(
    ("metric", "said", "data", "value", "outcome"),
    [
        ("anls", "so \\boxed{stop}", {"answers": ["stop"]}, 1.0, Outcome.CORRECT),
        ("anls", "\\boxed{\\text{R\\&D}}", {"answers": ["R&D"]}, 1.0, Outcome.CORRECT),
        ("vqa_accuracy", "\\boxed{\\mathbf{red}}", {"answers": ["red"] * 10}, 1.0, Outcome.CORRECT),
        ("relaxed_accuracy", "\\boxed{25\\%}", {"answers": ["25%"]}, 1.0, Outcome.CORRECT),
        ("relaxed_accuracy", "\\boxed{12\\,000}", {"answers": ["12000"]}, 1.0, Outcome.CORRECT),
        ("exact", "\\boxed{x_{1}}", {"answers": ["x1"]}, 0.0, Outcome.INCORRECT),
        ("box_iou", "\\boxed{\\left[0, 0, 100, 100\\right]}", {"boxes": [[0, 0, 100, 200]]}, 1.0, Outcome.CORRECT),
        ("span_iou", "\\boxed{2 \\text{ to } 6}", {"span": [3.0, 7.0]}, 0.6, Outcome.CORRECT),
        ("anls", "<think>stop", {"answers": ["stop"]}, 0.0, Outcome.NO_BOX),
        ("choice", "B.", {"answer": "B", "choices": ["one", "two"]}, 1.0, Outcome.CORRECT),
        ("choice", "A and B", {"answer": "B", "choices": ["one", "two"]}, 0.0, Outcome.UNPARSABLE),
        ("yes_no", "Yes, no", {"answers": ["yes"]}, 0.0, Outcome.UNPARSABLE),
        ("boxed", "\\boxed{4}", {"answer": "5", "answers": ["5", "4"]}, 1.0, Outcome.CORRECT),
        ("boxed", "4", {"answer": "4"}, 0.0, Outcome.NO_BOX),
        ("box_iou", "[0, 0, 100, 100]", {"boxes": [[0, 0, 100, 200]]}, 1.0, Outcome.CORRECT),
        ("box_iou", "[0, 0, 100, 99]", {"boxes": [[0, 0, 100, 200]]}, 0.0, Outcome.INCORRECT),
        ("box_iou", "there", {"boxes": [[0, 0, 100, 200]]}, 0.0, Outcome.UNPARSABLE),
        ("points_in_mask", "(300, 100)", {"mask": MASK}, 1.0, Outcome.CORRECT),
        ("points_in_mask", "(300, 100), (600, 100)", {"mask": MASK}, 0.0, Outcome.INCORRECT),
        ("points_in_mask", "(300, 100)", {"mask": MASK, "count": 2}, 0.0, Outcome.INCORRECT),
        ("count_by_pointing", f"{POINTS} 2", {"answer": "2"}, 1.0, Outcome.CORRECT),
        ("depth", "(1,2): 2.4", {"points": [[1, 2]], "depths": [2.0]}, 1.0, Outcome.CORRECT),
        # 3 to 7 and 2 to 6 share 3 of 5 seconds; 3 to 7 and 6 to 9 share 1 of 6.
        ("span_iou", "It happens in the 2.0 - 6.0 seconds.", {"span": [3.0, 7.0]}, 0.6, Outcome.CORRECT),
        ("span_iou", "from 0:06 to 0:09", {"span": [3.0, 7.0]}, 1 / 6, Outcome.INCORRECT),
        ("span_iou", "[7, 3]", {"span": [3.0, 7.0]}, 0.0, Outcome.UNPARSABLE),
        ("span_iou", "at 3 s", {"span": [3.0, 7.0]}, 0.0, Outcome.UNPARSABLE),
        ("depth", "(1,2): 2.4", {"points": [[1, 2], [3, 4]], "depths": [2.0, 1.0]}, 0.0, Outcome.UNPARSABLE),
        ("detection_map", "[[0, 0, 9, 9]]", {"objects": {"cat": [[0, 0, 9, 9]]}}, 0.0, Outcome.UNPARSABLE),
        ("detection_map", "[[0, 0, 9, 9]]", {**CAT, "names": ["cat"]}, 1.0, Outcome.CORRECT),
        ("detection_map", "[[0, 0, 9, 9]]", {**CAT, "names": ["cat", "dog"]}, 0.0, Outcome.UNPARSABLE),
        ("detection_map", '[{"bbox_2d": [0, 0, 9, 9], "label": "cat"}]', CAT, 1.0, Outcome.CORRECT),
        ("detection_map", '[{"bbox_2d": [0, 0, 9, 9], "label": "dog"}]', CAT, 0.0, Outcome.INCORRECT),
        (
            "detection_map",
            "<|object_ref_start|>cat<|object_ref_end|><|box_start|>(0,0),(9,9)<|box_end|>",
            {"objects": {"cat": [[0, 0, 9, 9]]}},
            1.0,
            Outcome.CORRECT,
        ),
    ],
)
def test_the_reward_of_a_benchmark(
    metric: str, said: str, data: dict[str, Any], value: float, outcome: Outcome
) -> None:
    part = scored(metric, said, **data)
    assert (part.value, part.outcome) == (value, outcome), part


def test_a_gold_that_earns_nothing_is_found() -> None:
    prompt = Prompt(uid="p", messages=(), answer="far", extra={"scored_by": "anls", "answers": ["stop"]})
    assert "does not score" in str(benchmark_problem(prompt))
    prompt = Prompt(uid="p", messages=(), answer="here", extra={"scored_by": "box_iou", "boxes": [[0, 0, 1, 1]]})
    assert benchmark_problem(prompt) is not None


def test_every_metric_that_a_benchmark_may_name_is_there() -> None:
    assert set(get_args(Metric)) == {"boxed", "instructions", *METRICS}
    assert scored("bleu", "x").outcome is Outcome.ERROR
