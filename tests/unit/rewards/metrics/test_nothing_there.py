"""Options without a text, pictures without an object."""

from __future__ import annotations

import pytest

from pangu_rl.records import Outcome, Prompt
from rewards.metrics.benchmark import METRICS
from rewards.metrics.gold_check import benchmark_problem
from rewards.metrics.option_letter import chosen_letter

CAT = "<|object_ref_start|>cat<|object_ref_end|><|box_start|>(000,000),(009,009)<|box_end|>"


def test_an_option_without_a_text_stands_in_no_answer() -> None:
    options = ["a dog", "", "a cat", " "]
    assert [chosen_letter(said, options) for said in ("It is a cat", "nothing", "B")] == ["C", None, "B"]


@pytest.mark.parametrize(
    ("said", "objects", "value", "outcome"),
    [
        ("[]", {}, 1.0, Outcome.CORRECT),
        ("There is none.", {}, 1.0, Outcome.CORRECT),
        (CAT, {}, 0.0, Outcome.INCORRECT),
        (CAT, {"cat": [[0, 0, 9, 9]]}, 1.0, Outcome.CORRECT),
    ],
)
def test_detections_where_nothing_is(said: str, objects: dict, value: float, outcome: Outcome) -> None:
    prompt = Prompt(uid="u", messages=(), answer="", extra={"scored_by": "detection_map", "objects": objects})
    part = METRICS["detection_map"](said, prompt)
    assert (part.value, part.outcome) == (value, outcome), part


def test_a_gold_of_no_object_is_sound() -> None:
    prompt = Prompt(uid="u", messages=(), answer="", extra={"scored_by": "detection_map", "objects": {}})
    assert benchmark_problem(prompt) is None
