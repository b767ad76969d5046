"""Temporal grounding: an answer in words or as a list -> **its span of seconds** -> IoU with the gold's."""

from __future__ import annotations

import re

from rewards.mathematics.guard import Refused
from rewards.recipe.temporal import Span, read_spans

_TIME = r"\d{1,3}(?::\d{1,2}){1,2}(?:\.\d{1,6})?|\d{1,7}(?:\.\d{1,6})?"
_FROM_TO = re.compile(
    rf"({_TIME})\s*(?:s|sec|seconds?)?\s*(?:\bto\b|\band\b|\buntil\b|[,–—-])\s*({_TIME})", re.IGNORECASE
)


def said_span(text: str) -> Span:
    """The first begin and end that a text names: `[24.3, 30.4]`, `24.3 - 30.4 s`, `from 0:24 to 0:30`.

    Raises:
        Refused: it names none, or one that ends before it begins.
    """
    found = _FROM_TO.search(text)
    if found is None:
        raise Refused("names no begin and end")
    return read_spans(f"[{found[1]}, {found[2]}]")[0]
