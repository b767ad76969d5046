"""Is an answer an operation that nobody has carried out? `8 + 3` says nothing of 11 that the question did not say.

Text -> **whether a sum, difference or product has two operands that are plain numbers**, wherever in it that stands.
Fractions (`3 \\div 4` is one), mixed numbers, small factorials and rational roots are plain. An irrational root, and a
power that nobody would write out, is none: `3-2\\sqrt5` and `2^{10}-1` are answers. Powers of ten are no operand.
"""

from __future__ import annotations

import math
import re
from fractions import Fraction

from rewards.mathematics.arithmetic import exact_value
from rewards.mathematics.expressions import one_form
from rewards.mathematics.guard import Refused
from rewards.mathematics.read_value import answer_text
from rewards.mathematics.units import CURRENCY_SIGNS, read_unit

LONG_EXPONENT = 4
"""Squares and cubes are carried out; higher powers may stay as they are."""
LONG_FACTORIAL = 10
MAX_BITS = 512

Operand = Fraction | None
"""The value of a plain number; None for all else."""

_LAST_SIDE = re.compile(r"=|\\approx(?![A-Za-z])")
_JOINS = re.compile(r"[-+*(\\|]")
_TOKEN = re.compile(
    r" *(?P<piece>(?P<number>\d*\.\d*\(\d+\)|\d+(?:,\d+)*(?: \d{3}(?!\d))*(?:\.\d*)?(?:[eE][+-]?\d+)?|\.\d+)"
    r"|\*\*|\\[A-Za-z]+|\\?[^A-Za-z\d ]|[A-Za-z]+)",
    re.ASCII | re.DOTALL,
)
_PART = re.compile(r" ?\\frac\{\d+\}\{\d+\}", re.ASCII)
"""What makes a whole number a mixed one."""
_UNIT = re.compile(
    r" ?(?:[^\W\d_]|[°%$€£¥₹¢]|k?\\Omega|\\mu ?(?=[A-Za-z]))(?:[^\W\d_]|[°%/ ]|\^ ?(?:\{-?\d\}|-?\d))*", re.ASCII
)
_CURRENCY = re.compile(rf" *(?:(?:USD?|CA|HK|EUR|GBP|CNY|RMB|JPY|INR|Rs)\.? ?)?[{CURRENCY_SIGNS} ]*(?=[\d.])")
_POWER_OF_TEN = re.compile(r" *(?:10|\{ ?10 ?\}) ?(?:\^|\*\*)")
_TIMES = ("*", "\\cdot", "\\times")
_DIVIDED = ("/", "\\div")
_POWER = ("^", "**")
_OPENING = ("(", "[", "{", "\\{", "\\lfloor", "\\lceil", "⌊", "⌈")
_ROUNDING = _OPENING[4:]
_CHOOSING = ("\\max", "\\min", "\\gcd", "\\lcm")
_COMMANDS = ("\\frac", "\\binom", "\\sqrt", *_CHOOSING)
_FUNCTION = re.compile(r"\\(?:(?:arc)?(?:sin|cos|tan)h?|cot|sec|csc|log|ln|lg|exp)")
_SYMBOL = re.compile(
    r"[^\W\d_]+|\\(?:pi|alpha|beta|gamma|delta|epsilon|theta|lambda|mu|rho|sigma|tau|phi|omega)", re.ASCII
)


def is_unevaluated(answer: str) -> bool:
    """Whether plain numbers of `answer` are joined by an operation; of `8 + 3 = 11` the last side counts.

    The greatest or rounded one of plain numbers is an operation too: `\\max(3, 11)`, `\\lfloor 11.5 \\rfloor`.
    """
    try:
        side = _LAST_SIDE.split(answer_text(answer))[-1]
    except Refused:
        return False
    return bool(_JOINS.search(side.lstrip("+- "))) and _Operations(one_form(side)).found


