"""No spelling makes the rules themselves slow: they run in the caller's process, which no deadline protects."""

from __future__ import annotations

import time

import pytest

from rewards.children import ChildPool
from rewards.rules.boxed_answer import extract_boxed
from rewards.rules.dispatch import grade_directly
from rewards.rules.gold import ANSWER_TYPES, BadGold, Gold

FRAGMENTS = [
    *("35+", "35 ", "3.5", "1,", "1e", "-1-", "½", "٣", "万", "三分之", "twenty-", "one hundred and "),
    *(" and ", "and", " or ", "A and ", "A,", "(A)", "x=", "x<", "the ", "answer is ", "mon, ", "no solution "),
    *("(", "[", "{", "\\{", "\\text{", "6\\text{(\n", "\\frac{1}{", "\\frac", "\\sqrt", "^", "^{2", "_2", "!", "|"),
    *(
        "cm",
        "cm^2 ",
        "km/h ",
        "km·",
        "1:",
        "2024-",
        "H2",
        "\\pm ",
        "\\cup ",
        "<|box_start|>",
        "<|object_ref_start|>a",
        "(1,2)",
        "<|point_start|>(1,2)<|point_end|>",
        '{"a":',
        '"',
        "'",
        "\\",
    ),
    *("$", " ", "\u200b", "\\overline{3", "&", "\\\\", "\\begin{pmatrix}", "%", "° "),
    *(
        "negative ",
        "minus 7 ",
        "of ",
        "负7",
        "0.(3",
        "0.(3)",
        "H_2+",
        "Fe^{3+",
        "C(",
        "\\theta ",
        "x y",
        "{[1]",
        "(8)(3)+",
        "8^",
        "\\max(3,",
        "\\sin ",
        "k=0,\\pm1,",
        " for all integers k",
        "\\{x|",
        "0.3636...",
        "$18 per ",
        "1h30m",
        "] ",
        "USD ",
    ),
]
GOLDS = {"list": "[1,2]", "choice": "A", "date": "2024-01-02", "bbox": "[1,1,5,5]", "bboxes": "[[1,1,5,5]]"}
GOLDS |= {"point": "[1,1,5,5]", "text": "Paris", "points": "[1,1,5,5]", "point_count": "[1,1,5,5]"}
GOLDS |= {"quads": "[1,1,5,1,5,5,1,5]", "depths": "(1,1) 2 m", "objects": "<|object_ref_start|>cat<|object_ref_end|>"}
LIMIT_S = 0.5
"""Of CPU time; the slowest takes 0.02 s, and one that backtracks 2^n times takes for ever."""


def slowest(answer_type: str) -> tuple[float, str]:
    """Seconds and fragment: in a child, so that a test that fails ends."""
    worst = (0.0, "")
    gold = Gold(GOLDS.get(answer_type, "7"), answer_type, ("1", "2", "3") if answer_type == "choice" else ())
    for fragment in FRAGMENTS:
        for end in ("", "@", ")"):
            answer = (fragment * 512)[:511] + end
            start = time.process_time()
            extract_boxed(f"\\boxed{{{answer}}}")
            for against in (gold, Gold(answer, answer_type)):
                try:
                    grade_directly(answer, against)
                except BadGold:
                    assert against is not gold
            worst = max(worst, (time.process_time() - start, fragment + end))
    return worst


@pytest.fixture(scope="module")
def pool():
    with ChildPool(1, deadline_s=60.0, warm_up=list) as pool:
        yield pool


@pytest.mark.parametrize("answer_type", ANSWER_TYPES)
def test_a_fragment_repeated_costs_milliseconds(answer_type, pool):
    seconds, spelling = pool.run(slowest, answer_type)
    assert seconds < LIMIT_S, spelling
