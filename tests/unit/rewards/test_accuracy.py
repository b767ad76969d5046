"""Typed comparison of the boxed answer with the gold, and what degenerate policies earn."""

from __future__ import annotations

import pytest

from pangu_rl.records import Outcome
from rewards.rules.accuracy import boxed_accuracy, grade, infer_type
from rewards.rules.format import boxed_format
from tests.unit.rewards.builders import completion, prompt

RIGHT, WRONG, UNPARSABLE = Outcome.CORRECT, Outcome.INCORRECT, Outcome.UNPARSABLE


@pytest.mark.parametrize(
    ("answer", "gold", "answer_type", "outcome"),
    [
        ("42", "42", "integer", RIGHT),
        (" 42. ", "42", "integer", RIGHT),
        ("42.0", "42", "integer", RIGHT),
        ("42.5", "42", "integer", UNPARSABLE),
        ("-42", "42", "integer", WRONG),
        ("\u221242", "-42", "integer", RIGHT),
        ("+42", "42", "integer", RIGHT),
        ("４２", "42", "integer", RIGHT),
        ("1,234", "1234", "integer", RIGHT),
        ("12,34", "1234", "integer", UNPARSABLE),
        ("1,2", "12", "integer", UNPARSABLE),
        ("$1,234.50$", "1234.5", "number", RIGHT),
        (r"\$12", "12", "number", RIGHT),
        (r"50\%", "50", "number", RIGHT),
        ("0.5", "1/2", "number", RIGHT),
        (r"\frac{1}{2}", "0.5", "number", RIGHT),
        (r"-\dfrac{3}{4}", "-0.75", "number", RIGHT),
        ("0.33", "1/3", "number", WRONG),
        ("0.0000002", "0.0000001", "number", WRONG),
        ("100000000000000001", "100000000000000000", "number", WRONG),
        ("1/0", "1", "number", UNPARSABLE),
        ("1e3", "1000", "number", UNPARSABLE),
        ("nan", "1", "number", UNPARSABLE),
        ("inf", "1", "number", UNPARSABLE),
        ("41 or 42", "42", "integer", UNPARSABLE),
        ("40+2", "42", "integer", UNPARSABLE),
        ("__import__('os').getpid()", "42", "integer", UNPARSABLE),
        ("9" * 65, "9" * 65, "integer", UNPARSABLE),
        ("4" * 100_000, "42", "integer", UNPARSABLE),
        ("", "42", "integer", UNPARSABLE),
        ("٤٢", "42", "integer", UNPARSABLE),
        ("b", "B", "choice", RIGHT),
        ("(B)", "B", "choice", RIGHT),
        ("B.", "(B)", "choice", RIGHT),
        (r"\text{B}", "B", "choice", RIGHT),
        ("C", "B", "choice", WRONG),
        ("A, B, C, D", "B", "choice", UNPARSABLE),
        ("AB", "B", "choice", UNPARSABLE),
        ("Straße", "STRASSE", "text", RIGHT),
        (" the   cat. ", "The cat", "text", RIGHT),
        ("ca\u200bt", "cat", "text", RIGHT),
        ("cat", "dog", "text", WRONG),
        ("", "dog", "text", UNPARSABLE),
        ("42", "42", "auto", RIGHT),
        ("b", "B", "auto", RIGHT),
        ("paris", "Paris", "auto", RIGHT),
    ],
)
def test_grade(answer: str, gold: str, answer_type: str, outcome: Outcome) -> None:
    part = grade(answer, gold, answer_type)
    assert part.outcome is outcome, part.detail
    assert part.value == float(outcome is RIGHT)


def test_infer_type() -> None:
    golds = ["7", "-1.5", "3/4", "B", "(C)", "b", "K", "Paris", "1,2"]
    types = ["number", "number", "number", "choice", "choice", "text", "text", "text", "text"]
    assert [infer_type(gold) for gold in golds] == types


def test_unknown_type_is_an_error_and_not_a_zero() -> None:
    with pytest.raises(ValueError, match="'colour' is not supported"):
        grade("1", "1", "colour")


def test_accuracy_reads_the_last_box_after_thinking() -> None:
    assert boxed_accuracy(prompt("42"), completion(r"<think>\boxed{1}</think>\boxed{42}")).outcome is RIGHT
    assert boxed_accuracy(prompt("42"), completion("42")).outcome is Outcome.NO_BOX


HONEST_WRONG = r"17 + 25 = \boxed{41}"
DEGENERATE = {
    "empty box": r"\boxed{}",
    "blank box": r"\boxed{ }",
    "all letters": r"\boxed{A B C D}",
    "a box per letter": r"\boxed{A}\boxed{B}\boxed{C}\boxed{D}",
    "prompt copied": "? Put the final answer in \\boxed{}.",
    "thinking never closed": r"<think>\boxed{42}",
    "answer in thought alone": r"<think>\boxed{42}</think>",
    "unterminated": r"\boxed{42",
    "a megabyte": r"\boxed{" + "4" * 1_000_000 + "}",
    "many boxes": r"\boxed{41}" * 1000,
    "nothing": "",
}


@pytest.mark.parametrize("text", DEGENERATE.values(), ids=DEGENERATE.keys())
def test_degenerate_policies_earn_no_more_than_an_honest_wrong_answer(text: str) -> None:
    def total(text: str) -> float:
        parts = [f(prompt("42", "integer"), completion(text)) for f in (boxed_accuracy, boxed_format)]
        return parts[0].value + 0.1 * parts[1].value

    assert total(text) <= total(HONEST_WRONG) == pytest.approx(0.1)


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
