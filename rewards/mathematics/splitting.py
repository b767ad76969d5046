"""Cutting a text at separators that stand outside all brackets."""

from __future__ import annotations

import re

OPENING, CLOSING = "([{", ")]}"


def split_top(text: str, separator: re.Pattern[str]) -> list[str]:
    """The pieces of `text` between matches of `separator` at bracket depth 0, stripped."""
    pieces, start, depth, position = [], 0, 0, 0
    while position < len(text):
        character = text[position]
        if character in OPENING:
            depth += 1
        elif character in CLOSING:
            depth -= 1
        elif depth == 0 and (match := separator.match(text, position)) and match.end() > position:
            pieces.append(text[start:position].strip())
            start = position = match.end()
            continue
        position += 1
    return [*pieces, text[start:].strip()]


def outer_brackets(text: str) -> tuple[str, str] | None:
    """The brackets around all of `text` and what is inside, or None: `[1,2)` -> `("[)", "1,2")`.

    Set braces are written `\\{`; a plain brace groups and is no bracket of a set. Angle brackets come as `<>`.
    """
    angled = re.fullmatch(r"\\langle (.*)\\rangle|\\langle(?![A-Za-z])(.*)\\rangle", text)
    if angled:
        return "<>", (angled[1] if angled[1] is not None else angled[2]).strip()
    opened = "{" if text.startswith("\\{") else text[:1]
    closed = "}" if text.endswith("\\}") else text[-1:]
    if opened not in ("(", "[", "{") or (opened == "{") != text.startswith("\\{"):
        return None
    if closed not in (")", "]", "}") or (closed == "}") != text.endswith("\\}") or (opened == "{") != (closed == "}"):
        return None
    lead = 2 if opened == "{" else 1
    if len(text) < 2 * lead or not _closes_only_at_end(text):
        return None
    return opened + closed, text[lead:-lead].strip()


def _closes_only_at_end(text: str) -> bool:
    depth = 0
    for index, character in enumerate(text):
        depth += (character in OPENING) - (character in CLOSING)
        if depth <= 0 and character in CLOSING:
            return index == len(text) - 1
    return False
