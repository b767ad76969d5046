"""Where the answer stands in a completion: the last complete `\\boxed{}` after the thinking block. Linear time."""

from __future__ import annotations

import re
import sys
import unicodedata

from pangu_rl.records import THINKING

MAX_BRACES = 10_000
"""A box with more braces is an unterminated one: nobody answers so, and it bounds the scan."""

MAX_PARTS = 64
"""Boxes that are joined into one answer."""

# The lookbehind and the pairs leave `\\boxed{`, a line break and a word, unread; one run of backslashes is read once.
_OPENING = re.compile(r"(?<!\\)(?:\\\\)*\\boxed[ \t]{0,16}\{")
# A brace, or an escaped character: `\{` and `\}` are literal braces and close nothing.
_TOKEN = re.compile(r"\\.|[{}]", re.DOTALL)
# All that may stand between two boxes of one answer of several parts.
_JOINT = re.compile(r"(?:\$|\\\)|\s)*(?:,?\s*(?:and|or|和|或|与)|[,、，;；])(?:\$|\\\(|\s)*")
_UNSEEN = dict.fromkeys(
    code
    for code in range(sys.maxunicode + 1)
    if unicodedata.category(chr(code)) in ("Cc", "Cf") and chr(code) not in "\t\n\r"
)
_TAGS = re.compile("|".join(map(re.escape, [*THINKING, *THINKING.values()])))
# Of these, ASCII has control characters alone, and nearly no text has one.
_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")


def answer_part(text: str) -> str | None:
    """The text after the last `</think>`, or what else closes a thinking block; None while one is still open."""
    opened, start = "", 0
    for tag in _TAGS.finditer(text):
        if tag[0] == THINKING.get(opened, tag[0]) and tag[0] not in THINKING:
            opened, start = "", tag.end()
        elif not opened:
            opened = tag[0]
    return None if opened else text[start:]


def boxes(text: str) -> list[str | None]:
    """Contents of the outermost `\\boxed{}` of `text` in order; None as the last entry for a box that never closes."""
    return [text[start:end] if end >= 0 else None for start, end in _spans(text)]


def extract_boxed(text: str) -> str | None:
    """The content of the last complete box after the thinking block, or None.

    An unterminated last box is no answer and does not fall back to an earlier one: the model was cut in the middle of
    changing its mind. `\\boxed 5` and `\\Boxed{5}` are no boxes. Boxes with nothing but a comma, "and" or "or" between
    them are one answer in parts, joined in order: a list, which answers no single gold, so that a box for every
    candidate earns nothing. Control and format characters (NUL, zero width) are dropped.

    Example: `extract_boxed("\\\\boxed{2} and \\\\boxed{3}")` is `"2 and 3"`.
    """
    answer = answer_part(text if text.isascii() and not _CONTROL.search(text) else text.translate(_UNSEEN))
    spans = _spans(answer) if answer is not None else []
    if answer is None or not spans or spans[-1][1] < 0:
        return None
    first = len(spans) - 1
    while first and len(spans) - first < MAX_PARTS and _joint(answer, spans[first - 1], spans[first]):
        first -= 1
    content = answer[slice(*spans[first])]
    for before, after in zip(spans[first:-1], spans[first + 1 :]):
        joint = _joint(answer, before, after)
        content += f"{joint if joint in ',;' else f' {joint}'} {answer[slice(*after)]}"
    return content


def _spans(text: str) -> list[tuple[int, int]]:
    """Start and end of each outermost box's content; the end is -1 for one that never closes, which ends the scan."""
    found: list[tuple[int, int]] = []
    position = 0
    while opening := _OPENING.search(text, position):
        end = _closing(text, opening.end())
        found.append((opening.end(), end))
        if end < 0:
            break
        position = end + 1
    return found


def _closing(text: str, start: int) -> int:
    depth, braces = 1, 0
    for token in _TOKEN.finditer(text, start):
        piece = token.group()
        if piece not in ("{", "}"):
            continue
        depth += 1 if piece == "{" else -1
        braces += 1
        if depth == 0:
            return token.start()
        if braces > MAX_BRACES:
            break
    return -1


def _joint(text: str, before: tuple[int, int], after: tuple[int, int]) -> str:
    """What joins two boxes: `,`, `;`, `and` or `or`; empty if they are two answers."""
    between = text[before[1] + 1 : after[0]]
    if len(between) > 64:
        return ""
    between = between[: between.rindex("\\boxed")]
    if not _JOINT.fullmatch(between):
        return ""
    if "or" in between or "或" in between:
        return "or"
    if "and" in between or "和" in between or "与" in between:
        return "and"
    return ";" if ";" in between or "；" in between else ","