class _Operations:
    """A recursive descent as deep as the brackets, which the guard bounds. What it cannot read begins a new sum."""

    def __init__(self, text: str) -> None:
        self.found = False
        self._text, self._at, self._bars = text, 0, 0
        self._sums()

    def _sums(self) -> list[Operand]:
        """All up to the bracket that closes, or to the end."""
        found = [self._sum()]
        while (piece := self._next()) and piece not in (")", "]", "}", "\\}", "\\rfloor", "\\rceil", "⌋", "⌉"):
            self._take()
            found.append(self._sum())
        return found

    def _sum(self) -> Operand:
        terms = [self._product()]
        while (sign := self._next()) in ("+", "-"):
            self._take()
            term = self._product()
            terms.append(-term if term is not None and sign == "-" else term)
        self._note(terms)
        return None if None in terms else sum(terms)  # type: ignore[arg-type]

    def _product(self) -> Operand:
        value: Operand = Fraction(1)
        factors: list[Operand] = []
        joint = "*"
        while True:
            sign = self._sign() if joint in (*_TIMES, *_DIVIDED) else 1
            of_ten = bool(factors) and _POWER_OF_TEN.match(self._text, self._at) is not None
            factor = _times(self._power(MAX_BITS if of_ten else LONG_EXPONENT), Fraction(sign))
            value = _divided(value, factor) if joint in _DIVIDED else _times(value, factor)
            if joint not in _DIVIDED and not of_ten:
                factors.append(factor)
            joint = self._next()
            if joint in (*_TIMES, *_DIVIDED):
                self._take()
            elif not self._begins_operand(joint):
                break
        self._note(factors)
        return value

    def _power(self, long_exponent: int) -> Operand:
        value = self._atom()
        while (piece := self._next()) in (*_POWER, "_", "!", "%", "°"):
            self._take()
            if piece in _POWER:
                sign = self._sign()
                value = _raised(value, _times(self._atom(), Fraction(sign)), long_exponent)
            elif piece == "_":
                self._atom()
                value = None
            elif piece == "!":
                value = _factorial(value)
        return value

    def _atom(self) -> Operand:
        if currency := _CURRENCY.match(self._text, self._at):
            self._at = currency.end()
        token = _TOKEN.match(self._text, self._at)
        piece = token["piece"] if token else ""
        if token and token["number"]:
            return self._number()
        if not self._begins_operand(piece):
            return None
        self._take()
        if piece in _OPENING or piece == "|":
            return self._group(piece)
        if piece in ("\\frac", "\\binom"):
            top, bottom = self._atom(), self._atom()
            return _divided(top, bottom) if piece == "\\frac" else _chosen(top, bottom)
        if piece == "\\sqrt":
            order = self._atom() if self._next() == "[" else Fraction(2)
            return _root(self._atom(), order)
        if piece in _CHOOSING and self._next() in _OPENING:
            self._take()
            self.found |= None not in self._sums()
            self._take()
        elif _FUNCTION.fullmatch(piece):
            self._argument()
        return None

    def _number(self) -> Operand:
        token = _TOKEN.match(self._text, self._at)
        value = exact_value(token["number"].replace(",", "").replace(" ", ""))  # type: ignore[index]
        while token and token["number"]:
            self._at = token.end()
            token = _TOKEN.match(self._text, self._at)
        if part := _PART.match(self._text, self._at):
            self._at = part.end()
        unit = _UNIT.match(self._text, self._at)
        if unit and read_unit(unit[0]):
            self._at = unit.end()
        return value or Fraction(0)  # a repeating decimal is as plain as any

    def _group(self, opened: str) -> Operand:
        self._bars += opened == "|"
        values = self._sums()
        self._bars -= opened == "|"
        self._take()
        if opened in _ROUNDING:
            self.found |= None not in values
        return values[0] if len(values) == 1 else None

    def _argument(self) -> None:
        """What a function is of: brackets, or all before an operator or another function."""
        while (piece := self._next()) in (*_POWER, "_"):
            self._take()
            self._atom()
        if piece in _OPENING:
            self._atom()
            return
        while self._begins_operand(piece) and not _FUNCTION.fullmatch(piece):
            self._power(LONG_EXPONENT)
            piece = self._next()

    def _begins_operand(self, piece: str) -> bool:
        if piece == "|":
            return self._bars == 0
        named = _SYMBOL.fullmatch(piece) or _FUNCTION.fullmatch(piece) or piece in (*_COMMANDS, *_OPENING)
        return piece[:1].isdigit() or piece[:1] == "." or bool(named)

    def _sign(self) -> int:
        sign = 1
        while (piece := self._next()) in ("+", "-"):
            self._take()
            sign = -sign if piece == "-" else sign
        return sign

    def _note(self, operands: list[Operand]) -> None:
        self.found |= sum(operand is not None for operand in operands) > 1

    def _next(self) -> str:
        token = _TOKEN.match(self._text, self._at)
        return token["piece"] if token else ""

    def _take(self) -> None:
        token = _TOKEN.match(self._text, self._at)
        self._at = token.end() if token else len(self._text)


def _times(one: Operand, other: Operand) -> Operand:
    return None if one is None or other is None else _kept(one * other)


def _divided(top: Operand, bottom: Operand) -> Operand:
    return None if top is None or not bottom else _kept(top / bottom)


def _raised(base: Operand, exponent: Operand, long_exponent: int) -> Operand:
    if base is None or exponent is None or (base == 0 and exponent < 0):
        return None
    root = base if exponent.denominator == 1 else _root(base, Fraction(exponent.denominator))
    if root is None or (abs(exponent) >= long_exponent and root not in (0, 1, -1)):
        return None
    return _kept(root ** (exponent.numerator if abs(root) > 1 or root.denominator > 1 else exponent.numerator % 2 or 2))


def _root(value: Operand, order: Operand) -> Operand:
    """Of a rational whose root is one."""
    if value is None or value < 0 or order is None or order.denominator != 1 or not 2 <= order <= MAX_BITS:
        return None
    top, bottom = (_whole_root(part, int(order)) for part in (value.numerator, value.denominator))
    return None if top is None or bottom is None else Fraction(top, bottom)


def _whole_root(value: int, order: int) -> int | None:
    near = math.isqrt(value) if order == 2 else round(value ** (1 / order))
    return near if near**order == value else None


def _factorial(value: Operand) -> Operand:
    small = value is not None and value.denominator == 1 and 0 <= value < LONG_FACTORIAL
    return Fraction(math.factorial(int(value))) if small else None  # type: ignore[arg-type]


def _chosen(of: Operand, taken: Operand) -> Operand:
    if of is None or taken is None or of.denominator * taken.denominator != 1 or not 0 <= taken <= of <= MAX_BITS:
        return None
    return _kept(Fraction(math.comb(int(of), int(taken))))


def _kept(value: Fraction) -> Operand:
    """Larger numbers are none that anybody would write out."""
    return value if value.numerator.bit_length() <= MAX_BITS >= value.denominator.bit_length() else None
