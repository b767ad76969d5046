"""How many things an answer says there are: text with or without places -> **a count**."""

from __future__ import annotations

import re
from collections.abc import Iterator
from fractions import Fraction

from rewards.mathematics.number_words import spelled_number
from rewards.metrics.said_places import TAGS, half_width, placed, said_points

_NUMBER = re.compile(r"(?<![A-Za-z0-9_.第])\d{1,64}+(?:\.\d{1,64}+)?+(?![A-Za-z0-9_])")
"""`2nd`, `point_2d` and `第2` are none; in `3只` the sign behind it is no letter."""
_WORD = re.compile(rf"{_NUMBER.pattern}|[a-z]++(?:-[a-z]++)?+")
_TUPLE = re.compile(r"\((?:\s*+[-+]?\d++(?:\.\d*+)?+\s*+,)++\s*+[-+]?\d++(?:\.\d*+)?+\s*+\)")
_BRACKET = re.compile(r"[\[\]{}]")
_COUNT_KEY = re.compile(r"""["'](?:[a-z]\w*_)?(?:count|total)(?:_\w*)?["']\s*+:\s*+["']?(\d{1,64}+)(?!\d)""")


def said_count(text: str) -> int | None:
    """The last whole number that is no coordinate, as digits or a word; without one, the number of points.

    Raises:
        Refused: as `said_points`, of a text without a number.
    """
    rest = text
    if TAGS in text:
        rest = " ".join([text.partition("<|")[0], *(said for _, said in placed(text))])
    rest = "".join(_without_places(_TUPLE.sub(" ", half_width(rest).lower())))
    last = next((number for word in reversed(_WORD.findall(rest)) if (number := _value(word)) is not None), None)
    if last is not None:
        return int(last) if last.denominator == 1 else None
    return len(said_points(text)) or None


def _without_places(text: str) -> Iterator[str]:
    """What stands outside of square and curly brackets, and of each of those only the counts that its keys name. One
    number alone in brackets is no place; a bracket that does not close runs to the end."""
    start, depth = 0, 0
    for bracket in _BRACKET.finditer(text):
        before, depth = depth, max(0, depth + (1 if bracket[0] in "[{" else -1))
        if before == 0 and depth == 1:
            yield text[start : bracket.start()]
            start = bracket.start()
        elif before == 1 and depth == 0:
            yield _shortened(text[start : bracket.end()])
            start = bracket.end()
    yield _shortened(text[start:]) if depth else text[start:]


def _shortened(group: str) -> str:
    return group if len(_NUMBER.findall(group)) < 2 else f" {' '.join(_COUNT_KEY.findall(group))} "


def _value(word: str) -> Fraction | None:
    return Fraction(word) if word[0].isdigit() else spelled_number(word)
