"""Notations with a meaning of their own: numbers, "no solution", times, ratios, ranges, bases, matrices, systems."""

from __future__ import annotations

import re
from collections.abc import Callable

from rewards.mathematics.expressions import is_expression, one_form
from rewards.mathematics.guard import Refused, check_algebra
from rewards.mathematics.normalise import tidy
from rewards.mathematics.numbers import read_number
from rewards.mathematics.splitting import split_top
from rewards.mathematics.units import Unit, read_unit
from rewards.mathematics.values import (
    Based,
    Clock,
    Equation,
    Expr,
    Infinite,
    Matrix,
    Nothing,
    Number,
    Range,
    Ratio,
    Row,
    Value,
)

_NO_SOLUTION = re.compile(
    r"(?:(?:there (?:is|are|exists?) |has |have )?(?:no|not any|zero) (?:such |valid |possible |common )?"
    r"(?:real |integer |rational |positive |natural |number |real number |value )?"
    r"(?:solutions?|roots?|values?|answers?|numbers?)(?: exists?)?"
    r"|(?:the )?(?:solution set is )?(?:the )?(?:empty|null) set|none(?: exist)?|no (?:such )?(?:x|value of x) exists"
    r"|(?:real )?solutions? does not exist|(?:x|n) ?\\in ?\\emptyset|\\emptyset|\\\{ ?\\\}|\{ ?\}"
    r"|(?:方程|不等式|方程组)?(?:无|没有)(?:实数|整数|实)?(?:解|根|数根)|空集)",
    re.IGNORECASE,
)
_UNDEFINED = re.compile(
    r"(?:(?:the limit |it |limit )?"
    r"(?:does not exist|doesn't exist|do not exist|is undefined|undefined|dne|d\.n\.e)|不存在|无意义)",
    re.IGNORECASE,
)
_CLOCK = re.compile(r"(\d{1,2}):([0-5]\d)(?::([0-5]\d))? ?(?:([ap])\.? ?m\.?)?", re.IGNORECASE | re.ASCII)
_HOUR = re.compile(r"(\d{1,2}) ?([ap])\.?m\.?", re.IGNORECASE | re.ASCII)
_CHINESE_CLOCK = re.compile(r"(\d{1,2})[时点](?:(\d{1,2})分)?", re.ASCII)
_RANGE = re.compile(
    r"(?P<low>-?\d[\d.,]*%?) ?(?:-|~|\\sim|to|至|到|--) ?(?P<high>\d[\d.,]*)(?P<unit>.*)|"
    r"(?:between|from) (?P<from>-?\d[\d.,]*) (?:and|to) (?P<until>-?\d[\d.,]*)(?P<of>.*)",
    re.ASCII,
)
_BASED = re.compile(
    r"\(?(?P<digits>[0-9][0-9A-Fa-f ]*|[A-Fa-f][0-9A-Fa-f]+)\)? ?"
    r"(?:_ ?\{? ?\(?(?P<sub>\d{1,2}|two|eight|ten|sixteen)\)? ?\}?"
    r"|\(?(?:in )?base[- ]?(?P<word>\d{1,2}|two|eight|ten|sixteen)\)?)|0(?P<prefix>[box])(?P<rest>[0-9A-Fa-f]+)",
    re.ASCII,
)
_BASES = {"two": 2, "eight": 8, "ten": 10, "sixteen": 16, "b": 2, "o": 8, "x": 16}
_MATRIX = re.compile(r"\\begin ?\{([pb]?matrix|array)\}(?: ?\{[clr| ]*\})?(.*)\\end ?\{\1\}", re.DOTALL)
_SYSTEM = re.compile(
    r"(?:\\begin ?\{(cases)\}|\\\{ ?\\begin ?\{(array|aligned|matrix)\}(?: ?\{[clr| ]*\})?)(.*)\\end ?\{(?:\1|\2)\}",
    re.DOTALL,
)
_ALIGNED = re.compile(r" ?& ?(?==)")
_COLON = re.compile(r":|\\colon(?![A-Za-z])")
_INFINITY = re.compile(r"([+-]?) ?(?:\\infty|infinity|inf|oo)", re.IGNORECASE)


