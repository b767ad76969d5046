"""The accuracy reward over prompts as they come from files, and what degenerate policies earn."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from pangu_rl.config.sections.rewards import RewardFunctionConfig
from pangu_rl.records import Completion, Outcome, Part, Prompt
from rewards import registry
from rewards.audit import gold_problem
from rewards.recipe.accuracy import boxed_accuracy, gold_of
from rewards.recipe.format import boxed_format
from rewards.rules.gold import Gold
from tests.unit.rewards.builders import completion, prompt

RIGHT, WRONG = Outcome.CORRECT, Outcome.INCORRECT


def accuracy(prompt: Prompt, completion: Completion) -> Part:
    return asyncio.run(boxed_accuracy(prompt, completion))


def prompt_with(answer: str, answer_type: str, **extra: Any) -> Prompt:
    return replace(prompt(answer, answer_type), extra=extra)


@pytest.mark.parametrize(
    ("answer", "gold", "answer_type", "outcome"),
    [
        (" 42. ", "42", "integer", RIGHT),
        ("42.0", "42", "integer", RIGHT),
        ("1,234", "1234", "integer", RIGHT),
        ("4", "42", "integer", WRONG),
        ("b", "B", "choice", RIGHT),
        ("(B)", "B", "choice", RIGHT),
        (r"\text{B}", "B", "choice", RIGHT),
        ("C", "B", "choice", WRONG),
        ("A, B, C, D", "B", "choice", WRONG),
        ("dlrow", "dlrow", "text", RIGHT),
        ("world", "dlrow", "text", WRONG),
        ("42", "42", "auto", RIGHT),
        ("0.5", "1/2", "auto", RIGHT),
        ("paris", "Paris", "auto", RIGHT),
        ("(x-1)(x+1)", "x^2-1", "math", RIGHT),
    ],
)
def test_types_of_the_shipped_prompt_sets(answer: str, gold: str, answer_type: str, outcome: Outcome) -> None:
    part = accuracy(prompt(gold, answer_type), completion(rf"\boxed{{{answer}}}"))
    assert (part.value == 1.0) is (outcome is RIGHT), part
    assert part.outcome.is_verdict


def test_the_last_box_after_thinking_counts() -> None:
    assert accuracy(prompt("42"), completion(r"<think>\boxed{1}</think>\boxed{42}")).outcome is RIGHT
    assert accuracy(prompt("42"), completion("42")).outcome is Outcome.NO_BOX


def test_columns_of_the_prompt_reach_the_gold() -> None:
    columns = {
        "choices": ["cat", "dog"],
        "metric": "iou>=0.5",
        "coordinates": "0-999",
        "image_size": [640, 480],
        "level": 3,
    }
    expected = Gold("B", "choice", ("cat", "dog"), "iou>=0.5", "0-999", (640, 480))
    assert gold_of(prompt_with("B", "choice", **columns)) == expected
    assert gold_of(prompt_with("B", "choice", **dict.fromkeys(columns))) == Gold("B", "choice")


def test_the_text_of_an_option_answers_for_its_letter() -> None:
    row = prompt_with("B", "choice", choices=["cat", "dog"])
    assert accuracy(row, completion(r"\boxed{dog}")).outcome is RIGHT
    assert accuracy(row, completion(r"\boxed{cat}")).outcome is WRONG


@pytest.mark.parametrize(
    ("columns", "problem"),
    [
        ({"choices": "cat"}, "choices is 'cat': give a list of option texts"),
        ({"metric": 0.5}, "metric is 0.5: give a text"),
        ({"coordinates": 999}, "coordinates is 999: give a text"),
        ({"image_size": [640]}, r"image_size is \[640\]: give \[width, height\] in pixels"),
        ({"image_size": [640, 0]}, "image_size is"),
        ({"image_size": "640x480"}, "image_size is"),
    ],
)
def test_a_malformed_column_is_no_verdict_and_the_audit_names_it(columns: dict[str, Any], problem: str) -> None:
    row = prompt_with("B", "choice", **columns)
    part = accuracy(row, completion(r"\boxed{B}"))
    assert (part.value, part.outcome) == (None, Outcome.ERROR)
    with pytest.raises(AssertionError, match=f"the gold 'B' cannot be graded: {problem}"):
        raise AssertionError(gold_problem(row, boxed_accuracy))


def test_the_deadline_is_an_argument_of_the_configuration() -> None:
    config = RewardFunctionConfig(name="boxed_accuracy", args={"deadline_s": 1e-6})
    part = asyncio.run(registry.resolve(config)(prompt("x^2 - 36", "math"), completion(r"\boxed{(x-6)(x+6)}")))
    assert (part.value, part.outcome) == (None, Outcome.TIMEOUT)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        (r"so \boxed{42}", 1.0),
        (r"<think>\boxed{1} \boxed{2}</think>\boxed{42}", 1.0),
        (r"\boxed{wrong}", 1.0),
        (r"\boxed{1}\boxed{2}", 0.0),
        (r"\boxed{1}\boxed{2", 0.0),
        (r"\boxed{ }", 0.0),
        ("42", 0.0),
    ],
)
def test_format(text: str, value: float) -> None:
    assert boxed_format(prompt(), completion(text)).value == value
