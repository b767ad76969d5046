"""The last complete box after the thinking block, in linear time."""

from __future__ import annotations

import time

import pytest

from rewards.rules.boxed_answer import boxes, extract_boxed


@pytest.mark.parametrize(
    ("text", "content"),
    [
        (r"so \boxed{42}.", "42"),
        (r"\boxed{\frac{1}{2}}", r"\frac{1}{2}"),
        (r"\boxed{1} then \boxed{2}", "2"),
        (r"\boxed {7}", "7"),
        (r"\boxed{}", ""),
        (r"\boxed{\{1, 2\}}", r"\{1, 2\}"),
        (r"\boxed{a \} b}", r"a \} b"),
        (r"\boxed{\boxed{3}}", r"\boxed{3}"),
        ("no box, 42", None),
        (r"\boxed 42", None),
        (r"\boxed{42", None),
        (r"\boxed{1} but wait \boxed{2", None),
        (r"} } \boxed{5} {", "5"),
        (r"{\boxed{5}", "5"),
        (r"<think>\boxed{1}</think> \boxed{2}", "2"),
        (r"<think>\boxed{1}</think> done", None),
        (r"<think>\boxed{1}", None),
        (r"\boxed{1}<think>\boxed{2}", None),
        (r"</think>\boxed{1}</think>\boxed{2}", "2"),
        (r"[unused16]I try \boxed{4}, but wait", None),
        (r"[unused16]\boxed{1}[unused17]\boxed{2}", "2"),
        (r"[unused17]\boxed{2}", "2"),
        ("◁think▷\\boxed{1}", None),
        ("◁think▷\\boxed{1}◁/think▷\\boxed{2}", "2"),
        (r"[THINK]\boxed{1}", None),
        (r"[THINK]\boxed{1}[/THINK]\boxed{2}", "2"),
        (r"<thinking>\boxed{1}", None),
        (r"<thought>\boxed{1}</thought>\boxed{2}", "2"),
        (r"<think>as in [THINK] or <thought></think>\boxed{2}", "2"),
        (r"[THINK]no </think> of mine \boxed{1}", None),
        (r"\boxed{2} and \boxed{3}", "2 and 3"),
        (r"$\boxed{2}$, $\boxed{3}$.", "2, 3"),
        (r"\(\boxed{2}\) or \(\boxed{3}\)", "2 or 3"),
        ("\\boxed{2}和\\boxed{3}", "2 and 3"),
        (r"\boxed{2}\boxed{3}", "3"),
        (r"\boxed{2}. \boxed{3}", "3"),
        (r"\boxed{2}, no, \boxed{3}", "3"),
        (r"\boxed{1} and \boxed{2", None),
        (r"\Boxed{42}", None),
        (r"\fbox{42}", None),
        (r"\\boxed{42}", None),
        ("\0\\boxed{7}\ud800", "7"),
        ("\\bo\u200bxed{\u200b7}", "7"),
        ("", None),
    ],
)
def test_extract_boxed(text: str, content: str | None) -> None:
    assert extract_boxed(text) == content


def test_a_double_escape_is_a_line_break_and_not_an_escaped_brace() -> None:
    assert extract_boxed(r"\boxed{1 \\}") == r"1 \\"


@pytest.mark.parametrize(
    "text",
    [
        r"\boxed{" * 100_000,
        r"\boxed{1}" * 100_000,
        r"\boxed{1}, " * 80_000,
        "{" * 1_000_000,
        "}" * 1_000_000,
        "\\" * 1_000_000,
        "$" * 1_000_000 + r"\boxed{7}",
        "中" * 1_000_000 + r"\boxed{7}",
        "<think>" * 150_000,
        "[unused16][unused17]" * 50_000,
        "</think>" * 125_000,
        r"\boxed" + " " * 1_000_000,
        (r"\boxed" + " " * 50) * 20_000,
        r"\boxed{" + "{}" * 500_000,
        r"\boxed{" + "{" * 1_000_000 + "}" * 1_000_000 + "}",
        r"\boxed{" + "\\" * 1_000_000,
    ],
    ids=lambda text: text[:8] + str(len(text)),
)
def test_a_hostile_megabyte_costs_milliseconds(text: str) -> None:
    """Of a processor: 1 to 100 ms. The bound leaves room for a slow machine and none for a second pass per opening."""
    start = time.process_time()
    extract_boxed(text)
    assert time.process_time() - start < 1.0


def test_boxes_lists_the_unterminated_one_as_none() -> None:
    assert boxes(r"\boxed{1}\boxed{}\boxed{2") == ["1", "", None]