def read_nothing(text: str) -> Value | None:
    if _NO_SOLUTION.fullmatch(text):
        return Nothing("no solution")
    if _UNDEFINED.fullmatch(text):
        return Nothing("undefined")
    infinite = _INFINITY.fullmatch(text)
    return Infinite(-1 if infinite[1] == "-" else 1) if infinite else None


def read_plain_number(text: str) -> Number | None:
    number = read_number(one_form(text))
    return Number(number.value, None, number.percent, number.decimals) if number else None


def read_clock(text: str) -> Clock | None:
    if match := _CLOCK.fullmatch(text):
        hour, minute, second, half = int(match[1]), int(match[2]), int(match[3] or 0), match[4]
    elif match := _HOUR.fullmatch(text):
        hour, minute, second, half = int(match[1]), 0, 0, match[2]
    elif (match := _CHINESE_CLOCK.fullmatch(text)) and "点" in text:
        hour, minute, second, half = int(match[1]), int(match[2] or 0), 0, None
    else:
        return None
    if hour > 24 or (half and not 1 <= hour <= 12):
        return None
    if half:
        hour = hour % 12 + (12 if half.casefold() == "p" else 0)
    return Clock(hour * 3600 + minute * 60 + second, f"{half.casefold()}m" if half else "")


def read_ratio(text: str) -> Ratio | None:
    """`2:3`, `1:2:3`; also what reads as a clock time, for golds that are ratios."""
    pieces = split_top(text, _COLON)
    if len(pieces) < 2 or any(not piece for piece in pieces):
        return None
    terms = [read_plain_number(piece) or read_expression(piece) for piece in pieces]
    return Ratio(tuple(term for term in terms if term is not None)) if all(terms) else None


def read_range(text: str) -> Range | None:
    match = _RANGE.fullmatch(text)
    if not match:
        return None
    low, high, rest = (
        (match["low"], match["high"], match["unit"]) if match["low"] else (match["from"], match["until"], match["of"])
    )
    if rest.startswith("%"):
        low, high, rest = low.removesuffix("%") + "%", high + "%", rest[1:]
    below, above = read_plain_number(low), read_plain_number(high)
    unit = read_unit(rest) if rest.strip() else None
    if below is None or above is None or (rest.strip() and unit is None):
        return None
    return Range(with_unit(below, unit), with_unit(above, unit))


def read_based(text: str) -> Based | None:
    match = _BASED.fullmatch(text)
    if not match:
        return None
    digits = (match["digits"] or match["rest"]).replace(" ", "")
    word = match["sub"] or match["word"] or match["prefix"]
    base = _BASES.get(word) or int(word)
    if not 2 <= base <= 36:
        return None
    try:
        return Based(int(digits, base), base)
    except ValueError:  # a digit that the base lacks
        return None


def read_matrix(text: str, read: Callable[[str], Value]) -> Matrix | None:
    match = _MATRIX.fullmatch(text)
    if not match:
        return None
    cells = [tuple(read(tidy(cell)) for cell in row.split("&")) for row in _rows(match[2].replace("\\hline", ""))]
    if not cells or any(len(row) != len(cells[0]) for row in cells):
        raise Refused("is a matrix of rows of unequal length")
    return Matrix(tuple(cells))


def read_system(text: str, read: Callable[[str], Value]) -> Row | None:
    """Equations below each other behind a brace, as the list of them; None for a function by cases."""
    match = _SYSTEM.fullmatch(text)
    if not match:
        return None
    rows = [tidy(_ALIGNED.sub("", row)) for row in _rows(match[3])]
    if any("&" in row for row in rows):
        return None
    equations = tuple(read(row) for row in rows if row)
    return Row("", equations) if equations and all(isinstance(one, Equation) for one in equations) else None


def _rows(text: str) -> list[str]:
    return [row for piece in text.split("\\\\") if (row := piece.strip())]


def with_unit(number: Number, unit: Unit | None) -> Number:
    if unit is None or not unit.dimensions:
        return number
    return Number(number.value, unit, number.percent, number.decimals)


def read_expression(text: str) -> Expr | None:
    """Mathematics that only algebra can evaluate, once the guard has passed it; None for words."""
    return Expr(checked_form(text)) if is_expression(one_form(text)) else None


def checked_form(text: str) -> str:
    """`text` in the parser's form.

    Raises:
        Refused: the guard does not let it pass.
    """
    text = one_form(text)
    check_algebra(text)
    return text
