"""Where the answer stands in a completion: the last complete `\\boxed{}` after the thinking block. Linear time."""

from __future__ import annotations

import re

THINK_OPEN, THINK_CLOSE = "<think>", "</think>"
# A box's opening, a brace, or an escaped character (`\{` and `\}` are literal braces and close nothing).
_TOKEN = re.compile(r"\\boxed[ \t]*\{|\\.|[{}]", re.DOTALL)


def answer_part(text: str) -> str | None:
    """The text after the last `</think>`; None while a thinking block is still open."""
    head, closed, tail = text.rpartition(THINK_CLOSE)
    if THINK_OPEN in tail:
        return None
    return tail if closed else head + tail


def boxes(text: str) -> list[str | None]:
    """Contents of the outermost `\\boxed{}` of `text` in order; None as the last entry for a box that never closes.

    One pass over the braces: an unterminated box ends the scan, so 10^5 openings cost as much as one.
    """
    found: list[str | None] = []
    start, depth = -1, 0
    for token in _TOKEN.finditer(text):
        piece = token.group()
        opens = piece.endswith("{") and piece != "\\{"
        if start < 0:
            if opens and piece != "{":
                start, depth = token.end(), 1
        elif opens:
            depth += 1
        elif piece == "}":
            depth -= 1
            if depth == 0:
                found.append(text[start : token.start()])
                start = -1
    if start >= 0:
        found.append(None)
    return found


def extract_boxed(text: str) -> str | None:
    """The content of the last complete box after the thinking block, or None.

    An unterminated last box is no answer and does not fall back to an earlier one: the model was cut in the middle of
    changing its mind.

    Example: `extract_boxed("so \\\\boxed{\\\\frac{1}{2}}")` is `"\\\\frac{1}{2}"`.
    """
    answer = answer_part(text)
    found = boxes(answer) if answer is not None else []
    return found[-1] if found else None
