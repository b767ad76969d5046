"""Intervals and inequalities: `(-\\infty,1)\\cup(2,\\infty)`, `x<1 or x>2`, `\\{x \\mid 1<x\\leq 2\\}`, the reals."""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from itertools import pairwise
from math import inf

from rewards.mathematics.expressions import has_variables
from rewards.mathematics.normalise import tidy
from rewards.mathematics.splitting import split_top
from rewards.mathematics.values import Equation, Expr, Inequality, Infinite, Number, Row, Text, Union, Value

Reader = Callable[[str], Value]

_SIGN = re.compile(r"\\(?:leq|geq|neq)(?![A-Za-z]) ?|[<>]")
_OR = re.compile(r",? or |,? ?\\(?:lor|cup)(?![A-Za-z]) ?|或")
_AND = re.compile(r",? and |,? ?\\land(?![A-Za-z]) ?|且")
_MEMBER = re.compile(r"([A-Za-z]) ?\\in(?![A-Za-z]) ?(.+)")
_BUILDER = re.compile(r"\\\{ ?([A-Za-z])(?: ?\\in ?(?:\\mathbb ?\{?R\}?|R))? ?(?:\||\\mid|\\vert|:) ?(.+?) ?\\\}")
_BARE_BUILDER = re.compile(r"([A-Za-z]) ?(?:\||\\mid|:) ?([^|:]+)")
_LESS = re.compile(r"(?:\\mathbb ?\{?R\}?|R) ?\\(?:setminus|backslash) ?\\\{(.+)\\\}")
_REALS = re.compile(
    r"\\mathbb ?\{?R\}?|(?:the set of )?all real numbers|(?:all )?reals|全体实数|一切实数|任意实数|实数集",
    re.IGNORECASE,
)
_VARIABLE = re.compile(r"[A-Za-z]|\\(?:theta|alpha|beta|lambda|mu)")
_SIGNS = {"<": "<", ">": ">", "\\leq": "<=", "\\geq": ">=", "\\neq": "!="}
_FLIPPED = {"<": ">", ">": "<", "<=": ">=", ">=": "<=", "!=": "!="}
EVERYTHING = Row("()", (Infinite(-1), Infinite(1)))


def read_interval(text: str, read: Reader) -> Value | None:
    """The interval, union or inequality that `text` is; None if it is none. `read` reads its ends."""
    if builder := _BUILDER.fullmatch(text):
        return read_interval(builder[2], read)
    if (bare := _BARE_BUILDER.fullmatch(text)) and (value := read_interval(bare[2], read)):
        return value if getattr(value, "variable", "") == bare[1] else None
    if member := _MEMBER.fullmatch(text):
        if member[2] == "R":
            return EVERYTHING
        inner = read(tidy(member[2]))
        return inner if not isinstance(inner, Text) else None
    if _REALS.fullmatch(text):
        return EVERYTHING
    if (less := _LESS.fullmatch(text)) and (points := _numbers(less[1], read)):
        ends = (Infinite(-1), *points, Infinite(1))
        return Union(tuple(Row("()", pair) for pair in pairwise(ends)))
    if re.search(r"\\cup(?![A-Za-z])| or |\\lor|或", text):
        return _union(text, read)
    return _inequality(text, read)


def _union(text: str, read: Reader) -> Value | None:
    pieces = split_top(text, _OR)
    if len(pieces) < 2 or any(not piece for piece in pieces):
        return None
    written = "\\cup" in text
    parts: list[Value] = []
    for piece in pieces:
        if not written and not split_top(piece, _SIGN)[1:]:
            return None  # `2 or 3` is a list of values
        value = read(tidy(piece))
        if isinstance(value, Union):
            parts.extend(value.parts)
        elif isinstance(value, Row) and value.brackets:
            parts.append(value)
        else:
            return None
    if all(isinstance(part, Row) and part.brackets == "{}" for part in parts):
        return Row("{}", tuple(item for part in parts for item in part.items))  # type: ignore[union-attr]
    variables = {part.variable for part in parts if isinstance(part, Row)}
    return Union(tuple(parts), variables.pop() if len(variables) == 1 else "")


