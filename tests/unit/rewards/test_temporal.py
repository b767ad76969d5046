"""Temporal IoU and order, by hand."""

from __future__ import annotations

import itertools

import pytest

from pangu_rl.records import Completion, FinishReason, Outcome, Prompt
from rewards.recipe.temporal import kendall_tau, ordering, temporal_iou


def ask(answer: str) -> Prompt:
    return Prompt(uid="p", messages=({"role": "user", "content": "?"},), answer=answer, answer_type="list")


def reply(boxed: str) -> Completion:
    text = rf"so \boxed{{{boxed}}}"
    return Completion(
        uid="p/0", group="p", prompt_uid="p", token_ids=(1,), logprobs=(0.0,), text=text,
        finish_reason=FinishReason.STOP, weight_versions=(0,),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("gold", "answer", "value"),
    [
        ("[3, 7]", "[3, 7]", 1.0),
        ("[3, 7]", "[2, 6]", 3 / 5),
        ("[3, 7]", "3 to 7", 1.0),
        ("[3, 7]", "3s - 7s", 1.0),
        ("[3, 7]", "[0:03, 0:07]", 1.0),
        ("[63, 3727.5]", "[1:03, 1:02:07.5]", 1.0),
        ("[3, 7]", "[3, 5]", 1 / 2),
        ("[3, 7]", "[6, 9]", 0.0),  # 1 of 6 seconds, below the threshold
        ("[3, 7]", "[8, 9]", 0.0),
        ("[0, 4]", "[0, 100]", 0.0),
        ("[[0, 2], [4, 6]]", "[[0, 2], [4, 5]]", 3 / 4),
        ("[[0, 2], [4, 6]]", "[0, 6]", 4 / 6),
        ("[[0, 2], [2, 4]]", "[[0, 4]]", 1.0),  # however they are cut
        ("[[0, 3]]", "[[0, 3], [1, 2], [0, 3]]", 1.0),  # a second counts once
    ],
)
def test_overlap_by_hand(gold: str, answer: str, value: float) -> None:
    part = temporal_iou(ask(gold), reply(answer))
    assert part.value == pytest.approx(value)
    assert part.outcome is (Outcome.CORRECT if value >= 0.5 else Outcome.INCORRECT)


def test_the_threshold_is_obeyed() -> None:
    assert temporal_iou(ask("[3, 7]"), reply("[6, 9]"), threshold=0.0).value == pytest.approx(1 / 6)


@pytest.mark.parametrize("answer", ["", "soon", "3", "[7, 3]", "[3, 3]", "[1, 2, 3]", "[-1, 4]", "[a, b]", "[]"])
def test_what_is_no_span_earns_nothing(answer: str) -> None:
    part = temporal_iou(ask("[3, 7]"), reply(answer))
    assert part.value == 0.0 and part.outcome in (Outcome.UNPARSABLE, Outcome.NO_BOX)


@pytest.mark.parametrize("gold", ["[7, 3]", "first", "[1]"])
def test_a_gold_that_is_no_span_is_no_verdict(gold: str) -> None:
    assert temporal_iou(ask(gold), reply("[3, 7]")).outcome is Outcome.ERROR


@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("[a, b, c]", 1.0),
        ("a, b, c", 1.0),
        ("[b, a, c]", 1 / 3),  # pairs ab wrong, ac and bc right
        ("[c, b, a]", 0.0),
        ("[c, a, b]", 0.0),  # one of three right
        ("[a, b]", 0.0),
        ("[a, b, d]", 0.0),
        ("[a, a, b]", 0.0),
    ],
)
def test_order_by_hand(answer: str, value: float) -> None:
    part = ordering(ask('["a", "b", "c"]'), reply(answer))
    assert part.value == pytest.approx(value)
    assert (part.outcome is Outcome.CORRECT) is (value == 1.0)
    assert ordering(ask('["a", "b", "c"]'), reply(answer), partial=False).value == float(value == 1.0)


def test_guessing_an_order_earns_nothing_on_average() -> None:
    orders = [kendall_tau("abcd", list(order)) for order in itertools.permutations("abcd")]
    assert sum(orders) == 0 and max(orders) == 1 and min(orders) == -1


@pytest.mark.parametrize("gold", ["[a]", '["a", "a"]', "word"])
def test_a_gold_without_an_order_is_no_verdict(gold: str) -> None:
    assert ordering(ask(gold), reply("[a, b]")).outcome is Outcome.ERROR