def _inequality(text: str, read: Reader) -> Value | None:
    both = split_top(text, _AND)
    if len(both) == 2:
        return _meet(both[0], both[1], read)
    sides = split_top(text, _SIGN)
    if len(sides) < 2 or any(not side for side in sides) or _has_bare_equals(text):
        return None
    signs = [_SIGNS[sign.strip()] for sign in _SIGN.findall(text)]
    if len(signs) != len(sides) - 1:
        return None  # one stands inside brackets
    if len(sides) == 2:
        return _one_sided(sides, signs[0], read)
    if len(sides) == 3 and _VARIABLE.fullmatch(sides[1]):
        return _two_sided(sides, signs, read)
    return None


def _one_sided(sides: list[str], sign: str, read: Reader) -> Value | None:
    left, right = sides
    if _VARIABLE.fullmatch(right) and not _VARIABLE.fullmatch(left):
        left, right, sign = right, left, _FLIPPED[sign]
    end = read(tidy(right))
    if isinstance(end, Text | Equation):
        return None
    if not _VARIABLE.fullmatch(left) or (isinstance(end, Expr) and has_variables(end.text)):
        return _general(read(tidy(left)), sign, end)
    if sign == "!=":
        return Union((Row("()", (Infinite(-1), end), left), Row("()", (end, Infinite(1)), left)), left)
    if sign in (">", ">="):
        return Row("()" if sign == ">" else "[)", (end, Infinite(1)), left)
    return Row("()" if sign == "<" else "(]", (Infinite(-1), end), left)


def _general(left: Value, sign: str, right: Value) -> Value | None:
    if isinstance(left, Text):
        return None
    return Inequality(sign, left, right) if sign in ("<", "<=", "!=") else Inequality(_FLIPPED[sign], right, left)


def _two_sided(sides: list[str], signs: list[str], read: Reader) -> Value | None:
    low, variable, high = sides
    if signs[0] in (">", ">="):
        low, high, signs = high, low, [_FLIPPED[signs[1]], _FLIPPED[signs[0]]]
    if any(sign not in ("<", "<=") for sign in signs):
        return None
    ends = (read(tidy(low)), read(tidy(high)))
    if any(isinstance(end, Text) for end in ends):
        return None
    brackets = ("[" if signs[0] == "<=" else "(") + ("]" if signs[1] == "<=" else ")")
    return Row(brackets, ends, variable)


def _meet(first: str, second: str, read: Reader) -> Value | None:
    """`x > 1 and x < 2` as one interval."""
    values = [_inequality(piece, read) for piece in (first, second)]
    rows = [value for value in values if isinstance(value, Row)]
    holes = [value for value in values if isinstance(value, Union)]
    if len(rows) == len(holes) == 1:
        return _without(rows[0], holes[0])
    if len(rows) != 2 or rows[0].variable != rows[1].variable:
        return None
    up = [row for row in rows if row.items[1] == Infinite(1)]
    down = [row for row in rows if row.items[0] == Infinite(-1)]
    if len(up) != 1 or len(down) != 1:
        return None
    return Row(up[0].brackets[0] + down[0].brackets[1], (up[0].items[0], down[0].items[1]), rows[0].variable)


def _without(row: Row, hole: Union) -> Value | None:
    """`x >= 2 and x != 3`: the interval without a number of its inside; None where what lies where is not plain."""
    (low, high), point = row.items, hole.parts[0].items[1]  # type: ignore[union-attr]
    if row.variable != hole.variable or not isinstance(point, Number):
        return None
    if not all(
        isinstance(end, Infinite) or (isinstance(end, Number) and end.value != point.value) for end in (low, high)
    ):
        return None
    if _place(low) < _place(point) < _place(high):
        parts = (
            Row(row.brackets[0] + ")", (low, point), row.variable),
            Row("(" + row.brackets[1], (point, high), row.variable),
        )
        return Union(parts, row.variable)
    return row


def _numbers(text: str, read: Reader) -> list[Number]:
    """The numbers of a list, in order; empty if it has anything else."""
    values = [read(tidy(piece)) for piece in text.split(",")]
    numbers = [value for value in values if isinstance(value, Number)]
    return sorted(numbers, key=_place) if len(numbers) == len(values) else []


def _place(end: Value) -> Fraction | float:
    return end.value if isinstance(end, Number) else inf if end == Infinite(1) else -inf


def _has_bare_equals(text: str) -> bool:
    return len(split_top(text, re.compile("="))) > 1
